"""Blind inpainting: nobody tells the network where the image is damaged (Wang et al. 2020, section 4).

Each test image loses what lies under soft brush strokes to another test image, mirrored and moved (`masks.damage`); the
damage is drawn once per pack and seed. It is then restored in up to three ways, the settings of the rows:

``blind``       by a method that finds the damage itself and restores the image, such as vcnet
``behind RUN``  with ``--set masker=RUN``: that run finds the damage, and any method that completes fills it; where a
                pixel is more probably damaged than intact, nothing of it is handed over
``told``        with the true mask: what could be reached if the damage were known, the upper line

Lower lines: the damaged image itself, ``nothing done``, and the reference ``mean_colour``, which is told. How well
damage is found stands with the run that finds it, beside what looks at no image: a mask that says everywhere how many
of all pixels are intact, and one that calls all damaged (``mask_…/guess``).

Command: ``mdebench measure blind``, then ``mdebench measure blind --set masker=RUN`` for completing methods.
Result: pSNR and SSIM of the raw output and of the composite, for which the pixels that were taken for intact are pasted
back as they came; BCE of the predicted mask in nats, the mean over the pixels (the training loss of VCNet weighs them
otherwise), and IoU of the damaged region, where less than half of a pixel is left. A sheet of the first test images
lands in the run's folder.
Expected, by VCNet's Table 1: its own network up to 0.8 dB ahead of others behind a mask network.
"""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy

from mdebench.data.finding import no_images
from mdebench.data.pack import Pack
from mdebench.errors import UserError
from mdebench.evaluation.contract import Cost, Subject, Unfit
from mdebench.evaluation.metrics import WINDOW, composite, measure_mean, psnr, ssim
from mdebench.evaluation.passes import CHUNK, Indices, chunks, frozen, load
from mdebench.evaluation.scenarios import test_damage, test_images
from mdebench.evaluation.subjects.maskers import NONE, locate
from mdebench.files import writing
from mdebench.methods import masks
from mdebench.methods.contract import Locates, Restores
from mdebench.pictures import grid
from mdebench.results.displays import BIHARMONIC, MEAN_COLOUR, ChartOf, Display, Metric, TableOf
from mdebench.results.galleries import to_pixels
from mdebench.results.rows import Measurement

VERSION = 1
NEEDS = "complete"
FEATURES = False
TOLD, BLIND, NOTHING = "told", "blind", "nothing done"
ON_SHEET = 8  # test images shown
READING = 4e-3  # seconds that all readings of a restored image of 64×64 take on two cores
_TITLE = "Blind inpainting: nobody tells where the image is damaged"
_TOLD = ("blind", TOLD)  # where a reference is read
_METRICS = (
    Metric("mask_bce", "BCE of the predicted mask", "", "lower", told=True, digits=3, axis="BCE of the mask"),
    Metric("mask_iou", "IoU of the predicted damage", "%", "higher", told=True, axis="IoU of the damage"),
    Metric("psnr/raw/image", "pSNR of the raw output", "dB", "higher", told=True, axis="pSNR", home=_TOLD),
    Metric("psnr/composite/image", "pSNR of the composite", "dB", "higher", home=_TOLD),
    Metric("psnr/raw/hole", "pSNR of the raw output where the image was damaged", "dB", "higher", home=_TOLD),
    Metric("ssim/raw/image", "SSIM of the raw output", "", "higher", told=True, digits=3, axis="SSIM", home=_TOLD),
    Metric("ssim/composite/image", "SSIM of the composite", "", "higher", digits=3, home=_TOLD),
    Metric("psnr/raw/image/damaged", "pSNR of the damaged image, for comparison", "dB"),
    Metric("ssim/raw/image/damaged", "SSIM of the damaged image, for comparison", digits=3),
    Metric("mask_bce/guess", "BCE of a mask that says everywhere how many pixels are intact, for comparison", digits=3),
    Metric("mask_iou/guess", "IoU of a mask that calls all damaged, for comparison", "%"),
)
_UNITS = {metric.name: metric.unit for metric in _METRICS}
DISPLAY = Display(
    title=_TITLE,
    metrics=_METRICS,
    tables=(
        TableOf(
            "blind",
            _TITLE,
            tuple(metric.name for metric in _METRICS),
            MEAN_COLOUR,
            (MEAN_COLOUR, BIHARMONIC),
            published="blind",
        ),
    ),
    charts=(
        ChartOf(
            "blind",
            "Blind inpainting",
            tuple(metric.name for metric in _METRICS if metric.told),
            note="dotted: the damaged image, with nothing done; a mask that looks at no image",
            marks=("damaged", "guess"),
        ),
    ),
)


