"""Robustness: a code that ignores the hole loses nothing, one that looks into it does; what the encoder is shown."""

import numpy as np
import pandas as pd
import pytest
import torch
from mocks import COUNT, TEST, Oracle, make_pack, measured, numbered

from mdebench.methods import masks
from mdebench.protocols import attributes, landmarks, robustness
from mdebench.results.published import paper_dir

RNG = np.random.default_rng(5)
LABELS = RNG.random((COUNT, 3)) < [0.5, 0.3, 0.8]
MEAN = np.array([[0.35, 0.42], [0.65, 0.42], [0.5, 0.55], [0.4, 0.73], [0.6, 0.73]])  # of aligned faces
POINTS = MEAN + RNG.normal(0, 0.02, (COUNT, 5, 2))


class Watching(Oracle):
    """Remembers what it was shown."""

    def __init__(self, answers):
        super().__init__(answers)
        self.shown = []

    def encode(self, images):
        self.shown.append(images.clone())
        return super().encode(images)


class Mouth(Oracle):
    """Knows the answer of every image by a pixel in the middle of the mouth."""

    def encode(self, images):
        return self.answers[(images[:, 0, 47, 32] * 255).round().long()]


def pack(images=None):
    return make_pack(numbered() if images is None else images, LABELS.astype(int), POINTS)


def test_a_code_that_ignores_the_hole_reads_the_same_under_every_preset(tmp_path):
    code = np.concatenate([LABELS, POINTS.reshape(COUNT, 10)], axis=1) + RNG.normal(0, 0.3, (COUNT, 13))
    rows = measured(robustness, Oracle(code), pack(), tmp_path)
    for metric in ("attribute_error", "landmark_distance"):
        values = [rows[setting, "test", metric].value for setting in ("clean", *masks.PRESETS)]
        assert values[0] > 0 and values == [values[0]] * 7
    assert len(rows) == 14


def test_clean_is_the_probe_of_the_transfers(tmp_path):
    code = RNG.normal(size=(COUNT, 4))
    rows = measured(robustness, Oracle(code), pack(), tmp_path)
    for protocol, metric in ((attributes, "attribute_error"), (landmarks, "landmark_distance")):
        probe = measured(protocol, Oracle(code), pack(), tmp_path, setting="frozen-probe")
        clean = rows["clean", "test", metric]
        assert clean.value == probe["frozen-probe", "test", metric].value
        np.testing.assert_array_equal(clean.values, probe["frozen-probe", "test", metric].values)


def test_a_code_that_looks_into_the_hole_loses_it(tmp_path):
    images = np.zeros((COUNT, 3, 64, 64), np.uint8)
    images[:, 0, 47, 32] = np.arange(COUNT)
    rows = measured(robustness, Mouth(LABELS), pack(images), tmp_path)
    error = {setting: row.value for (setting, _, metric), row in rows.items() if metric == "attribute_error"}
    everybody_is_image_0 = 100 * (LABELS[TEST] != LABELS[0]).mean()
    assert everybody_is_image_0 > 10
    for name, value in error.items():
        assert value == pytest.approx(everybody_is_image_0 if name in ("mouth", "left_half", "right_half") else 0)


def test_the_encoder_is_shown_each_test_image_without_its_rectangle(tmp_path):
    noise = np.random.default_rng(0).integers(1, 256, (COUNT, 3, 64, 64), dtype=np.uint8)
    noise[:, 0, 0, 0] = np.arange(COUNT)
    method = Watching(np.ones((COUNT, 1)))
    measured(robustness, method, pack(noise), tmp_path)
    shown = torch.cat(method.shown[-6:])
    originals = torch.from_numpy(noise[TEST]).float() / 255
    for name, images in zip(masks.PRESETS, shown.split(20), strict=True):
        torch.testing.assert_close(images, originals * masks.preset(name, 64))
        assert (images == 0).float().mean() > 0.05


def test_the_notes_say_what_missing_means_and_when_a_rectangle_misses(tmp_path):
    rows = measured(robustness, Oracle(LABELS), pack(), tmp_path)
    assert rows["mouth", "test", "attribute_error"].note.startswith("missing pixels are zero")
    assert "missing" not in rows["clean", "test", "attribute_error"].note
    nowhere = make_pack(numbered(), LABELS.astype(int))
    rows = measured(robustness, Oracle(LABELS), nowhere, tmp_path)
    assert {metric for _, _, metric in rows} == {"attribute_error"}
    assert "no landmarks in test" in rows["mouth", "test", "attribute_error"].note


def test_a_pack_without_faces_is_refused():
    reason = robustness.requires(make_pack(classes=np.arange(COUNT) % 2))
    assert "no attribute" in reason and "no image with landmarks" in reason
    assert robustness.requires(pack()) is None


def test_its_chart_has_the_presets_in_the_order_of_table_3():
    in_the_paper = pd.read_csv(paper_dir() / "table3.csv")["setting"].drop_duplicates()
    assert tuple(in_the_paper) == robustness.IN_TABLE_3 and set(robustness.IN_TABLE_3) == set(masks.PRESETS)
