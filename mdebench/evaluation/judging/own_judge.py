"""The suite's own judge: a small classifier trained on the identities (or classes) of a pack's training partition.

It is one more player in the suite's loop, alone in its game, and its folder ``home/judges/<pack>`` is a run like any
other: it is logged, locked, resumed after a kill, and found finished the next time. Of every class a tenth of the
training images is held out to tell how good it is; the pack's own val and test images take no part in it.
"""

import math
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor
from torch.nn.functional import affine_grid, cross_entropy, grid_sample

from mdebench.compute.machine import default_device, default_precision
from mdebench.data.pack import SPLITS, Pack
from mdebench.errors import UserError
from mdebench.evaluation.judging.judge import Judge, ready
from mdebench.home import Home
from mdebench.methods.classifiers import Classifier
from mdebench.methods.contract import Batch, Loss, Player
from mdebench.methods.contract import Method as BaseMethod
from mdebench.runs import Recipe, Run
from mdebench.settings import build
from mdebench.training.loop import pretrain
from mdebench.training.trainer import weights_hash

MOST_UPDATES = 2000  # a minute or two on two cores at 64×64
PASSES, FEWEST_UPDATES = 16, 500  # over the training images: few images are soon known by heart
UPDATE_SECONDS = 0.045  # of one update at 64×64, batch 32, on two cores
ENOUGH, FEWEST = 10, 3  # training images that a class needs; where no class has so many, this many
MOST_CLASSES = 200  # those with most images: more would need a longer training
HELD_OUT = 10  # one image in so many, at least one of each class
UNSEEN = 255  # in a view's split: neither learned from nor examined on
# Below it the last maps are 1×1, where torch 2.14's bf16 convolutions on the CPU leave parts of a gradient unset.
WHOLE_MAPS = 64
SIGNS = ("mnist",)  # sources whose pictures mean something else when mirrored


@dataclass(frozen=True)
class Settings:
    """A timm ResNet of ``arch`` with ``width`` channels in its first stage, and its training by Adam.

    The learning rate rises over the first tenth and falls along a cosine. ``shift`` and ``zoom`` bound the random
    changes of an image: shares of its side, in either direction. Targets are not softened: p(y|x) shall be sharp.
    """

    arch: str = "resnet10t"
    width: int = 32
    updates: int = MOST_UPDATES
    batch: int = 32
    lr: float = 2e-3
    shift: float = 0.06
    zoom: float = 0.1


@dataclass(frozen=True)
class Lesson:
    """What a judge learns on a pack: the classes, and a view of the pack whose ``train`` it sees and whose ``val`` is
    held out for its accuracy."""

    kind: str  # "identities" or "classes"
    classes: NDArray[np.int32]  # their numbers in the pack, ascending: the judge's outputs in order
    targets: NDArray[np.int64]  # (N,) of each image of the pack, -1: none of the classes
    view: Pack


def make_lesson(pack: Pack) -> Lesson | None:
    """The classes of a pack's training images where they are known, else the identities; None where neither is.

    Only those with ten training images, or, where there are no two such, with three; at most the 200 largest.
    """
    train = pack.indices("train")
    for kind, labels in (("classes", pack.label), ("identities", pack.identity)):
        numbers, counts = np.unique(labels[train][labels[train] >= 0], return_counts=True)
        enough = next((e for e in (ENOUGH, FEWEST) if (counts >= e).sum() > 1), None)
        if enough is None:
            continue
        largest = np.argsort(-counts, kind="stable")[: min(MOST_CLASSES, int((counts >= enough).sum()))]
        classes = np.sort(numbers[largest])
        place = np.searchsorted(classes, labels).clip(max=len(classes) - 1)
        targets = np.where(classes[place] == labels, place, -1)
        split = np.full(len(labels), UNSEEN, np.uint8)
        for target in range(len(classes)):
            rows = train[targets[train] == target]
            held_out = np.arange(len(rows)) % HELD_OUT == min(HELD_OUT, len(rows)) - 1
            split[rows] = np.where(held_out, SPLITS.index("val"), SPLITS.index("train"))
        return Lesson(kind, classes, targets, replace(pack, split=split))
    return None


class Method(BaseMethod):
    """A classifier alone in its game: cross entropy on randomly moved and mirrored images."""

    losses = "cross entropy"

    def __init__(self, settings: Settings, size: int, lesson: Lesson):
        import timm  # slow to import

        super().__init__(settings, size)
        widths = tuple(settings.width * 2**stage for stage in range(4))
        # The narrow stem takes half of the time; of the usual width it would take most of it.
        network = timm.create_model(
            settings.arch, num_classes=len(lesson.classes), channels=widths, stem_width=settings.width // 2
        )
        self.classifier = Classifier(network, (0.5,) * 3, (0.5,) * 3)
        self.feature_dim = 8 * settings.width
        self.targets = torch.from_numpy(lesson.targets)
        self.mirror = lesson.view.info.get("source") not in SIGNS

    def players(self) -> dict[str, Player]:
        """The classifier."""
        return {"judge": Player(list(self.parameters()), self.settings.lr, schedule=_rise_and_fall)}

    def loss(self, player: str, batch: Batch) -> Loss:
        """Cross entropy, and for the log the share of the batch that is classified rightly."""
        targets = self.targets[batch.index].to(batch.images.device)
        logits = self.classifier(self._moved(batch)).logits
        total = cross_entropy(logits, targets)
        return Loss(total, {"cross_entropy": total, "accuracy": (logits.argmax(dim=1) == targets).float().mean()})

    def _moved(self, batch: Batch) -> Tensor:
        """Each image shifted, zoomed and, one in two, mirrored. Places are computed in fp32: bf16 has 8 bits."""
        n, device = len(batch.images), batch.images.device
        draws = batch.own(torch.rand(4, batch.count, generator=batch.generator).T).T * 2 - 1
        scale = 1 + self.settings.zoom * draws[0]
        sign = torch.where(draws[1] < 0, -1.0, 1.0) if self.mirror else torch.ones(n)
        across, down = 2 * self.settings.shift * draws[2:]  # the grid's side is 2
        zero = torch.zeros(n)
        theta = torch.stack([sign * scale, zero, across, zero, scale, down], dim=1).reshape(n, 2, 3).to(batch.images)
        with torch.autocast(device.type, enabled=False):
            grid = affine_grid(theta, list(batch.images.shape), align_corners=False)
            return grid_sample(batch.images, grid, padding_mode="border", align_corners=False)


