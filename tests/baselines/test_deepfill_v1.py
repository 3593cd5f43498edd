"""DeepFill v1: layers and counts by hand, losses by plain arithmetic, the penalty of a linear critic in closed form."""

import math

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, elu

from mdebench.baselines._two_stage import Smooth, hole_of
from mdebench.baselines.deepfill_v1 import Critic, Method, Settings, cut, draw_holes
from mdebench.errors import UserError
from mdebench.methods.contract import Batch

SIZE = 32


def method(size=SIZE, seed=0, **values):
    torch.manual_seed(seed)
    return Method(Settings(**({"width": 4, "code": 8} | values)), size)


def batch(n=3, size=SIZE, step=0, dtype=torch.float32):
    images = torch.rand(n, 3, size, size, generator=torch.Generator().manual_seed(100 + step), dtype=dtype)
    return Batch(images, torch.arange(n), step, 0, 0, torch.Generator().manual_seed(step), 10)


def convolutions(layers):
    """(channels in, out, kernel, stride, dilation) of every convolution, in order."""
    found = [c for c in layers.modules() if isinstance(c, nn.Conv2d)]
    return [(c.in_channels, c.out_channels, c.kernel_size[0], c.stride[0], c.dilation[0]) for c in found]


WIDE = (128, 128, 3, 1, 1)
DILATED = [(128, 128, 3, 1, d) for d in (2, 4, 8, 16)]
COARSE = [(5, 32, 5, 1, 1), (32, 64, 3, 2, 1), (64, 64, 3, 1, 1), (64, 128, 3, 2, 1), WIDE, WIDE]
FINE = [(5, 32, 5, 1, 1), (32, 32, 3, 2, 1), (32, 64, 3, 1, 1), (64, 64, 3, 2, 1), (64, 128, 3, 1, 1), WIDE, *DILATED]
ATTENTION = [(5, 32, 5, 1, 1), (32, 32, 3, 2, 1), (32, 64, 3, 1, 1), (64, 128, 3, 2, 1), WIDE, WIDE]
UP = [(128, 64, 3, 1, 1), (64, 64, 3, 1, 1), (64, 32, 3, 1, 1), (32, 16, 3, 1, 1), (16, 3, 3, 1, 1)]
JUDGE = [(3, 64, 5, 2, 1), (64, 128, 5, 2, 1), (128, 256, 5, 2, 1), (256, 256, 5, 2, 1)]


def test_layers_and_parameters_at_paper_width_are_the_papers():
    """3.60 million in the generator, 2.68 and 2.67 million in the critics at 96 pixels."""
    m = Method(Settings(), 96)
    g = m.generator
    assert convolutions(g.coarse_encoder) == COARSE and convolutions(g.coarse_dilated) == DILATED
    assert convolutions(g.coarse_decoder) == [WIDE, WIDE, *UP]
    assert convolutions(g.fine_dilated) == FINE and convolutions(g.attention_encoder) == ATTENTION
    assert convolutions(g.attention_after) == [WIDE, WIDE]
    assert convolutions(g.fine_decoder) == [(256, 128, 3, 1, 1), WIDE, *UP]
    assert isinstance(g.fine_decoder[-1], nn.Hardtanh) and isinstance(g.coarse_decoder[-1], nn.Hardtanh)
    layers = [*COARSE, *DILATED, *FINE, *ATTENTION, *[WIDE] * 5, (256, 128, 3, 1, 1), *UP, *UP]
    by_hand = sum(o * (i * k * k + 1) for i, o, k, *_ in layers)
    assert sum(p.numel() for p in g.parameters()) == by_hand == 3_601_542
    assert convolutions(m.whole) == convolutions(m.window) == JUDGE
    judge = sum(o * (i * 25 + 1) for i, o, *_ in JUDGE)
    assert sum(p.numel() for p in m.whole.parameters()) == judge + 6 * 6 * 256 + 1 == 2_677_121
    assert sum(p.numel() for p in m.window.parameters()) == judge + 3 * 3 * 256 + 1 == 2_670_209
    assert m.feature_dim == (128 + 256) * 16 and m.PAPER == "Yu et al. 2018"


def test_its_layer_is_an_elu_convolution_that_keeps_the_variance():
    torch.manual_seed(0)
    layer, x = Smooth(3, 5, stride=2, dilation=2), torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(layer(x), elu(conv2d(x, layer.weight, layer.bias, stride=2, padding=2, dilation=2)))
    deep = nn.Sequential(*(Smooth(48, 48, kernel=1) for _ in range(17)))  # without padding, which takes variance
    with torch.no_grad():
        assert 0.6 < deep(torch.randn(4, 48, 8, 8)).square().mean() < 1.6


