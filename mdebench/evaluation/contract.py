"""What a protocol is given: a finished run as a subject that can be looked at but not changed.

A protocol is one file of `protocols/`; its name there is its name on the command line. It exposes

- `VERSION`: int, bumped when a number could change;
- `Settings`: a frozen dataclass whose defaults are the paper's values;
- `NEEDS`: "encode", "stages", "complete" or "likelihood", what it asks of a method;
- `FEATURES`: bool, whether it reads `subject.features`, the codes of the whole pack that are computed once per run;
- `requires(pack) -> str | None`: why this pack cannot be used, or None;
- `cases(settings) -> list[Settings]`: what is computed and stored as one unit each;
- `cost(pack, settings) -> Cost`: what one unit takes, for the plan;
- `evaluate(subject, pack, settings) -> list[Measurement]`.

A protocol whose `Settings` has a field `judge` is given the classifier of that name as `subject.judge`, or None where
there is none; the row names it. One whose `Settings` has a field `masker` is given the run of that name, which tells
where images are damaged, as `subject.masker`, or None for "none".
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import torch

from mdebench.data.pack import Pack
from mdebench.errors import UserError
from mdebench.evaluation import features
from mdebench.evaluation.passes import Indices, chunks, encode, frozen, load
from mdebench.files import Damaged
from mdebench.methods.contract import Completes, Encodes, Method
from mdebench.words import new_console, tell

if TYPE_CHECKING:
    from mdebench.evaluation.judging.judge import Judge


class Unfit(UserError):
    """A subject lacks what a case asks of it, such as parameters to finetune."""


@dataclass(frozen=True)
class Cost:
    """What one unit takes: images encoded (beyond the features of the pack, which a run shares between protocols),
    images completed, and other seconds on two cores of an ordinary machine."""

    encoded: int = 0
    completed: int = 0
    seconds: float = 0.0


@dataclass
class Subject:
    """A finished run under measurement: its method with trained weights, its folder (for caches), seed and weights,
    the classifier that judges its pictures where a protocol asks for one, and the masker before it where it is given
    one. Of an ``exported`` encoder nothing else is trained: it does not complete."""

    name: str
    method: Method
    folder: Path
    seed: int
    weights_hash: str
    judge: "Judge | None" = None
    exported: bool = False
    masker: "Subject | None" = None

    @property
    def completes(self) -> bool:
        """Whether it can complete images."""
        return isinstance(self.method, Completes) and not self.exported

    @property
    def device(self) -> torch.device:
        """Where the method's weights are; the CPU for a method without any."""
        tensors = (*self.method.parameters(), *self.method.buffers())
        return tensors[0].device if tensors else torch.device("cpu")

    @cached_property
    def width(self) -> int:
        """How many numbers a code has, measured on black images; UserError where the method promises another number.

        0 without an encoder.
        """
        if not isinstance(self.method, Encodes):
            return 0
        with frozen(self.method) as method:
            black = torch.zeros(2, 3, method.size, method.size, device=self.device)
            return encode(method, black).shape[1]

    def features(self, pack: Pack, indices: Indices) -> npt.NDArray[np.float32]:
        """The frozen representation of the given images: (n, width) float32.

        All images of the pack are encoded once for these weights and kept as `features/<pack>-<weights>.npy` in the
        run's folder, written whole or not at all, held to their checksum and memory-mapped (see `features`); damaged
        ones are made again, and told. UserError where the code's width is not the one that the method promises.
        """
        file = self.folder / "features" / f"{pack.hash[:12]}-{self.weights_hash[:12]}.npy"
        shape = (len(pack.images), self.width)
        try:
            codes = features.kept(file, shape)
        except (FileNotFoundError, Damaged) as problem:
            if isinstance(problem, Damaged):
                tell(new_console(), "note", str(problem))
            for stale in file.parent.glob(f"{pack.hash[:12]}-*.npy"):  # of earlier weights of this run, too
                stale.unlink(missing_ok=True)
            for path in features.keep(file, self._codes(pack), shape):
                tell(new_console(), "cleared", f"{path}, left half written by a kill")
            codes = features.kept(file, shape)
        return np.asarray(codes[indices])

    def complete(self, images: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        """Completions (N, 3, H, W) of images of which only `seen` (1 = seen; broadcastable to images) is handed over.

        UserError when it cannot.
        """
        if not isinstance(self.method, Completes) or self.exported:
            raise UserError(f"{self.name} cannot complete images (it has no decoder), choose another run.")
        seen = seen.to(images).expand_as(images)
        with frozen(self.method):
            return self.method.complete(images * seen, seen).float()

    def _codes(self, pack: Pack) -> Iterator[npt.NDArray[np.float32]]:
        """Those of all images of the pack, piece by piece."""
        with frozen(self.method):
            for piece in chunks(np.arange(len(pack.images), dtype=np.int64)):
                yield self._encode(pack, piece)

    def _encode(self, pack: Pack, rows: Indices) -> npt.NDArray[np.float32]:
        codes: npt.NDArray[np.float32] = encode(self.method, load(pack, rows, self.device)).cpu().numpy()
        if not np.isfinite(codes).all():
            raise UserError(f"{self.name} encodes images of {pack.name} to numbers that are not finite.")
        return codes
