"""Colorization as a proxy: hue by the standard library, histograms and losses by hand, a network that sees grey."""

import colorsys
import math

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates
from scipy.special import rel_entr
from torchvision.models import vgg16

from mdebench.baselines.colorization_proxy import (
    BINS,
    VGG,
    Method,
    Settings,
    annealing,
    divergence,
    histograms,
    hue_chroma,
)
from mdebench.errors import UserError
from mdebench.methods.contract import Batch
from mdebench.training.trainer import optimizer_of

SIZE = 32


def batch(x, seed=0, part=0, parts=1):
    generator = torch.Generator().manual_seed(seed)
    return Batch(x, torch.arange(len(x)), 0, 0, 0, generator, 10, part, parts)


def images(n=2, size=SIZE, dtype=torch.float64):
    return torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(3), dtype=dtype)


def method(size=SIZE, **values):
    torch.manual_seed(0)
    return Method(Settings(**({"width": 4, "code": 8, "positions": 20} | values)), size).eval()


# Colour


def test_hue_and_chroma_are_those_of_hsv():
    x = torch.cat([images(1, 16), torch.tensor([0.0, 0.5, 1.0]).double()[torch.randint(3, (1, 3, 16, 16))]])
    hue, chroma = hue_chroma(x)
    for n, y, z in np.ndindex(2, 16, 16):
        r, g, b = x[n, :, y, z].tolist()
        expected, saturation, value = colorsys.rgb_to_hsv(r, g, b)
        assert hue[n, y, z].item() == pytest.approx(expected, abs=1e-9)
        assert chroma[n, y, z].item() == pytest.approx(saturation * value, abs=1e-9)
    hue, chroma = hue_chroma(torch.full((1, 3, 4, 4), 0.3))
    assert (hue == 0).all() and (chroma == 0).all()


def test_histograms_are_shares_of_the_window_and_end_with_the_image():
    values = torch.rand(1, 9, 10, dtype=torch.float64)
    values[0, 0, 0] = 1
    found = histograms(values)
    assert found.shape == (1, BINS, 9, 10)
    for y, x in ((0, 0), (4, 5), (8, 2), (1, 9)):
        window = values[0, max(0, y - 3) : y + 4, max(0, x - 3) : x + 4].flatten().numpy()
        counts, _ = np.histogram(window, bins=BINS, range=(0, 1))
        np.testing.assert_allclose(found[0, :, y, x], counts / len(window))


def test_the_divergence_is_scipys():
    target = torch.rand(2, 3, 5, dtype=torch.float64)
    target[..., 0] = 0
    target /= target.sum(dim=2, keepdim=True)
    logits = torch.randn(2, 3, 5, dtype=torch.float64)
    expected = rel_entr(target.numpy(), logits.softmax(dim=2).numpy()).sum(axis=2)
    np.testing.assert_allclose(divergence(target, logits), expected)
    assert divergence(target[..., 1:], target[..., 1:].log()).abs().max() < 1e-12


# Hypercolumns


