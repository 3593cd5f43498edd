"""Relative position: the pairs and their labels, what patches are given, and that a lens does not give them away."""

import math
from dataclasses import replace

import pytest
import torch

from mdebench.baselines import relative_position
from mdebench.baselines.relative_position import AROUND, PAIRS, Method, Settings, dropped, pixelate, projected
from mdebench.errors import UserError
from mdebench.methods.contract import Batch

SIZE = 32


def batch(n=2, size=SIZE, dtype=torch.float64, step=0, images=None):
    generator = torch.Generator().manual_seed(step)
    images = torch.rand(n, 3, size, size, generator=generator, dtype=dtype) if images is None else images
    return Batch(images, torch.arange(len(images)), step, 0, 0, generator, 10)


def method(size=SIZE, **values):
    torch.manual_seed(0)
    return Method(Settings(**({"width": 4, "code": 32} | values)), size)


def test_pairs_are_all_neighbours_of_the_grid_labelled_as_the_authors_do():
    """Theirs (pos2lbl): 0 1 2 above, 3 4 beside, 5 6 7 below; each pair in both orders, with opposite labels."""
    grid = [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    label = {(-1, -1): 0, (-1, 0): 1, (-1, 1): 2, (0, -1): 3, (0, 1): 4, (1, -1): 5, (1, 0): 6, (1, 1): 7}
    expected = {
        (grid[y][x], grid[y + dy][x + dx], which)
        for y in range(3)
        for x in range(3)
        for (dy, dx), which in label.items()
        if 0 <= y + dy < 3 and 0 <= x + dx < 3
    }
    assert set(PAIRS) == expected and len(PAIRS) == len(expected) == 40
    assert all((second, first, 7 - which) in expected for first, second, which in expected)
    assert len(AROUND) == 8


@pytest.mark.parametrize("size, side, gap, jitter", [(24, 6, 3, 0), (32, 8, 3, 1), (64, 16, 7, 1), (96, 24, 10, 2)])
def test_patches_lie_in_a_grid_with_gaps_and_jitter(size, side, gap, jitter, monkeypatch):
    """Told by images whose values are their places: each patch starts where the grid has it, and a little off."""
    m = method(size, colour="keep")
    assert (m.side, m.gap, m.jitter) == (side, gap, jitter)
    monkeypatch.setattr(relative_position, "normalise", lambda patches: patches)
    monkeypatch.setattr(relative_position, "PIXELATED", 0)
    y, x = torch.meshgrid(torch.arange(float(size)), torch.arange(float(size)), indexing="ij")
    patches = m.draw_patches(batch(images=torch.stack([y, x, y]).expand(200, 3, size, size)))
    assert patches.shape == (200, 9, 3, side, side)
    offset = patches[:, :, :2, 0, 0].unflatten(1, (3, 3))  # of each patch in the grid: row, column
    offset = offset - (side + gap) * torch.stack(torch.meshgrid(torch.arange(3), torch.arange(3), indexing="ij"), -1)
    assert set(offset.flatten().tolist()) == set(range(2 * jitter + 1))
    assert 2 * (side + gap) + 2 * jitter + side in (size, size - 1) and gap > 2 * jitter
    axes = offset.flatten(0, 2).T  # row and column move by themselves
    assert jitter == 0 or torch.corrcoef(axes)[0, 1].abs() < 0.1


def test_dropping_leaves_one_channel_and_noise_of_a_hundredth():
    patches = torch.rand(60, 9, 3, 12, 12, dtype=torch.float64)
    drawn, noise = torch.rand(60, 9), torch.randn(60, 9, 3, 12, 12, dtype=torch.float64)
    left = dropped(patches, drawn, noise)
    same = (left == patches).all(dim=(3, 4))
    assert (same.sum(dim=2) == 1).all() and torch.equal(same.int().argmax(dim=2), (3 * drawn).long())
    assert same.float().mean(dim=(0, 1)).sub(1 / 3).abs().max() < 0.1
    for n, t in ((n, t) for n in range(3) for t in range(9)):
        kept = int(same[n, t].int().argmax())
        for channel in {0, 1, 2} - {kept}:
            deviation = patches[n, t, kept].std(correction=0)
            expected = patches[n, t, kept].mean() + 0.01 * deviation * noise[n, t, channel]
            torch.testing.assert_close(left[n, t, channel], expected)


def test_nothing_of_a_dropped_channel_reaches_the_network():
    m, one = method(colour="drop"), batch()
    images = one.images.clone().requires_grad_()
    patches = m.draw_patches(replace(one, images=images, generator=torch.Generator().manual_seed(1)))
    for n, t in ((0, 0), (1, 4), (0, 8)):
        (slope,) = torch.autograd.grad(patches[n, t].pow(3).sum(), images, retain_graph=True)
        assert (slope[n].abs().sum(dim=(1, 2)) > 0).sum() == 1


def test_projection_takes_green_against_magenta_away_and_nothing_else():
    colours = torch.rand(1, 3, 5, 5, dtype=torch.float64)
    left = projected(colours)
    axis = torch.tensor([-1.0, 2, -1], dtype=torch.float64)[None, :, None, None]
    torch.testing.assert_close((left * axis).sum(dim=1), torch.zeros(1, 5, 5, dtype=torch.float64))
    torch.testing.assert_close(projected(left), left)
    torch.testing.assert_close(colours - left, axis * (colours * axis).sum(dim=1, keepdim=True) / 6)
    grey = colours[:, :1].expand_as(colours)
    torch.testing.assert_close(projected(grey), grey)
    matrix = torch.tensor([[5.0, 2, -1], [2, 2, 2], [-1, 2, 5]]) / 6  # the authors of jigsaw write it so, too
    with torch.autocast("cpu", torch.bfloat16):
        single = projected(colours.float())
    torch.testing.assert_close(single, torch.einsum("ij,njhw->nihw", matrix, colours.float()))
    # Where red and blue agree, as a lens leaves them, no difference between channels is left at all.
    lens = projected(torch.stack([colours[:, 0], colours[:, 1], colours[:, 0]], dim=1))
    torch.testing.assert_close(lens[:, 0], lens[:, 1])


def test_a_third_of_the_patches_is_shrunk_and_enlarged_again():
    patches = torch.rand(100, 9, 3, 24, 24)
    drawn = torch.rand(100, 9, 2, generator=torch.Generator().manual_seed(0))
    after = pixelate(patches, drawn)
    untouched = (after == patches).all(dim=(2, 3, 4))
    assert torch.equal(untouched, drawn[..., 0] >= 1 / 3)
    rough = after.diff(dim=-1).square().mean(dim=(2, 3, 4))[~untouched]
    pixels = drawn[..., 1][~untouched]
    assert rough[pixels < 0.1].mean() < rough[pixels > 0.9].mean() / 3
    least = pixelate(patches, torch.zeros(100, 9, 2))  # 10/96 of the side: 2 of 24 pixels, so a line from 5.5 to 17.5
    assert least.diff(dim=-1)[..., [0, 1, 2, 3, 4, 18, 19, 20, 21, 22]].abs().max() < 1e-6
    assert least[..., 6:18].diff(dim=-1).diff(dim=-1).abs().max() < 1e-6


def test_the_loss_is_the_mean_cross_entropy_over_pairs():
    m, one = method().double().eval(), batch(3)
    patches = m.draw_patches(batch(3))
    with torch.no_grad():
        errors = []
        for n in range(3):
            for first, second, label in PAIRS:
                code = m.network(patches[n, [first, second]])
                logits = m.pair(torch.cat([code[0], code[1]])[None])[0].tolist()
                errors.append(math.log(sum(map(math.exp, logits))) - logits[label])
        total, parts = m.loss("network", one)
    assert total.item() == pytest.approx(sum(errors) / 120) and parts == {"position": total}
    assert m.losses == "position" and m.family(m.settings) == "context"


def test_processes_share_what_is_drawn():
    whole = batch(4)
    m = method()
    expected = m.draw_patches(whole)
    for part in range(2):
        own = replace(batch(4), images=whole.images[2 * part : 2 * part + 2], part=part, parts=2)
        torch.testing.assert_close(m.draw_patches(own), expected[2 * part : 2 * part + 2])


def specks(n, step):
    """White specks anywhere, through a lens that shrinks green towards the middle: fringes tell the place, alone."""
    generator, axis = torch.Generator().manual_seed(step), torch.arange(SIZE) + 0.5
    place = (torch.rand(n, 85, 2, generator=generator) * 1.4 - 0.2) * SIZE
    channels = []
    for scale in (1, 0.88, 1):
        x, y = ((place - SIZE / 2) * scale + SIZE / 2)[..., None, None].unbind(2)
        channels.append((-((axis - x) ** 2 + (axis[:, None] - y) ** 2) / 0.7).exp().sum(dim=1).clamp(max=1))
    return torch.stack(channels, dim=1)


def learned(colour):
    """The loss on specks never seen before after 40 updates, the mean of the last ten."""
    m = method(colour=colour).train()
    optimizer = torch.optim.Adam(m.parameters(), 1e-2)
    losses = []
    for step in range(40):
        loss = m.loss("network", batch(step=step, images=specks(6, step))).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return sum(losses[-10:]) / 10


def test_chromatic_aberration_alone_solves_the_task_only_where_colour_is_kept():
    guess = -0.6 * math.log(6 / 40) - 0.4 * math.log(4 / 40)  # the best that knows nothing: 2.06
    assert learned("keep") < guess - 0.25
    assert learned("drop") > guess - 0.03 and learned("project") > guess - 0.03


@pytest.mark.parametrize("backbone", ["native", "mde"])
def test_a_picture_is_learned(backbone):
    m = method(backbone=backbone).train()
    corners = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    images = torch.nn.functional.interpolate(corners, SIZE, mode="bicubic").expand(8, -1, -1, -1)
    optimizer = torch.optim.Adam(m.players()["network"].parameters, 3e-3)
    losses = []
    for step in range(60):
        loss = m.loss("network", batch(step=step, images=images)).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) / 5 < 0.7 * losses[0]


def test_whole_images_are_shown_as_the_mean_of_their_channels_alone():
    """conv1 is linear: what it says of an image is the mean of what it says of each channel, as patches show it."""
    m = method(colour="drop").double().eval()
    images = torch.rand(1, 3, SIZE, SIZE, dtype=torch.float64)
    images = (images - images.mean(dim=(2, 3), keepdim=True)) / images.std(dim=(2, 3), keepdim=True, correction=0)
    first = m.network.stages[0][0]
    alone = [relative_position.normalise(images * torch.eye(3)[c][None, :, None, None]) for c in range(3)]
    with torch.no_grad():
        expected = sum(first(each) for each in alone) / 3
        torch.testing.assert_close(first(m._whole(images)), expected)


@pytest.mark.parametrize(
    "values, size, message",
    [
        ({"colour": "dropping"}, 32, "Did you mean 'drop'"),
        ({"backbone": "timm"}, 32, "native, mde"),
        ({}, 12, "--size 16 or more"),
        ({"backbone": "mde"}, 40, "a quarter of the side"),
    ],
)
def test_what_cannot_be_is_told(values, size, message):
    with pytest.raises(UserError, match=message):
        method(size, **values)
