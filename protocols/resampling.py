"""Completing completions: how long does meaning survive ten passes through fresh fragments? (section 3.1.2, Figure 7)

Command: `mdebench measure resampling`.
Result: after each step, in % of the test images, whether the judge still sees the original's identity (or class), in %
of the attributes, whether a predictor on the judge's features still says of the image what it says of the original, and
the pSNR against the original in dB; beside them what two different originals have in common by chance. The paper shows
that hair, expression and gender survive some steps and that "after a number of passes such information is lost". All
runs see the same fragments. The first test images are kept as a gallery in the run's folder.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mdebench.data.finding import no_images
from mdebench.data.pack import Pack
from mdebench.errors import UserError
from mdebench.evaluation.contract import Cost, Subject
from mdebench.evaluation.judging.judge import Judge
from mdebench.evaluation.metrics import measure_mean, psnr
from mdebench.evaluation.passes import CHUNK, Indices, chunks, load
from mdebench.evaluation.readouts import LinearProbe, converged
from mdebench.evaluation.scenarios import test_images, test_masks
from mdebench.evaluation.tasks import Attributes, join
from mdebench.results import galleries
from mdebench.results.displays import BIHARMONIC, FILLS, ChartOf, Display, Metric, TableOf
from mdebench.results.rows import Measurement
from mdebench.variants import Scenario

VERSION = 1
NEEDS = "complete"
FEATURES = False
_AGREEMENT = ("judge_agreement", "attribute_agreement")
DISPLAY = Display(
    title="Resampling: what is left after completing completions, again and again",
    metrics=(
        Metric(
            "judge_agreement",
            "The judge says what it says of the original",
            "%",
            "higher",
            told=True,
            by_judge=True,
            axis="Judge still agrees with the original",
        ),
        Metric(
            "attribute_agreement",
            "Attributes as predicted of the original",
            "%",
            "higher",
            told=True,
            axis="Attributes still as in the original",
        ),
        Metric("psnr/raw/image", "pSNR to the original", "dB", "higher", axis="pSNR"),
    ),
    tables=(
        TableOf(
            "resampling",
            "Resampling: what is left after completing completions, again and again",
            (*_AGREEMENT, "psnr/raw/image"),
            BIHARMONIC,
            FILLS,
            settings=("step 1", "step 2", "step 5", "step 10"),
        ),
    ),
    charts=(
        ChartOf(
            "resampling",
            "Ten successive completions",
            (*_AGREEMENT, "psnr/raw/image"),
            "curves",
            marks=("chance",),
            start=("step 0", 100.0),  # every original agrees with itself
            started=_AGREEMENT,
        ),
    ),
)


@dataclass(frozen=True)
class Settings:
    """Ratio of the fragments, how often, how many images, who judges (see `judges.find_judge`), the masks' seed."""

    S: float = 0.1  # Figure 7
    steps: int = 10  # section 3.1.2
    images: int = 500
    judge: str = "own"
    mask_seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.S < 1 or self.steps < 1 or self.images < 2 or self.mask_seed < 0:
            raise UserError("resampling takes S in (0, 1), steps of at least 1, images of at least 2, mask_seed from 0")


def requires(pack: Pack) -> str | None:
    """Why this pack cannot be used, or None: agreement by chance takes two test images."""
    few = f"{pack.name} has fewer than two test images"
    return None if len(pack.indices("test")) > 1 else join(few, no_images(pack, "test") or "")


def cases(settings: Settings) -> list[Settings]:
    """One unit: all the steps."""
    return [settings]


def cost(pack: Pack, settings: Settings) -> Cost:
    """A completion and a look of the judge per image and step: 1 ms at 64×64. The predictor serves all runs."""
    count = min(settings.images, len(pack.indices("test")))
    completed = settings.steps * (count + min(galleries.IMAGES, count))
    return Cost(completed=completed, seconds=1 + 0.001 * completed * (pack.size / 64) ** 2)


def evaluate(subject: Subject, pack: Pack, settings: Settings) -> list[Measurement]:
    """Three readings for each step, two of chance; without a judge pSNR alone. UserError without `complete`."""
    chosen = test_images(pack, settings.images, settings.mask_seed)
    scenario = Scenario("rec", settings.S)
    draws = [test_masks(pack, scenario, len(chosen), settings.mask_seed, step) for step in range(settings.steps)]
    witness = Witness.of(subject.judge, pack) if subject.judge else None
    said: dict[str, list[Tensor]] = defaultdict(list)  # of the originals
    readings: dict[tuple[str, int], list[Tensor]] = defaultdict(list)
    for piece, *masks in zip(chunks(chosen), *(torch.split(seen, CHUNK) for seen, _ in draws)):
        images = load(pack, piece, subject.device)
        truth = witness.testify(images) if witness else {}
        for metric, traits in truth.items():
            said[metric].append(traits)
        for step, completed in enumerate(_resample(subject, images, masks), start=1):
            readings["psnr/raw/image", step].append(psnr(completed, images).cpu())
            for metric, traits in (witness.testify(completed) if witness else {}).items():
                readings[metric, step].append(agreement(traits, truth[metric]))
    _keep_gallery(subject, pack, chosen[: galleries.IMAGES], draws)
    originals = {metric: torch.cat(parts) for metric, parts in said.items()}
    notes = _notes(witness, pack, chosen, originals)
    found = []
    for (metric, step), values in readings.items():
        unit = "dB" if metric.startswith("psnr") else "%"
        numbers = torch.cat(values).numpy()
        found.append(measure_mean(metric, unit, numbers, f"step {step}", notes[metric], images=chosen))
    return found + _by_chance(originals, settings.mask_seed, chosen)


