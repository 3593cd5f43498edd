"""Face completion under targeted occlusions (section 3.2.4, Table 3): six presets after GFC.

Command: `mdebench occlusion --preset both_eyes` (or `all`).
Result: for each preset four pSNR readings in dB and four of SSIM, `<metric>/<raw|composite>/<image|hole>`, since the
papers do not say which they mean: the raw output, or the composite with the seen pixels pasted back, over the whole
image or over the hole alone. Means over the test images; the paper's REC has 21.6 to 22.6 dB, the context encoder 18 to
19. A sheet of the first eight test images (input, raw, composite, original) lands in the run's folder.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from mdebench.data.finding import no_images
from mdebench.data.pack import Pack
from mdebench.errors import UserError
from mdebench.evaluation.contract import Cost, Subject
from mdebench.evaluation.metrics import composite, mean_ssim, measure_mean, psnr, ssim_map
from mdebench.evaluation.passes import chunks, load
from mdebench.evaluation.tasks.landmarks import misplaced
from mdebench.files import writing
from mdebench.methods.masks import PRESETS, preset
from mdebench.pictures import grid
from mdebench.results.displays import Display, Metric
from mdebench.results.rows import Measurement
from mdebench.settings import suggest

VERSION = 1
NEEDS = "complete"
FEATURES = False
ON_SHEET = 8  # test images shown
READING = 3.3e-3  # seconds that all readings of an image take on two cores
SPOKEN = {"raw": "raw output", "composite": "composite", "image": "whole image", "hole": "hole"}
DISPLAY = Display(
    metrics=tuple(
        Metric(
            f"{metric}/{kind}/{region}",
            f"{name} of the {SPOKEN[kind]}, {SPOKEN[region]}",
            unit,
            "higher",
            digits=digits,
            axis=name,
        )
        for metric, name, unit, digits in (("psnr", "pSNR", "dB", 2), ("ssim", "SSIM", "", 3))
        for kind in ("raw", "composite")
        for region in ("image", "hole")
    ),
    tables=(),  # the paper's Table 3, all readings beside it, and the chart of it
    charts=(),
)


@dataclass(frozen=True)
class Settings:
    """Which rectangle is missing: one of `masks.PRESETS`, or all six (Table 3)."""

    preset: str = "all"

    def __post_init__(self) -> None:
        options = (*PRESETS, "all")
        if self.preset not in options:
            raise UserError(
                f"There is no occlusion preset {self.preset!r}.{suggest(self.preset, options)} "
                f"Presets: {', '.join(options)}."
            )


def requires(pack: Pack) -> str | None:
    """Why this pack cannot be used, or None: any pack with test images can."""
    return no_images(pack, "test")


def cases(settings: Settings) -> list[Settings]:
    """One unit for each preset."""
    names = PRESETS if settings.preset == "all" else (settings.preset,)
    return [replace(settings, preset=name) for name in names]


def cost(pack: Pack, settings: Settings) -> Cost:
    """Every test image completed once for each preset, and eight readings of it."""
    count = len(cases(settings)) * len(pack.indices("test"))
    return Cost(completed=count, seconds=READING * count)


def evaluate(subject: Subject, pack: Pack, settings: Settings) -> list[Measurement]:
    """Every reading on all test images; UserError when the method cannot complete."""
    return [measurement for case in cases(settings) for measurement in _evaluate_preset(subject, pack, case.preset)]


def _evaluate_preset(subject: Subject, pack: Pack, name: str) -> list[Measurement]:
    seen = preset(name, pack.size).to(subject.device)
    test = pack.indices("test")
    readings: dict[str, list[Tensor]] = {}
    for piece in chunks(test):
        images = load(pack, piece, subject.device)
        output = subject.complete(images, seen)
        for metric, values in _readings(images, seen, output).items():
            readings.setdefault(metric, []).append(values.cpu())
    _save_sheet(subject, pack, name, seen)
    note = misplaced(pack, name)
    return [
        measure_mean(metric, "dB" if metric.startswith("psnr") else "", torch.cat(values), name, [note])
        for metric, values in readings.items()
    ]


def _readings(images: Tensor, seen: Tensor, output: Tensor) -> dict[str, Tensor]:
    """Metric name → (N,): pSNR and SSIM of the raw output and of the composite, over the image and over the hole."""
    readings = {}
    for kind, completed in (("raw", output), ("composite", composite(images, seen, output))):
        similarity = ssim_map(completed, images)
        for region, where in (("image", None), ("hole", 1 - seen)):
            readings[f"psnr/{kind}/{region}"] = psnr(completed, images, where)
            readings[f"ssim/{kind}/{region}"] = mean_ssim(similarity, where)
    return readings


def _save_sheet(subject: Subject, pack: Pack, name: str, seen: Tensor) -> None:
    """Write `sheets/<pack>-occlusion-<preset>.png` in the run's folder, whole or not at all."""
    images = load(pack, pack.indices("test")[:ON_SHEET], subject.device)
    output = subject.complete(images, seen)
    rows = [_pixels(batch) for batch in (images * seen, output, composite(images, seen, output), images)]
    with writing(subject.folder / "sheets" / f"{pack.name}-occlusion-{name}.png") as file:
        grid(rows, [], [], zoom=max(1, math.ceil(96 / pack.size))).save(file, "PNG")


def _pixels(images: Tensor) -> list[npt.NDArray[np.uint8]]:
    """(n, 3, H, W) in [0, 1] → n arrays (H, W, 3) uint8."""
    scaled = (images.clamp(0, 1) * 255).round().to(torch.uint8)
    return list(scaled.permute(0, 2, 3, 1).cpu().numpy())
