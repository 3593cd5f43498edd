"""The classifier that judges completions (section 3.2.1): what it says of pictures, and what that is worth.

``own``        trained by the suite on the identities or classes of the pack's training images (`judge_training`)
``none``       no judge
anything else  a network that others trained, by name or file (`classifiers`)

Its name, with its accuracy and the hash of its weights, stands in every row that it decides.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn

from mdebench.classifiers import Classifier, Look, load_classifier
from mdebench.data.pack import Pack
from mdebench.errors import UserError
from mdebench.judge_training import (
    UPDATE_SECONDS,
    Lesson,
    Settings,
    build_judge,
    judge_run,
    make_lesson,
    settings_for,
    train_run,
)
from mdebench.protocol import CHUNK, Indices, chunks, load
from mdebench.runs import Run
from mdebench.scores import fid, inception_score, kid
from mdebench.train import default_device, weights_hash

__all__ = ["Judge", "Look", "Settings", "describe", "fid", "find_judge", "inception_score", "judge_id"]
__all__ += ["judge_seconds", "judge_state", "kid", "run_judge", "train_judge"]


@dataclass(frozen=True)
class Judge:
    """A classifier that says of pictures what it sees.

    ``name`` for rows and people; ``id`` for keys, without any path; ``classes``: how many it tells apart, 0 for
    features only; ``dim``: of the features; ``accuracy``: in %, on held-out images of its classes, where known.
    """

    name: str
    id: str
    classes: int
    dim: int
    classifier: Classifier
    accuracy: float | None = None

    def look(self, images: Tensor) -> Look:
        """What the classifier says of images (N, 3, H, W) in [0, 1] on any device; the answer is float32 on the CPU."""
        device = self.classifier.mean.device
        with torch.no_grad():
            looks = [self.classifier(piece.to(device)) for piece in torch.split(images, CHUNK)]
        logits = [look.logits.float().cpu() for look in looks if look.logits is not None]
        return Look(torch.cat([look.features.float().cpu() for look in looks]), torch.cat(logits) if logits else None)

    def look_at(self, pack: Pack, indices: Indices) -> Look:
        """What it says of the pack's images of these rows, at least one."""
        looks = [self.look(load(pack, piece, torch.device("cpu"))) for piece in chunks(indices)]
        logits = [look.logits for look in looks if look.logits is not None]
        return Look(torch.cat([look.features for look in looks]), torch.cat(logits) if logits else None)


def find_judge(home: Path, pack: Pack, spec: str, console: Console) -> Judge | None:
    """The judge that ``spec`` names (see the module's text); "own" is trained first where it is not yet.

    None, said aloud, where the pack has neither classes nor identities, or for "none". UserError, naming the ways on,
    when a network of others cannot be had.
    """
    if spec == "none":
        console.print("[yellow]no judge[/]: Inception score, FID and KID are left out")
        return None
    if spec == "own":
        if make_lesson(pack) is None:
            console.print(
                f"[yellow]no judge[/]: {pack.name} has neither classes nor identities with three training images each;"
                " Inception score, FID and KID are left out (another network can judge: judge ARCH:FILE)"
            )
            return None
        return train_judge(home, pack, console)
    return _foreign(spec)


def train_judge(home: Path, pack: Pack, console: Console, settings: Settings | None = None) -> Judge:
    """The suite's own judge of a pack: trained, or gone on with, in ``home/judges/<pack>``, or found finished there.

    ``settings``: those it was begun with, or the defaults. UserError when the pack has too few images per class, when
    the folder holds a judge of another version of the pack, and for all that can go wrong in training.
    """
    lesson, run = make_lesson(pack), judge_run(home, pack.name)
    if lesson is None:
        raise UserError(f"{pack.name} has neither classes nor identities with three training images each to learn from")
    settings = settings or settings_for(run, lesson)
    if run.info and run.info["pack_hash"] != pack.hash:
        raise UserError(f"{run.folder} holds the judge of another version of {pack.name}; delete it to train a new one")
    if not run.finished:
        console.print(
            f"training the judge of {pack.name}: {len(lesson.classes)} {lesson.kind}, {settings.updates} updates"
        )
        run = train_run(run, lesson, settings, console)
    return _own(run, lesson)


