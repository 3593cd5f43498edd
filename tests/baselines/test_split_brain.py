"""Split-brain: Lab against scikit-image, the bins against every colour, losses by hand, two halves that never meet."""

import math

import numpy as np
import pytest
import torch
from skimage.color import rgb2lab

from mdebench.baselines import split_brain
from mdebench.baselines._colour import AB_BINS, ab_bin, ab_bins, rgb_to_lab
from mdebench.baselines.split_brain import Half, Method, Settings
from mdebench.errors import UserError
from mdebench.methods.contract import Batch

SIZE = 32


def batch(n=2, size=SIZE, dtype=torch.float64):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(n, 3, size, size, generator=generator, dtype=dtype)
    return Batch(images, torch.arange(n), 0, 0, 0, generator, 10)


def method(size=SIZE, **values):
    torch.manual_seed(0)
    return Method(Settings(**({"width": 4, "code": 16} | values)), size).eval()


def cube(step):
    """Every colour whose 8-bit levels are multiples of ``step``: (n, 3) in [0, 1]."""
    level = np.arange(0, 256, step) / 255
    return np.stack(np.meshgrid(level, level, level), axis=-1).reshape(-1, 3)


def as_image(colours):
    """(n, 3) → (1, 3, n, 1)."""
    return torch.from_numpy(colours).T[None, :, :, None]


def by_skimage(images):
    """(N, 3, H, W) → Lab, (N, 3, H, W) float64."""
    return rgb2lab(images.double().numpy(), channel_axis=1)


# Colour


def test_lab_is_scikit_images():
    colours = np.concatenate([cube(15), np.full((1, 3), 1e-4), np.random.default_rng(0).random((500, 3)) / 20])
    images = as_image(colours)
    for dtype in (torch.float32, torch.float64):
        torch.testing.assert_close(
            rgb_to_lab(images.to(dtype)).double(), torch.tensor(by_skimage(images)), rtol=0, atol=1e-3
        )


def test_lab_is_as_exact_in_mixed_precision_and_has_a_slope_at_black():
    images = batch(dtype=torch.float32).images
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(rgb_to_lab(images), rgb_to_lab(images.clone()).float())
        mixed = rgb_to_lab(images)
    assert mixed.dtype == torch.float32 and torch.equal(mixed, rgb_to_lab(images))
    black = torch.zeros(1, 3, 1, 1, requires_grad=True)
    rgb_to_lab(black).sum().backward()
    assert black.grad.isfinite().all()


def test_the_bins_are_the_cells_that_sRGB_colours_fall_into():
    """A third of the levels of each channel, the whole solid: not the faces alone, and not by our own conversion."""
    bins, _ = ab_bins()
    cells = {(a, b) for a, b in np.round(rgb2lab(cube(3))[:, 1:] / 10) * 10}
    assert len(bins) == AB_BINS and cells <= {(a, b) for a, b in bins.tolist()}
    assert len(cells) == AB_BINS


def test_every_colour_in_gamut_is_given_its_nearest_bin():
    bins, nearest = ab_bins()
    ab = rgb_to_lab(as_image(cube(17)))[:, 1:]
    chosen = ab_bin(ab, nearest).flatten()
    points = ab[0, :, :, 0].T
    assert torch.equal(chosen, torch.cdist(points, bins).argmin(dim=1))
    assert (points - bins[chosen]).abs().max() <= 5
    assert len(chosen.unique()) > 200


def test_a_cell_out_of_gamut_has_the_nearest_bin_and_a_bin_has_itself():
    bins, nearest = ab_bins()
    assert torch.equal(ab_bin(bins.T[None, :, :, None], nearest).flatten(), torch.arange(AB_BINS))
    for a, b in ((-110.0, -110.0), (110.0, 110.0), (-90.0, 0.0)):
        chosen = ab_bin(torch.tensor([a, b])[None, :, None, None], nearest).item()
        distance = [math.hypot(a - x, b - y) for x, y in bins.tolist()]
        assert distance[chosen] == min(distance)


