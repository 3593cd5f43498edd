"""What of the representation survives when the test face itself is occluded.

Command: `mdebench measure robustness`. Beyond the paper, which occludes faces only to complete them. The converged
probes are those of the other protocols, trained on clean images; then each test image loses the rectangle of a preset
(Table 3), is encoded and read again: with zeros in the hole, as an encoder knows missing pixels from pretraining, and,
since raw pixels know a black hole from nowhere, with the hole filled by the mean colour of what is seen, by the
biharmonic fill and, where the method can complete, by its own completion, always with the seen pixels pasted back.
Which of these fills serves a representation best is chosen for each preset on validation images.
Result: attribute error in % and landmark distance in px of 96 for "clean" and for each of the six presets under each
fill ("left_half", "left_half, biharmonic", …, "left_half, chosen fill"). The probes see no occluded image, so a code
that ignores the hole loses nothing but what only the hole told, and a completion is worth what it gains over raw pixels
under the fill that serves these best.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial, reduce

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mdebench.data.pack import Pack
from mdebench.evaluation import tasks
from mdebench.evaluation.contract import Cost, Subject
from mdebench.evaluation.metrics import composite
from mdebench.evaluation.passes import Indices, chunks, encode, frozen, load
from mdebench.evaluation.readouts import LinearProbe, Readout, converged, probe_seconds
from mdebench.evaluation.tasks.landmarks import misplaced
from mdebench.methods import fills
from mdebench.methods.masks import PRESETS, preset
from mdebench.results.displays import CODES, PIXELS, ChartOf, Display, TableOf
from mdebench.results.rows import Measurement

VERSION = 2
NEEDS = "encode"
FEATURES = True
KINDS = (tasks.Attributes, tasks.Landmarks)
IN_TABLE_3 = ("right_half", "left_half", "both_eyes", "right_eye", "left_eye", "mouth")  # the presets in its order
CLEAN, OWN, CHOSEN = "clean", "own completion", "chosen fill"
FILLS = {  # how a setting ends → what lies in the hole
    "": "missing pixels are zero",
    "mean colour": "missing pixels filled with the mean colour",
    "biharmonic": "missing pixels filled by the biharmonic fill",
    OWN: "missing pixels filled by the method's own completion",
}
CHOOSING = 1000  # validation images, at most, on which a fill is chosen
SOLVE = 1e-6  # seconds that the biharmonic fill takes for a missing pixel of an image, on two cores
_METRICS = (tasks.ATTRIBUTE_ERROR, tasks.LANDMARK_DISTANCE)
_NAMES = tuple(metric.name for metric in _METRICS)
_TITLE = "Robustness: what is read off a face that is itself occluded"


def _setting(name: str, fill: str) -> str:
    return f"{name}, {fill}" if fill else name


def _chart(fill: str, what: str) -> ChartOf:
    name = f"robustness-{fill.replace(' ', '-')}" if fill else "robustness"
    order = (CLEAN, *(_setting(name, fill) for name in IN_TABLE_3))
    note = f"{what}; upright ticks: the same line on clean faces"
    return ChartOf(name, "Representations of occluded faces", _NAMES, "dots", note, order, order, origin=CLEAN)


DISPLAY = Display(
    title=_TITLE,
    metrics=_METRICS,
    tables=(
        TableOf(
            "robustness",
            _TITLE,
            _NAMES,
            PIXELS,
            CODES,
            manners=(
                *((fill, what) for fill, what in FILLS.items() if fill != OWN),
                (OWN, f"{FILLS[OWN]}, beside raw pixels under their chosen fill"),
                (CHOSEN, "each line under the fill chosen for it on validation images"),
            ),
        ),
    ),
    charts=(_chart("", FILLS[""]), _chart(CHOSEN, "each line under the fill chosen for it on validation images")),
)


@dataclass(frozen=True)
class Settings:
    """Nothing to set: all presets and fills are measured with the same probes."""


@dataclass(frozen=True)
class Reader:
    """A kind of labels, and the probe that reads it; `val` are the images on which it chooses a fill."""

    labels: tasks.Scored
    probe: LinearProbe
    note: str

    @property
    def val(self) -> Indices:
        """The first of the images on which the probe's regularisation was chosen."""
        return self.labels.task.partition.val[:CHOOSING]

    def error(self, codes: "Codes") -> float:
        """The error on these images."""
        return self.labels.task.error(self.probe(codes(self.val)), self.labels.task.targets[self.val])


@dataclass(frozen=True)
class Codes:
    """The codes (n, feature_dim) of ascending rows of the pack."""

    rows: Indices
    codes: npt.NDArray[np.float32]

    def __call__(self, wanted: Indices) -> npt.NDArray[np.float32]:
        """Those of some of the rows."""
        return self.codes[np.searchsorted(self.rows, wanted)]


