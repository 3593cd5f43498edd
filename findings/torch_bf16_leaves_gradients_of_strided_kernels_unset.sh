#!/usr/bin/env bash
# On a CPU, torch's conv2d in bf16 over a map that is smaller than its stride (1×1 with stride 2, 2×2 with stride 3) leaves
# those places of the kernel's gradient unset that no pixel reaches: they should be 0 and are whatever the memory held before,
# NaN among it. No warning, and in float32 they are 0. A deep discriminator on small pictures learns garbage from it, or in
# fresh memory, which is 0, nothing wrong at all.
#
# Seen with torch 2.14.1 (CPU with AVX-512), Python 3.11; the gradient beside float64's:
#   map 1×1, kernel 3, stride 2: bf16 unset, float32 right
#   map 1×1, kernel 4, stride 2: bf16 unset, float32 right
#   map 2×2, kernel 5, stride 3: bf16 unset, float32 right
#   map 2×2, kernel 5, stride 2: bf16 right, float32 right
#   map 1×1, kernel 3, stride 1: bf16 right, float32 right
# Where it touches us: a run is tried on one batch before it begins, and one that comes to such a map in bf16 on a CPU is refused
# in a sentence (mdebench/training/trial.py); tests/training/test_trial.py says so.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check torch==2.14.1 numpy==2.4.6
"$folder/venv/bin/python" - <<'PYTHON'
import torch
from torch.nn.functional import conv2d

print("torch", torch.__version__, torch.backends.cpu.get_cpu_capability())
torch.set_num_threads(1)


def fill(numbers):
    """Memory of the size of a gradient, given back full of 70,000."""
    for kind in (torch.bfloat16, torch.float32):
        kept = [torch.full((numbers,), 7e4, dtype=kind) for _ in range(60)]
        del kept


def told(kind, size, kernel, stride):
    """Whether the gradient was that of float64 in ten trials, but for rounding."""
    right = True
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        images = torch.randn(4, 64, size, size, generator=generator, requires_grad=True)
        weight = torch.randn(64, 64, kernel, kernel, generator=generator, requires_grad=True)
        with torch.autocast("cpu", torch.bfloat16, enabled=kind == "bf16"):
            output = conv2d(images, weight, padding=kernel // 2, stride=stride)
        fill(weight.numel())
        output.float().sum().backward()
        exact = weight.detach().double().requires_grad_()
        conv2d(images.detach().double(), exact, padding=kernel // 2, stride=stride).sum().backward()
        right &= torch.allclose(weight.grad.double(), exact.grad, rtol=0, atol=1)  # NaN is close to nothing
    return "right" if right else "unset"


for size, kernel, stride, wrong in [(1, 3, 2, True), (1, 4, 2, True), (2, 5, 3, True), (2, 5, 2, False), (1, 3, 1, False)]:
    bf16, fp32 = (told(kind, size, kernel, stride) for kind in ("bf16", "float32"))
    print(f"map {size}×{size}, kernel {kernel}, stride {stride}: bf16 {bf16}, float32 {fp32}")
    assert fp32 == "right" and bf16 == ("unset" if wrong else "right")
PYTHON