@dataclass(frozen=True)
class Settings:
    """Who finds the damage, and on how many images.

    `masker`: a run that tells where images are damaged, or "none"; `images`: at most so many test images; `mask_seed`:
    of the damage, and of which images.
    """

    masker: str = NONE
    images: int = 1000
    mask_seed: int = 0

    def __post_init__(self) -> None:
        if self.images < 2 or self.mask_seed < 0 or not self.masker:
            raise UserError("blind takes images of at least 2, a mask_seed of at least 0, and a masker or 'none'")


class Restored(NamedTuple):
    """Images as they came out of one setting: the raw output (N, 3, H, W), and how probable it was held that each pixel
    is intact (N, 1, H, W), 1 or 0 where that was told, None where the method does not say; the ``note`` tells whose
    mask it is, or why there is none."""

    setting: str
    output: Tensor
    intact: Tensor | None
    note: str = ""


def requires(pack: Pack) -> str | None:
    """Why this pack cannot be used, or None: one image is damaged by another."""
    if pack.size < WINDOW:
        return f"its images have {pack.size} pixels a side, and SSIM takes at least {WINDOW}"
    few = f"{pack.name} has fewer than two test images"
    return no_images(pack, "test") or (None if len(pack.indices("test")) > 1 else few)


def cases(settings: Settings) -> list[Settings]:
    """One unit: told and blind, or behind a masker."""
    return [settings]


def cost(pack: Pack, settings: Settings) -> Cost:
    """Each test image restored twice, told and blind, or located and completed."""
    count = min(settings.images, len(pack.indices("test")))
    return Cost(completed=2 * count, seconds=2 * READING * count * (pack.size / 64) ** 2)


