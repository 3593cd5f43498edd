"""Completing test images in every scenario, also in those a run was not trained for (section 3.2.2, Figures 8 and 9).

Command: `mdebench measure completion` (ten scenarios; another by `--set scenario="rec 0.2"`, several with commas).
Result: for each scenario pSNR in dB and SSIM of the raw output and of the composite with the seen pixels pasted back,
and, by a classifier (`--set judge=…`), the Inception score of both and of the originals, FID and KID of the raw
output against the originals; LPIPS where its weights are given. The paper's rec 0.1 does well everywhere, re everywhere
but in colorization and rec, the others only where they were trained. All runs complete the same fragments. The first
test images are kept as a gallery in the run's folder.
"""

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from mdebench.data.finding import no_images
from mdebench.data.pack import Pack
from mdebench.errors import UserError
from mdebench.evaluation.contract import Cost, Subject
from mdebench.evaluation.judging.judge import Judge
from mdebench.evaluation.judging.lpips import load_lpips
from mdebench.evaluation.judging.scores import fid, inception_score, kid
from mdebench.evaluation.metrics import composite, measure_mean, psnr, ssim
from mdebench.evaluation.passes import CHUNK, Indices, chunks, load
from mdebench.evaluation.scenarios import test_images, test_masks
from mdebench.evaluation.tasks import join
from mdebench.methods.classifiers import Look
from mdebench.results import galleries
from mdebench.results.displays import Display, Metric
from mdebench.results.rows import Measurement
from mdebench.variants import RANDOM_BOX, Scenario, parse_all

VERSION = 2
NEEDS = "complete"
FEATURES = False
SPLITS = 10  # of the Inception score (Salimans et al. 2016)
DISPLAY = Display(
    title="Completion: every run on every test scenario",
    metrics=(
        Metric("psnr/raw/image", "pSNR of the raw output, whole image", "dB", "higher", told=True, axis="pSNR"),
        Metric("psnr/raw/hole", "pSNR of the raw output, hole", "dB", "higher"),
        Metric("psnr/composite/image", "pSNR of the composite, whole image", "dB", "higher"),
        Metric("psnr/composite/hole", "pSNR of the composite, hole", "dB", "higher"),
        Metric("ssim/raw/image", "SSIM of the raw output, whole image", "", "higher", digits=3, axis="SSIM"),
        Metric("ssim/composite/image", "SSIM of the composite, whole image", "", "higher", digits=3),
        Metric(
            "inception_score/raw",
            "Inception score of the raw output",
            better="higher",
            told=True,
            by_judge=True,
            axis="Inception score",
        ),
        Metric("inception_score/composite", "Inception score of the composite", "", "higher", by_judge=True),
        Metric("inception_score/originals", "Inception score of the originals, for comparison", by_judge=True),
        Metric("fid/raw", "FID of the raw output (lower is better)", "", "lower", by_judge=True),
        Metric("kid/raw", "KID of the raw output (lower is better)", "", "lower", digits=3, by_judge=True),
        Metric("lpips/raw/image", "LPIPS of the raw output (lower is better)", "", "lower", digits=3),
    ),
    charts=(),  # the paper's Figures 8 and 9
)


@dataclass(frozen=True)
class Settings:
    """What is seen, of how many images, and who judges.

    `scenario`: one, several with commas, or "all" ten of Figure 8; `judge`: see `judges.find_judge`; `lpips`: a folder
    with its weights, or "none"; `images`: at most so many test images; `mask_seed`: of the masks, and of which images.
    """

    scenario: str = "all"
    judge: str = "own"
    lpips: str = "none"
    images: int = 1000
    mask_seed: int = 0

    def __post_init__(self) -> None:
        parse_all(self.scenario)
        if self.images < 2 or self.mask_seed < 0:
            raise UserError("completion takes images of at least 2 and a mask_seed of at least 0")


def requires(pack: Pack) -> str | None:
    """Why this pack cannot be used, or None: two test images make a distribution."""
    few = f"{pack.name} has fewer than two test images"
    return None if len(pack.indices("test")) > 1 else join(few, no_images(pack, "test") or "")


def cases(settings: Settings) -> list[Settings]:
    """One unit for each scenario."""
    return [replace(settings, scenario=scenario.name) for scenario in parse_all(settings.scenario)]


def cost(pack: Pack, settings: Settings) -> Cost:
    """Completions of the test images and of the gallery; to measure one takes 6 ms at 64×64, judge included."""
    count = min(settings.images, len(pack.indices("test")))
    shown = min(galleries.IMAGES, count)
    completed = sum(count + shown * _draws(scenario) for scenario in parse_all(settings.scenario))
    return Cost(completed=completed, seconds=1 + 0.006 * completed * (pack.size / 64) ** 2)


def evaluate(subject: Subject, pack: Pack, settings: Settings) -> list[Measurement]:
    """Every reading of each scenario; UserError when the method cannot complete."""
    chosen = test_images(pack, settings.images, settings.mask_seed)
    return [
        measurement
        for scenario in parse_all(settings.scenario)
        for measurement in _evaluate_scenario(subject, pack, scenario, chosen, settings)
    ]


