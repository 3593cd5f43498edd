"""The least time that the kernels of an update take: each alone, over and over, with its data in the cache.

What an update takes beyond it goes to the cold cache between kernels, to starting them, and to Python. With the
machine's peak it tells what stands between an update and that peak: kernels that do not reach it, or the way from one
to the next.
"""

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from mdebench.bench.clock import seconds

REPEATS, IN_A_ROW = 3, 3
# A kind is the first whose words are in a kernel's name.
KINDS = {
    "convolutions": ("convolution",),
    "batch-norm": ("batch_norm",),
    "matrix products": ("mm", "linear"),
    "activations and pooling": ("relu", "threshold", "clamp", "sigmoid", "softplus", "pool"),
    "optimizer": ("adam", "sgd", "foreach"),
    "copies and casts": ("copy", "cat", "clone"),
}
OTHER = "other kernels"


def kernel_times(job: Callable[[], object]) -> dict[str, float]:
    """Seconds that the kernels of a job take at least, by kind of KINDS, and OTHER."""
    with _Kernels() as kernels:
        job()
    found: dict[str, float] = dict.fromkeys((*KINDS, OTHER), 0.0)
    for key, calls in kernels.calls.items():
        found[kind_of(key[0])] += calls * kernels.alone[key]
    return found


def kind_of(kernel: str) -> str:
    """The kind of a kernel by its name, such as ``aten::convolution_backward``."""
    return next((kind for kind, words in KINDS.items() if any(word in kernel for word in words)), OTHER)


class _Kernels(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Times every kernel that is new by its name and its arguments' shapes, and counts how often each is called."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.calls: Counter[tuple[str, Hashable]] = Counter()
        self.alone: dict[tuple[str, Hashable], float] = {}

    def __torch_dispatch__(
        self, func: Any, types: Iterable[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if not func.is_view:  # views move nothing
            key = func.name(), (_looks(args), _looks(tuple(kwargs.items())))
            if key not in self.alone:
                self.alone[key] = _alone(func, _copy(args), {name: _copy(value) for name, value in kwargs.items()})
            self.calls[key] += 1
        return func(*args, **kwargs)


def _alone(func: Callable[..., Any], args: Any, kwargs: dict[str, Any]) -> float:
    """The shortest time of a call among several in a row, on copies, which kernels that write in place may change."""

    def row() -> None:
        for _ in range(IN_A_ROW):
            func(*args, **kwargs)

    return min(seconds(row) for _ in range(REPEATS)) / IN_A_ROW


def _looks(value: Any) -> Hashable:
    """What a kernel's time depends on."""
    if isinstance(value, Tensor):
        return (*value.shape, *value.stride(), value.dtype)
    return tuple(map(_looks, value)) if isinstance(value, list | tuple) else repr(value)


def _copy(value: Any) -> Any:
    if isinstance(value, Tensor):  # laid out as it is, be it a part of a larger one or one number many times
        whole = torch.empty(0, dtype=value.dtype, device=value.device).set_(value.untyped_storage())
        return whole.clone().as_strided(value.shape, value.stride(), value.storage_offset())
    return type(value)(map(_copy, value)) if isinstance(value, list | tuple) else value
