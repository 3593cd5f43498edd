"""This machine: where tensors live by default, in which precision it computes well, and what its bits depend on.

Sums are shared out among the CPU's threads, and rounded as they are shared: one thread and two end in other bits, in
convolutions with and without oneDNN and whatever torch's deterministic algorithms are set to. What gives the same bits
for any number of threads is one thread. A GPU does not know of threads; there it is torch's deterministic algorithms.
"""

import os
import platform
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def default_device() -> torch.device:
    """The GPU when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def default_precision(device: torch.device) -> str:
    """``bf16`` where the machine multiplies in it, else ``fp32``."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else "fp32"


def at_least_float32(x: Tensor) -> Tensor:
    """What a network gave, in float32 where it is shorter; float64 stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def computing(device: torch.device) -> dict[str, Any]:
    """What the bits of a result depend on beside what is computed: threads, kernels and version of torch."""
    if device.type == "cuda":
        return {"kernels": torch.cuda.get_device_name(device), "torch": torch.__version__}
    onednn = torch.backends.mkldnn.is_available() and torch.backends.mkldnn.enabled  # type: ignore[no-untyped-call]
    kernels = [torch.backends.cpu.get_cpu_capability(), *(["oneDNN"] if onednn else []), _processor()]
    return {"threads": torch.get_num_threads(), "kernels": ", ".join(kernels), "torch": torch.__version__}


def _processor() -> str:
    try:
        name = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        name = None
    return name[1] if name else platform.processor() or platform.machine()


@contextmanager
def same_bits(device: torch.device) -> Iterator[list[str]]:
    """What is computed in here on a device ends in the same bits for any number of threads.

    Gives the names of operations of which torch has no deterministic form on a GPU, as they are met.
    """
    if device.type == "cpu":
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            yield []
        finally:
            torch.set_num_threads(threads)
        return
    before = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read when the first product is computed
    met: list[str] = []
    with warnings.catch_warnings():
        shown = warnings.showwarning

        def note(message: Warning | str, *rest: Any, **more: Any) -> None:
            if found := re.match(r"(\S+) does not have a deterministic implementation", str(message)):
                met.append(found[1])
            else:
                shown(message, *rest, **more)

        warnings.showwarning = note
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.backends.cudnn.benchmark = False
        try:
            yield met
        finally:
            torch.use_deterministic_algorithms(before[0], warn_only=before[1])
            torch.backends.cudnn.benchmark = benchmark
