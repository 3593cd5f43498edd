"""How fast a readout of a frozen encoder is: on features kept from one pass, against encoding every batch.

Both train the paper's head (section 3.2.3) for the same updates on the same images, and predict the test images; their
predictions are compared. The images are noise and the targets chance: neither changes the time.
"""

from collections.abc import Callable
from dataclasses import asdict

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from mdebench import catalog
from mdebench.bench.clock import Measured, alternate, over_rounds
from mdebench.bench.noise import generated_pack
from mdebench.bench.record import Record, say
from mdebench.compute.machine import default_device
from mdebench.data.pack import Pack
from mdebench.errors import UserError
from mdebench.evaluation.contract import Subject
from mdebench.evaluation.passes import Indices, chunks, encode, frozen, load
from mdebench.evaluation.readouts import Settings, train_head
from mdebench.files import scratch
from mdebench.methods.contract import Encodes
from mdebench.settings import SCALES, choose
from mdebench.training.trainer import build_method, weights_hash

TARGETS = 40  # as many as CelebA's attributes
TEST = 10  # one image in so many is a test image


class _Readouts:
    """A head on an untrained encoder, in three ways; ``predicted`` (n, TARGETS) are the last predictions of each."""

    def __init__(self, subject: Subject, pack: Pack, updates: int):
        self.subject, self.pack, self.settings = subject, pack, Settings(updates=updates)
        rows = np.arange(len(pack.images), dtype=np.int64)
        self.train, self.test = rows[rows % TEST != 0], rows[rows % TEST == 0]
        generator = torch.Generator().manual_seed(0)
        self.targets = torch.rand((len(self.train), TARGETS), generator=generator).round().to(subject.device)
        self.predicted: dict[str, Tensor] = {}

    def kept(self) -> None:
        """On the features that are kept."""
        train, test = (
            torch.from_numpy(self.subject.features(self.pack, rows)).to(self.subject.device)
            for rows in (self.train, self.test)
        )
        head = self._head(lambda rows: train[rows])
        with torch.no_grad():
            self.predicted["kept"] = head(test)

    def first(self) -> None:
        """The same, for weights whose features are not there yet."""
        for file in (self.subject.folder / "features").glob("*.npy"):
            file.unlink()
        self.kept()

    def encoding(self) -> None:
        """Encoding every batch, in eval mode and without gradients."""
        with frozen(self.subject.method):
            head = self._head(lambda rows: self._encode(self.train[rows.cpu().numpy()]))
            self.predicted["encoding"] = torch.cat([head(self._encode(piece)) for piece in chunks(self.test)])

    def _encode(self, rows: Indices) -> Tensor:
        return encode(self.subject.method, load(self.pack, rows, self.subject.device))

    def _head(self, code_of: Callable[[Tensor], Tensor]) -> torch.nn.Sequential:
        with torch.enable_grad():
            return train_head(code_of, self.subject.method.feature_dim, self.targets, self.settings, 0)


def measure_transfer(method: str, scale: str, updates: int, images: int, rounds: int) -> list[Measured]:
    """Time the three ways in alternation. UserError for a method without an encoder."""
    entry, values = catalog.method(method), choose(scale, SCALES, "scale")
    own = entry.load().Settings.__dataclass_fields__
    settings = asdict(entry.settings(values, {"perceptual": "none", "losses": "compl"} if "perceptual" in own else {}))
    built = build_method(entry.name, settings, values.size, 0).to(default_device()).eval()
    if not isinstance(built, Encodes):
        raise UserError(f"{method} has no encoder to read out")
    with scratch() as folder, generated_pack(images, values.size) as pack:
        readouts = _Readouts(Subject(method, built, folder, 0, weights_hash(built)), pack, updates)
        jobs = {"first": readouts.first, "kept": readouts.kept, "encoding": readouts.encoding}
        times = alternate(jobs, rounds, warm_up=0)
    off = float((readouts.predicted["kept"] - readouts.predicted["encoding"]).abs().max())
    return [
        over_rounds("features kept", "s", times["kept"]),
        over_rounds("features made first", "s", times["first"]),
        over_rounds("every batch encoded", "s", times["encoding"]),
        over_rounds("times as fast, features kept", "×", times["encoding"] / times["kept"]),
        over_rounds("times as fast, features made first", "×", times["encoding"] / times["first"]),
        Measured("largest difference of a prediction in [0, 1]", "", off, off, off, 1),
    ]


def bench_transfer(method: str, scale: str, updates: int, images: int, rounds: int, console: Console) -> Record:
    """Measure a readout and say it."""
    case = f"{updates:,} updates of a head on {method} at scale {scale}, {images:,} images"
    settings = {"method": method, "scale": scale, "updates": updates, "images": images}
    record = Record("transfer", case, settings, measure_transfer(method, scale, updates, images, rounds))
    say(record, console)
    return record
