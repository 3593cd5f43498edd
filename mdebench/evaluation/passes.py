"""Passes over a pack with a frozen network: which images at once, in which form, and nothing moves meanwhile."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console

from mdebench.compute.machine import default_device
from mdebench.data.pack import Pack
from mdebench.errors import UserError
from mdebench.methods.contract import Encodes, Method, codes_of
from mdebench.words import new_progress

T = TypeVar("T")
Indices = npt.NDArray[np.int64]
CHUNK = 64  # images per forward pass, which fits the caches; eval mode makes the result independent of it


def load(pack: Pack, indices: Indices, device: torch.device) -> torch.Tensor:
    """Images of the given rows on a device: (n, 3, H, W) float32 in [0, 1], channels last as convolutions like them."""
    return pack.batch(indices, device).float().div_(255).contiguous(memory_format=torch.channels_last)


def chunks(indices: Indices, size: int = CHUNK) -> Iterator[Indices]:
    """Consecutive pieces of at most `size` indices; whoever watches is told how far the pass is."""
    pieces = (indices[start : start + size] for start in range(0, len(indices), size))
    return steps(pieces, -(-len(indices) // size))


def steps(items: Iterable[T], total: int) -> Iterator[T]:
    """The same items, of which there are `total`, such as the batches of a head's training; who watches is told.

    Of passes within passes the outermost is told.
    """
    token, often = object(), max(1, total // 200)
    _under_way.append(token)
    try:
        for done, item in enumerate(items, start=1):
            yield item
            if _watching and _under_way[0] is token and (done % often == 0 or done == total):
                for tell in _watching:
                    tell(done, total)
    finally:
        _under_way.remove(token)


_under_way: list[object] = []
_watching: list[Callable[[int, int], None]] = []


@contextmanager
def watched(console: Console, what: str) -> Iterator[None]:
    """On a terminal, show how far the pass under way is, and how long it takes yet."""
    with new_progress(console) as bar:
        task = bar.add_task(what, total=None)

        def tell(done: int, total: int) -> None:
            if done < bar.tasks[task].completed:  # another pass: its time is another
                bar.reset(task)
            bar.update(task, completed=done, total=total)

        _watching.append(tell)
        try:
            yield
        finally:
            _watching.remove(tell)


def placed(method: Method) -> Method:
    """The method where networks run here, channels last as when it was trained, in eval mode."""
    method.to(default_device(), memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return method


@contextmanager
def frozen(method: Method) -> Iterator[Method]:
    """Eval mode without gradients: neither weights nor batch-norm statistics move. The modes come back afterwards."""
    modes = [(module, module.training) for module in method.modules()]
    method.eval()
    try:
        with torch.no_grad():
            yield method
    finally:
        for module, training in modes:
            module.training = training


def encode(method: Method, images: torch.Tensor) -> torch.Tensor:
    """The representation of images (N, 3, H, W) in [0, 1]: (N, feature_dim) float32; UserError without an encoder."""
    if not isinstance(method, Encodes):
        raise UserError(f"The method {type(method).__module__} has no encoder, choose another run.")
    return codes_of(method, images).float()


def grid(features: torch.Tensor, width: int) -> int:
    """The side, up to that of the maps (N, C, h, w), for which C · side² is nearest to `width`; the smaller of two."""
    channels = features.shape[1]
    return min(range(1, min(features.shape[-2:]) + 1), key=lambda side: abs(channels * side**2 - width))
