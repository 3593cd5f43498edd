"""Where the time of an update goes: one timeline, cut wherever another network, the optimizer or the loss takes over.

In the forward direction a network's hooks cut it. Backwards, autograd goes through the calls in reverse order, so the
moment when the gradient of a network's output is there is the moment when the network's own turn begins, and it ends
when the gradient of its input is there, or with the next network's turn.
"""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from mdebench.bench.clock import wait
from mdebench.methods.contract import Batch
from mdebench.training.trainer import Trainer

LOSSES = "losses and the rest"


class _Timeline:
    """Seconds by section; `switch` ends one section and begins another."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = defaultdict(float)
        self._current, self._since = LOSSES, time.perf_counter()

    def switch(self, section: str) -> None:
        wait()
        now = time.perf_counter()
        self.spent[self._current] += now - self._since
        self._current, self._since = section, now


def sections(trainer: Trainer, batch: Batch) -> dict[str, float]:
    """Seconds of one update by section: each network of the method by its name, "optimizer", and the rest."""
    with _watched(trainer) as timeline:
        trainer.update(batch)
        timeline.switch(LOSSES)
    return dict(timeline.spent)


@contextmanager
def _watched(trainer: Trainer) -> Iterator[_Timeline]:
    names: dict[nn.Module, str] = {module: name for name, module in trainer.method.named_children()}
    timeline, depth = _Timeline(), 0
    ours: list[Tensor] = []  # what a network gave: there its own turn begins, whoever took it as an input

    def enter(module: nn.Module, inputs: Any) -> None:
        nonlocal depth
        if depth == 0:
            timeline.switch(f"{name(module)}, forward")
        depth += 1

    def leave(module: nn.Module, inputs: Any, outputs: Any) -> None:
        nonlocal depth
        depth -= 1
        if depth == 0:
            for tensor in _tensors(outputs):
                if tensor.requires_grad:
                    ours.append(tensor)
                    cut(tensor, f"{name(module)}, backward")
            for tensor in _tensors(inputs):
                if tensor.requires_grad and not any(tensor is output for output in ours):
                    cut(tensor, LOSSES)
            timeline.switch(LOSSES)

    def name(module: nn.Module) -> str:
        return names.get(module, type(module).__name__.lower())

    def cut(tensor: Tensor, section: str) -> None:
        tensor.register_hook(lambda _: timeline.switch(section))  # type: ignore[no-untyped-call]

    handles: list[Any] = [register_module_forward_pre_hook(enter), register_module_forward_hook(leave)]
    for optimizer in trainer.optimizers.values():
        handles.append(optimizer.register_step_pre_hook(lambda *_: timeline.switch("optimizer")))
        handles.append(optimizer.register_step_post_hook(lambda *_: timeline.switch(LOSSES)))
    try:
        yield timeline
    finally:
        for handle in handles:
            handle.remove()


def _tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in nested tuples, lists and dictionaries."""
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))
    elif isinstance(value, tuple | list):
        for part in value:
            yield from _tensors(part)