def _rise_and_fall(progress: float) -> float:
    return min(1.0, progress / 0.1 + 0.01) * (1 + math.cos(math.pi * progress)) / 2


class OwnJudge:
    """The judge of a pack: what it learns, and the run in ``home/judges/<pack>`` that trains it, begun or not."""

    def __init__(self, home: Home, pack: Pack):
        self.pack = pack
        self.lesson = make_lesson(pack)
        self.run = home.judge(pack.name)

    @property
    def id(self) -> str | None:
        """Its id in keys; None: not trained yet, "": there can be none."""
        if self.lesson is None:
            return ""
        if not self.run.finished or self.run.info["pack_hash"] != self.pack.hash:
            return None
        arch, digest = self.run.info["label"], self.run.info["weights_hash"][:8]
        return f"{self.pack.name}-{arch}-{digest}"

    @property
    def seconds_left(self) -> float:
        """What training it still takes, by its own log or else on two cores of an ordinary machine."""
        if self.run.finished or self.lesson is None:
            return 0.0
        settings, logged = self._settings(self.lesson), float(self.run.info.get("images_per_second", 0))
        usual = UPDATE_SECONDS * (self.pack.size / 64) ** 2 * settings.batch / 32
        update = settings.batch / logged if logged else usual
        return update * (settings.updates - int(self.run.info.get("step", 0)))

    def trained(self, console: Console, settings: Settings | None = None) -> Judge:
        """The judge: trained, gone on with, or found finished.

        ``settings``: those it was begun with, or the defaults. UserError when the pack has too few images per class,
        when the folder holds a judge of another version of the pack, and for all that can go wrong in training.
        """
        lesson, name, run = self.lesson, self.pack.name, self.run
        if lesson is None:
            raise UserError(f"{name} has neither classes nor identities with three training images each to learn from")
        settings = settings or self._settings(lesson)
        if run.info and run.info["pack_hash"] != self.pack.hash:
            versions = f"pack {run.info['pack_hash'][:8]}, not {self.pack.hash[:8]}"
            told = f"{run.folder} holds the judge of another version of {name}"
            raise UserError(f"{told}; delete it to train a new one ({versions})")
        if not run.finished:
            console.print(
                f"training the judge of {name}: {len(lesson.classes)} {lesson.kind}, {settings.updates} updates"
            )
            pretrain(_recipe(settings, lesson), run, lesson.view, console, method=build_judge(settings, lesson))
            self.run = Run(run.folder)
        return self._judge(lesson)

    def _settings(self, lesson: Lesson) -> Settings:
        """Those the run was begun with; else the defaults, with as many updates as the images are worth."""
        if recorded := self.run.info.get("recipe", {}).get("settings"):
            return build(Settings, recorded)
        passes = PASSES * len(lesson.view.indices("train")) // Settings().batch
        return Settings(updates=min(MOST_UPDATES, max(FEWEST_UPDATES, passes)))

    def _judge(self, lesson: Lesson) -> Judge:
        """The finished judge; its accuracy is measured when it is first read, and kept in run.json."""
        run, method = self.run, build_judge(self._settings(lesson), lesson)
        try:
            method.load_state_dict(run.load_state()["method"])
        except RuntimeError as error:
            raise UserError(
                f"{run.state_path} does not fit the classes of {lesson.view.name}; delete {run.folder}"
            ) from error
        if weights_hash(method) != run.info["weights_hash"]:
            raise UserError(f"{run.state_path} holds other weights than run.json says; delete {run.folder}")
        arch, digest = run.info["label"], run.info["weights_hash"][:8]
        judge = Judge("", self.id or "", len(lesson.classes), method.feature_dim, ready(method.classifier))
        if "accuracy" not in run.info:
            held_out = lesson.view.indices("val")
            logits = judge.look_at(lesson.view, held_out).logits
            assert logits is not None  # its own network has a classifying layer
            right = logits.argmax(dim=1).numpy() == lesson.targets[held_out]
            run.update(accuracy=round(100 * float(right.mean()), 2), held_out=len(held_out))
        accuracy = run.info["accuracy"]
        learned = f"{arch} on {len(lesson.classes)} {lesson.kind} of {lesson.view.name}"
        name = f"{learned}, held-out accuracy {accuracy:.1f} %, weights {digest}"
        return replace(judge, name=name, accuracy=accuracy)


def build_judge(settings: Settings, lesson: Lesson) -> Method:
    """The classifier of a lesson with its initial weights; global random state is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        return Method(settings, lesson.view.size, lesson)


def _recipe(settings: Settings, lesson: Lesson) -> Recipe:
    view = lesson.view
    return Recipe(
        method="judge",
        label=settings.arch,
        settings=asdict(settings),
        scale="judge",
        size=view.size,
        pack=view.name,
        pack_hash=view.hash,
        seed=0,
        updates=settings.updates,
        batch=min(settings.batch, len(view.indices("train"))),
        precision=default_precision(default_device()) if view.size >= WHOLE_MAPS else "fp32",
        overrides={},
    )