def _evaluate_scenario(
    subject: Subject, pack: Pack, scenario: Scenario, chosen: Indices, settings: Settings
) -> list[Measurement]:
    distance = None if settings.lpips == "none" else load_lpips(Path(settings.lpips)).to(subject.device)
    masks, _ = test_masks(pack, scenario, len(chosen), settings.mask_seed)
    readings: dict[str, list[Tensor]] = defaultdict(list)
    looks: dict[str, list[Look]] = defaultdict(list)
    for piece, mask in zip(chunks(chosen), torch.split(masks, CHUNK)):
        images, seen = load(pack, piece, subject.device), mask.to(subject.device).float()
        output = subject.complete(images, seen)
        for kind, completed in (("raw", output), ("composite", composite(images, seen, output))):
            readings[f"psnr/{kind}/image"].append(psnr(completed, images))
            readings[f"psnr/{kind}/hole"].append(psnr(completed, images, 1 - seen))
            readings[f"ssim/{kind}/image"].append(ssim(completed, images))
            if subject.judge:
                looks[kind].append(subject.judge.look(completed))
        if distance:
            readings["lpips/raw/image"].append(distance(output, images))
    _keep_gallery(subject, pack, scenario, chosen[: galleries.IMAGES], settings.mask_seed)
    notes = ["" if subject.judge else "no judge: Inception score, FID and KID left out"]
    found = []
    for metric, values in readings.items():
        own = [f"by {distance.name}"] if distance and metric.startswith("lpips") else []
        unit = "dB" if metric.startswith("psnr") else ""
        numbers = torch.cat(values).cpu().numpy()
        found.append(measure_mean(metric, unit, numbers, scenario.name, [*own, *notes], images=chosen))
    if subject.judge:
        found += _judged(subject.judge, pack, chosen, {kind: _join(seen) for kind, seen in looks.items()}, scenario)
    return found


def _judged(judge: Judge, pack: Pack, chosen: Indices, looks: dict[str, Look], scenario: Scenario) -> list[Measurement]:
    """Inception scores of the completions and of the originals; FID and KID of the raw output."""
    originals = _look_at(judge, pack, chosen)
    found = [
        _inception(f"inception_score/{kind}", look.logits, scenario)
        for kind, look in {**looks, "originals": originals}.items()
        if look.logits is not None
    ]
    real, fake, n = originals.features, looks["raw"].features, len(chosen)
    few = f"{n} images for {judge.dim} features: biased, comparable at equal n alone" if n <= judge.dim else ""
    nameless = "" if judge.classes else "a judge without classes: no Inception score"
    distance, (mean, sd) = fid(real, fake), kid(real, fake)
    notes = "; ".join(filter(None, ["without interval", few, nameless]))
    found.append(Measurement("fid/raw", "", distance, math.nan, math.nan, n, scenario.name, note=notes))
    note = "interval: 1.96 sd over the subsets"
    return [*found, Measurement("kid/raw", "", mean, mean - 1.96 * sd, mean + 1.96 * sd, n, scenario.name, note=note)]


def _inception(metric: str, logits: Tensor, scenario: Scenario) -> Measurement:
    """Mean over the splits, and its interval by Student's t over them."""
    mean, sd, splits = inception_score(logits, SPLITS)
    if splits > 1:
        half = float(stats.t.ppf(0.975, splits - 1)) * sd / (splits - 1) ** 0.5  # sd is of the scores themselves
        note = f"sd {sd:.3g} over {splits} splits"
    else:
        half, note = math.nan, "without interval: too few images for two splits"
    return Measurement(metric, "", mean, mean - half, mean + half, len(logits), scenario.name, note=note)


_SEEN: dict[tuple[str, str, bytes], Look] = {}  # the judge sees the originals once, for all scenarios and runs


def _look_at(judge: Judge, pack: Pack, chosen: Indices) -> Look:
    key = (judge.id, pack.hash, chosen.tobytes())
    if key not in _SEEN:
        _SEEN.clear()  # one pack at a time
        _SEEN[key] = judge.look_at(pack, chosen)
    return _SEEN[key]


def _join(looks: list[Look]) -> Look:
    logits = [look.logits for look in looks if look.logits is not None]
    return Look(torch.cat([look.features for look in looks]), torch.cat(logits) if logits else None)


def _keep_gallery(subject: Subject, pack: Pack, scenario: Scenario, shown: Indices, seed: int) -> None:
    """The first images under their test mask and, where the box moves, under some others (Figure 6)."""
    masks = [test_masks(pack, scenario, len(shown), seed, draw) for draw in range(_draws(scenario))]
    images = load(pack, shown, subject.device)
    completed = [subject.complete(images, seen.to(subject.device).float()) for seen, _ in masks]
    seen, boxes = (torch.stack(parts, dim=1) for parts in zip(*masks))
    kept = galleries.Gallery(
        scenario.name,
        galleries.to_pixels(images.cpu().numpy()),
        boxes.numpy().astype(np.float32),
        np.moveaxis(seen.numpy(), -3, -1),
        galleries.to_pixels(torch.stack(completed, dim=1).cpu().numpy()),
    )
    galleries.write_gallery(subject.folder, pack.name, kept)


def _draws(scenario: Scenario) -> int:
    """How many masks of an image the gallery shows."""
    return galleries.MASKS if scenario.variant in RANDOM_BOX else 1
