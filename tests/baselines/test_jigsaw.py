"""Jigsaw: how far apart the orders are, where tiles are taken, what is lost of them, and what is asked."""

import math
from dataclasses import replace

import pytest
import torch
from scipy.spatial.distance import pdist

from mdebench.baselines import jigsaw
from mdebench.baselines.jigsaw import Method, Settings, orders
from mdebench.errors import UserError
from mdebench.methods.contract import Batch

SIZE = 32


def batch(n=2, size=SIZE, dtype=torch.float64, step=0, images=None):
    generator = torch.Generator().manual_seed(step)
    images = torch.rand(n, 3, size, size, generator=generator, dtype=dtype) if images is None else images
    return Batch(images, torch.arange(len(images)), step, 0, 0, generator, 10)


def method(size=SIZE, **values):
    torch.manual_seed(0)
    return Method(Settings(**({"width": 4, "code": 64, "permutations": 20} | values)), size)


@pytest.mark.parametrize("count, least", [(504, 7), (1000, 6), (1512, 6)])
def test_any_two_orders_differ_in_as_many_places_as_is_said(count, least):
    found = orders(count)
    assert found.shape == (count, 9) and torch.equal(found.sort(dim=1).values, torch.arange(9).expand(count, 9))
    distances = 9 * pdist(found.numpy(), "hamming")
    assert round(distances.min()) == least and distances.mean() == pytest.approx(8.0, abs=0.02)
    assert torch.equal(found[0], torch.arange(9))


def test_few_orders_are_the_first_of_many_and_even():
    """Each tile stands about as often at each place: at most 1 in 4 of the times in 50 orders, all alike in 504."""
    assert torch.equal(orders(50), orders(1512)[:50])
    for count, most in ((50, 13), (504, 56)):
        places = torch.stack([(orders(count) == tile).sum(dim=0) for tile in range(9)])
        assert places.max() <= most
    assert places.min() == 56


def test_the_settings_say_how_many_orders_and_how_many_there_are():
    assert Settings().permutations == 1000
    for wrong in (1, 1513):
        with pytest.raises(UserError, match="from 2 to 1,512"):
            Settings(permutations=wrong)
    with pytest.raises(UserError, match="at least 4"):
        Settings(code=3)
    with pytest.raises(UserError, match="native, mde"):
        Settings(backbone="timm")
    with pytest.raises(UserError, match="--size 16 or more"):
        method(12)


@pytest.mark.parametrize("size, side, cell", [(16, 4, 5), (32, 8, 10), (64, 16, 21), (96, 24, 32)])
def test_tiles_are_taken_anywhere_in_their_cells_their_channels_apart(size, side, cell, monkeypatch):
    """Told by images whose values are their places."""
    monkeypatch.setattr(jigsaw, "normalise", lambda tiles: tiles)
    m, tiles = method(size, grey=0.0), []
    for axis in range(2):
        place = torch.arange(float(size)).unflatten(0, (-1, 1) if axis == 0 else (1, -1)).expand(size, size)
        tiles.append(m.draw_tiles(batch(images=place.expand(300, 3, size, size))))
    tiles = torch.stack(tiles, dim=-1)
    assert tiles.shape == (300, 9, 3, side, side, 2) and (m.side, m.cell) == (side, cell)
    offset = tiles[:, :, :, 0, 0].unflatten(1, (3, 3))  # of each channel of each tile: row, column
    first = torch.stack(torch.meshgrid(torch.arange(3), torch.arange(3), indexing="ij"), dim=-1)
    offset = offset - cell * first[:, :, None]
    assert set(offset.flatten().tolist()) == set(range(size - 3 * side - 2 * (cell - side) + 1))
    apart = offset.amax(dim=3) - offset.amin(dim=3)
    assert set(apart.flatten().tolist()) == {0, 1}
    # In an image's own grid a tile and its channels keep to their cell.
    assert (offset.amax(dim=(1, 2, 3)) - offset.amin(dim=(1, 2, 3)) <= cell - side).all()


def test_a_share_of_the_images_is_grey(monkeypatch):
    monkeypatch.setattr(jigsaw, "normalise", lambda tiles: tiles)
    monkeypatch.setattr(jigsaw, "SHIFT", 0)
    images = torch.rand(400, 3, SIZE, SIZE)
    tiles = method(grey=0.3).draw_tiles(batch(images=images))
    grey = ((tiles - tiles[:, :, :1]).abs().amax(dim=(1, 2, 3, 4)) < 1e-6).float()
    assert grey.mean().item() == pytest.approx(0.3, abs=0.07)
    assert method(grey=0.0).draw_tiles(batch(images=images)).diff(dim=2).abs().amax(dim=(1, 2, 3, 4)).min() > 0.1


def test_the_loss_is_the_mean_cross_entropy_of_the_order_that_was_shown():
    m, one = method().double().eval(), batch(4)
    drawing = batch(4).generator
    label = torch.randint(20, (4,), generator=drawing)
    tiles = m.draw_tiles(replace(one, generator=drawing))
    with torch.no_grad():
        total, parts = m.loss("network", batch(4))
        errors = []
        for n in range(4):
            codes = [m.network(tiles[n, tile][None])[0] for tile in orders(20)[label[n]].tolist()]
            logits = m.order(torch.cat(codes)[None])[0].tolist()
            errors.append(math.log(sum(map(math.exp, logits))) - logits[label[n]])
    assert total.item() == pytest.approx(sum(errors) / 4) and parts == {"order": total}
    assert m.losses == "order" and m.family(m.settings) == "context"


def test_processes_share_what_is_drawn():
    m, whole = method(), batch(4)
    expected = m.draw_tiles(whole)
    for part in range(2):
        own = replace(batch(4), images=whole.images[2 * part : 2 * part + 2], part=part, parts=2)
        torch.testing.assert_close(m.draw_tiles(own), expected[2 * part : 2 * part + 2])


@pytest.mark.parametrize("backbone", ["native", "mde"])
def test_a_picture_is_learned_in_every_order(backbone):
    m = method(backbone=backbone).train()
    corners = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    images = torch.nn.functional.interpolate(corners, SIZE, mode="bicubic").expand(8, -1, -1, -1)
    optimizer = torch.optim.Adam(m.players()["network"].parameters, 3e-3)
    losses = []
    for step in range(80):
        loss = m.loss("network", batch(step=step, images=images)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-10:]) / 10 < 0.6 * math.log(20)