def requires(pack: Pack) -> str | None:
    """Why this pack cannot be used, or None: it takes attributes or landmarks."""
    return tasks.lacking(pack, KINDS)


def cases(settings: Settings) -> list[Settings]:
    """One unit, since the probes are trained once."""
    return [settings]


def cost(pack: Pack, settings: Settings) -> Cost:
    """Test and some validation images encoded for each preset and fill, completed where the method can, and a probe for
    each kind of labels; and the biharmonic fill, which the first of several runs solves for all of them."""
    asked = sum(kind.lacking(pack) is None for kind in KINDS)
    images = len(pack.indices("test")) + min(CHOOSING, len(pack.indices("val")))
    missing = sum(int((preset(name, pack.size) == 0).sum()) for name in PRESETS)
    seconds = asked * probe_seconds(len(pack.indices("train"))) + SOLVE * missing * images
    count = len(PRESETS) * images
    return Cost(encoded=len(FILLS) * count, completed=count, seconds=seconds)


def evaluate(subject: Subject, pack: Pack, settings: Settings) -> list[Measurement]:
    """Each kind of labels read from the clean test images and from those with a rectangle missing, under each fill."""
    features = partial(subject.features, pack)
    readers = [
        Reader(each, *converged(features, each.task, each.task.partition, subject.device))
        for each in tasks.known(pack, KINDS)
    ]
    rows = reduce(np.union1d, [reader.val for reader in readers], pack.indices("test"))
    left_out = f"no {OWN}: an exported encoder has no decoder" if subject.exported else ""
    found = []
    for reader in readers:
        clean = Readout(CLEAN, reader.probe(features(reader.labels.rows)), tasks.join(left_out, reader.note))
        found.append(reader.labels.headline(clean))
    for name in PRESETS:
        codes = {
            fill: Codes(rows, _encoded(subject, pack, rows, name, fill))
            for fill in FILLS
            if fill != OWN or subject.completes
        }
        for reader in readers:
            found += _read(reader, codes, name, misplaced(pack, name))
    return found


def _read(reader: Reader, codes: Mapping[str, Codes], name: str, where: str) -> Iterator[Measurement]:
    """The labels read from the test images without a rectangle under each fill, and under that chosen on others."""
    measured = {}
    for fill, own in codes.items():
        note = tasks.join(FILLS[fill], where, reader.note)
        measured[fill] = Readout(_setting(name, fill), reader.probe(own(reader.labels.rows)), note)
        yield reader.labels.headline(measured[fill])
    chosen = min(codes, key=lambda fill: reader.error(codes[fill]))  # of equals the first
    note = f"{chosen or 'zeros'} chosen on {len(reader.val):,} validation images"
    yield reader.labels.headline(
        Readout(_setting(name, CHOSEN), measured[chosen].predictions, tasks.join(note, where, reader.note))
    )


def _encoded(subject: Subject, pack: Pack, rows: Indices, name: str, fill: str) -> npt.NDArray[np.float32]:
    codes = []
    for images in filled(subject, pack, rows, name, fill):
        with frozen(subject.method) as method:
            codes.append(encode(method, images).cpu().numpy())
    return np.concatenate(codes)


def filled(subject: Subject, pack: Pack, rows: Indices, name: str, fill: str) -> Iterator[Tensor]:
    """Images (…, 3, H, W), in pieces, without the rectangle of a preset, what is missing filled."""
    seen = preset(name, pack.size).to(subject.device)
    done = 0
    for piece in chunks(rows):
        images = load(pack, piece, subject.device)
        if fill == "biharmonic":
            images[:, :, seen[0, 0] == 0] = smooth(pack, rows, name)[done : done + len(piece)].to(images)
            yield images
        elif fill == OWN:
            yield composite(images, seen, subject.complete(images, seen))
        else:
            yield fills.mean_colour(images, seen) if fill else images * seen
        done += len(piece)


_SMOOTH: dict[tuple[str, bytes, str], Tensor] = {}


def smooth(pack: Pack, rows: Indices, name: str) -> Tensor:
    """The biharmonic fill of a preset's hole, (len(rows), 3, missing pixels) float32.

    It is the same for every run, so it is solved once and kept in memory, for one pack at a time: 20 MB for 660 images
    of 64×64 and all presets, 1.4 GB for 21,000 of 96×96.
    """
    key = (pack.hash, rows.tobytes(), name)
    if key not in _SMOOTH:
        for other in [known for known in _SMOOTH if known[:2] != key[:2]]:
            del _SMOOTH[other]
        seen = preset(name, pack.size)
        pieces = (load(pack, piece, torch.device("cpu")) for piece in chunks(rows))
        _SMOOTH[key] = torch.cat([fills.biharmonic(images, seen)[:, :, seen[0, 0] == 0] for images in pieces])
    return _SMOOTH[key]