def evaluate(subject: Subject, pack: Pack, settings: Settings) -> list[Measurement]:
    """Every reading in each setting that the subject can be measured in."""
    chosen = test_images(pack, settings.images, settings.mask_seed)
    fills = np.roll(chosen, len(chosen) // 2)  # far from each other, as neighbours may show one person
    alphas, moved = test_damage(pack, len(chosen), settings.mask_seed)
    readings: dict[tuple[str, str], list[Tensor]] = defaultdict(list)
    notes, shares = dict[str, str](), list[Tensor]()
    drawn = zip(torch.split(alphas, CHUNK), torch.split(moved, CHUNK), strict=True)
    for piece, fill, (alpha, how) in zip(chunks(chosen), chunks(fills), drawn, strict=True):
        images, alpha = load(pack, piece, subject.device), alpha.to(subject.device)
        damaged = masks.damage(images, alpha, _strange(load(pack, fill, subject.device), how))
        truth = masks.intact(alpha)
        shares.append(truth.double().mean(dim=(1, 2, 3)))
        for restored in restore(subject, pack, damaged, truth):
            notes[restored.setting] = restored.note
            if len(shares) == 1:
                _save_sheet(subject, pack, restored, damaged, images)
            for metric, values in _readings(restored, images, damaged, truth).items():
                readings[restored.setting, metric].append(values)
        if not subject.masker:
            readings[NOTHING, "psnr/raw/image/damaged"].append(psnr(damaged, images))
            readings[NOTHING, "ssim/raw/image/damaged"].append(ssim(damaged, images))
    found = {place: torch.cat(values).double().cpu() for place, values in readings.items()}
    if (BLIND, "mask_bce") in found:
        found |= {(BLIND, f"{metric}/guess"): values for metric, values in _guesses(torch.cat(shares).cpu()).items()}
    test = len(pack.indices("test"))
    few = f"{len(chosen):,} of {test:,} test images" if len(chosen) < test else ""
    return [
        _mean(metric, values, setting, [notes.get(setting, ""), few], chosen)
        for (setting, metric), values in found.items()
    ]


def _mean(metric: str, values: Tensor, setting: str, notes: list[str], chosen: Indices) -> Measurement:
    """The mean over the images that have a value: one that was not damaged has no damaged region."""
    known = ~values.isnan().numpy()
    few = "" if known.all() else f"{(~known).sum():,} images without damage left out"
    return measure_mean(metric, _UNITS[metric], values.numpy()[known], setting, [*notes, few], images=chosen[known])


def restore(subject: Subject, pack: Pack, damaged: Tensor, truth: Tensor) -> Iterator[Restored]:
    """Damaged images (N, 3, H, W) of a pack in every way that a subject can restore them; ``truth`` (N, 1, H, W) is 1
    where they are intact, else 0."""
    if subject.masker:
        intact = locate(subject.masker, damaged)
        name = subject.masker.name.removeprefix(f"{pack.name}-")
        by = f"mask by {subject.masker.name}, weights {subject.masker.weights_hash[:8]}"
        yield Restored(f"behind {name}", subject.complete(damaged, masks.intact(intact)), intact, by)
        return
    yield Restored(TOLD, subject.complete(damaged, truth), truth)
    if isinstance(subject.method, Restores):
        with frozen(subject.method):
            output = subject.method.restore(damaged).float()
        found, why = _located(subject, damaged)
        yield Restored(BLIND, output, found, why)


def _located(subject: Subject, damaged: Tensor) -> tuple[Tensor | None, str]:
    """What a subject holds for intact; None, and why, where it cannot say, such as vcnet without its mask network."""
    if not isinstance(subject.method, Locates):
        return None, "no mask and no composite: it does not say where an image is damaged"
    try:
        return locate(subject, damaged), ""
    except Unfit as reason:
        return None, f"no mask and no composite: {reason}"


def _readings(restored: Restored, images: Tensor, damaged: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """Metric → (N,): of the output; of the composite and the mask where there is one, and it was found."""
    output, intact = restored.output, restored.intact
    found = {
        "psnr/raw/image": psnr(output, images),
        "psnr/raw/hole": psnr(output, images, 1 - truth),
        "ssim/raw/image": ssim(output, images),
    }
    if intact is not None:
        pasted = composite(damaged, masks.intact(intact), output)
        found |= {"psnr/composite/image": psnr(pasted, images), "ssim/composite/image": ssim(pasted, images)}
        if restored.setting == BLIND:
            found |= {"mask_bce": mask_bce(intact, truth), "mask_iou": mask_iou(intact, truth)}
    return found


def mask_bce(intact: Tensor, truth: Tensor) -> Tensor:
    """Binary cross-entropy of ``intact`` (N, 1, H, W) in [0, 1] with ``truth`` of 1 and 0, the mean over the pixels:
    (N,) float64 in nats. A logarithm counts as at least −100, as in torch."""
    return binary_cross_entropy(intact.double(), truth.double(), reduction="none").mean(dim=(1, 2, 3))


def mask_iou(intact: Tensor, truth: Tensor) -> Tensor:
    """Pixels that are damaged and called so, in % of those that are either: (N,) float64; 100 where there are none."""
    called, damaged = masks.intact(intact) == 0, truth == 0
    both, either = ((called & damaged).sum((1, 2, 3)), (called | damaged).sum((1, 2, 3)))
    return torch.where(either > 0, 100 * both.double() / either, 100.0)


def _guesses(shares: Tensor) -> dict[str, Tensor]:
    """What masks get that look at no image, from the share of intact pixels in each (N,) float64."""
    mean = shares.mean()
    entropy = -torch.xlogy(shares, mean) - torch.xlogy(1 - shares, 1 - mean)
    return {"mask_bce": entropy, "mask_iou": 100 * (1 - shares)}


def _strange(images: Tensor, moved: Tensor) -> Tensor:
    """Each image (N, 3, H, W) mirrored and moved as drawn (N, 3), whichever others are beside it."""
    return torch.cat([masks.strange(image[None], how[None]) for image, how in zip(images, moved, strict=True)])


def _save_sheet(subject: Subject, pack: Pack, restored: Restored, damaged: Tensor, images: Tensor) -> None:
    """Write `sheets/<pack>-blind-<setting>.png` in the run's folder, whole or not at all: what was damaged, what was
    taken for intact, the raw output, the originals."""
    intact = damaged.new_zeros(0) if restored.intact is None else restored.intact.expand_as(damaged)
    shown = {"damaged": damaged, "intact": intact, "restored": restored.output, "original": images}
    rows = {name: to_pixels(each[:ON_SHEET].cpu().numpy()) for name, each in shown.items() if len(each)}
    name = f"{pack.name}-blind-{restored.setting.replace(' ', '-')}.png"
    with writing(subject.folder / "sheets" / name) as file:
        grid([list(row) for row in rows.values()], list(rows), zoom=max(1, math.ceil(96 / pack.size))).save(file, "PNG")
