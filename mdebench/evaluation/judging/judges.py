"""Who judges completions (section 3.2.1): which classifier a setting `judge` names.

``own``        trained by the suite on the identities or classes of the pack's training images (`own_judge`)
``none``       no judge
anything else  a network that others trained, by name or file (`methods.classifiers`)

Its name, with its accuracy and the hash of its weights, stands in every row that it decides.
"""

from functools import cache
from typing import Any

import numpy as np
import torch
from rich.console import Console

from mdebench.data.finding import no_images
from mdebench.data.pack import Pack
from mdebench.errors import UserError
from mdebench.evaluation.judging.judge import Judge, describe, ready
from mdebench.evaluation.judging.own_judge import OwnJudge
from mdebench.evaluation.judging.scores import fid, inception_score, kid
from mdebench.evaluation.passes import Indices
from mdebench.home import Home
from mdebench.methods.classifiers import WAYS_ON, load_classifier
from mdebench.words import tell


def find_judge(home: Home, pack: Pack, spec: str, console: Console) -> Judge | None:
    """The judge that ``spec`` names (see the module's text); "own" is trained first where it is not yet.

    None, said aloud, where the pack has neither classes nor identities, or for "none". UserError, naming the ways on,
    when a network of others cannot be had.
    """
    if spec == "none":
        tell(console, "no judge:", "Inception score, FID and KID are left out")
        return None
    if spec != "own":
        judge = _foreign(spec)
        for note in judge.classifier.notes:
            tell(console, "note", f"judge {note}")
        return judge
    own = OwnJudge(home, pack)
    if own.lesson is None:
        tell(
            console,
            "no judge:",
            f"{pack.name} has neither classes nor identities with three training images each;"
            " Inception score, FID and KID are left out (another network can judge: judge ARCH:FILE)",
        )
        return None
    return own.trained(console)


def judge_id(home: Home, pack: Pack, spec: str) -> str | None:
    """The id that a judge has in keys, without training it: None: not trained yet, "": there can be none."""
    if spec == "none":
        return ""
    return OwnJudge(home, pack).id if spec == "own" else _foreign(spec).id


@cache  # a plan asks for every row
def _foreign(spec: str) -> Judge:
    classifier = load_classifier(spec)
    if getattr(classifier.network, "num_classes", None) == 0:  # as timm says it
        raise UserError(
            f"judge {spec}: this network has no classifying layer, it gives features, not classes; {WAYS_ON}"
        )
    side = classifier.side or 64
    first = ready(classifier)(torch.zeros(1, 3, side, side, device=classifier.mean.device))
    classes = 0 if first.logits is None else first.logits.shape[1]
    arch, _, digest = classifier.name.rpartition("-")
    what = f"{classes} classes" if classes else "features only"
    return Judge(
        f"{arch} of others ({what}), weights {digest}", classifier.name, classes, first.features.shape[1], classifier
    )


def run_judge(home: Home, pack: Pack, spec: str, console: Console) -> None:
    """Find or train a judge, and say how good it is and what it makes of originals: the yardstick of all scores."""
    judge = find_judge(home, pack, spec, console)
    if judge is None:
        return
    for line in describe(judge):
        console.print(line)
    if none := no_images(pack, "train", "test"):
        tell(console, "note", f"no scores of originals: {none}")
        return
    train, test = _some(pack, "train"), _some(pack, "test")
    lesson = OwnJudge(home, pack).lesson if spec == "own" else None
    known = _some(lesson.view, "train") if lesson else train
    looks: dict[str, Any] = {"train images of its classes" if lesson else "train images": known, "test images": test}
    for what, rows in looks.items():
        logits = judge.look_at(pack, rows).logits
        if logits is not None:
            mean, sd, splits = inception_score(logits)
            spread = f" ± {sd:.2f} ({splits} splits)" if splits > 1 else ""
            console.print(f"Inception score of {len(rows):,} {what}: {mean:.2f}{spread}")
    real, other = judge.look_at(pack, train).features, judge.look_at(pack, test).features
    mean, sd = kid(real, other)
    distances = f"FID {fid(real, other):.2f}, KID {mean:.4f} ± {sd:.4f}"
    console.print(f"{len(train):,} train against {len(test):,} test originals: {distances}")


def _some(pack: Pack, split: str, most: int = 2000) -> Indices:
    """At most so many rows of a split, evenly spread."""
    rows = pack.indices(split)
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64)]
