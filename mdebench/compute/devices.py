"""One run in several processes, each on a device of its own: what they tell each other while they train.

Every process holds the same weights and takes an equal part of each batch. Means over all processes (of gradients, of
losses, of what a method averages) make their steps those that one process would take with the whole batch. Files are
the first process's affair, and what it finds there, or cannot write, is told to all. With one process all of this does
nothing. Hugging Face Accelerate carries the messages: over NCCL between GPUs, over gloo between CPU processes.
"""

import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import torch
from torch import Tensor, nn

from mdebench.errors import UserError

P = ParamSpec("P")
T = TypeVar("T")


def count() -> int:
    """How many processes train this run together."""
    return torch.distributed.get_world_size() if torch.distributed.is_initialized() else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return torch.distributed.get_rank() if torch.distributed.is_initialized() else 0


def part_of(batch: int, processes: int) -> int:
    """How many images of a batch each process takes; UserError when they cannot be shared out evenly."""
    if batch % processes:
        raise UserError(
            f"a batch of {batch} images cannot be divided evenly among {processes} processes;"
            " choose another number of devices or --set batch=N"
        )
    return batch // processes


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor on a device, without waiting for what a GPU still has to do before it takes it."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


@contextmanager
def joined(meeting: Path | None = None) -> Iterator[None]:
    """Work together with the other processes that torchrun (or ``launch``) started; alone where it did not.

    Processes of one machine may meet at a file and then talk over loopback alone; without it they meet where torchrun
    says. UserError when this machine has fewer GPUs than processes.
    """
    if not torch.distributed.is_torchelastic_launched():
        yield
        return
    from accelerate import PartialState  # slow to import

    check_gpus(int(os.environ["LOCAL_WORLD_SIZE"]))
    place: dict[str, Any] = {}
    if meeting is not None:
        loopback = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
        os.environ |= {"GLOO_SOCKET_IFNAME": loopback, "NCCL_SOCKET_IFNAME": loopback}
        place = {"init_method": f"file://{meeting}", "rank": int(os.environ["RANK"])}
        place |= {"world_size": int(os.environ["WORLD_SIZE"])}
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))  # or Accelerate chooses the threads
    state = PartialState(cpu=not torch.cuda.is_available(), **place)
    yield
    state.destroy_process_group()  # not after an error: it would wait for processes that are gone


def check_gpus(wanted: int) -> None:
    """UserError when this machine has GPUs, but fewer than are wanted."""
    if torch.cuda.is_available() and wanted > (there := torch.cuda.device_count()):
        raise UserError(f"{wanted} devices were asked for, but this machine has {there} GPU{'s' * (there != 1)}")


def mean(x: Tensor) -> Tensor:
    """The mean of a tensor over all processes, elementwise; gradients go through it, also second ones."""
    if count() == 1:
        return x
    found: Tensor = _Mean.apply(x)
    return found


class _Mean(torch.autograd.Function):
    """With y the mean of all x, the sum of all losses has the mean of all dy as its gradient in each x."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        from accelerate.utils import reduce

        with _in_touch():
            found: Tensor = reduce(x.contiguous(), "mean")
        return found

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        return mean(dy)


@torch.no_grad()
def average(tensors: Sequence[Tensor]) -> None:
    """Put the mean over all processes into each tensor, in one message."""
    if count() > 1 and tensors:
        means = mean(torch.cat([tensor.flatten() for tensor in tensors]))
        for tensor, values in zip(tensors, torch.split(means, [tensor.numel() for tensor in tensors])):
            tensor.copy_(values.view_as(tensor))


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """The gradients of the whole batch, from those of each process's part."""
    average([p.grad for p in parameters if p.grad is not None])


def anywhere(*said: bool) -> list[bool]:
    """For each question whether any process says yes."""
    if count() == 1:
        return list(said)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return (mean(torch.tensor(said, dtype=torch.float32, device=device)) > 0).tolist()


def on_first(work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """What the first process gets from ``work``, which it alone does; its UserError is everybody's."""
    if count() == 1:
        return work(*args, **kwargs)
    told: list[Any] = [None, None]  # what was got, and what went wrong
    if rank() == 0:
        try:
            told[0] = work(*args, **kwargs)
        except UserError as error:
            told[1] = str(error)
    from accelerate.utils import broadcast_object_list

    with _in_touch():
        broadcast_object_list(told)
    if told[1] is not None:
        raise UserError(told[1])
    found: T = told[0]
    return found


def in_turn(work: Callable[[], T]) -> T:
    """Each process does ``work`` after the ones before it: the first makes what the others find made."""
    for turn in range(count()):
        if turn == rank():
            found = work()
        if count() > 1:
            from accelerate.utils import wait_for_everyone

            with _in_touch():
                wait_for_everyone()
    return found


def check_same(what: str, value: object) -> None:
    """UserError unless every process has the same ``value`` (compared by its representation)."""
    ours = repr(value)
    theirs = on_first(lambda: ours)
    if any(anywhere(ours != theirs)):
        raise UserError(f"the processes of this run do not have the same {what}: their machines or files differ")


@contextmanager
def _in_touch() -> Iterator[None]:
    """A connection that broke means that a process is gone, which is said in words."""
    try:
        yield
    except RuntimeError as error:
        if not isinstance(error, torch.distributed.DistError) and "gloo" not in str(error):
            raise
        raise UserError(LOST) from error


LOST = "one of the processes of this run has ended"
