"""The trivial rows: what each must be by its name, and the biharmonic fill against scikit-image's."""

import numpy as np
import pytest
import torch
from skimage.restoration import inpaint_biharmonic

from mdebench.baselines import biharmonic, constant, mean_colour, pixels
from mdebench.errors import UserError
from mdebench.methods.contract import Completes, Encodes


def build(module, size=32, **settings):
    return module.Method(module.Settings(**settings), size).eval()


def pictures(count=4, size=32, dtype=torch.float64):
    rng = np.random.default_rng(4)
    phase = rng.random((count, 3, 1, 1)) * 6
    y, x = np.mgrid[:size, :size]
    waves = 0.5 + 0.3 * np.sin(x / 5 + phase) * np.cos(y / 7 + phase) + rng.normal(0, 0.05, (count, 3, size, size))
    return torch.tensor(np.clip(waves, 0, 1), dtype=dtype)


HOLES = {
    "inside": (slice(10, 20), slice(8, 25)),
    "edge": (slice(12, 22), slice(25, 32)),
    "corner": (slice(0, 9), slice(0, 9)),
    "one short of the edge": (slice(1, 12), slice(5, 20)),
    "a band across": (slice(14, 20), slice(0, 32)),
    "one pixel": (slice(16, 17), slice(16, 17)),
}


def with_hole(*regions, size=32):
    seen = torch.ones(1, 1, size, size, dtype=torch.float64)
    for rows, columns in regions:
        seen[..., rows, columns] = 0
    return seen


@pytest.mark.parametrize("module", [constant, pixels, mean_colour, biharmonic])
def test_references_do_one_thing_and_need_no_training(module):
    method = build(module)
    assert method.REFERENCE
    assert not method.players()
    assert isinstance(method, Completes) or (isinstance(method, Encodes) and method.feature_dim > 0)
    assert hasattr(method, "encode") == (module in (constant, pixels))
    assert hasattr(method, "complete") == (module in (mean_colour, biharmonic))


def test_constant_says_nothing():
    codes = build(constant).encode(pictures(dtype=torch.float32))
    assert torch.equal(codes, torch.ones(4, 1))


@pytest.mark.parametrize("size", [64, 96])
def test_pixels_are_the_image_at_21(size):
    method = build(pixels, size)
    assert method.feature_dim == 1323
    x = torch.linspace(0, 1, size).expand(2, 3, size, size)
    small = method.encode(x).reshape(2, 3, 21, 21)
    expected = (torch.arange(21) + 0.5) / 21  # a ramp shrinks to a ramp, off its ends
    torch.testing.assert_close(small[1, 2, 5, 2:-2], ((expected * size - 0.5) / (size - 1))[2:-2], atol=1e-3, rtol=0)


def test_pixels_average_what_they_cannot_resolve():
    board = (torch.arange(84)[:, None] + torch.arange(84)) % 2
    codes = build(pixels, 84).encode(board.expand(1, 3, 84, 84).float())
    torch.testing.assert_close(codes, torch.full_like(codes, 0.5), atol=0.02, rtol=0)


def test_a_shrunk_image_has_pixels():
    with pytest.raises(UserError):
        pixels.Settings(side=0)


def test_mean_colour_is_that_of_the_seen_pixels():
    images, seen = pictures(), with_hole(HOLES["inside"])
    filled = build(mean_colour).complete(images * seen, seen)
    rows, columns = HOLES["inside"]
    for i in range(4):
        for c in range(3):
            expected = images[i, c][seen[0, 0] == 1].mean()
            torch.testing.assert_close(filled[i, c, rows, columns], expected.expand(10, 17))
    assert torch.equal((filled * seen), images * seen)


@pytest.mark.parametrize("module", [mean_colour, biharmonic])
def test_an_unseen_channel_or_image_is_grey(module):
    images, seen = pictures(3), torch.ones(3, 3, 32, 32, dtype=torch.float64)
    seen[0, 1] = 0
    seen[1] = 0
    filled = build(module).complete(images * seen, seen)
    torch.testing.assert_close(filled[0, 1], images[0, [0, 2]].mean().expand(32, 32))
    assert (filled[1] == 0.5).all()
    torch.testing.assert_close(filled[2], images[2])


@pytest.mark.parametrize("names", [[name] for name in HOLES] + [["corner", "edge", "one pixel"]])
def test_biharmonic_is_scikit_images(names):
    images, seen = pictures(), with_hole(*(HOLES[name] for name in names))
    filled = build(biharmonic).complete(images * seen, seen)
    mask = seen[0, 0].numpy() == 0
    for ours, image in zip(filled, images, strict=True):
        reference = inpaint_biharmonic(image.numpy(), mask, channel_axis=0)
        np.testing.assert_allclose(ours.numpy(), reference, atol=1e-6)


def test_biharmonic_of_float32_images_is_solved_in_float64():
    """In float32 a hole of this size is off by 1e-4 and more, as scikit-image's is for such images."""
    hole = (slice(32, 96), slice(32, 96))
    images, seen = pictures(1, 128, torch.float32), with_hole(hole, size=128).float()
    reference = inpaint_biharmonic(images[0].double().numpy(), seen[0, 0].numpy() == 0, channel_axis=0)
    np.testing.assert_allclose(build(biharmonic, 128).complete(images * seen, seen)[0].numpy(), reference, atol=1e-6)


def test_biharmonic_serves_a_mask_for_each_channel_and_keeps_what_is_seen():
    images = pictures()
    seen = torch.tensor(np.random.default_rng(0).random((4, 3, 32, 32)) < 0.7, dtype=torch.float64)
    seen[1, 1, 3:20, 4:9] = 0
    filled = build(biharmonic).complete(images * seen, seen)
    assert torch.equal(filled[seen == 1], images[seen == 1])
    for i in range(4):
        for c in range(3):
            reference = inpaint_biharmonic(images[i, c].numpy(), seen[i, c].numpy() == 0)
            np.testing.assert_allclose(filled[i, c].numpy(), reference, atol=1e-6)


def test_biharmonic_carries_a_ramp_across():
    """A plane has no second differences, so off the image's edge it comes back as it was."""
    ramp = torch.linspace(0.2, 0.8, 32, dtype=torch.float64).expand(1, 3, 32, 32)
    seen = with_hole(HOLES["inside"])
    torch.testing.assert_close(build(biharmonic).complete(ramp * seen, seen), ramp)


def test_completions_are_of_the_images_kind():
    images = pictures(dtype=torch.float32)
    seen = with_hole(HOLES["edge"]).float()
    for module in (mean_colour, biharmonic):
        filled = build(module).complete(images * seen, seen)
        assert filled.dtype == torch.float32
        assert filled.aminmax().min >= 0
        assert filled.aminmax().max <= 1
