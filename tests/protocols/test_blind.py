"""Blind inpainting on flat images and mock methods, whose damage and scores are worked out by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from completing import SIZE, TEST, Painter, colours, grey, make_pack, measured, subject
from scipy.special import entr
from sklearn.metrics import jaccard_score, log_loss

from mdebench.errors import UserError
from mdebench.evaluation import measuring
from mdebench.evaluation.displays import displays
from mdebench.evaluation.scenarios import test_damage
from mdebench.evaluation.subjects import maskers
from mdebench.methods.masks import intact
from mdebench.protocols import blind
from mdebench.results.published import paper_dir
from mdebench.results.rows import stored_rows
from mdebench.tables.formats import markdown
from mdebench.tables.write import build_tables
from mdebench.training.recipes import make_recipe, train_run

test_damage.__test__ = False
RESTORED = {"psnr/raw/image", "psnr/raw/hole", "psnr/composite/image", "ssim/raw/image", "ssim/composite/image"}
TOLD = {("told", metric) for metric in RESTORED}
TOLD |= {("nothing done", f"{metric}/raw/image/damaged") for metric in ("psnr", "ssim")}
FOUND = {"mask_bce", "mask_iou", "mask_bce/guess", "mask_iou/guess"}
LOCATOR = '''
"""Takes what is dark for damaged, and paints it grey."""
from dataclasses import dataclass
import torch
from mdebench.methods import Method as BaseMethod

@dataclass(frozen=True)
class Settings:
    """``share`` is how bright the intact is."""
    share: float = 0.5

class Method(BaseMethod):
    def __init__(self, settings, size):
        super().__init__(settings, size)
        self.share = torch.nn.Parameter(torch.tensor(settings.share))
    def locate(self, images):
        return (images.mean(1, keepdim=True) > self.share).float()
    def complete(self, images, seen):
        return images * seen + 0.5 * (1 - seen)
    def restore(self, images):
        return self.complete(images, self.locate(images))
'''


class Restorer(Painter):
    """Is sure to nine tenths of what it finds, of all but the left quarter, and paints all in one colour."""

    def locate(self, images):
        found = torch.full((len(images), 1, SIZE, SIZE), 0.9)
        found[..., : SIZE // 4] = 0.1
        return found

    def restore(self, images):
        return torch.full_like(images, 0.401)


@pytest.fixture
def damaged():
    """By hand: the colour of each test image, that of what lies in its damage, and how much of each pixel is left."""
    own = colours()[-TEST:]
    alpha = test_damage(make_pack(), TEST, 0)[0].double().numpy()[:, 0]
    return own, np.roll(own, TEST // 2), alpha


def decibels(squares):
    """(N, H, W) squared errors → pSNR of each image."""
    return -10 * np.log10(squares.mean(axis=(1, 2)))


def test_told_is_completed_with_the_true_mask(tmp_path, damaged):
    own, strange, alpha = damaged
    painter = Painter(grey)
    rows = measured(blind, painter, make_pack(), tmp_path)
    assert set(rows) == TOLD
    off = lambda colour: ((colour - own) ** 2)[:, None, None]  # noqa: E731
    rim, seen = (1 - alpha) ** 2 * off(strange), alpha >= 0.5
    expected = {
        "psnr/raw/image": -10 * np.log10((0.5 - own) ** 2),
        "psnr/raw/hole": -10 * np.log10((0.5 - own) ** 2),
        "psnr/composite/image": decibels(np.where(seen, rim, off(0.5))),
    }
    np.testing.assert_allclose(rows["nothing done", "psnr/raw/image/damaged"].values, decibels(rim), rtol=1e-4)
    for metric, values in expected.items():
        kept = rows["told", metric]
        whole = values if metric != "psnr/raw/hole" else values[~seen.all(axis=(1, 2))]
        np.testing.assert_allclose(kept.values, whole, rtol=1e-4)
        assert kept.unit == "dB" and kept.n == len(whole) == len(kept.images)
    (images, told), *_ = painter.shown
    assert np.array_equal(told[:, 0], seen) and not images[told == 0].any()
    left = own[:, None, None] * alpha + strange[:, None, None] * (1 - alpha)
    np.testing.assert_allclose(images[:, 1], left * seen, atol=1e-6)


def test_blind_is_restored_without_a_mask_and_what_was_found_is_measured(tmp_path, damaged):
    own, strange, alpha = damaged
    rows = measured(blind, Restorer(grey), make_pack(), tmp_path)
    assert set(rows) == TOLD | {("blind", metric) for metric in RESTORED | FOUND}
    np.testing.assert_allclose(rows["blind", "psnr/raw/image"].values, -20 * np.log10(np.abs(0.401 - own)), rtol=1e-4)
    truth, found = alpha >= 0.5, np.full((SIZE, SIZE), 0.9)
    found[:, : SIZE // 4] = 0.1
    each = [(seen.ravel(), found.ravel()) for seen in truth]
    cross = [log_loss(seen, guess, labels=[False, True]) for seen, guess in each]
    overlap = [100 * jaccard_score(~seen, guess < 0.5) for seen, guess in each]
    np.testing.assert_allclose(rows["blind", "mask_bce"].values, cross, rtol=1e-5)
    np.testing.assert_allclose(rows["blind", "mask_iou"].values, overlap, rtol=1e-5)
    pasted = np.where(found > 0.5, (1 - alpha) ** 2 * ((strange - own) ** 2)[:, None, None], 0)
    pasted += np.where(found > 0.5, 0, ((0.401 - own) ** 2)[:, None, None])
    np.testing.assert_allclose(rows["blind", "psnr/composite/image"].values, decibels(pasted), rtol=1e-4)
    share = truth.mean()
    assert rows["blind", "mask_bce/guess"].value == pytest.approx(entr(share) + entr(1 - share), rel=1e-5)
    assert rows["blind", "mask_iou/guess"].value == pytest.approx(100 * (1 - share), rel=1e-5)
    assert {row.unit for (_, metric), row in rows.items() if metric.startswith("mask_iou")} == {"%"}


def test_a_masker_says_what_any_method_is_shown(tmp_path):
    painter, masker = Painter(grey), subject(Restorer(grey), tmp_path)
    masker.name = "vcnet-run"
    who = subject(painter, tmp_path)
    who.masker = masker
    rows = blind.evaluate(who, make_pack(), blind.Settings(masker="vcnet-run", images=20))
    assert {(row.setting, row.metric) for row in rows} == {("behind vcnet-run", m) for m in RESTORED}
    ((images, seen),) = painter.shown
    assert seen[..., SIZE // 4 :].all() and not seen[..., : SIZE // 4].any() and not images[seen == 0].any()
    assert all("mask by vcnet-run, weights cdcdcdcd; 20 of 40 test images" in row.note for row in rows)
    assert (tmp_path / "sheets" / "mock16-blind-behind-vcnet-run.png").is_file()


def test_one_that_restores_without_finding_anything_has_no_mask_and_says_so(tmp_path):
    def refuse(images):
        raise UserError("made without a mask network")

    ablated = Restorer(grey)
    ablated.locate = refuse
    rows = measured(blind, ablated, make_pack(), tmp_path)
    assert {m for setting, m in rows if setting == "blind"} == {m for m in RESTORED if "composite" not in m}
    assert "no mask and no composite: made without a mask network" in rows["blind", "psnr/raw/image"].note
    assert rows["told", "psnr/raw/image"].note == ""


def test_every_run_has_the_same_damage_whatever_is_beside_it(tmp_path):
    pack, painters = make_pack(), (Painter(grey), Restorer(grey))
    for painter in painters:
        measured(blind, painter, pack, tmp_path)
    assert all(torch.equal(*pair) for pair in zip(*(painter.shown[0] for painter in painters)))
    alpha, moved = test_damage(pack, TEST, 0)
    few, less = test_damage(pack, 3, 0)
    assert torch.equal(alpha[:3], few) and torch.equal(moved[:3], less)
    assert not torch.equal(alpha, test_damage(pack, TEST, 1)[0])
    assert not torch.equal(alpha, test_damage(make_pack(salt="other"), TEST, 0)[0])


def test_an_image_without_damage_has_no_damaged_region(tmp_path, monkeypatch):
    alpha, moved = test_damage(make_pack(), TEST, 0)
    alpha[:5] = 1
    monkeypatch.setattr(blind, "test_damage", lambda *asked: (alpha, moved))
    rows = measured(blind, Restorer(grey), make_pack(), tmp_path)
    damaged = int((~intact(alpha).bool()).flatten(1).any(1).sum())
    hole, whole = rows["blind", "psnr/raw/hole"], rows["blind", "psnr/raw/image"]
    assert (hole.n, whole.n) == (damaged, TEST) and damaged <= TEST - 5
    assert f"{TEST - damaged} images without damage left out" in hole.note
    assert np.isfinite(hole.value) and "left out" not in whole.note
    copies = int((alpha == 1).flatten(1).all(1).sum())
    assert f"{copies} exact copies" in rows["nothing done", "psnr/raw/image/damaged"].note


@pytest.mark.parametrize("wrong", [{"images": 1}, {"mask_seed": -1}, {"masker": ""}])
def test_wrong_settings_are_said_at_once(wrong):
    with pytest.raises(UserError):
        blind.Settings(**wrong)


def test_what_a_pack_needs_and_what_it_costs(tmp_path):
    assert blind.requires(make_pack()) is None
    assert "fewer than two test images" in blind.requires(make_pack(test=1))
    assert "test" in blind.requires(make_pack(test=0))
    small = make_pack()
    assert "10 pixels a side" in blind.requires(replace(small, images=small.images[..., :10, :10]))
    painter, case = Painter(grey), blind.Settings(images=30)
    assert blind.cases(case) == [case]
    blind.evaluate(subject(painter, tmp_path), make_pack(), case)
    assert blind.cost(make_pack(), case).completed >= sum(len(images) for images, _ in painter.shown) == 30


# --- from the command to the table


@pytest.fixture
def runs(home, pack, console, tmp_path):
    """A run that locates, in a file of somebody else's, and a reference that does not."""
    path = tmp_path / "locator.py"
    path.write_text(LOCATOR)
    wanted = [make_recipe(name, pack, "tiny", 0, {}) for name in (str(path), "mean_colour")]
    return [train_run(home, recipe, pack, console) for recipe in wanted]


