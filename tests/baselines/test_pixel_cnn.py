"""PixelCNN: probabilities that sum to one, nothing seen of what comes later, completions as a slow loop draws them."""

import math
from itertools import product

import pytest
import torch

from mdebench.baselines import pixel_cnn
from mdebench.baselines.pixel_cnn import ColourConv, Method, PixelCNN, Settings
from mdebench.errors import UserError
from mdebench.methods import Scores
from mdebench.methods.contract import Batch

SIZE = 16


def network(levels=4, width=2, depth=4, kernel=5):
    torch.manual_seed(0)
    return PixelCNN(width, depth, kernel, levels).double().eval()


def method(size=SIZE, **values):
    torch.manual_seed(0)
    return Method(Settings(**({"width": 2, "code": 24, "depth": 4} | values)), size).eval()


def images(n=2, size=SIZE, seed=0):
    drawn = torch.randint(256, (n, 3, size, size), generator=torch.Generator().manual_seed(seed))
    return drawn / 255


def batch(x):
    return Batch(x, torch.arange(len(x)), 0, 0, 0, torch.Generator().manual_seed(0), 10)


# The model


def test_the_probabilities_of_all_images_sum_to_one():
    every = torch.tensor(list(product(range(2), repeat=12))).view(-1, 3, 2, 2)  # 2×2 pixels of three colours, 2 levels
    with torch.no_grad():
        logs = network(levels=2).log_likelihood(every)
    assert len(logs) == 4096 and logs.exp().sum().item() == pytest.approx(1, abs=1e-12)
    assert logs.std() > 0.01  # and they are not all alike


@pytest.mark.parametrize("kernel, depth", [(3, 5), (5, 3)])
def test_a_value_depends_on_all_before_it_and_on_nothing_else(kernel, depth, monkeypatch):
    """By the gradient: as many layers as reach over the whole image leave no blind spot, and see nothing too early."""
    net, side = network(width=16, kernel=kernel, depth=depth), 5
    monkeypatch.setattr(net, "scaled", lambda values: values)
    x = torch.rand(1, 3, side, side, dtype=torch.float64).requires_grad_()
    logits = net(x)
    order = torch.arange(side * side * 3).view(side, side, 3)  # of values
    for y, z, colour in product((0, 2, 4), (0, 2, 4), range(3)):
        (slope,) = torch.autograd.grad(logits[0, y, z, colour].square().sum(), x, retain_graph=True)
        assert torch.equal(slope[0].permute(1, 2, 0) != 0, order < order[y, z, colour])


def test_colours_are_thirds_in_order():
    conv = ColourConv(6, 12, 2, halves=2)
    pixel = conv.mask[:, :, 0, -1]
    assert torch.equal(pixel[:6], pixel[6:]) and (conv.mask[..., :-1] == 1).all()
    assert pixel[:6, ::2].tolist() == [[1, 0, 0], [1, 0, 0], [1, 1, 0], [1, 1, 0], [1, 1, 1], [1, 1, 1]]
    strict = ColourConv(3, 3, 0, strict=True).mask[:, :, 0, 0]
    assert strict.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0]]


def test_a_row_by_itself_is_convolved_as_in_an_image():
    conv, x = ColourConv(6, 6, 2).double(), torch.rand(2, 6, 3, 9, dtype=torch.float64)
    torch.testing.assert_close(conv(x[:, :, 1:2]), conv(x)[:, :, 1:2])


def test_width_64_has_96_channels_and_the_paper_is_in_reach():
    assert PixelCNN(64, 1, 5).features == 96 and PixelCNN(256, 1, 3, levels=2).features == 384
    assert PixelCNN(1, 1, 3).features == 3


# Completion


def slowly(net, values, missing, uniform):
    """The definition: for each value in turn the whole network, and the first level beyond the uniform number."""
    values = values.clone()
    _, _, height, width = values.shape
    for y, x, c in product(range(height), range(width), range(3)):
        with torch.no_grad():
            chances = net(values)[:, y, x, c].softmax(dim=1)
        for n in range(len(values)):
            if missing[n, c, y, x]:
                total, level = 0.0, -1
                while level < net.levels - 1 and total <= uniform[c, y, x]:
                    level += 1
                    total += chances[n, level].item()
                values[n, c, y, x] = level
    return values


@pytest.mark.parametrize("share", [0.1, 0.5, 1.0])
def test_values_are_drawn_in_order_given_all_before_them(share):
    generator = torch.Generator().manual_seed(1)
    net, shape = network(), (2, 3, 6, 5)
    values = torch.randint(4, shape, generator=generator)
    missing = torch.rand(shape, generator=generator) < share
    uniform = torch.rand(shape[1:], generator=generator, dtype=torch.float64)
    with torch.no_grad():
        drawn = net.draw(values, missing, uniform)
    assert torch.equal(drawn, slowly(net, values, missing, uniform))
    assert torch.equal(drawn[~missing], values[~missing]) and not torch.equal(drawn, values)


def test_drawn_levels_are_as_frequent_as_the_model_says():
    net = network(levels=3)
    chances = net(torch.zeros(1, 3, 1, 1, dtype=torch.int64))[0, 0, 0, 0].softmax(dim=0)
    values, missing = torch.zeros(1, 3, 1, 1, dtype=torch.int64), torch.ones(1, 3, 1, 1, dtype=torch.bool)
    with torch.no_grad():
        drawn = [net.draw(values, missing, torch.full((3, 1, 1), (i + 0.5) / 500))[0, 0].item() for i in range(500)]
    shares = torch.bincount(torch.tensor(drawn), minlength=3) / 500
    torch.testing.assert_close(shares.double(), chances.detach(), rtol=0, atol=0.004)


