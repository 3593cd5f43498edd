"""Every family of timm as an encoder: its smallest network, with random weights, at 64 pixels or at its own size.

    python tests/timm_sweep.py [NAME …] > table.md

A line for each network: the width that timm declares and the one that was measured, whether the features come back as
they were encoded, and how many of the tensors of its parameters two updates of `finetune` move. Minutes to an hour: not
collected by pytest, which tries a handful (`make slow`).
"""

import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import timm
import torch
from mocks import make_pack

from mdebench.baselines import timm_encoder
from mdebench.errors import UserError
from mdebench.evaluation import readouts
from mdebench.evaluation.contract import Subject
from mdebench.evaluation.passes import encode, frozen, load
from mdebench.training.trainer import weights_hash

IMAGES = 12  # two of three train, the rest are predicted


def smallest(family):
    """The network of a family (a module of timm) with the fewest parameters, by building each without memory."""

    def parameters(name):
        with torch.device("meta"):
            return sum(p.numel() for p in timm.create_model(name).parameters())

    return min(timm.list_models(module=family), key=parameters)


def build(name):
    """The encoder at 64 pixels, or at the network's own size."""
    for side in (64, None):
        torch.manual_seed(0)
        try:
            return timm_encoder.Method(timm_encoder.Settings(name, side=side), 64).eval()
        except UserError as error:
            why = error
    raise why


def tried(name, folder):
    """What became of a network: its facts by header."""
    method = build(name)
    labels = np.arange(IMAGES)[:, None] % 2
    split = np.arange(IMAGES) // (IMAGES // 3)
    images = np.random.default_rng(0).integers(0, 256, (IMAGES, 3, 64, 64), dtype=np.uint8)
    points = np.full((IMAGES, 5, 2), np.nan)
    pack = make_pack(images, labels, points, split=np.maximum(split - 1, 0) * 2)
    subject = Subject(name, method, Path(folder), 0, before := weights_hash(method))
    rows = np.arange(IMAGES)
    with frozen(method):
        codes = encode(method, load(pack, rows, subject.device)).numpy()
    stored = [subject.features(pack, rows) for _ in range(2)]
    moved = tensors_moved(subject, pack)
    network = method.classifier.network
    return {
        "network": name,
        "pixels": method.classifier.side,
        "parameters (M)": f"{sum(p.numel() for p in network.parameters()) / 1e6:.1f}",
        "declared": network.num_features,
        "measured": subject.width,
        "stored": "as encoded" if all(np.array_equal(codes, each) for each in stored) else "OTHERWISE",
        "moved": "{} of {}".format(*moved) if moved[0] else "NOTHING",
        "left": "as it was" if weights_hash(method) == before else "CHANGED",
    }


def tensors_moved(subject, pack, updates=2):
    """How many tensors of the encoder's parameters two updates of `finetune` move, and how many there are."""
    counts, train = [], readouts.train_head

    def watched(code_of, dim, targets, settings, seed, encoder):
        before = [parameter.detach().clone() for parameter in encoder]
        head = train(code_of, dim, targets, settings, seed, encoder)
        counts.extend([sum(not torch.equal(a, b) for a, b in zip(before, encoder)), len(encoder)])
        return head

    rows = readouts.partition(pack, np.ones(len(pack.images), bool))
    task = readouts.Task(pack.attributes.astype(np.float32), rows, pack.indices("test"), lambda p, t: 0.0)
    readouts.train_head = watched
    try:
        readouts.readouts(subject, pack, task, readouts.Settings("finetune", updates, batch_size=4))
    finally:
        readouts.train_head = train
    return counts


if __name__ == "__main__":
    warnings.simplefilter("ignore")  # of timm, about its own code
    headers = ("network", "pixels", "parameters (M)", "declared", "measured", "stored", "moved", "left")
    sys.stdout.write(f"| {' | '.join(headers)} |\n|{' --- |' * len(headers)}\n")
    for name in sys.argv[1:] or map(smallest, timm.list_modules()):
        with tempfile.TemporaryDirectory() as folder:
            try:
                facts = tried(name, folder)
                line = " | ".join(str(facts[header]) for header in headers)
            except Exception as error:
                line = f"{name} | {type(error).__name__}: {str(error).splitlines()[0]}"
        sys.stdout.write(f"| {line} |\n")
        sys.stdout.flush()
