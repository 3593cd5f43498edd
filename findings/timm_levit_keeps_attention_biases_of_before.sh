#!/usr/bin/env bash
# timm's LeViT, and four families that took over its attention (EfficientViT-MSRA, TinyViT, EfficientFormer 1 and 2), keep
# what eval mode computed of their attention biases until train(), eval() or a move. load_state_dict is none of these: it
# says that all keys matched, every tensor of the state is the new one, and the network answers by the old biases. A call of
# eval(), which should change nothing in a network that is in eval mode, puts it right. What was kept under no_grad has
# no graph: who then tunes in eval mode, so that batch norm stays as it is, leaves these biases, and no others, untrained.
# (https://github.com/huggingface/pytorch-image-models/pull/2795 is about the same store in train() and eval().)
#
# Seen with timm 1.0.31, torch 2.14.1 (CPU), Python 3.11:
#   levit_128s: <All keys matched successfully>, state as loaded: True, answers off by 8.8%, after eval(): 0.0%
#     parameters without a gradient in eval mode: 11 attention_biases, 0 others
#   and likewise efficientvit_m0 (1.3%), tiny_vit_5m_224 (35.5%), efficientformer_l1 (0.6%), efficientformerv2_s0 (1.9%)
# Where it touches us: measuring a code's width runs a network in eval mode (baselines/timm_encoder.py), which then goes
# through train(); tests/baselines/test_timm.py says that weights loaded afterwards are those that answer.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  torch==2.14.1 torchvision==0.29.1 timm==1.0.31 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import timm
import torch

print("timm", timm.__version__)
torch.manual_seed(0)
images = torch.rand(2, 3, 224, 224)


def off(network, right):
    """How far the network's answers are from the right ones, in % of their length."""
    return float(100 * (network(images) - right).norm() / right.norm())


for name in ("levit_128s", "efficientvit_m0", "tiny_vit_5m_224", "efficientformer_l1", "efficientformerv2_s0"):
    trained, used = (timm.create_model(name).eval() for _ in range(2))
    with torch.no_grad():
        for place, parameter in trained.named_parameters():  # as if trained: many begin as zeros
            parameter.add_(torch.randn_like(parameter), alpha=5 if "attention_biases" in place else 0.1)
        right = trained(images)
        used(images)
        told = used.load_state_dict(trained.state_dict())
        state = used.state_dict()
        same = all(torch.equal(tensor, state[place]) for place, tensor in trained.state_dict().items())
        before = off(used, right)
    used(images).sum().backward()
    without = [place for place, parameter in used.named_parameters() if parameter.grad is None]
    biases = [place for place in without if place.endswith("attention_biases")]
    with torch.no_grad():
        after = off(used.eval(), right)
    print(f"{name}: {told}, state as loaded: {same}, answers off by {before:.1f}%, after eval(): {after:.1f}%")
    others = len(without) - len(biases)
    print(f"  parameters without a gradient in eval mode: {len(biases)} attention_biases, {others} others")
    assert same and before > 0.01 and after == 0 and biases and not others
PYTHON
echo "as described"