def _resample(subject: Subject, images: Tensor, masks: Iterable[Tensor]) -> Iterator[Tensor]:
    """Completions of completions; the raw output is passed on."""
    for seen in masks:
        images = subject.complete(images, seen.to(images))
        yield images


def agreement(said: Tensor, truth: Tensor) -> Tensor:
    """The share of equal traits of each image, in %: (N, t), (N, t) → (N,) float64."""
    return 100 * (said == truth).double().mean(dim=1)


@dataclass(frozen=True, eq=False)
class Witness:
    """Says what is in a picture: the class that the judge sees, and attributes read from the judge's features."""

    judge: Judge
    predictor: LinearProbe | None  # features (N, dim) → attributes (N, A), present above 0.5
    note: str  # how it was trained

    @classmethod
    def of(cls, judge: Judge, pack: Pack) -> "Witness":
        """The witness on a pack; the predictor, where the pack has attributes, is trained once for all runs."""
        key = (judge.id, pack.hash)
        if key not in _TRAINED:
            _TRAINED[key] = _train_predictor(judge, pack)
        return cls(judge, *_TRAINED[key])

    def testify(self, images: Tensor) -> dict[str, Tensor]:
        """Metric → traits (N, t) of images (N, 3, H, W)."""
        look = self.judge.look(images)
        traits = {}
        if look.logits is not None:
            traits["judge_agreement"] = look.logits.argmax(dim=1, keepdim=True)
        if self.predictor:
            traits["attribute_agreement"] = torch.from_numpy(self.predictor(look.features.numpy()) > 0.5)
        return traits


_TRAINED: dict[tuple[str, str], tuple[LinearProbe | None, str]] = {}  # (judge, pack) → predictor and its note


def _train_predictor(judge: Judge, pack: Pack) -> tuple[LinearProbe | None, str]:
    """Ridge regression of the attributes on the judge's features of the training images."""
    if Attributes.lacking(pack):
        return None, "no attributes: their agreement left out"
    task = Attributes.of(pack).task

    def features(rows: Indices) -> npt.NDArray[np.float32]:
        return torch.cat([judge.look_at(pack, piece).features for piece in chunks(rows)]).numpy()

    return converged(features, task, task.partition, torch.device("cpu"))


def _notes(witness: Witness | None, pack: Pack, chosen: Indices, originals: dict[str, Tensor]) -> dict[str, list[str]]:
    """Metric → what must be said: what is left out, and how far the predictor can be trusted."""
    left_out = ["no judge: agreement left out"]
    if witness:
        left_out = [] if witness.judge.classes else ["a judge without classes: its agreement left out"]
        left_out += [] if witness.predictor else [witness.note]
    notes = dict.fromkeys(("psnr/raw/image", *originals), left_out)
    if witness and "attribute_agreement" in originals:
        said = originals["attribute_agreement"].numpy().astype(np.float32)
        task = Attributes.of(pack).task
        wrong = task.error(said, task.targets[chosen])
        trust = f"predictor: ridge on the judge's features, {witness.note}, wrong in {wrong:.1f} % on the originals"
        notes["attribute_agreement"] = [*left_out, trust]
    return notes


def _by_chance(originals: dict[str, Tensor], seed: int, chosen: Indices) -> list[Measurement]:
    """What the originals of two different images have in common: each against one other, drawn from the seed."""
    found = []
    for metric, traits in originals.items():
        order = torch.from_numpy(np.random.default_rng(seed).permutation(len(traits)))
        other = torch.empty_like(traits)
        other[order] = traits[order.roll(1)]
        note = "the originals of two different images"
        shared = agreement(other, traits).numpy()
        found.append(measure_mean(f"{metric}/chance", "%", shared, "chance", [note], images=chosen))
    return found


def _keep_gallery(subject: Subject, pack: Pack, shown: Indices, draws: list[tuple[Tensor, Tensor]]) -> None:
    """The first images through all the steps."""
    images = load(pack, shown, subject.device)
    seen, boxes = (torch.stack([part[: len(shown)] for part in parts], dim=1) for parts in zip(*draws))
    completed = torch.stack(list(_resample(subject, images, seen.unbind(1))), dim=1)
    kept = galleries.Gallery(
        galleries.RESAMPLING,
        galleries.to_pixels(images.cpu().numpy()),
        boxes.numpy().astype(np.float32),
        np.moveaxis(seen.numpy(), -3, -1),
        galleries.to_pixels(completed.cpu().numpy()),
    )
    galleries.write_gallery(subject.folder, pack.name, kept)