# Network


def test_parameters_at_full_width_by_hand():
    m = method(64, width=64, code=4096)
    shared = 25 * 48 * 128 + 9 * 128 * 192 + 9 * 192 * 192 + 9 * 192 * 128 + 36 * 128 * 2048 + 2048 * 2048
    to_ab = 25 * 1 * 48 + shared + 2049 * 261
    to_light = 25 * 2 * 48 + shared + 2049 * 100
    assert [sum(p.numel() for p in half.parameters()) for half in (m.to_ab, m.to_light)] == [to_ab, to_light]
    assert to_ab + to_light == 29_861_753
    assert m.feature_dim == 256 * 4 * 4 + 4096


@pytest.mark.parametrize("size, last", [(32, 4), (64, 8), (96, 12)])
def test_maps_shrink_to_an_eighth_and_hold_both_halves(size, last):
    m, images = method(size), torch.rand(2, 3, size, size)
    sides = [size // 2, size // 4, last, last, last]
    widths = [4, 8, 12, 12, 8]  # of one half
    with torch.no_grad():
        maps = m.stages(images)
        assert [tuple(x.shape) for x in maps.values()] == [(2, 2 * w, s, s) for w, s in zip(widths, sides)]
        assert m.to_ab(images[:, :1]).shape == (2, AB_BINS, last, last)
        assert m.to_light(images[:, 1:]).shape == (2, 100, last, last)
        assert m.encode(images).shape == (2, m.feature_dim) and m.feature_dim == 2 * (8 * 16 + 8)


def test_a_position_is_centred_on_the_pixel_that_it_predicts():
    """What conv3 sees from the fifth position of eight: 24 pixels to either side of pixel 32."""
    half = method(64).to_ab
    images = torch.rand(16, 1, 64, 64, requires_grad=True)
    half.maps(images)[2][:, :, 4, 4].sum().backward()
    rows = images.grad.abs().sum(dim=(0, 1, 3)).nonzero().flatten()
    columns = images.grad.abs().sum(dim=(0, 1, 2)).nonzero().flatten()
    assert [rows.min(), rows.max(), columns.min(), columns.max()] == [32 - 24, 32 + 24] * 2


@pytest.mark.parametrize("backbone", ["native", "mde"])
def test_no_half_sees_what_it_predicts(backbone, monkeypatch):
    monkeypatch.setattr(split_brain, "rgb_to_lab", lambda lab: lab)
    m = method(backbone=backbone)
    lab = (torch.rand(2, 3, SIZE, SIZE) * 50).requires_grad_()
    maps = [x for stage in m.stages(lab).values() for x in stage.chunk(2, dim=1)]
    to_ab, to_light = m.encode(lab).chunk(2, dim=1)
    for from_light, from_ab in [(to_ab, to_light), *zip(maps[::2], maps[1::2])]:
        (slope,) = torch.autograd.grad(from_light.sum(), lab, retain_graph=True)
        assert slope[:, :1].abs().sum() > 0 and (slope[:, 1:] == 0).all()
        (slope,) = torch.autograd.grad(from_ab.sum(), lab, retain_graph=True)
        assert slope[:, 1:].abs().sum() > 0 and (slope[:, :1] == 0).all()


# Losses


def positions(m, b):
    """Per position: the logits or values of either half, and the Lab of the pixel it predicts, by scikit-image."""
    lab = by_skimage(b.images)
    scaled = (torch.from_numpy(lab) - torch.tensor([50.0, 0, 0])[:, None, None]) / 50
    with torch.no_grad():
        light, ab = m.to_light(scaled[:, 1:]), m.to_ab(scaled[:, :1])
    stride = SIZE // light.shape[-1]
    for n in range(len(lab)):
        for y in range(light.shape[2]):
            for x in range(light.shape[3]):
                yield light[n, :, y, x].tolist(), ab[n, :, y, x].tolist(), lab[n, :, y * stride, x * stride].tolist()


def cross_entropy(logits, right):
    return math.log(sum(math.exp(z) for z in logits)) - logits[right]


def test_classification_is_the_mean_cross_entropy_of_the_right_bins():
    m, b = method().double(), batch()
    b.images[:, :, 0, 0] = torch.tensor([[1.0] * 3, [0.0] * 3])  # white and black: the last and the first bin of L
    bins = ab_bins()[0].tolist()
    parts = {"L": [], "ab": []}
    for light, ab, (L, a, b_) in positions(m, b):
        parts["L"].append(cross_entropy(light, min(int(L + 1e-9), 99)))
        parts["ab"].append(
            cross_entropy(ab, min(range(AB_BINS), key=lambda i: math.hypot(a - bins[i][0], b_ - bins[i][1])))
        )
    total, found = m.loss("network", b)
    assert {k: v.item() for k, v in found.items()} == pytest.approx({k: np.mean(v) for k, v in parts.items()}, rel=1e-4)
    assert total.item() == pytest.approx(found["L"].item() + found["ab"].item())


def test_regression_is_half_the_squared_distance():
    m, b = method(objective="regression").double(), batch()
    parts = {"L": [], "ab": []}
    for (light,), ab, (L, *true_ab) in positions(m, b):
        parts["L"].append((light - (L - 50) / 50) ** 2 / 2)
        parts["ab"].append(sum((p - t / 50) ** 2 for p, t in zip(ab, true_ab)) / 2)
    found = m.loss("network", b).parts
    assert m.losses == "regression"
    assert {k: v.item() for k, v in found.items()} == pytest.approx({k: np.mean(v) for k, v in parts.items()}, rel=1e-3)


@pytest.mark.parametrize("backbone", ["native", "mde"])
@pytest.mark.parametrize("objective", ["classification", "regression"])
def test_each_half_learns_from_its_own_part(objective, backbone):
    m, b = method(objective=objective, backbone=backbone), batch(dtype=torch.float32)
    for part, learns, does_not in (("ab", m.to_ab, m.to_light), ("L", m.to_light, m.to_ab)):
        m.zero_grad()
        m.loss("network", b).parts[part].backward()
        assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in learns.parameters())
        assert all(p.grad is None for p in does_not.parameters())


