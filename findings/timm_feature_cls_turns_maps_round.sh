#!/usr/bin/env bash
# timm's create_model(..., features_only=True, feature_cls=…) chooses by which means the maps are taken out of a network, and
# with it, for networks that work channels last, in what order their axes come: "getter" gives (N, C, h, w), no word or
# "hook" gives (N, h, w, C). feature_info, there to be asked for widths, says the same in all cases, so its channels() are
# those of axis 1 in one and of axis 3 in the others; at some sizes h = C, and a first map passes as either.
#
# Seen with timm 1.0.31, torch 2.14.1 (CPU), Python 3.11, at 64 pixels:
#   test_mambaout, default: channels [16, 32, 48, 64], maps (1, 16, 16, 16) (1, 8, 8, 32) (1, 4, 4, 48) (1, 2, 2, 64)
#   test_mambaout, hook: channels [16, 32, 48, 64], maps (1, 16, 16, 16) (1, 8, 8, 32) (1, 4, 4, 48) (1, 2, 2, 64)
#   test_mambaout, getter: channels [16, 32, 48, 64], maps (1, 16, 16, 16) (1, 32, 8, 8) (1, 48, 4, 4) (1, 64, 2, 2)
#   the getter's maps, turned round, are the others': True
# Where it touches us: `encoder=timm:NAME` measures the maps instead of asking for them, and says in one sentence why it does
# not take such a network (mdebench/methods/timm_networks.py); tests/baselines/test_timm.py says so.
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
images, given = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0)), {}
for way in ("default", "hook", "getter"):
    torch.manual_seed(0)  # the same weights each time
    chosen = {} if way == "default" else {"feature_cls": way}
    network = timm.create_model("test_mambaout", features_only=True, **chosen).eval()
    with torch.no_grad():
        given[way] = network(images)
    shapes = " ".join(str(tuple(each.shape)) for each in given[way])
    print(f"test_mambaout, {way}: channels {network.feature_info.channels()}, maps {shapes}")
    axis = 1 if way == "getter" else 3
    assert network.feature_info.channels() == [each.shape[axis] for each in given[way]] == [16, 32, 48, 64]
turned = all(
    torch.allclose(one, other.permute(0, 2, 3, 1), atol=1e-5)
    for way in ("default", "hook")
    for one, other in zip(given[way], given["getter"], strict=True)
)
print(f"the getter's maps, turned round, are the others': {turned}")
assert turned
PYTHON
echo "as described"
