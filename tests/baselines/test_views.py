"""Views: operations against torchvision's on one image, crops against its RandomResizedCrop, a batch in two parts."""

import pytest
import torch
from scipy.stats import ks_2samp, kstest
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as theirs

from mdebench.baselines import _views as ours
from mdebench.baselines._views import Look, view
from mdebench.methods.contract import Batch

LOOK = Look(scale=(0.08, 1.0), jitter=(0.8, 0.8, 0.8, 0.2), blurred=0.5, solarized=0.2)
UNCHANGED = Look(scale=(1.0, 1.0), jitter=(0.0,) * 4, blurred=0.0)
CLOSE = {"rtol": 0, "atol": 1e-9}


def pictures(n=6, size=20):
    """In float64, with greys, black, white and pure colours among their pixels."""
    images = torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    images[:, :, 0] = images[:, :1, 0]
    corners = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 3)
    images[:, :, 1, : len(corners)] = corners.T.double()
    return images


def batch(images, seed=0, part=0, parts=1):
    generator = torch.Generator().manual_seed(seed)
    return Batch(images, torch.arange(len(images)), 0, 0, 0, generator, 10, part, parts)


@pytest.mark.parametrize("side", [10, 32])
def test_a_crop_is_torchvisions_resized_crop_mirrored_or_not(side):
    images = pictures()
    tops, lefts, heights, widths = (
        [0, 3, 5, 2, 0, 7],
        [0, 4, 1, 2, 6, 3],
        [20, 9, 15, 10, 12, 13],
        [20, 12, 11, 10, 9, 8],
    )
    corners = [lefts, tops, [sum(e) for e in zip(lefts, widths)], [sum(e) for e in zip(tops, heights)]]
    mirrored = torch.tensor([False, True] * 3)
    found = ours.crop(images, torch.tensor(corners, dtype=torch.float64).T / 20, mirrored, side)
    for n, (image, box) in enumerate(zip(images, zip(tops, lefts, heights, widths))):
        expected = theirs.resized_crop(image[None], *box, [side, side], antialias=False)[0]
        torch.testing.assert_close(found[n], theirs.hflip(expected) if mirrored[n] else expected, **CLOSE)


CHANGES = (theirs.adjust_brightness, theirs.adjust_contrast, theirs.adjust_saturation, theirs.adjust_hue)


@pytest.mark.parametrize("number", range(4))
@pytest.mark.parametrize("change", [-0.5, -0.13, 0.0, 0.1, 0.4, 0.5])
def test_a_change_of_colour_is_torchvisions(number, change):
    images = pictures(1)
    found = ours.CHANGES[number](images, torch.full((1, 1, 1, 1), change, dtype=torch.float64))
    expected = CHANGES[number](images, change if number == 3 else 1 + change)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)  # theirs has hues in float32


def test_each_image_is_changed_in_its_own_order_or_not_at_all():
    images, generator = pictures(), torch.Generator().manual_seed(1)
    changes = torch.rand(6, 4, generator=generator, dtype=torch.float64) - 0.5
    order = torch.rand(6, 4, generator=generator).argsort(dim=1)
    chosen = torch.tensor([True, True, False, True, True, False])
    found = ours.jitter(images, changes, order, chosen)
    assert len({tuple(each) for each in order[chosen].tolist()}) > 2
    for n in range(6):
        expected = images[n]
        for number in order[n].tolist() if chosen[n] else []:
            change = changes[n, number].item()
            expected = CHANGES[number](expected, change if number == 3 else 1 + change)
        torch.testing.assert_close(found[n], expected, rtol=0, atol=1e-5)


def test_grey_blur_and_solarization_are_torchvisions():
    images = pictures()
    torch.testing.assert_close(ours.grey(images), theirs.rgb_to_grayscale(images, 3), **CLOSE)
    torch.testing.assert_close(ours.solarize(images), theirs.solarize(images, 0.5), **CLOSE)
    deviations = [0.05, 0.2, 0.5, 0.9, 1.4, 2.0]
    found = ours.blur(images, torch.tensor(deviations, dtype=torch.float64), 4)
    for n, deviation in enumerate(deviations):
        torch.testing.assert_close(found[n], theirs.gaussian_blur(images[n], [9, 9], [deviation] * 2), **CLOSE)