def test_a_hypercolumn_reads_each_map_where_the_pixels_centre_lies():
    m, x = method(), images(1)
    places = torch.tensor([[[0, 0], [31, 31], [5, 20], [16, 7]]])
    maps = m.network(m.seen(x.float()))
    columns = m.columns(x.float(), places)
    assert columns.shape == (1, 4, m.network.channels) and [each.shape[3] for each in maps[:1]] == [SIZE]
    assert sorted({each.shape[3] for each in maps}) == [4, 8, 16, 32]
    for n, (row, column) in enumerate(places[0].tolist()):
        expected = []
        for each in maps:
            scale = SIZE / each.shape[3]
            where = [[(row + 0.5) / scale - 0.5], [(column + 0.5) / scale - 0.5]]
            expected += [map_coordinates(c, where, order=1, mode="nearest")[0] for c in each[0].detach().numpy()]
        np.testing.assert_allclose(columns[0, n].detach(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("backbone", ["native", "mde"])
def test_the_network_sees_grey_alone(backbone):
    m, x = method(backbone=backbone).double(), images(2).requires_grad_()
    for found in (m.encode(x), *m.stages(x).values(), m.columns(x, torch.randint(SIZE, (2, 5, 2)))):
        weights = torch.rand_like(found)  # the sum of a normalised map may not move at all
        (slope,) = torch.autograd.grad((weights * found).sum(), x, retain_graph=True)
        assert slope.abs().sum() > 0
        torch.testing.assert_close(slope, slope.mean(dim=1, keepdim=True).expand_as(slope))
    turned = x.detach().roll(1, dims=1)  # red, green and blue change places: other hues, the same grey
    torch.testing.assert_close(m.encode(turned), m.encode(x.detach()))
    assert m.loss("network", batch(turned)).parts["hue"] != m.loss("network", batch(x.detach())).parts["hue"]


def test_parameters_at_full_width_are_vgg16s():
    with torch.device("meta"):
        net = VGG(96, Settings(width=64, code=4096))
        theirs = [p for p in vgg16(init_weights=False).features.parameters() if p.ndim == 4]
    ours = list(net.stages.parameters())
    assert [p.shape for p in ours[1:]] == [p.shape for p in theirs[1:]] and ours[0].shape == (64, 1, 3, 3)
    assert net.channels == 12_417 and net.feature_dim == 512 * 9 + 4096  # the hypercolumn of the paper of 2016


@pytest.mark.parametrize("size, last", [(8, 4), (24, 3), (64, 4), (96, 3)])
def test_stages_are_cut_to_the_size(size, last):
    m = method(size, width=1)
    with torch.no_grad():
        maps = list(m.stages(images(2, size, torch.float32)).values())
        assert m.encode(images(2, size, torch.float32)).shape == (2, m.feature_dim)
    assert maps[-1].shape == (2, 8, last, last) == (2, 8, *maps[-2].shape[2:]) and maps[0].shape[3] == size // 2


# Loss


def test_the_loss_by_hand():
    m, x = method().double(), images()
    x[0, :, :16] = 0  # black: no colour is asked for
    x[1, :, :, :16] = 0.7  # grey: no hue
    loss = m.loss("network", batch(x))
    places = torch.randint(SIZE, (2, 20, 2), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = m.to_bins(m.hidden(m.columns(x, places)).clamp(min=0))
    hues, chromas = (histograms(each) for each in hue_chroma(x))
    total = {"hue": 0.0, "chroma": 0.0}
    for n in range(2):
        for p, (row, column) in enumerate(places[n].tolist()):
            red, green, blue = x[n, :, row, column].tolist()
            chances = logits[n, p].view(2, BINS).softmax(dim=1)
            divergences = [
                rel_entr(target[n, :, row, column].numpy(), chance.numpy()).sum()
                for target, chance in zip((hues, chromas), chances)
            ]
            light = (red + green + blue) / 3
            total["hue"] += (max(red, green, blue) - min(red, green, blue)) * divergences[0] / 40
            total["chroma"] += min(1, 3 * light, 3 * (1 - light)) * divergences[1] / 40
    assert {name: part.item() for name, part in loss.parts.items()} == pytest.approx(total)
    assert loss.total.item() == pytest.approx(5 * total["hue"] + total["chroma"])


@pytest.mark.parametrize("colour", [0.0, 1.0])
@pytest.mark.parametrize("backbone", ["native", "mde"])
def test_black_and_white_have_no_colour_to_learn(backbone, colour):
    m = method(backbone=backbone).train()
    loss = m.loss("network", batch(torch.full((2, 3, SIZE, SIZE), colour)))
    loss.total.backward()
    assert loss.total == 0 and all(p.grad.isfinite().all() for p in m.parameters())


@pytest.mark.parametrize("backbone", ["native", "mde"])
def test_every_weight_learns_and_colours_are_learnt(backbone):
    m, x = method(16, width=8, positions=128, backbone=backbone).train(), images(4, 4, torch.float32)
    x = torch.nn.functional.interpolate(x, 16)
    optimizer = optimizer_of(m.players()["network"], False)
    losses = []
    for step in range(40):
        loss = m.loss("network", batch(x, step))
        optimizer.zero_grad()
        loss.total.backward()
        if not step:
            assert all(p.grad.abs().sum() > 0 for p in m.parameters())
        optimizer.step()
        losses.append(loss.total.item())
    assert np.mean(losses[-3:]) < 0.75 * losses[0]


def test_processes_draw_their_own_part_of_the_positions():
    m, x = method().double(), images(4)
    whole = m.loss("network", batch(x)).total
    parts = [m.loss("network", batch(x[2 * n : 2 * n + 2], 0, n, 2)).total for n in (0, 1)]
    assert whole.item() == pytest.approx((parts[0] + parts[1]).item() / 2) and parts[0] != parts[1]


def test_the_rate_falls_as_the_authors_let_it_fall():
    rates = [annealing(step / 2000) for step in (0, 999, 1000, 1499, 1500, 1749, 1750, 1999)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01, 0.001, 0.001])
    assert math.isclose(method().players()["network"].options["momentum"], 0.9)


def test_the_mdes_code_is_the_representation():
    m = method(backbone="mde", code=12)
    assert m.feature_dim == 12 and m.encode(images(2, SIZE, torch.float32)).shape == (2, 12)
    assert m.network.encoder.trunk.stages[0][0][0].in_channels == 1


def test_wrong_settings_are_named():
    with pytest.raises(UserError, match="native, mde"):
        Settings(backbone="vgg")
    with pytest.raises(UserError, match="choose a size"):
        method(40)