def test_a_masker_is_part_of_a_rows_key_by_its_weights(home, pack, console, runs):
    locator, colour = runs
    name = locator.folder.name
    count = measuring.measure(home, "blind", runs, pack, {"masker": name, "images": "20"}, console)
    assert count == 2 * len(RESTORED)
    assert measuring.measure(home, "blind", runs, pack, {"masker": name, "images": "20"}, console) == 0
    row = stored_rows(home, "blind", colour.folder.name)[-1]
    assert row["setting"] == "behind locator-tiny-seed0" == f"behind {name}".replace("toyfaces16-", "")
    assert row["protocol_settings"]["masker"] == f"{name}-{locator.info['weights_hash'][:12]}"
    case = blind.Settings(name, 20)
    key = measuring.case_key(home, "blind", case, colour.info, pack, "")
    assert key == row["key"]
    locator.update(weights_hash="another" * 9)
    assert measuring.case_key(home, "blind", case, colour.info, pack, "") != key


def test_a_masker_that_cannot_is_refused_in_one_sentence(home, pack, console, runs):
    locator, colour = runs

    def refused(name, word):
        with pytest.raises(UserError, match=word):
            measuring.measure(home, "blind", [colour], pack, {"masker": name}, console)

    refused("nobody", "no run 'nobody'")
    refused(colour.folder.name, "cannot tell where an image is damaged")
    size = locator.info["size"]
    locator.update(size=32)
    refused(locator.folder.name, "takes 32 pixels")
    locator.update(size=size, status="training")
    refused(locator.folder.name, "is not finished")
    assert stored_rows(home, "blind", colour.folder.name) == []


