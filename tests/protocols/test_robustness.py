"""Robustness: a code that ignores the hole loses nothing, one that looks into it does; what the encoder is shown, and
which fill is chosen."""

import numpy as np
import pandas as pd
import pytest
import torch
from mocks import COUNT, TEST, Oracle, make_pack, measured, numbered
from skimage.restoration import inpaint_biharmonic

from mdebench.evaluation.contract import Subject
from mdebench.methods import fills, masks
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


class Completing(Watching):
    """Completes everything with a bright red, seen pixels too."""

    def complete(self, images, seen):
        red = torch.zeros_like(images)
        red[:, 0] = 0.75
        return red


class Mouth(Oracle):
    """Knows the answer of every image by a pixel in the middle of the mouth."""

    def encode(self, images):
        return self.answers[(images[:, 0, 47, 32] * 255).round().long()]


def pack(images=None):
    return make_pack(numbered() if images is None else images, LABELS.astype(int), POINTS)


def test_a_code_that_ignores_the_hole_reads_the_same_under_every_preset(tmp_path):
    code = np.concatenate([LABELS, POINTS.reshape(COUNT, 10)], axis=1) + RNG.normal(0, 0.3, (COUNT, 13))
    rows = measured(robustness, Oracle(code), pack(), tmp_path)
    ways = ("", ", mean colour", ", biharmonic", ", chosen fill")
    settings = ["clean", *(preset + way for preset in masks.PRESETS for way in ways)]
    for metric in ("attribute_error", "landmark_distance"):
        values = [rows[setting, "test", metric].value for setting in settings]
        assert values[0] > 0 and values == [values[0]] * 25
    assert len(rows) == 50


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
    for name, value in error.items():  # all but one pixel is 0, so every fill is 0
        hidden = name.partition(",")[0] in ("mouth", "left_half", "right_half")
        assert value == pytest.approx(everybody_is_image_0 if hidden else 0)


def shown_under(method, noise, tmp_path):
    """(preset, fill) → what the encoder is shown of the validation and test images, in the order of the pack."""
    robustness._SMOOTH.clear()
    measured(robustness, method, pack(noise), tmp_path)
    every = [(name, fill) for name in masks.PRESETS for fill in robustness.FILLS]
    if not hasattr(method, "complete"):
        every = [place for place in every if place[1] != "own completion"]
    return dict(zip(every, torch.cat(method.shown[-len(every) :]).split(40), strict=True))


def pictures():
    """Noise around a ramp, the first pixel of each the image's number."""
    rng = np.random.default_rng(0)
    noise = np.linspace(40, 200, 64)[:, None] + rng.integers(0, 40, (COUNT, 3, 64, 64))
    noise[:, 0, 0, 0] = np.arange(COUNT)
    return noise.astype(np.uint8)


def test_the_encoder_is_shown_each_image_without_its_rectangle_under_every_fill(tmp_path):
    noise = pictures()
    originals = torch.from_numpy(noise[60:100]).float() / 255
    for (name, fill), images in shown_under(Completing(np.ones((COUNT, 1))), noise, tmp_path).items():
        seen = masks.preset(name, 64)[0, 0] == 1
        torch.testing.assert_close(images[:, :, seen], originals[:, :, seen])
        hole, outside = images[:, :, ~seen], originals[:, :, seen]
        if fill == "":
            assert (hole == 0).all()
        elif fill == "mean colour":
            torch.testing.assert_close(hole, outside.mean(dim=2, keepdim=True).expand_as(hole))
        elif fill == "biharmonic":
            for i in (0, 39):
                expected = inpaint_biharmonic((originals[i] * seen).double().numpy(), ~seen.numpy(), channel_axis=0)
                np.testing.assert_allclose(images[i].numpy(), expected, atol=1e-5)
        else:
            assert (hole[:, 0] == 0.75).all() and (hole[:, 1:] == 0).all()


