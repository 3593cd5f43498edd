"""What updates cost: their floating-point operations, counted once for each order of turns."""

from copy import deepcopy
from typing import Self

from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.module_tracker import ModuleTracker

from mdebench.compute import devices
from mdebench.methods.contract import Batch
from mdebench.training.trainer import Trainer


class _NoModules(ModuleTracker):
    """In the place of the tracker by which torch's counter tells modules apart: a total has no use for them, and its
    hooks fail where a loss asks for gradients at a leaf of its graph (PyTorch issue 131753).
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        pass


class Operations:
    """What updates cost: floating-point operations of convolutions and matrix products, counted once for each order of
    turns, since updates with the same turns do the same.
    """

    def __init__(self) -> None:
        self.gflop: dict[tuple[str, ...], float] = {}

    def update(self, trainer: Trainer, batch: Batch) -> tuple[dict[str, Tensor], float]:
        """Do an update; returns its loss parts and its GFLOP, a multiplication and an addition counted as two.

        Under the counter other kernels may run, which round otherwise: what is counted is taken back and done again.
        """
        turns = trainer.method.turns(batch.step, batch.updates)
        if turns not in self.gflop:
            before, draws = deepcopy(trainer.state()), batch.generator.get_state()
            counter = FlopCounterMode(display=False)
            counter.mod_tracker = _NoModules()
            with counter:
                trainer.update(batch)
            self.gflop[turns] = devices.count() * counter.get_total_flops() / 1e9
            trainer.restore(before, "the state before this update")
            batch.generator.set_state(draws)
        return trainer.update(batch), self.gflop[turns]
