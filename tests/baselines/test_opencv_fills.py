"""Telea's and the Navier–Stokes fill: OpenCV's own on whole pictures, a mask for each channel, and no OpenCV at all."""

from importlib.util import find_spec

import numpy as np
import pytest
import torch

from mdebench.baselines import _opencv, navier_stokes, telea
from mdebench.errors import UserError
from mdebench.evaluation import measuring
from mdebench.suite import wanted
from mdebench.suite.plan import Order, make_plan
from mdebench.suite.speed import Speed
from mdebench.training.recipes import make_recipe, train_run

installed = pytest.mark.skipif(
    find_spec("cv2") is None, reason="OpenCV is not installed (pip install 'mdebench[opencv]')"
)
MODULES = (telea, navier_stokes)


def build(module, size=32, **settings):
    return module.Method(module.Settings(**settings), size).eval()


def pictures(count=3, size=32, dtype=torch.float64):
    """Smooth, each channel of its own, and of bytes, as those of a pack are."""
    y, x = np.mgrid[:size, :size]
    phase = np.random.default_rng(4).random((count, 3, 1, 1)) * 6
    waves = 0.5 + 0.3 * np.sin(x / 9 + phase) * np.cos(y / 11 + phase)
    return torch.tensor(np.round(255 * waves) / 255, dtype=dtype)


def seen_around(rows, columns, size=32):
    seen = torch.ones(1, 1, size, size, dtype=torch.float64)
    seen[..., rows, columns] = 0
    return seen


@installed
@pytest.mark.parametrize("module", MODULES)
@pytest.mark.parametrize("radius", [3, 5])
def test_it_is_opencvs_fill_of_the_colour_picture(module, radius):
    import cv2

    images, seen = pictures(), seen_around(slice(10, 20), slice(25, 32))
    filled = build(module, radius=radius).complete(images * seen, seen)
    hole = (seen[0, 0] == 0).numpy()
    flag = {telea: cv2.INPAINT_TELEA, navier_stokes: cv2.INPAINT_NS}[module]
    for ours, image in zip(filled, images):
        picture = np.rint(255 * image.permute(1, 2, 0).numpy()).astype(np.uint8)
        picture[hole] = np.rint(picture[~hole].mean(0))
        theirs = cv2.inpaint(picture, hole.astype(np.uint8), radius, flag)
        np.testing.assert_allclose(ours.permute(1, 2, 0).numpy(), theirs / 255, atol=1e-12)


@installed
@pytest.mark.parametrize("module", MODULES)
def test_a_smooth_picture_is_nearly_found_again(module):
    """Telea's fill of float32 in [0, 1] is off by 0.9 here, and by more than the range of the picture."""
    images, seen = pictures(dtype=torch.float32), seen_around(slice(12, 18), slice(12, 18)).float()
    filled = build(module).complete(images * seen, seen)
    assert filled.dtype == torch.float32
    assert (filled - images).abs().max() < 0.1


@installed
@pytest.mark.parametrize("module", MODULES)
def test_channels_have_masks_of_their_own_and_what_is_seen_stays(module):
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    seen = (torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(1)) > 0.3).double()
    seen[1, 1] = 0  # a channel
    seen[2] = 0  # all
    seen[3] = 1  # nothing
    filled = build(module, 16).complete(images, seen)
    assert torch.equal(filled[seen == 1], images[seen == 1])
    torch.testing.assert_close(filled[1, 1], images[1][seen[1] == 1].mean().expand(16, 16))
    assert (filled[2] == 0.5).all()
    for other in (images * seen, 1 - (1 - images) * seen):  # whatever is in the hole
        assert torch.equal(build(module, 16).complete(other, seen), filled)
    for c in range(3):
        grey = images[:1, c : c + 1].expand(-1, 3, -1, -1)
        alone = build(module, 16).complete(grey, seen[:1, c : c + 1])
        torch.testing.assert_close(alone[0, 0], filled[0, c])


@pytest.fixture
def no_opencv(monkeypatch):
    monkeypatch.setattr(_opencv, "find_spec", lambda name: None)


@pytest.mark.parametrize("module", MODULES)
def test_without_opencv_one_sentence_names_the_extra(module, no_opencv):
    seen = seen_around(slice(1, 2), slice(1, 2))
    with pytest.raises(UserError, match=r"OpenCV is not installed here: pip install 'mdebench\[opencv\]'"):
        build(module).complete(pictures(), seen)


def test_without_opencv_tables_and_plans_leave_the_fills_out_aloud(home, pack, console, no_opencv):
    run = train_run(
        home, make_recipe("rec", pack, "tiny", 0, {"width": "2", "code": "4", "updates": "1"}), pack, console
    )
    with console.capture() as said:
        runs = wanted.with_references(home, [run], pack, "complete", console)
    for name in ("telea", "navier_stokes"):
        assert f"left out {name}: OpenCV is not installed here: pip install 'mdebench[opencv]'" in said.get()
    assert {each.info["method"] for each in runs} == {"rec", "mean_colour", "biharmonic", "patch_match"}
    plan = make_plan(Order(home, "table3", "tiny", pack.name), console, lambda recipe: Speed(1.0, 0.0, 0.0))
    assert "left out: telea: OpenCV is not installed here: pip install 'mdebench[opencv]'" in plan.notes
    assert not any("telea" in task.title for task in plan.tasks)


@installed
def test_a_run_made_where_opencv_was_is_left_out_where_it_is_not(home, pack, console, monkeypatch):
    run = train_run(home, make_recipe("telea", pack, "tiny", 0, {}), pack, console)
    assert measuring.measurable("occlusion", [run], console) == [run]
    monkeypatch.setattr(_opencv, "find_spec", lambda name: None)
    with console.capture() as said:
        assert measuring.measurable("occlusion", [run], console) == []
    assert "left out" in said.get() and "OpenCV is not installed" in said.get()


def test_pretraining_without_opencv_is_refused_in_a_sentence(home, pack, console, no_opencv):
    with pytest.raises(UserError, match="telea: OpenCV is not installed here: pip install"):
        train_run(home, make_recipe("telea", pack, "tiny", 0, {}), pack, console)
    assert not home.list_runs()
