"""Mock packs, methods and a mock judge for the tests of completion protocols: what comes out is known exactly."""

import hashlib
from pathlib import Path

import numpy as np
import torch

from mdebench.data.pack import Pack, unlabelled
from mdebench.evaluation.contract import Subject
from mdebench.methods.classifiers import Look
from mdebench.methods.contract import Method

SIZE, TRAIN, TEST = 16, 60, 40
COUNT = TRAIN + TEST


def colours():
    """(COUNT,): the one colour of each image of `make_pack`, in [0, 1], in no order."""
    return np.random.default_rng(1).permutation(np.arange(60, 60 + COUNT)).astype(np.uint8) / 255


def make_pack(labels=None, test=TEST, salt=""):
    """Flat images, each of another colour; `labels` (COUNT, A) of 1, 0 and -1; the last `test` images are for testing.

    The hash is another for other labels or another `salt`.
    """
    labels = np.zeros((COUNT, 0)) if labels is None else labels
    pack_hash = hashlib.sha256(repr((labels.tolist(), test, salt)).encode()).hexdigest()
    levels = np.rint(colours() * 255).astype(np.uint8)
    return Pack(
        path=Path("packs/mock16"),
        info={"hash": pack_hash, "attribute_names": [f"A{i}" for i in range(labels.shape[1])]},
        **unlabelled(COUNT, SIZE)
        | {
            "images": np.broadcast_to(levels[:, None, None, None], (COUNT, 3, SIZE, SIZE)).copy(),
            "attributes": labels.astype(np.int8),
            "split": np.where(np.arange(COUNT) < COUNT - test, 0, 2).astype(np.uint8),
        },
    )


class Painter(Method):
    """Completes by a rule, and remembers what it was shown."""

    def __init__(self, rule):
        super().__init__(None, SIZE)
        self.rule, self.shown = rule, []

    def complete(self, images, seen):
        self.shown.append((images, seen))
        return self.rule(images, seen)


def own_colour(images, seen):
    """The right answer for flat grey images of which something is seen."""
    return images.amax(dim=(1, 2, 3), keepdim=True).expand_as(images).clone()


def grey(images, seen):
    return torch.full_like(images, 0.5)


class MockJudge:
    """Sees the mean colour: as feature, and as one of `classes` equal ranges of it. `looked` counts the images."""

    def __init__(self, classes=4, sharpness=10.0, name="mock"):
        self.name, self.id, self.classes, self.dim = name, f"{name}-{classes}-{sharpness}", classes, 2
        self.sharpness, self.looked = sharpness, 0

    def look(self, images):
        self.looked += len(images)
        level = images.mean(dim=(1, 2, 3)).float()
        features = torch.stack([level, images[:, 0].std(dim=(1, 2))], dim=1)
        if not self.classes:
            return Look(features, None)
        return Look(features, self.sharpness * torch.nn.functional.one_hot(self.says(level), self.classes).float())

    def look_at(self, pack, indices):
        return self.look(pack.batch(indices).float() / 255)

    def says(self, level):
        """The class of a mean colour."""
        return (torch.as_tensor(level) * self.classes).long().clamp(max=self.classes - 1)


def subject(method, folder, judge=None):
    return Subject("mock-run", method.eval(), folder, 0, "cd" * 32, judge)


def measured(protocol, method, pack, folder, judge=None, **settings):
    """(setting, metric) → measurement."""
    rows = protocol.evaluate(subject(method, folder, judge), pack, protocol.Settings(**settings))
    assert len({(row.setting, row.metric) for row in rows}) == len(rows)
    return {(row.setting, row.metric): row for row in rows}
