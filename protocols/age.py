"""How old somebody is, read off the frozen code: ridge regression on the age in years.

Command: `mdebench measure age` (packs with ages: `utkface`). Beyond the paper. The converged probe of the other
protocols; alpha is that of the least mean absolute error on validation images. What it predicts is a mean, which is not
kept from being below 0.
Result: the mean absolute error in years, and the share of the images within five years, in % (the "cumulative score" of
Geng, Zhou and Smith-Miles 2007). Beside it stands the error of always answering the median age of the training images,
the best of all constants: a code that does not beat it knows nothing of age.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from mdebench.data.finding import no_images
from mdebench.data.pack import Pack
from mdebench.evaluation.contract import Cost, Subject
from mdebench.evaluation.metrics import measure_mean
from mdebench.evaluation.readouts import Predictions, Task, converged, partition, probe_seconds
from mdebench.evaluation.tasks.scored import join, left_out
from mdebench.results.displays import CODES, PIXELS, PROBE, ChartOf, Display, Metric
from mdebench.results.rows import Measurement
from mdebench.words import words

VERSION = 1
NEEDS = "encode"
FEATURES = True
NEAR = 5  # years
_SHARE = f"age_share_{NEAR}"
DISPLAY = Display(
    title="Age read off the frozen code",
    metrics=(
        Metric("age_error", "Age, mean absolute error", "years", "lower", told=True, axis="Error of the age"),
        Metric(_SHARE, f"Age, images within {NEAR} years", "%", "higher", axis=f"Images within {NEAR} years"),
        Metric("median_error", "Age, error of always answering the median", "years"),
    ),
    reference=PIXELS,
    references=CODES,
    charts=(ChartOf("age", "Age from the frozen code", ("age_error",)),),
)


@dataclass(frozen=True)
class Settings:
    """Nothing to set."""


def requires(pack: Pack) -> str | None:
    """Why this pack cannot be used, or None: it takes images of known age in train and in test."""
    if none := no_images(pack, "train", "test"):
        return none
    known = np.isfinite(pack.age)
    missing = [split for split in ("train", "test") if known[pack.indices(split)].sum() < 2]
    return f"{pack.name} has no ages in its {words(missing)} partition" if missing else None


def cases(settings: Settings) -> list[Settings]:
    """One unit."""
    return [settings]


def cost(pack: Pack, settings: Settings) -> Cost:
    """A probe."""
    return Cost(seconds=probe_seconds(len(pack.indices("train"))))


def evaluate(subject: Subject, pack: Pack, settings: Settings) -> list[Measurement]:
    """The errors on the test images of known age."""
    known: npt.NDArray[np.bool_] = np.isfinite(pack.age)
    rows, test = partition(pack, known), pack.indices("test")
    measured = test[known[test]]
    task = Task(pack.age[:, None].astype(np.float32), rows, measured, mean_absolute)
    probe, note = converged(lambda some: subject.features(pack, some), task, rows, subject.device)
    truth = pack.age[measured].astype(np.float64)
    errors = np.abs(probe(subject.features(pack, measured))[:, 0] - truth)
    median = float(np.median(pack.age[rows.train]))
    note = join(note, left_out(len(test) - len(measured), "test images of unknown age"))
    found = [
        ("age_error", "years", errors, note),
        (_SHARE, "%", 100.0 * (errors <= NEAR), note),
        ("median_error", "years", np.abs(median - truth), f"the median of the training images, {median:g} years"),
    ]
    return [measure_mean(name, unit, values, PROBE, [said], images=measured) for name, unit, values, said in found]


def mean_absolute(predictions: Predictions, targets: Predictions) -> float:
    """The mean absolute error of ages (n, 1) in years."""
    return float(np.abs(predictions - targets).mean())