@pytest.mark.parametrize("objective", ["classification", "regression"])
def test_a_fixed_batch_is_learned(objective):
    m, b = method(16, width=8, code=64, objective=objective).train(), batch(4, 16, torch.float32)
    optimizer = torch.optim.Adam(m.players()["network"].parameters, 3e-3)
    losses = []
    for _ in range(40):
        loss = m.loss("network", b)
        optimizer.zero_grad()
        loss.total.backward()
        optimizer.step()
        losses.append(loss.parts)
    for part in ("L", "ab"):
        assert losses[-1][part] < 0.5 * losses[0][part]


# Settings


def test_the_rate_falls_as_the_authors_let_it_fall():
    player = method().players()["network"]
    rates = [player.lr * player.schedule(step / 450) for step in (0, 239, 240, 299, 300, 399, 400, 449)]
    assert rates == pytest.approx([3e-5, 3e-5, 1e-5, 1e-5, 3e-6, 3e-6, 1e-6, 1e-6])


def test_the_mdes_share_width_and_code():
    m = method(backbone="mde", width=16, code=32)
    assert m.feature_dim == 32 and m.to_ab.feature_dim == 16
    assert m.to_ab(torch.rand(2, 1, SIZE, SIZE)).shape == (2, AB_BINS, SIZE, SIZE)
    assert not isinstance(m.to_ab, Half) and m.stages(torch.rand(2, 3, SIZE, SIZE))["stage1"].shape[1] == 16


@pytest.mark.parametrize(
    "values, message",
    [
        ({"objective": "classify"}, "Did you mean 'classification'"),
        ({"backbone": "timm"}, "native, mde"),
        ({"code": 7}, "even"),
        ({"pool": 0}, "at least 1"),
    ],
)
def test_wrong_settings_are_named(values, message):
    with pytest.raises(UserError, match=message):
        Settings(**values)