def test_a_completion_keeps_what_is_seen_and_is_the_same_alone_again_and_whatever_comes_after_it():
    m, x = method(), images(3)
    seen = torch.ones(3, 3, SIZE, SIZE)
    seen[:, :, 4:8, 6:10] = 0
    seen[1, 2, 12] = 0  # one colour alone
    out = m.complete(x * seen, seen)
    assert torch.equal(out[seen == 1], x[seen == 1]) and not torch.equal(out, x)
    assert ((out * 255 - (out * 255).round()).abs() < 1e-4).all()
    assert torch.equal(out, m.complete(x * seen, seen))
    assert torch.equal(out[1:2], m.complete(x[1:2] * seen[1:2], seen[1:2]))
    later = x.clone()
    later[:, :, 9:11] = 1 - later[:, :, 9:11]
    assert torch.equal(m.complete(later, seen)[:, :, 4:8], out[:, :, 4:8])
    earlier = x.clone()
    earlier[:, :, :4] = 1 - earlier[:, :, :4]
    assert not torch.equal(m.complete(earlier, seen)[:, :, 4:8], out[:, :, 4:8])


def test_nothing_missing_costs_nothing_and_slowness_is_said():
    m = method()
    x = images()
    assert torch.equal(m.complete(x, torch.ones(1)), x)
    assert f"{3 * SIZE**2 // 2:,} passes" in m.notes[0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_it_completes_in_every_precision(dtype):
    m, x, seen = method(), images(2), torch.ones(2, 3, SIZE, SIZE)
    seen[..., 5:8] = 0
    if dtype == torch.float64:
        m, x = m.double(), x.double()
    with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        out = m.complete(x, seen)
        loss = m.loss("network", batch(x)).total
    assert out.dtype == x.dtype and out.isfinite().all() and loss.isfinite() and loss.dtype == x.dtype


@pytest.mark.parametrize("size", [8, 9, 33])
def test_it_takes_any_size(size):
    m, x, seen = method(size, depth=1, width=1, kernel=3), images(1, size), torch.ones(1, 1, size, size)
    seen[..., 2:4, 2:4] = 0
    assert m.complete(x, seen).shape == x.shape and m.encode(x).shape == (1, m.feature_dim)
    assert m.stages(x)["stage1"].shape == (1, 3, size // 2, size // 2) and m.loss("network", batch(x)).total.isfinite()


# Loss, likelihood, codes


def test_the_loss_is_bits_per_dimension_and_eight_for_a_model_that_knows_nothing():
    m, x = method(), images()
    nats = m.likelihood(x)
    assert isinstance(m, Scores) and nats.shape == (2,) and (nats < 0).all()
    bits = m.loss("network", batch(x))
    assert bits.total.item() == pytest.approx(-nats.mean().item() / math.log(2) / (3 * SIZE**2), rel=1e-5)
    assert bits.parts["bits"] == bits.total
    torch.nn.init.zeros_(m.network.to_logits.weight)
    torch.nn.init.zeros_(m.network.to_logits.bias)
    assert m.loss("network", batch(x)).total.item() == pytest.approx(8, rel=1e-6)
    assert m.loss("network", batch(torch.zeros(2, 3, SIZE, SIZE))).total.isfinite()


def test_it_learns_what_the_row_above_says():
    """Noise of two levels in the first row, and each other row like it: eight rows cost what the first one does."""
    torch.manual_seed(0)
    net = PixelCNN(16, 2, 3, levels=2)
    optimizer = torch.optim.Adam(net.parameters(), 1e-2)
    for step in range(60):
        noise = torch.randint(2, (16, 3, 1, 8), generator=torch.Generator().manual_seed(step))
        bits = -net.log_likelihood(noise.expand(-1, -1, 8, -1)).mean() / math.log(2) / (3 * 8 * 8)
        optimizer.zero_grad()
        bits.backward()
        optimizer.step()
    assert 0.95 / 8 <= bits.item() < 1.3 / 8


def test_likelihoods_come_in_pieces(monkeypatch):
    m, x = method(), images(3)
    whole = m.likelihood(x)
    monkeypatch.setattr(pixel_cnn, "PIECE", 2)
    torch.testing.assert_close(m.likelihood(x), whole)


def test_the_representation_is_the_middle_map_over_a_grid_of_about_as_many_numbers():
    m, x = method(code=24, depth=4), images()
    with torch.no_grad():
        middle = m.network.maps((x * 255).round().long())[1]
        code, maps = m.encode(x), m.stages(x)
    assert m.feature_dim == 3 * 9 == code.shape[1]  # 3·3² is nearer to 24 than 3·2²
    cell = middle[:, :, : math.ceil(SIZE / 3), : math.ceil(SIZE / 3)].mean(dim=(2, 3))
    torch.testing.assert_close(code.view(2, 3, 3, 3)[:, :, 0, 0], cell)
    assert [tuple(each.shape) for each in maps.values()] == [(2, 3, 8, 8)] * 4
    torch.testing.assert_close(maps["stage2"][..., 0, 0], middle[..., :2, :2].mean(dim=(2, 3)))


@pytest.mark.parametrize("kernel", [1, 4])
def test_kernels_without_a_middle_are_refused(kernel):
    with pytest.raises(UserError, match="3, 5, 7"):
        Settings(kernel=kernel)
