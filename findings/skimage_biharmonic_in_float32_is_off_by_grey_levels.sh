#!/usr/bin/env bash
# skimage.restoration.inpaint_biharmonic solves its equations in the image's own kind of float. They are of fourth order:
# each doubling of a hole's side costs a factor of 15 to 25, and in float32 a hole of 128 pixels is filled wrongly by whole
# grey levels, where float32 itself resolves a 65,000th of one. The same picture as uint8 is solved in float64 and
# filled as it should be, so that handing over the "better" picture gives the worse fill. Nothing warns.
#
# Seen with scikit-image 0.26.0, SciPy 1.17.1, NumPy 2.4.6, Python 3.11, a ramp of grey with a square hole in its middle:
#   hole of  32 pixels: filled as float64 and float32, they differ by 0.009 grey levels of 255
#   hole of  64 pixels: filled as float64 and float32, they differ by 0.226 grey levels of 255
#   hole of 128 pixels: filled as float64 and float32, they differ by 3.464 grey levels of 255
#   the float64 fill of the last is off the ramp by 0.0000 grey levels
# Where it touches us: the biharmonic fill (mdebench/methods/fills.py) solves in float64 whatever the images are;
# tests/baselines/test_trivial.py says so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check scikit-image==0.26.0 scipy==1.17.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import skimage
from skimage.restoration import inpaint_biharmonic

print("scikit-image", skimage.__version__)
apart = []
for side in (32, 64, 128):
    ramp = np.tile(np.arange(2 * side, dtype=np.uint8) // (side // 32) + 100, (2 * side, 1))  # 64 greys, in steps
    hole = np.zeros(ramp.shape, dtype=bool)
    hole[side // 2 : -side // 2, side // 2 : -side // 2] = True
    exact = inpaint_biharmonic(ramp, hole)
    single = inpaint_biharmonic((ramp / 255).astype(np.float32), hole)
    apart.append(255 * float(abs(exact - single).max()))
    kinds = f"{exact.dtype} and {single.dtype}"
    print(f"hole of {side:3d} pixels: filled as {kinds}, they differ by {apart[-1]:.3f} grey levels of 255")
    assert (exact.dtype, single.dtype) == (np.float64, np.float32)
straight = np.tile(np.linspace(0.2, 0.8, 256), (256, 1))
off = 255 * float(abs(inpaint_biharmonic(straight, hole) - straight).max())
print(f"the float64 fill of the last is off the ramp by {off:.4f} grey levels")
assert off < 1e-4 and apart[-1] > 1 and apart[0] < apart[1] < apart[2]
PYTHON
echo "as described"
