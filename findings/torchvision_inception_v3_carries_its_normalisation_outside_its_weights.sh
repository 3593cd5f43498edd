#!/usr/bin/env bash
# torchvision's inception_v3 with published weights is built with transform_input=True, also where the caller never asked:
# its forward then undoes the ImageNet normalisation of its input and halves the range to [-1, 1]. That is an argument of the
# constructor and no part of the state dict. timm's inception_v3 takes that state dict key for key (but the auxiliary head)
# and does no such thing: loaded without a complaint, it sees other images. timm says the other range, 0.5 and 0.5, in the
# pretrained_cfg of that network alone, where its other torchvision weights have ImageNet's mean and deviation.
#
# Seen with torchvision 0.29.1, timm 1.0.31, torch 2.14.1 (CPU), Python 3.11:
#   keys of torchvision that timm lacks: 14, all of AuxLogits: True; keys that timm misses: 0
#   the same input, equal outputs: with transform_input=False True, with transform_input=True False
#   timm's mean and deviation of inception_v3 (0.5, 0.5, 0.5) (0.5, 0.5, 0.5), of resnet18 (0.485, 0.456, 0.406) (0.229, 0.224, 0.225)
#   each given images normalised as its own library says, equal outputs: True
# Where it touches us: `timm:NAME` normalises by the pretrained_cfg of its network, never by ImageNet's numbers for all, so a
# file of torchvision's weights gives torchvision's features (baselines/timm.py); tests/baselines/test_timm.py says so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check \
  torch==2.14.1 torchvision==0.29.1 timm==1.0.31 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import warnings

import timm
import torch
import torchvision
from torchvision.models import inception_v3

warnings.simplefilter("ignore")  # of a slow initialisation
print("torchvision", torchvision.__version__, "timm", timm.__version__)
torch.manual_seed(0)
plain = inception_v3(weights=None, transform_input=False, init_weights=True).eval()
published = inception_v3(weights=None, transform_input=True, init_weights=True).eval()  # as weights=… makes it
published.load_state_dict(plain.state_dict())
ours = timm.create_model("inception_v3").eval()
missing, unexpected = ours.load_state_dict(plain.state_dict(), strict=False)
aside = all(key.startswith("AuxLogits.") for key in unexpected)
print(f"keys of torchvision that timm lacks: {len(unexpected)}, all of AuxLogits: {aside}; keys that timm misses: {len(missing)}")
assert len(unexpected) == 14 and aside and not missing


def normalised(images, mean, std):
    return (images - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def equal(one, other):
    return torch.allclose(one, other, rtol=1e-3, atol=1e-3 * float(one.abs().max()))


images = torch.rand(2, 3, 299, 299)
with torch.no_grad():
    seen = normalised(images, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    same = [equal(ours(seen), each(seen)) for each in (plain, published)]
    print(f"the same input, equal outputs: with transform_input=False {same[0]}, with transform_input=True {same[1]}")
    mine, other = ours.pretrained_cfg, timm.create_model("resnet18").pretrained_cfg
    print(f"timm's mean and deviation of inception_v3 {mine['mean']} {mine['std']}, of resnet18 {other['mean']} {other['std']}")
    own = equal(ours(normalised(images, mine["mean"], mine["std"])), published(seen))
    print(f"each given images normalised as its own library says, equal outputs: {own}")
assert same == [True, False] and own
assert mine["mean"] == (0.5, 0.5, 0.5) != other["mean"]
PYTHON