@pytest.mark.parametrize("found, said", [((2, 1, 8, 7), "promises"), (float("nan"), "outside"), (1.5, "outside")])
def test_what_a_masker_finds_is_held_to_its_promise(tmp_path, found, said):
    masker = Restorer(grey)
    whole = lambda images: torch.full((len(images), 1, SIZE, SIZE), found)  # noqa: E731
    masker.locate = whole if isinstance(found, float) else lambda images: torch.ones(found)
    with pytest.raises(UserError, match=said):
        maskers.locate(subject(masker, tmp_path), torch.zeros(2, 3, SIZE, SIZE))


def test_the_table_compares_with_the_mean_colour_that_was_told_and_shows_what_is_published(home, pack, console, runs):
    locator, _ = runs
    for masker in ("none", locator.folder.name):
        measuring.measure(home, "blind", runs, pack, {"masker": masker, "images": "20"}, console)
    (table,) = (table for table in build_tables(home, displays(home)) if table.stem.startswith("blind"))
    blocks = {block.title: block for block in table.blocks}
    raw = blocks["pSNR of the raw output"]
    settings = [column.setting for column in raw.columns]
    assert settings == ["behind locator-tiny-seed0", "blind", "told"]
    told = next(cells[2].value for line, cells in zip(raw.lines, raw.cells) if line.method == "mean_colour")
    assert [cell.value for cell in raw.against] == [told] * 3
    nothing = blocks["pSNR of the damaged image, for comparison"]
    assert [column.title for column in nothing.columns] == ["nothing done"]
    assert len({cell.text for line in nothing.cells for cell in line if cell.rows}) == 1
    text = markdown(table)
    printed = pd.read_csv(paper_dir() / "blind.csv", dtype=str)
    assert len(printed) == 5 * 9 + 5 * 3 + 1 and all(value in text for value in printed["value"])
    assert "other data, not measured here" in text and "how the BCE is averaged is not said" in text
    first = printed[(printed["label"] == "vcnet") & (printed["table"] == "1") & (printed["setting"] == "FFHQ-2K")]
    assert dict(zip(first["metric"], first["value"])) == {"mask_bce": "0.400", "psnr": "20.94", "ssim": "0.6999"}
