"""Depth: the layer that knows is chosen on validation images, and a fusion knows what no single layer does."""

import numpy as np
import torch
from mocks import COUNT, Oracle, make_pack, measured, numbered

from mdebench.protocols import attributes, depth

RNG = np.random.default_rng(5)
LABELS = RNG.random((COUNT, 2)) < 0.5


class Halves(Oracle):
    """Its first stage knows the first label, its third the second; the second stage and the code know nothing."""

    def __init__(self, first=LABELS[:, :1], third=LABELS[:, 1:]):
        super().__init__(np.ones((COUNT, 1)))
        self.known = [torch.tensor(np.asarray(x), dtype=torch.float32) for x in (first, np.ones((COUNT, 1)), third)]

    def stages(self, images):
        number = (images[:, 0, 0, 0] * 255).round().long()
        sides = (8, 4, 2)
        return {
            f"stage{place}": known[number][:, :, None, None].expand(-1, -1, side, side)
            for place, (known, side) in enumerate(zip(self.known, sides), 1)
        }


def error(rows, setting):
    return rows[setting, "test", "attribute_error"]


def test_a_fusion_knows_what_no_single_stage_does(tmp_path):
    rows = measured(depth, Halves(), make_pack(numbered(), labels=LABELS), tmp_path)
    assert error(rows, "fusion").value == 0
    assert error(rows, "best layer").value > 10


def test_the_stage_that_knows_is_chosen_and_told(tmp_path):
    rows = measured(depth, Halves(first=LABELS), make_pack(numbered(), labels=LABELS), tmp_path)
    assert error(rows, "best layer").value == 0
    assert error(rows, "best layer").note.startswith(
        "stage1 of stage1, stage2, stage3, last two maps, code, chosen on 20"
    )


def test_test_images_choose_nothing(tmp_path):
    """A stage that knows all but lies about validation images is not chosen, however right it is on test."""
    lying = LABELS.astype(float)
    lying[60:80] = 1 - lying[60:80]
    method = Halves(first=lying, third=np.where(np.arange(COUNT)[:, None] < 80, LABELS, 0.5))
    rows = measured(depth, method, make_pack(numbered(), labels=LABELS), tmp_path)
    assert not error(rows, "best layer").note.startswith("stage1")
    assert error(rows, "best layer").value > 10


def test_a_code_that_alone_knows_is_the_frozen_probe(tmp_path):
    method = Halves(first=np.ones((COUNT, 1)), third=np.ones((COUNT, 1)))
    method.answers, method.feature_dim = torch.tensor(LABELS + RNG.normal(size=(COUNT, 2)) / 2).float(), 2
    pack = make_pack(numbered(), labels=LABELS)
    ours = error(measured(depth, method, pack, tmp_path), "best layer")
    theirs = measured(attributes, method, pack, tmp_path, setting="frozen-probe")
    assert ours.note.startswith("code of") and ours.value == error(theirs, "frozen-probe").value