def _own(run: Run, lesson: Lesson) -> Judge:
    """A finished judge; its accuracy is measured when it is first read, and kept in run.json."""
    method = build_judge(settings_for(run, lesson), lesson)
    try:
        method.load_state_dict(run.load_state()["method"])
    except RuntimeError as error:
        raise UserError(
            f"{run.state_path} does not fit the classes of {lesson.view.name}; delete {run.folder}"
        ) from error
    if weights_hash(method) != run.info["weights_hash"]:
        raise UserError(f"{run.state_path} holds other weights than run.json says; delete {run.folder}")
    classes, pack = len(lesson.classes), lesson.view.name
    arch, digest = run.info["recipe"]["settings"]["arch"], run.info["weights_hash"][:8]
    classifier, dim = _ready(method.classifier), method.feature_dim
    if "accuracy" not in run.info:
        held_out = lesson.view.indices("val")
        logits = Judge("", "", classes, dim, classifier).look_at(lesson.view, held_out).logits
        assert logits is not None  # its own network has a classifying layer
        right = logits.argmax(dim=1).numpy() == lesson.targets[held_out]
        run.update(accuracy=round(100 * float(right.mean()), 2), held_out=len(held_out))
    accuracy = run.info["accuracy"]
    name = f"{arch} on {classes} {lesson.kind} of {pack}, held-out accuracy {accuracy:.1f} %, weights {digest}"
    return Judge(name, f"{pack}-{arch}-{digest}", classes, dim, classifier, accuracy)


@cache  # a plan asks for every row
def _foreign(spec: str) -> Judge:
    classifier, name = load_classifier(spec)
    side = classifier.side or 64
    first = _ready(classifier)(torch.zeros(1, 3, side, side, device=classifier.mean.device))
    classes = 0 if first.logits is None else first.logits.shape[1]
    arch, _, digest = name.rpartition("-")
    what = f"{classes} classes" if classes else "features only"
    return Judge(f"{arch} of others ({what}), weights {digest}", name, classes, first.features.shape[1], classifier)


def _ready(classifier: Classifier) -> Classifier:
    network: nn.Module = classifier.to(default_device()).eval().requires_grad_(False)
    assert isinstance(network, Classifier)
    return network


def judge_state(home: Path, pack_name: str) -> str:
    """Whether the own judge of a pack is "finished", "partial" or "missing"."""
    run = judge_run(home, pack_name)
    return "finished" if run.finished else "partial" if run.info else "missing"


def judge_id(home: Path, pack: Pack, spec: str) -> str | None:
    """The id that a judge has in keys, without training it: None: not trained yet, "": there can be none."""
    if spec == "none" or (spec == "own" and make_lesson(pack) is None):
        return ""
    if spec != "own":
        return _foreign(spec).id
    run = judge_run(home, pack.name)
    if not run.finished or run.info["pack_hash"] != pack.hash:
        return None
    return f"{pack.name}-{run.info['recipe']['settings']['arch']}-{run.info['weights_hash'][:8]}"


def judge_seconds(home: Path, pack: Pack) -> float:
    """What training the own judge still takes, by its own log or else on two cores of an ordinary machine."""
    run, lesson = judge_run(home, pack.name), make_lesson(pack)
    if run.finished or lesson is None:
        return 0.0
    settings, logged = settings_for(run, lesson), float(run.info.get("images_per_second", 0))
    usual = UPDATE_SECONDS * (pack.size / 64) ** 2 * settings.batch / 32
    update = settings.batch / logged if logged else usual
    return update * (settings.updates - int(run.info.get("step", 0)))


def describe(judge: Judge) -> list[str]:
    """A judge in lines for a person: its name, its id, what it gives and how good it is."""
    told = f"{judge.classes} classes, chance {100 / judge.classes:.2g} %" if judge.classes else "no classes"
    accuracy = "not known" if judge.accuracy is None else f"{judge.accuracy:.1f} %"
    return [judge.name, f"id in keys: {judge.id}", f"{told}; {judge.dim} features", f"held-out accuracy: {accuracy}"]


def run_judge(home: Path, pack: Pack, spec: str, console: Console) -> None:
    """Find or train a judge, and say how good it is and what it makes of originals: the yardstick of all scores."""
    judge = find_judge(home, pack, spec, console)
    if judge is None:
        return
    for line in describe(judge):
        console.print(line)
    train, test = _some(pack, "train"), _some(pack, "test")
    lesson = make_lesson(pack) if spec == "own" else None
    known = _some(lesson.view, "train") if lesson else train
    looks: dict[str, Any] = {"train images of its classes" if lesson else "train images": known, "test images": test}
    for what, rows in looks.items():
        logits = judge.look_at(pack, rows).logits
        if logits is not None:
            mean, sd = inception_score(logits)
            console.print(f"Inception score of {len(rows):,} {what}: {mean:.2f} ± {sd:.2f} (10 splits)")
    real, other = judge.look_at(pack, train).features, judge.look_at(pack, test).features
    mean, sd = kid(real, other)
    distances = f"FID {fid(real, other):.2f}, KID {mean:.4f} ± {sd:.4f}"
    console.print(f"{len(train):,} train against {len(test):,} test originals: {distances}")


def _some(pack: Pack, split: str, most: int = 2000) -> Indices:
    """At most so many rows of a split, evenly spread."""
    rows = pack.indices(split)
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64)]
