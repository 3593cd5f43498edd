#!/usr/bin/env bash
# DINOv3's official weights have biases of the queries, keys and values. timm's `vit_small_patch16_dinov3` has none, and
# its rules for reading the file find that out by asking the model for the parameter and printing the exception: a line
# on standard output for each block, on a file that is right and is read rightly. Whoever's command writes a table or
# JSON to standard output has twelve lines of "… has no attribute …" in it. Neither `warnings` nor `logging` can hold it.
# Its twin `vit_small_patch16_dinov3_qkvb` has the biases and reads the same file in silence. And the features that the
# first gives are the mean over the patches, not the class token, which the DINO of before had there.
#
# Seen with timm 1.0.31, torch 2.14.1, Python 3.11:
#   vit_small_patch16_dinov3: 2 lines on standard output for 2 blocks, e.g. `q_bias` is not an nn.Parameter
#   vit_small_patch16_dinov3_qkvb: 0 lines on standard output for 2 blocks
#   features are the mean over patches: True, the class token: False
# Where it touches us: weight files are read with standard output held back (mdebench/methods/checkpoints.py), and
# tests/baselines/test_timm.py reads DINOv3's own names and holds that nothing is printed.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check timm==1.0.31 torch==2.14.1 torchvision==0.29.1
"$folder/venv/bin/python" - <<'PYTHON'
import contextlib
import io

import timm
import torch
from timm.models.eva import checkpoint_filter_fn

print("timm", timm.__version__)
DEPTH, WIDTH = 2, 384


def official():
    """A state in the names and shapes of DINOv3's own code."""
    names = {"cls_token": (1, 1, WIDTH), "storage_tokens": (1, 4, WIDTH), "mask_token": (1, WIDTH)}
    names |= {"patch_embed.proj.weight": (WIDTH, 3, 16, 16), "patch_embed.proj.bias": (WIDTH,)}
    names |= {"norm.weight": (WIDTH,), "norm.bias": (WIDTH,), "rope_embed.periods": (16,)}
    for block in range(DEPTH):
        own = {"norm1.weight": (WIDTH,), "norm1.bias": (WIDTH,), "norm2.weight": (WIDTH,), "norm2.bias": (WIDTH,)}
        own |= {"attn.qkv.weight": (3 * WIDTH, WIDTH), "attn.qkv.bias": (3 * WIDTH,)}
        own |= {"attn.qkv.bias_mask": (3 * WIDTH,), "ls1.gamma": (WIDTH,), "ls2.gamma": (WIDTH,)}
        own |= {"attn.proj.weight": (WIDTH, WIDTH), "attn.proj.bias": (WIDTH,)}
        own |= {"mlp.fc1.weight": (4 * WIDTH, WIDTH), "mlp.fc1.bias": (4 * WIDTH,)}
        own |= {"mlp.fc2.weight": (WIDTH, 4 * WIDTH), "mlp.fc2.bias": (WIDTH,)}
        names |= {f"blocks.{block}.{name}": shape for name, shape in own.items()}
    return {name: torch.zeros(shape) for name, shape in names.items()}


said = {}
for name in ("vit_small_patch16_dinov3", "vit_small_patch16_dinov3_qkvb"):
    model = timm.create_model(name, depth=DEPTH, num_classes=0).eval()
    heard = io.StringIO()
    with contextlib.redirect_stdout(heard):
        state = checkpoint_filter_fn(official(), model)
    missing = model.load_state_dict(state, strict=False)
    assert not missing.unexpected_keys and not [key for key in missing.missing_keys if "rope" not in key], missing
    lines = heard.getvalue().splitlines()
    said[name] = len(lines)
    example = f", e.g. {lines[0]}" if lines else ""
    print(f"{name}: {len(lines)} lines on standard output for {DEPTH} blocks{example}")
assert said == {"vit_small_patch16_dinov3": DEPTH, "vit_small_patch16_dinov3_qkvb": 0}, "it is read otherwise now"

model = timm.create_model("vit_small_patch16_dinov3", depth=DEPTH, num_classes=0).eval()
with torch.no_grad():
    tokens = model.forward_features(torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)))
    features = model.forward_head(tokens)
mean = torch.allclose(features, tokens[:, model.num_prefix_tokens :].mean(1), atol=1e-5)
first = torch.allclose(features, tokens[:, 0], atol=1e-5)
print(f"features are the mean over patches: {mean}, the class token: {first}")
assert mean and not first, "other tokens are pooled now"
PYTHON
