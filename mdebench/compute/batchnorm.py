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

from mdebench.compute import devices
from mdebench.compute.machine import at_least_float32

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
    one = torch.ones(input.shape[1], dtype=at_least_float32(input[:0]).dtype, device=input.device)
    weight, bias = one if weight is None else weight, torch.zeros_like(one) if bias is None else bias
    output, mean, var = _Normalised.apply(input, weight, bias, eps)
    if running_mean is not None and running_var is not None:
        n = devices.count() * input.numel() // input.shape[1]
        running_mean.lerp_(mean.to(running_mean), momentum)
        running_var.lerp_((var * n / max(n - 1, 1)).to(running_var), momentum)  # unbiased, as torch's
    normalised: Tensor = output
    return normalised


class _Normalised(torch.autograd.Function):
    """(x − mean) / √(var + eps) · weight + bias, with mean and var (C,) over all processes.

    By torch's own kernels, which are several times as fast as the definition.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        _, mean, inverse = torch.native_batch_norm(x, torch.ones_like(weight), None, None, None, True, 0.0, eps)
        mean, var = _over_all(mean, (inverse.square().reciprocal() - eps).clamp(min=0))
        ctx.save_for_backward(x, weight, bias, mean, var)
        ctx.eps = eps
        ctx.mark_non_differentiable(mean, var)
        return F.batch_norm(x, mean, var, weight, bias, eps=eps), mean, var

    @staticmethod
    def backward(ctx: Any, dy: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, bias, mean, var = ctx.saved_tensors
        if torch.is_grad_enabled():  # gradients of gradients are left to the definition
            wanted = [each for each in (x, weight, bias) if each.requires_grad]
            found = iter(torch.autograd.grad(_by_definition(x, weight, bias, ctx.eps), wanted, dy, create_graph=True))
            return *(next(found) if each.requires_grad else None for each in (x, weight, bias)), None
        inverse = (var + ctx.eps).rsqrt()
        dx, dweight, dbias = torch.ops.aten.native_batch_norm_backward(
            dy, x, weight, mean, var, mean, inverse, False, ctx.eps, [True, True, True]
        )
        # So far with mean and var held fixed; through them dx loses its mean and its part along the normalised x.
        along, level = devices.mean(torch.stack([dweight, dbias]) * x.shape[1] / x.numel())
        scale = weight * inverse
        dx = dx - F.batch_norm(x, mean, var, scale * along, scale * level, eps=ctx.eps)
        return dx, dweight, dbias, None


def _over_all(mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and (biased) variance of equally many numbers in each process → those of all of them, (C,) each."""
    # One message: each process fills in its line of (processes, 2, C), and the sum has all lines.
    own, processes = torch.stack([mean, var]), devices.count()
    lines = [own if line == devices.rank() else torch.zeros_like(own) for line in range(processes)]
    means, variances = (processes * devices.mean(torch.stack(lines))).unbind(1)
    mean = means.mean(dim=0)
    return mean, (variances + (means - mean).square()).mean(dim=0)


def _by_definition(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    wide = at_least_float32(x)
    var, mean = torch.var_mean(wide, [0, *range(2, x.ndim)], correction=0)
    mean, var = _over_all(mean, var)
    shape = (1, -1, *[1] * (x.ndim - 2))
    scale = (var + eps).rsqrt() * weight
    return torch.addcmul((bias - mean * scale).view(shape), wide, scale.view(shape)).to(x.dtype)


def average_statistics(network: nn.Module) -> None:
    """After local batch-norm: give every process the mean of all running statistics."""
    names = ("running_mean", "running_var")
    devices.average([b for name, b in network.named_buffers() if name.rpartition(".")[2] in names])
