"""Does the hide-and-seek trick work? A fresh network looks for the boxes that completions were made from (section 2.4).

While an MDE trains, its discriminator seeks the boxes and the generator learns to hide them from that one opponent.
Whether they are hidden from anybody else, no published system measures. Here a small network that the generator never
met, the seeker, is trained on completions of the frozen run, made from training images with fresh random boxes for
every batch, to regress the boxes; then it seeks on the test images. What it looks at is the raw output, as the
discriminator did, and not the composite, whose pasted pixels the generator has no part in. Beside its error stands that
of a blind guess: the one box per channel that is best for the training boxes under the same metric.

Command: `mdebench measure hide_and_seek --set scenario="rec 0.1"` (or any re or rec: elsewhere the box never moves).
Result: `seek_error` and `blind_error`, ‖box − guess‖₂ over the four relative coordinates (equation 7), the mean over
the channels, and `seek_share` = 100 · seek_error / blind_error: 100 % hides perfectly, 0 % is found at once.
Expected: near 100 % for a generator that leaves no trace; the references, which paste what they saw, are the control:
of `mean_colour` under 10 % are left.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d

from mdebench.data.finding import no_images
from mdebench.data.pack import Pack
from mdebench.errors import UserError
from mdebench.evaluation.contract import Cost, Subject
from mdebench.evaluation.metrics import measure_mean
from mdebench.evaluation.passes import CHUNK, Indices, chunks, load, steps
from mdebench.evaluation.scenarios import test_images, test_masks
from mdebench.methods.losses import hide_and_seek
from mdebench.methods.masks import draw, rasterize
from mdebench.results.displays import ChartOf, Display, Metric
from mdebench.results.rows import Measurement
from mdebench.variants import RANDOM_BOX, Scenario, parse_all

VERSION = 1
NEEDS = "complete"
FEATURES = False
DISPLAY = Display(
    title="Hide and seek: does a fresh network find the boxes in completed images?",
    metrics=(
        Metric(
            "seek_share",
            "Error of the seeker, as a share of a blind guess's",
            "%",
            "higher",
            told=True,
            axis="Seeker's error as a share of a blind guess's",
        ),
        Metric("seek_error", "Error of the seeker", "of the side", "higher", digits=3),
        Metric("blind_error", "Error of a blind guess", "of the side", digits=3),
    ),
    charts=(
        ChartOf(
            "hide_and_seek",
            "Hide and seek, the boxes sought in completed images",
            ("seek_share",),
            levels=(("blind guess", 100.0),),
        ),
    ),
)
SEEKER_SECONDS = 2e-3  # for one update on one image of 64×64 pixels, on two cores
AMPLIFIED = 20  # a difference of 1/20 of the range is seen well
WARM_UP = 0.1  # share of the updates in which the learning rate climbs


@dataclass(frozen=True)
class Settings:
    """What is hidden, and how hard it is sought; none of it is in the paper.

    ``scenario`` is one with a random box, such as "rec 0.1" or "re 0.33", or several with commas; the seeker makes
    ``updates`` on ``batch`` completions each, with Adam's ``learning_rate`` annealed to 0; at most ``images`` test
    images are sought on; ``seed`` decides the boxes, the images and the seeker's first weights.
    """

    scenario: str = "rec 0.1"
    updates: int = 400
    batch: int = 32
    learning_rate: float = 5e-3
    images: int = 1000
    seed: int = 0

    def __post_init__(self) -> None:
        for scenario in parse_all(self.scenario):
            if scenario.variant not in RANDOM_BOX:
                raise UserError(
                    f"there is nothing to seek in {scenario.name}, whose box never moves; choose "
                    f"{' or '.join(RANDOM_BOX)} with a ratio, such as 'rec 0.1'"
                )
        if min(self.updates, self.batch, self.images, self.learning_rate) <= 0 or self.seed < 0:
            raise UserError("updates, batch, images and learning_rate must be above 0, and seed not below")


class Seeker(nn.Module):
    """Image (N, 3, size, size) in [0, 1] → guessed boxes (N, 3, 4), relative; for any even size.

    Convolutions over the image, its fine detail, and two channels of coordinates; then the mean and the maximum of
    every column and every row, where the edges of upright boxes must show; along these profiles, places of the edges.
    The detail is what a 3×3 mean takes away, amplified: forged regions betray themselves by their noise, which is why
    networks for image forensics begin with high-pass filters (Bayar and Stamm 2016).
    """

    def __init__(self, size: int):
        super().__init__()
        ramp = torch.linspace(-1, 1, size)
        self.coordinates: Tensor
        self.register_buffer("coordinates", torch.stack([ramp.expand(size, size), ramp[:, None].expand(size, size)]))
        self.maps = nn.Sequential(
            nn.Conv2d(8, 24, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(24),
            nn.ReLU(inplace=True),
            nn.Conv2d(24, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(inplace=True),
        )
        self.across, self.down = (Edges(2 * 32, size // 2, 3 * 2) for _ in range(2))

    def forward(self, images: Tensor) -> Tensor:
        """Guess the boxes."""
        coordinates = self.coordinates.expand(len(images), -1, -1, -1)
        blurred = avg_pool2d(images, 3, stride=1, padding=1, count_include_pad=False)
        detail = torch.tanh(AMPLIFIED * (images - blurred))
        maps = self.maps(torch.cat([2 * images - 1, detail, coordinates], dim=1))
        columns, rows = (torch.cat([maps.mean(axis), maps.amax(axis)], dim=1) for axis in (2, 3))
        x, y = self.across(columns).unflatten(1, (3, 2)), self.down(rows).unflatten(1, (3, 2))
        return torch.stack([x, y], dim=-1).flatten(2)  # x1, y1, x2, y2


class Edges(nn.Module):
    """Profile (N, channels, length) → positions in [0, 1] of so many edges (N, edges).

    Each is the mean of a distribution over the places of the profile, which begins even and has a learned prior.
    """

    def __init__(self, channels: int, length: int, edges: int):
        super().__init__()
        self.heat = nn.Sequential(
            nn.Conv1d(channels, 64, 5, padding=2, bias=False),
            nn.BatchNorm1d(64),
            nn.ReLU(inplace=True),
            nn.Conv1d(64, 64, 5, padding=2, bias=False),
            nn.BatchNorm1d(64),
            nn.ReLU(inplace=True),
            nn.Conv1d(64, edges, 5, padding=2),
        )
        self.prior = nn.Parameter(torch.zeros(edges, length))
        self.places: Tensor
        self.register_buffer("places", torch.linspace(0, 1, length))

    def forward(self, profile: Tensor) -> Tensor:
        """The mean place of each edge."""
        odds: Tensor = self.heat(profile) + self.prior
        return odds.softmax(dim=2) @ self.places


def requires(pack: Pack) -> str | None:
    """Why this pack cannot be used, or None."""
    if pack.size % 2:
        return f"its images have {pack.size} pixels, which the seeker cannot halve"
    return no_images(pack, "train", "test")


def cases(settings: Settings) -> list[Settings]:
    """One unit for each scenario."""
    return [replace(settings, scenario=scenario.name) for scenario in parse_all(settings.scenario)]


def cost(pack: Pack, settings: Settings) -> Cost:
    """Every image the seeker learns from, and every one it seeks on, is completed once."""
    units = len(cases(settings))
    trained = units * settings.updates * settings.batch
    sought = units * min(settings.images, len(pack.indices("test")))
    return Cost(completed=trained + sought, seconds=trained * SEEKER_SECONDS * (pack.size / 64) ** 2)


def evaluate(subject: Subject, pack: Pack, settings: Settings) -> list[Measurement]:
    """For each scenario a seeker trained on the subject's completions; UserError when the method cannot complete."""
    found = (_evaluate_scenario(subject, pack, settings, scenario) for scenario in parse_all(settings.scenario))
    return [measurement for measurements in found for measurement in measurements]


