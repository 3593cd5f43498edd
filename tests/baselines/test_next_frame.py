"""Next frame: the gradient difference by hand, targets and inputs by their place in the clip, the sum over scales."""

import numpy as np
import pytest
import torch
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from mdebench.baselines.next_frame import Method, MultiScale, Settings, difference_of_gradients
from mdebench.errors import UserError
from mdebench.methods.contract import Batch, Beside

SIZE = 16


def method(size=SIZE, **values):
    torch.manual_seed(0)
    return Method(Settings(**({"width": 1, "code": 8} | values)), size).eval()


def batch_of(images, clip, index=None):
    index = torch.arange(len(images)) if index is None else torch.tensor(index)
    given = Beside({"clip": np.asarray(clip, np.int32)}, lambda rows: images[rows])
    return Batch(images[index], index, 0, 0, 0, torch.Generator().manual_seed(0), 10, given=given)


def gdl(a, b):
    """The paper's sum over pixels and both neighbours, as means of each direction, in plain loops."""
    channels, height, width = a.shape
    down = [
        abs(abs(a[c, i, j] - a[c, i - 1, j]) - abs(b[c, i, j] - b[c, i - 1, j]))
        for c in range(channels)
        for i in range(1, height)
        for j in range(width)
    ]
    right = [
        abs(abs(a[c, i, j] - a[c, i, j - 1]) - abs(b[c, i, j] - b[c, i, j - 1]))
        for c in range(channels)
        for i in range(height)
        for j in range(1, width)
    ]
    return np.mean(down) + np.mean(right)


def test_the_difference_of_gradients_by_hand():
    a, b = torch.rand(2, 3, 4, 5, dtype=torch.float64), torch.rand(2, 3, 4, 5, dtype=torch.float64)
    expected = [gdl(x, y) for x, y in zip(a.numpy(), b.numpy())]
    torch.testing.assert_close(difference_of_gradients(a, b), torch.tensor(expected))
    assert (difference_of_gradients(a, a + 0.3) == pytest.approx(0)) and (
        difference_of_gradients(1 - a, a) < 1e-9
    ).all()
    blurred = adaptive_avg_pool2d(a, 1).expand_as(a)
    assert (difference_of_gradients(blurred, a) > 0.3).all()  # a mean, which squared errors would choose, costs most
    assert difference_of_gradients(torch.rand(2, 3, 1, 1), torch.rand(2, 3, 1, 1)).tolist() == [0, 0]


@pytest.mark.parametrize("power", [1, 2])
def test_the_loss_by_hand_from_the_frames_of_a_clip(power):
    """Rows 1 to 6 are a clip of six, row 0 one of its own; the last frame of each teaches nothing."""
    images = torch.rand(7, 3, SIZE, SIZE, dtype=torch.float64)
    m, batch = method(power=power, gradient_weight=0.5).double(), batch_of(images, [0, *[1] * 6], [0, 2, 5, 6])
    expected = []
    for last, rows in ((2, [1, 1, 1, 2]), (5, [2, 3, 4, 5])):
        with torch.no_grad():
            drawn = m.network(torch.cat([2 * images[row] - 1 for row in rows])[None])
        targets = [adaptive_avg_pool2d(2 * images[last + 1] - 1, each.shape[-1]) for each in drawn]
        distance = np.mean([((a[0] - b).abs() ** power).mean().item() for a, b in zip(drawn, targets)])
        expected.append((distance, np.mean([gdl(a[0].numpy(), b.numpy()) for a, b in zip(drawn, targets)])))
    distance, gradient = np.mean(expected, axis=0)
    found = m.loss("network", batch)
    assert found.parts[f"l{power}"].item() == pytest.approx(distance)
    assert found.parts["gdl"].item() == pytest.approx(gradient)
    assert found.total.item() == pytest.approx(distance + 0.5 * gradient) and m.losses == f"l{power}+gdl"


def test_each_scale_adds_to_the_one_before():
    network = MultiScale(SIZE, 1, 4).double().eval()
    x = torch.rand(2, 12, SIZE, SIZE, dtype=torch.float64)
    assert network.sides == [4, 8, 16]
    with torch.no_grad():
        drawn = network(x)
        before = None
        for side, each, net in zip(network.sides, drawn, network.networks):
            small = adaptive_avg_pool2d(x, side)
            if before is None:
                torch.testing.assert_close(each, net(small).tanh())
            else:
                up = interpolate(before, scale_factor=2)
                torch.testing.assert_close(each, up + net(torch.cat([small, up], 1)).tanh())
            before = each


