"""How likely a model holds test images: bits per dimension.

Command: `mdebench measure likelihood`. For methods that give images a probability, as `pixel_cnn` does; beyond the
paper, which only speaks of completions. An image is its 3·H·W values of 8 bits each, and its bits per dimension are
−log2 of its probability divided by their number: what a value takes when images are stored by the model.
Result: bits per dimension; 8 are those of all values alike. Beside them stand the bits that a histogram of each colour
takes (of up to 1,000 training images, every level counted once more), which knows nothing of where a pixel is and what
is around it: a model has to be well below it.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from mdebench.data.finding import no_images
from mdebench.data.pack import Pack
from mdebench.errors import UserError
from mdebench.evaluation.contract import Cost, Subject
from mdebench.evaluation.metrics import measure_mean
from mdebench.evaluation.passes import Indices, chunks, frozen, load
from mdebench.methods.contract import Scores
from mdebench.results.displays import ChartOf, Display, Metric
from mdebench.results.rows import Measurement

VERSION = 1
NEEDS = "likelihood"
FEATURES = False
SETTING = "whole images"
COUNTED = 1000  # training images, for the histogram
DISPLAY = Display(
    title="Likelihood: bits per dimension of test images",
    metrics=(
        Metric("bits_per_dimension", "Bits per dimension", "bits", "lower", told=True),
        Metric("bits_per_dimension/histogram", "Bits by a histogram of each colour, for comparison", "bits"),
    ),
    charts=(
        ChartOf(
            "likelihood", "Likelihood of test images", ("bits_per_dimension",), levels=(("all values alike", 8.0),)
        ),
    ),
)


@dataclass(frozen=True)
class Settings:
    """`images`: at most so many test images."""

    images: int = 1000

    def __post_init__(self) -> None:
        if self.images < 1:
            raise UserError(f"images={self.images}: at least one image is measured.")


def requires(pack: Pack) -> str | None:
    """Why this pack cannot be used, or None: it takes images to train on, and others to test."""
    return no_images(pack, "train", "test")


def cases(settings: Settings) -> list[Settings]:
    """One unit."""
    return [settings]


def cost(pack: Pack, settings: Settings) -> Cost:
    """A pass over the images, which goes through the network as encoding does."""
    return Cost(encoded=min(settings.images, len(pack.indices("test"))))


def evaluate(subject: Subject, pack: Pack, settings: Settings) -> list[Measurement]:
    """Bits per dimension by the model, and by a histogram of each colour."""
    if not isinstance(subject.method, Scores):
        raise UserError(f"{subject.name} cannot tell how likely images are, choose another run.")
    chosen, bits = pack.indices("test")[: settings.images], []
    for piece in chunks(chosen):
        images = load(pack, piece, subject.device)
        with frozen(subject.method):
            nats = subject.method.likelihood(images).double().cpu()
        bits.append(-nats / (math.log(2) * images[0].numel()))
    found = torch.cat(bits)
    if not found.isfinite().all():
        raise UserError(f"{subject.name} gives images of {pack.name} likelihoods that are not finite.")
    return [
        measure_mean(name, "bits", values, SETTING, images=chosen)
        for name, values in (
            ("bits_per_dimension", found),
            ("bits_per_dimension/histogram", by_histogram(pack, chosen)),
        )
    ]


def by_histogram(pack: Pack, chosen: Indices) -> npt.NDArray[np.float64]:
    """Bits per dimension of images, were their values drawn alone, by how often each level of each colour is in the
    pack's training images: (n,)."""
    train = pack.indices("train")
    train = train[np.unique(np.linspace(0, len(train) - 1, COUNTED).astype(np.int64))]
    counts = np.ones((3, 256))  # so that no level is impossible
    for piece in chunks(train):
        counts += _counted(pack, piece).sum(axis=0)
    cost = -np.log2(counts / counts.sum(axis=1, keepdims=True))
    values = 3 * pack.size**2
    bits = [(_counted(pack, piece) * cost).sum(axis=(1, 2)) / values for piece in chunks(chosen)]
    return np.concatenate(bits)


def _counted(pack: Pack, rows: Indices) -> npt.NDArray[np.float64]:
    """How often each level is in each colour of images: (n, 3, 256)."""
    images = np.asarray(pack.images[rows]).reshape(len(rows), 3, -1)
    return np.stack([[np.bincount(colour, minlength=256) for colour in image] for image in images]).astype(float)