def test_nothing_of_the_hole_is_seen(tmp_path):
    noise, other = pictures(), pictures()
    y, x = np.nonzero(masks.preset("mouth", 64)[0, 0].numpy() == 0)
    other[:, :, y, x] = 255
    first, second = (shown_under(Completing(np.ones((COUNT, 1))), images, tmp_path) for images in (noise, other))
    for fill in robustness.FILLS:
        assert torch.equal(first["mouth", fill], second["mouth", fill])


class Red(Completing):
    """Knows the answer where the middle of the mouth is red enough, whatever the image."""

    def encode(self, images):
        known = images[:, :1, 47, 32] > 0.7
        return super().encode(images) * known


def test_the_fill_is_chosen_on_validation_images_and_its_answers_are_those_measured(tmp_path):
    dark = (pictures() // 4).astype(np.uint8)
    dark[:, 0, 47, 32] = 255
    dark[:, 0, 0, 0] = np.arange(COUNT)
    rows = measured(robustness, Red(LABELS), pack(dark), tmp_path)
    own, chosen, smooth = (
        rows[f"mouth, {way}", "test", "attribute_error"] for way in ("own completion", "chosen fill", "biharmonic")
    )
    assert own.value == 0 < smooth.value
    assert chosen.note.startswith("own completion chosen on 20 validation images")
    np.testing.assert_array_equal(chosen.values, own.values)
    eyes = rows["both_eyes, chosen fill", "test", "attribute_error"]
    assert eyes.note.startswith("zeros chosen")  # of equals the first


def test_what_tests_say_chooses_no_fill(tmp_path):
    """A fill that is good on test images alone is not chosen."""

    class Traitor(Red):
        def complete(self, images, seen):
            number = (images[:, 0, 0, 0] * 255).round()
            return super().complete(images, seen) * (number >= 80)[:, None, None, None]

    dark = (pictures() // 4).astype(np.uint8)
    dark[:, 0, 47, 32] = 255
    dark[:, 0, 0, 0] = np.arange(COUNT)
    rows = measured(robustness, Traitor(LABELS), pack(dark), tmp_path)
    assert rows["mouth, own completion", "test", "attribute_error"].value == 0
    assert not rows["mouth, chosen fill", "test", "attribute_error"].note.startswith("own completion")


def test_the_biharmonic_fill_is_solved_once_for_all_runs_of_a_pack(tmp_path, monkeypatch):
    solved = []
    whole = fills.biharmonic
    monkeypatch.setattr(fills, "biharmonic", lambda images, seen: (solved.append(len(images)), whole(images, seen))[1])
    robustness._SMOOTH.clear()
    for _ in range(2):
        measured(robustness, Oracle(LABELS), pack(), tmp_path)
    assert sum(solved) == 6 * 40
    other = pack(pictures())
    other.info["hash"] = "cd" * 32
    measured(robustness, Oracle(LABELS), other, tmp_path)
    assert sum(solved) == 12 * 40 and {key[0] for key in robustness._SMOOTH} == {"cd" * 32}


def test_an_exported_encoder_is_not_asked_to_complete(tmp_path):
    subject = Subject("mock-run", Completing(np.ones((COUNT, 1))).eval(), tmp_path, 0, "cd" * 32, exported=True)
    rows = robustness.evaluate(subject, pack(), robustness.Settings())
    assert not any("own completion" in row.setting for row in rows)
    assert all("no own completion: an exported encoder" in row.note for row in rows if row.setting == "clean")


def test_the_notes_say_what_missing_means_and_when_a_rectangle_misses(tmp_path):
    rows = measured(robustness, Oracle(LABELS), pack(), tmp_path)
    assert rows["mouth", "test", "attribute_error"].note.startswith("missing pixels are zero")
    filled = rows["mouth, biharmonic", "test", "attribute_error"].note
    assert filled.startswith("missing pixels filled by the biharmonic fill")
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