def test_the_refinement_is_told_of_the_hole_at_any_rate():
    m, seen = method(64).eval(), torch.ones(1, 3, 64, 64)
    inputs = []
    m.generator.fine_dilated.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    seen[..., 20:40, 8:24] = 0
    m.complete(torch.rand(1, 3, 64, 64), seen)
    assert inputs[0].shape == (1, 5, 64, 64)
    assert (inputs[0][:, 3] == 1).all() and torch.equal(inputs[0][:, 4:], hole_of(seen))


def test_holes_are_centred_in_windows_of_half_the_side():
    for size in (32, 64, 96):
        corner, seen = draw_holes(300, size, torch.Generator().manual_seed(0))
        assert seen.shape == (300, 1, size, size) and set(seen.unique().tolist()) == {0.0, 1.0}
        assert corner.min() == 0 and corner.max() == size // 2  # any window that lies inside
        hole = seen[:, 0] == 0
        width, height = hole.any(1).sum(1), hole.any(2).sum(1)
        assert torch.equal(hole.sum((1, 2)), width * height)  # a rectangle
        for side in (width, height):
            assert side.min() == 2 * (3 * size // 16) and side.max() == size // 2 and (side % 2 == 0).all()
        assert not torch.equal(width, height)
        left, top = hole.any(1).int().argmax(1), hole.any(2).int().argmax(1)
        assert torch.equal(2 * left + width, 2 * corner[:, 0] + size // 2)
        assert torch.equal(2 * top + height, 2 * corner[:, 1] + size // 2)


def test_windows_are_the_right_pixels_and_contain_the_hole():
    corner, seen = draw_holes(20, SIZE, torch.Generator().manual_seed(3))
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    numbered = torch.stack([x, y]).expand(20, -1, -1, -1)
    windows = cut(numbered, corner)
    assert windows.shape == (20, 2, 16, 16)
    assert torch.equal(windows[:, :, 0, 0], corner) and torch.equal(windows[:, :, -1, -1], corner + 15)
    assert torch.equal((1 - cut(seen, corner)).sum((1, 2, 3)), (1 - seen).sum((1, 2, 3)))


class Linear(nn.Module):
    """A critic whose gradient is its weights, whatever it judges."""

    def __init__(self, side):
        super().__init__()
        self.weight = nn.Parameter(0.05 * torch.randn(3, side, side, dtype=torch.float64))

    def forward(self, images):
        return (images * self.weight).sum((1, 2, 3)) + 0.3


def drawn(m, b):
    """What the method draws and completes on this batch, in float64, by the definition."""
    corner, seen = draw_holes(len(b.images), SIZE, torch.Generator().manual_seed(b.step))
    real = 2 * b.images - 1
    with torch.no_grad():
        outputs = m.outputs(b.images, seen.double().expand_as(real))
    return corner, seen.double(), real, outputs, torch.where(seen > 0, real, outputs[-1])


@pytest.mark.parametrize("backbone", ["native", "mde"])
def test_critics_loss_with_linear_critics_in_closed_form(backbone):
    m, b = method(backbone=backbone, penalty_weight=7.0).double().eval(), batch(dtype=torch.float64)
    m.whole, m.window = Linear(SIZE), Linear(SIZE // 2)
    total, parts = m.loss("critics", b)
    corner, seen, real, _, fake = drawn(m, b)
    wgan = penalty = 0.0
    for n, (x, y) in enumerate(corner.tolist()):
        inside = (slice(None), slice(y, y + 16), slice(x, x + 16))
        wgan += ((fake[n] - real[n]) * m.whole.weight).sum().item() / 3
        wgan += ((fake[n] - real[n])[inside] * m.window.weight).sum().item() / 3
        hole = 1 - seen[n]
        penalty += ((hole * m.whole.weight).square().sum().sqrt().item() - 1) ** 2 / 3
        penalty += ((hole[inside] * m.window.weight).square().sum().sqrt().item() - 1) ** 2 / 3
    assert parts["wgan"].item() == pytest.approx(wgan, rel=1e-9)
    assert parts["penalty"].item() == pytest.approx(penalty, rel=1e-9)
    assert total.item() == pytest.approx(wgan + 7 * penalty, rel=1e-9)


def test_generator_loss_by_plain_arithmetic():
    """Of a rectangle, the distance to the nearest seen pixel is that to the nearest side that is not the image's."""
    m, b = method(hole_weight=1.5, seen_weight=0.7, adv_weight=0.2, discount=0.9).double(), batch(dtype=torch.float64)
    total, parts = m.loss("generator", b)
    corner, seen, real, outputs, fake = drawn(m, b)
    hole = away = 0.0
    missing = (1 - seen).sum().item()
    for n in range(3):
        rows, columns = ((seen[n, 0] == 0).any(axis).nonzero().flatten().tolist() for axis in (1, 0))
        for i in range(SIZE):
            for j in range(SIZE):
                error = sum((output[n, :, i, j] - real[n, :, i, j]).abs().sum().item() for output in outputs)
                if i in rows and j in columns:
                    inner = [i - rows[0] + 1] * (rows[0] > 0) + [rows[-1] + 1 - i] * (rows[-1] < SIZE - 1)
                    inner += [j - columns[0] + 1] * (columns[0] > 0)
                    inner += [columns[-1] + 1 - j] * (columns[-1] < SIZE - 1)
                    hole += 0.9 ** min(inner) * error / (3 * missing)
                else:
                    away += error / (3 * (3 * SIZE**2 - missing))
    with torch.no_grad():
        adv = -(m.whole(fake).mean() + m.window(cut(fake, corner)).mean()).item()
    assert parts["hole"].item() == pytest.approx(hole, rel=1e-9)
    assert parts["seen"].item() == pytest.approx(away, rel=1e-9)
    assert parts["adv"].item() == pytest.approx(adv, rel=1e-9)
    assert total.item() == pytest.approx(1.5 * hole + 0.7 * away + 0.2 * adv, rel=1e-9)


@pytest.mark.parametrize("backbone", ["native", "mde"])
def test_five_turns_of_the_critics_on_holes_of_their_own_go_with_one_of_the_generator(backbone):
    m, b, seen = method(backbone=backbone), batch(), []
    m.generator.register_forward_pre_hook(lambda *_: seen.append(torch.is_grad_enabled()))
    assert m.turns(0, 10) == ("critics",) * 5 + ("generator",)
    losses = []
    for player, other in (("critics", "generator"), ("critics", "generator"), ("generator", "critics")):
        m.zero_grad()
        loss = m.loss(player, b).total
        losses.append(loss.item())
        loss.backward(inputs=m.players()[player].parameters)
        assert all(p.grad is not None for p in m.players()[player].parameters)
        assert all(p.grad is None for p in m.players()[other].parameters)
    assert losses[0] != losses[1] and seen == [False, False, True]


def test_the_penalty_is_the_same_in_bf16_but_for_rounding():
    m = method(width=16)
    exact = m.loss("critics", batch()).parts
    with torch.autocast("cpu", torch.bfloat16):
        rounded = m.loss("critics", batch()).parts
    assert all(value.dtype == torch.float32 for value in rounded.values())
    assert rounded["penalty"].item() == pytest.approx(exact["penalty"].item(), rel=0.02)


@pytest.mark.parametrize("backbone", ["native", "mde"])
def test_only_seen_values_matter(backbone):
    m = method(backbone=backbone).eval()
    torch.manual_seed(1)
    images, other, seen = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32), (torch.rand(2, 3, 32, 32) > 0.3).float()
    with torch.no_grad():
        output = m.complete(images, seen)
        assert torch.equal(m.complete(torch.where(seen > 0, images, other), seen), output)
        assert not torch.equal(m.complete(torch.where(seen > 0, other, images), seen), output)


def test_the_code_is_pooled_from_both_stages_or_that_of_the_mde():
    images = torch.rand(2, 3, SIZE, SIZE)
    m = method().eval()
    maps = m.stages(images)
    assert {k: tuple(v.shape[1:3]) for k, v in maps.items()} == {
        **{"stage1": (8, 16), "stage2": (16, 8)},
        **{"stage3": (16, 8), "stage4": (32, 8)},
    }
    cells = [maps[k].unflatten(3, (4, 2)).unflatten(2, (4, 2)).mean((3, 5)) for k in ("stage3", "stage4")]
    torch.testing.assert_close(m.encode(images), torch.cat([c.flatten(1) for c in cells], 1))
    m = method(backbone="mde").eval()
    assert m.encode(images).shape == (2, 8) == (2, m.feature_dim)


def test_a_critic_gives_a_score_for_each_image_alone():
    critic, images = Critic(20, 4), torch.rand(3, 3, 20, 20)
    scores = critic(images)
    assert scores.shape == (3,) and math.isfinite(scores.sum().item())
    torch.testing.assert_close(critic(images[1:2])[0], scores[1])


def test_mistakes_and_what_differs_on_small_images_are_told():
    with pytest.raises(UserError, match=r"backbone 'natve'.*Did you mean 'native'"):
        Settings(backbone="natve")
    for size, rate in ((30, 1), (64, 3), (64, 0)):
        with pytest.raises(UserError, match="a quarter of the size has to be a multiple of rate"):
            method(size, rate=rate)
    assert "rate 1" in method().notes[0] and not method(64).notes