@pytest.mark.parametrize("scale", [(0.08, 1.0), (0.4, 1.0), (0.05, 0.4)])
def test_boxes_are_drawn_as_torchvision_draws_them(scale):
    boxes = ours.draw_boxes(4000, scale, torch.Generator().manual_seed(0))
    sides, corners = boxes[:, 2:] - boxes[:, :2], boxes[:, :2]
    area, ratio = sides.prod(dim=1), sides[:, 0] / sides[:, 1]
    assert boxes.min() >= 0 and boxes.max() <= 1 + 1e-6
    assert scale[0] - 1e-6 <= area.min() and area.max() <= scale[1] + 1e-6
    assert ratio.min() >= 3 / 4 - 1e-5 and ratio.max() <= 4 / 3 + 1e-5
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = [RandomResizedCrop.get_params(torch.zeros(3, 999, 999), scale, (3 / 4, 4 / 3)) for _ in range(1000)]
    top, left, height, width = torch.tensor(drawn, dtype=torch.float64).T / 999
    for mine, published in (
        (area, height * width),
        (ratio, width / height),
        (corners[:, 0], left),
        (corners[:, 1], top),
    ):
        assert ks_2samp(mine, published).pvalue > 0.001


def test_half_are_mirrored_and_a_fifth_grey_where_nothing_else_changes():
    images = pictures(1).float().expand(2000, -1, -1, -1)
    seen = view(batch(images), UNCHANGED, 20)
    mirrored, greys = images.flip(3), ours.grey(images)
    shares = [(seen - each).abs().amax(dim=(1, 2, 3)).lt(1e-5).float().mean().item() for each in (images, mirrored)]
    assert shares == pytest.approx([0.4, 0.4], abs=0.04)
    shares = [(seen - each).abs().amax(dim=(1, 2, 3)).lt(1e-5).float().mean().item() for each in (greys, greys.flip(3))]
    assert shares == pytest.approx([0.1, 0.1], abs=0.03)


@pytest.mark.parametrize("size", [56, 112])
def test_blur_shrinks_with_the_image(size, monkeypatch):
    given = []
    monkeypatch.setattr(ours, "blur", lambda images, *rest: given.append(rest) or images)
    images = torch.zeros(1, 3, size, size).expand(200, -1, -1, -1)
    view(batch(images), Look(scale=(1.0, 1.0), jitter=(0.0,) * 4, blurred=0.5), 8)
    ((deviations, radius),) = given
    published = deviations / size * 224  # as in the papers, uniform from 0.1 to 2
    assert len(deviations) == pytest.approx(100, abs=25) and radius == 6 * size / 224 + 0.5 * (size == 56)
    assert kstest(published, "uniform", (0.1, 1.9)).pvalue > 0.001


def test_two_parts_of_a_batch_are_seen_as_in_the_whole():
    images = pictures(8)
    whole = view(batch(images), LOOK, 16)
    parts = [view(batch(images[4 * part : 4 * part + 4], part=part, parts=2), LOOK, 16) for part in range(2)]
    assert torch.equal(torch.cat(parts), whole)
    assert torch.equal(view(batch(images), LOOK, 16), whole) and not torch.equal(
        view(batch(images, 1), LOOK, 16), whole
    )


@pytest.mark.parametrize(("size", "side"), [(6, 3), (8, 4), (64, 32), (128, 128)])
def test_views_are_images_of_the_side_and_precision_asked_for(size, side):
    for images in (torch.rand(4, 3, size, size), torch.zeros(4, 3, size, size), torch.ones(4, 3, size, size).double()):
        before = images.clone()
        seen = view(batch(images), LOOK, side)
        assert seen.shape == (4, 3, side, side) and seen.dtype == images.dtype and torch.equal(images, before)
        assert seen.min() >= 0 and seen.max() <= 1 + 1e-6
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(view(batch(images), LOOK, side), seen)