def _evaluate_scenario(subject: Subject, pack: Pack, settings: Settings, scenario: Scenario) -> list[Measurement]:
    generator = torch.Generator().manual_seed(settings.seed)
    count = settings.updates * settings.batch
    boxes = draw(*scenario, count, 1, generator)[1].float()  # boxes are relative: no mask is drawn at full size yet
    blind = best_guess(boxes)
    seeker = _train(subject, pack, settings, boxes, generator)
    test = test_images(pack, settings.images, settings.seed)
    truth = test_masks(pack, scenario, len(test), settings.seed)[1].float()
    guessed = _seek(subject, pack, seeker, test, truth)
    notes = _notes(pack, settings, seeker, len(test))
    return _measure(distance(truth, guessed), distance(truth, blind), scenario.name, notes)


def distance(boxes: Tensor, guess: Tensor) -> Tensor:
    """Equation (7) of each image: ‖box − guess‖₂, the mean over channels; (N, 3, 4) and (3, 4) or (N, 3, 4) → (N,)."""
    norms: Tensor = torch.linalg.vector_norm(boxes - guess, dim=-1)
    return norms.mean(dim=-1)


def best_guess(boxes: Tensor, steps: int = 100) -> Tensor:
    """The constant boxes (3, 4) that are nearest to boxes (N, 3, 4) in the mean: geometric medians, by Weiszfeld."""
    guess = boxes.mean(dim=0)
    for _ in range(steps):
        weights = 1 / torch.linalg.vector_norm(boxes - guess, dim=-1, keepdim=True).clamp(min=1e-6)
        guess = (weights * boxes).sum(dim=0) / weights.sum(dim=0)
    return guess


