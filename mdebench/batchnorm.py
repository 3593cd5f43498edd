"""Batch-norm of a batch that several processes share.

``synchronised``: normalised by the statistics of the whole batch, so that the numbers are those of one process.
``local``: each process normalises by its own images, which saves two messages per layer and is another method: its
numbers depend on how many processes there are. Running statistics are equal in all processes either way.
"""

from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from mdebench import devices
from mdebench.losses import at_least_float32

KINDS = {"synchronised": "by the whole batch", "local": "by each process's part of it"}


def batch_norms(kind: str) -> AbstractContextManager[object]:
    """Where losses are computed: within it, batch-norm is of the kind asked for. With one process, torch's own."""
    return _Synchronised() if kind == "synchronised" and devices.count() > 1 else nullcontext()


class _Synchronised(TorchFunctionMode):
    """Catches the function, not the layers: layers of any class (timm has its own) end there."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        return (_batch_norm if func is F.batch_norm else func)(*args, **(kwargs or {}))


def _batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """As `torch.nn.functional.batch_norm`, over the images of all processes: (N, C, …) → the same shape."""
    if not training:
        return F.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)
    x, processes = at_least_float32(input), devices.count()
    var, mean = torch.var_mean(x, [0, *range(2, x.ndim)], correction=0)
    # One message: each process fills in its line of (processes, 2, C), and the sum has all lines.
    own = torch.stack([mean, var])
    lines = [own if line == devices.rank() else torch.zeros_like(own) for line in range(processes)]
    means, variances = (processes * devices.mean(torch.stack(lines))).unbind(1)
    mean = means.mean(dim=0)
    var = (variances + (means - mean).square()).mean(dim=0)
    if running_mean is not None and running_var is not None:
        n = processes * x.numel() // x.shape[1]
        running_mean.lerp_(mean.detach().to(running_mean), momentum)
        running_var.lerp_((var.detach() * n / max(n - 1, 1)).to(running_var), momentum)  # unbiased, as torch's
    scale = (var + eps).rsqrt() * (1 if weight is None else weight)
    shift = (0 if bias is None else bias) - mean * scale
    shape = (1, -1, *[1] * (x.ndim - 2))
    return torch.addcmul(shift.view(shape), x, scale.view(shape)).to(input.dtype)


def average_statistics(network: nn.Module) -> None:
    """After local batch-norm: give every process the mean of all running statistics."""
    names = ("running_mean", "running_var")
    devices.average([b for name, b in network.named_buffers() if name.rpartition(".")[2] in names])
