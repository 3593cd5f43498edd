"""A pack in memory and a method that knows every answer, for protocols whose scores are known exactly."""

from pathlib import Path

import numpy as np
import torch

from mdebench.data.pack import Pack, unlabelled
from mdebench.evaluation.contract import Subject
from mdebench.methods.contract import Method

SPLIT = np.repeat(np.arange(3, dtype=np.uint8), [60, 20, 20])
COUNT = len(SPLIT)
TEST = slice(80, 100)


def make_pack(images=None, labels=None, points=None, source=None, size=64, classes=None, identities=None, split=SPLIT):
    """A pack of 100 images in memory; what is not given is unknown, images are noise."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (COUNT, 3, size, size), dtype=np.uint8) if images is None else images
    labels = np.zeros((COUNT, 0)) if labels is None else labels
    points = np.full((COUNT, 5, 2), np.nan) if points is None else points
    unknown = np.full(COUNT, -1)
    return Pack(
        path=Path("packs/mock64"),
        info={"hash": "ab" * 32, "attribute_names": [f"A{i}" for i in range(labels.shape[1])]},
        **unlabelled(COUNT, images.shape[-1], labels.shape[1])
        | {
            "images": images,
            "attributes": labels.astype(np.int8),
            "landmarks": points.astype(np.float32),
            "landmark_source": np.zeros(COUNT, np.uint8) if source is None else source.astype(np.uint8),
            "identity": np.asarray(unknown if identities is None else identities, np.int32),
            "label": np.asarray(unknown if classes is None else classes, np.int32),
            "split": np.asarray(split, np.uint8),
        },
    )


class Oracle(Method):
    """Knows the answer of every image: its first pixel holds the image's number, `answers` the codes."""

    def __init__(self, answers):
        super().__init__(None, 64)
        self.answers = torch.tensor(np.asarray(answers), dtype=torch.float32)
        self.feature_dim = self.answers.shape[1]

    def encode(self, images):
        return self.answers[(images[:, 0, 0, 0] * 255).round().long()]


def numbered():
    """Images whose first pixel holds their number."""
    images = np.zeros((COUNT, 3, 64, 64), np.uint8)
    images[:, 0, 0, 0] = np.arange(COUNT)
    return images


def measured(protocol, method, pack, tmp_path, **settings):
    """(setting, split, metric) → measurement of a method on a pack."""
    subject = Subject("mock-run", method.eval(), tmp_path, 0, "cd" * 32)
    rows = protocol.evaluate(subject, pack, protocol.Settings(**settings))
    return {(row.setting, row.split, row.metric): row for row in rows}
