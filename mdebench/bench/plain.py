"""The same game written plainly, to compare with: fp32, contiguous, eager, ``backward()`` for everything, Adam as it
comes, in an ordinary process.
"""

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from mdebench.bench.clock import wait
from mdebench.bench.noise import noise_pack
from mdebench.compute.machine import default_device
from mdebench.errors import UserError
from mdebench.methods.contract import Batch, Method
from mdebench.runs import Recipe
from mdebench.training.beside import made_up
from mdebench.training.trainer import batch_at, build_method, optimizer_of


class Plain:
    """A method's players and optimizers; `update` lets them move in turn."""

    def __init__(self, method: Method, device: torch.device):
        self.method = method.to(device)
        self.players = method.players()
        self.optimizers = {name: optimizer_of(player, fast=False) for name, player in self.players.items()}

    def update(self, batch: Batch) -> None:
        """One update, each player's gradients computed for everybody."""
        batch = replace(batch, images=batch.images.float().contiguous())  # `batch_at` gives channels last
        for name in self.method.turns(batch.step, batch.updates):
            loss = self.method.loss(name, batch).total
            self.optimizers[name].zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizers[name].step()


@contextmanager
def plain_elsewhere(recipe: Recipe, folder: Path) -> Iterator[Callable[[range], None]]:
    """A function that does updates plainly, in a process of its own: what ours does to the process is ours alone."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(
        target=_play_plainly, args=(there, recipe, folder, torch.get_num_threads()), daemon=True
    )
    process.start()
    there.close()  # so that its end is noticed

    def update(steps: range) -> None:
        try:
            here.send(steps)
            here.recv()
        except (EOFError, OSError) as error:
            raise UserError("the plain update did not go through; what stopped it stands above") from error

    try:
        yield update
    finally:
        here.close()
        process.join()


def _play_plainly(pipe: Connection, recipe: Recipe, folder: Path, threads: int) -> None:
    """Do the updates that are asked for until nobody listens any more."""
    torch.set_num_threads(threads)
    device, pack = default_device(), noise_pack(folder)
    train = pack.indices("train")
    plain = Plain(build_method(recipe.method, recipe.settings, recipe.size, 0), device)
    given = made_up(plain.method, len(pack.images))
    with suppress(EOFError):
        while True:
            for step in pipe.recv():
                plain.update(batch_at(pack, train, recipe, step, device, given))
            wait()
            pipe.send(None)