def _train(subject: Subject, pack: Pack, settings: Settings, boxes: Tensor, generator: torch.Generator) -> Seeker:
    """A seeker that has seen every one of `boxes` (updates × batch, 3, 4) once, on the training images in turn."""
    device = subject.device
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        seeker = Seeker(pack.size)
    seeker.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.Adam(seeker.parameters(), lr=settings.learning_rate)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: annealed((step + 0.5) / settings.updates))
    batches = _passes(pack.indices("train"), settings, generator)
    for images, sought in steps(zip(batches, torch.split(boxes, settings.batch), strict=True), settings.updates):
        completed = _complete(subject, pack, images, sought)
        loss = hide_and_seek(sought.to(device), seeker(completed))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return seeker.eval()


def annealed(progress: float) -> float:
    """The learning rate's factor at progress in [0, 1]: up in the first tenth, then down to 0 in a straight line."""
    return min(progress / WARM_UP, (1 - progress) / (1 - WARM_UP))


def _passes(train: Indices, settings: Settings, generator: torch.Generator) -> Iterator[Indices]:
    """`updates` batches of training images, in passes of random order."""
    count = settings.updates * settings.batch
    passes = -(-count // len(train))
    order = torch.cat([torch.randperm(len(train), generator=generator) for _ in range(passes)])[:count]
    return chunks(train[order.numpy()], settings.batch)


def _complete(subject: Subject, pack: Pack, indices: Indices, boxes: Tensor) -> Tensor:
    """The subject's raw output (n, 3, size, size) from what lies in the boxes (n, 3, 4) of the images."""
    images = load(pack, indices, subject.device)
    return subject.complete(images, rasterize(boxes, pack.size, pack.size))


def _seek(subject: Subject, pack: Pack, seeker: Seeker, test: Indices, boxes: Tensor) -> Tensor:
    """The seeker's guesses (N, 3, 4), on the CPU, for test images completed from `boxes` (N, 3, 4)."""
    with torch.no_grad():
        guesses = [
            seeker(_complete(subject, pack, images, sought)).cpu()
            for images, sought in zip(chunks(test), torch.split(boxes, CHUNK), strict=True)
        ]
    return torch.cat(guesses)


def _measure(seek: Tensor, blind: Tensor, setting: str, notes: list[str]) -> list[Measurement]:
    """The three rows, from the errors (N,) of the seeker and of the blind guess on the same images."""
    seek_error, blind_error = seek.double().numpy(), blind.double().numpy()

    ratio = seek_error.mean() / blind_error.mean()
    share = 100 * (ratio + (seek_error - ratio * blind_error) / blind_error.mean())  # of a ratio, linearised
    return [
        measure_mean("seek_error", "of the side", seek_error, setting, notes),
        measure_mean("blind_error", "of the side", blind_error, setting, notes),
        measure_mean("seek_share", "% of a blind guess", share, setting, notes),  # may be above 100
    ]


def _notes(pack: Pack, settings: Settings, seeker: Seeker, sought: int) -> list[str]:
    """What the numbers depend on and how to read them."""
    parameters, test = sum(p.numel() for p in seeker.parameters()), len(pack.indices("test"))
    notes = [
        f"seeker of {parameters:,} parameters after {settings.updates:,} updates on {settings.batch} raw completions",
        "100 % hides perfectly",
    ]
    return notes + ([f"{sought:,} of {test:,} test images"] if sought < test else [])