@pytest.mark.parametrize(
    ("size", "sides"), [(8, [4, 8]), (20, [5, 10, 20]), (32, [4, 8, 16, 32]), (96, [12, 24, 48, 96])]
)
def test_the_coarsest_network_draws_four_pixels_or_a_few_more(size, sides):
    assert MultiScale(size, 1, 4).sides == sides


def test_parameters_at_full_width_by_hand():
    layers = [
        [(12, 128, 3), (128, 256, 3), (256, 128, 3), (128, 3, 3)],
        [(15, 128, 5), (128, 256, 3), (256, 128, 3), (128, 3, 5)],
        [(15, 128, 5), (128, 256, 3), (256, 512, 3), (512, 256, 3), (256, 128, 3), (128, 3, 5)],
        [(15, 128, 7), (128, 256, 5), (256, 512, 5), (512, 256, 5), (256, 128, 5), (128, 3, 7)],
    ]
    m = method(32, width=64)
    for network, expected in zip(m.network.networks, layers, strict=True):
        assert sum(p.numel() for p in network.parameters()) == sum(a * b * k * k + b for a, b, k in expected)
    assert m.feature_dim == 512 * 16


def test_a_code_is_that_of_a_clip_in_which_nothing_moves():
    m, images = method(), torch.rand(2, 3, SIZE, SIZE)
    seen = []
    m.network.networks[-1].register_forward_pre_hook(lambda module, x: seen.append(x))
    hook = m.network.networks[0][0].register_forward_pre_hook(lambda module, x: seen.append(x[0]))
    codes = m.encode(images)
    hook.remove()
    torch.testing.assert_close(seen[0], adaptive_avg_pool2d(2 * images - 1, 4).repeat(1, 4, 1, 1))
    assert codes.shape == (2, m.feature_dim) == (2, 8 * 16) and (codes >= 0).all()


@pytest.mark.parametrize("backbone", ["native", "mde"])
@pytest.mark.parametrize("size", [8, 128])
def test_black_frames_break_nothing(backbone, size):
    m = method(size, backbone=backbone).train()
    with torch.autocast("cpu", torch.bfloat16):
        loss = m.loss("network", batch_of(torch.zeros(2, 3, size, size), [0, 0]))
    loss.total.backward()
    assert loss.total.isfinite() and loss.total.dtype == torch.float32
    alone = m.loss("network", batch_of(torch.rand(2, 3, size, size), [-1, -1])).total
    assert alone == 0  # of no clip, nothing follows


@pytest.mark.parametrize("backbone", ["native", "mde"])
def test_waves_are_drawn_where_they_go(backbone):
    """Waves that go left or right: what is drawn is nearer to the next frame than the last that was seen."""
    place = torch.arange(SIZE) * 2 * np.pi / 8
    clips = [
        torch.stack([0.5 + 0.4 * torch.sin(place - step * t * np.pi / 4 + start) for t in range(5)])
        for step in (-1, 1)
        for start in (0, 1)
    ]
    images = torch.stack(clips)[:, :, None, None].expand(-1, -1, 3, SIZE, -1).float()
    m = method(width=2, code=64, backbone=backbone, power=2).train()
    batch = batch_of(images.flatten(0, 1), np.repeat(range(4), 5))
    optimizer = torch.optim.Adam(m.players()["network"].parameters, 3e-3)
    for _ in range(60):
        loss = m.loss("network", batch).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        drawn = (m.network(2 * images[:, :4].flatten(1, 2) - 1)[-1] + 1) / 2
    error, moved = ((each - images[:, 4]).abs().mean(dim=(1, 2, 3)) for each in (drawn, images[:, 3]))
    assert error.mean() < 0.5 * moved.mean()


def test_wrong_settings_and_packs_without_clips_are_named():
    with pytest.raises(UserError, match="ℓ1 or ℓ2"):
        Settings(power=3)
    with pytest.raises(UserError, match="native, mde"):
        Settings(backbone="unet")
    with pytest.raises(UserError, match="learns from clip"):
        Method.suited(Settings(), {"clip": 0})
