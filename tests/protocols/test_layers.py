"""Layers: a method whose stages know known things, the width they are pooled to, and the code beside them."""

import numpy as np
import pytest
import torch
from mocks import COUNT, Oracle, make_pack, measured, numbered
from torch import nn

from mdebench.errors import UserError
from mdebench.evaluation.contract import Subject
from mdebench.methods.contract import Stages
from mdebench.protocols import attributes, layers

LABELS = np.random.default_rng(5).random((COUNT, 2)) < 0.5
POINTS = np.random.default_rng(6).random((COUNT, 5, 2))


class Staged(Oracle):
    """An oracle whose first stage knows where, whose second knows what, and whose code knows nothing."""

    def __init__(self):
        super().__init__(np.ones((COUNT, 1)))
        self.modes = nn.Dropout(0.5)  # would tell if the stages were read in train mode

    def stages(self, images):
        number = (images[:, 0, 0, 0] * 255).round().long()
        where, what = (torch.tensor(x, dtype=torch.float32)[number] for x in (POINTS.reshape(COUNT, 10), LABELS))
        return {
            "stage1": self.modes(where[:, :, None, None].expand(-1, -1, 8, 8)),
            "stage2": what[:, :, None, None].expand(-1, -1, 2, 2),
        }


def pack(**labels):
    return make_pack(numbered(), size=64, **labels)


def test_every_stage_tells_what_it_knows_and_no_more(tmp_path):
    rows = measured(layers, Staged(), pack(labels=LABELS, points=POINTS, classes=LABELS @ [1, 2]), tmp_path)
    assert list(dict.fromkeys(setting for setting, _, _ in rows)) == ["stage1", "stage2", "code"]
    value = {(setting, metric): row.value for (setting, _, metric), row in rows.items()}
    assert value["stage1", "landmark_distance"] == pytest.approx(0, abs=1e-2)
    assert value["stage2", "attribute_error"] == 0
    assert value["stage2", "accuracy"] == 100
    mean_shape = 96 * np.linalg.norm(POINTS[80:] - POINTS[:60].mean(axis=0), axis=2).mean()
    assert value["code", "landmark_distance"] == pytest.approx(mean_shape, rel=1e-5)
    majority = LABELS[:60].mean(axis=0) > 0.5
    assert value["code", "attribute_error"] == pytest.approx(100 * (LABELS[80:] != majority).mean())
    assert value["stage1", "attribute_error"] > 10 and value["stage2", "landmark_distance"] > 1
    assert all(len(row.values) == row.n == 20 for row in rows.values())


def test_the_code_is_the_frozen_probe_of_the_transfer(tmp_path):
    method = Staged()
    method.answers = torch.randn(COUNT, 3, generator=torch.Generator().manual_seed(0))
    method.feature_dim = 3
    ours = measured(layers, method, pack(labels=LABELS), tmp_path)["code", "test", "attribute_error"]
    theirs = measured(attributes, method, pack(labels=LABELS), tmp_path, setting="frozen-probe")
    assert ours.value == theirs["frozen-probe", "test", "attribute_error"].value


def test_only_what_the_pack_knows_is_measured(tmp_path):
    rows = measured(layers, Staged(), pack(points=POINTS), tmp_path)
    assert {metric for _, _, metric in rows} == {"landmark_distance"}
    assert "no attribute" in layers.requires(pack())
    assert layers.requires(pack(points=POINTS)) is None


@pytest.mark.parametrize(
    ("shape", "side"), [((16, 32, 32), 8), ((32, 16, 16), 6), ((64, 8, 8), 4), ((128, 4, 4), 3), ((2000, 4, 4), 1)]
)
def test_stages_are_pooled_to_the_grid_nearest_to_the_width(shape, side):
    assert layers.grid(torch.empty(1, *shape), 1024) == side


def test_a_small_map_is_kept_as_it_is():
    assert layers.grid(torch.empty(1, 10, 4, 4), 1024) == 4


def test_features_are_the_means_over_the_cells_of_the_grid(tmp_path):
    class Pixels(Oracle):
        """Its only stage is the image."""

        def stages(self, images):
            return {"stage1": images}

    subject = Subject("mock", Pixels(np.ones((COUNT, 1))), tmp_path, 0, "ab" * 32)
    noise, rows = make_pack(size=64), np.array([3, 50, 99])
    (found,) = layers.stage_features(subject, noise, rows, 3 * 16).values()
    expected = noise.images[rows].reshape(3, 3, 4, 16, 4, 16).mean(axis=(3, 5)).reshape(3, 48) / 255
    np.testing.assert_allclose(found[0], expected, rtol=1e-5)
    assert found[1] == "3 channels × 4×4 = 48 numbers"


def test_a_method_without_stages_is_refused(tmp_path):
    assert not isinstance(Oracle(np.ones((COUNT, 1))), Stages)
    with pytest.raises(UserError, match="mock-run has no stages"):
        measured(layers, Oracle(np.ones((COUNT, 1))), pack(labels=LABELS), tmp_path)
    with pytest.raises(UserError, match="at least 1"):
        layers.Settings(width=0)
