"""DeepFill v2: widths and counts by hand, attention against a slow loop and on a picture whose answer is known."""

from itertools import product

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, elu

from mdebench.baselines._two_stage import Gated, attend, contextual_attention, fuse, hole_of
from mdebench.baselines.deepfill_v2 import Critic, Method, Settings
from mdebench.errors import UserError
from mdebench.methods.contract import Batch
from mdebench.methods.masks import draw_damage


def method(size=32, seed=0, **values):
    torch.manual_seed(seed)
    return Method(Settings(**({"width": 4, "code": 8} | values)), size)


def batch(n=3, size=32, step=0):
    generator = torch.Generator().manual_seed(step)
    return Batch(torch.rand(n, 3, size, size, generator=generator), torch.arange(n), step, 0, 0, generator, 10)


def gates(layers):
    """(channels in, channels of the convolution, kernel, stride, dilation) of every convolution, in order."""
    return [
        (c.in_channels, c.out_channels, c.kernel_size[0], c.stride[0], c.dilation[0])
        for c in layers.modules()
        if isinstance(c, nn.Conv2d)
    ]


# The layers at paper width, as (in, out of the convolution = twice what comes through, kernel, stride, dilation).
DILATED = [(96, 192, 3, 1, d) for d in (2, 4, 8, 16)]
COARSE = [(5, 48, 5, 1, 1), (24, 96, 3, 2, 1), (48, 96, 3, 1, 1), (48, 192, 3, 2, 1), *[(96, 192, 3, 1, 1)] * 2]
FINE = [(3, 48, 5, 1, 1), (24, 48, 3, 2, 1), (24, 96, 3, 1, 1), (48, 96, 3, 2, 1), (48, 192, 3, 1, 1)]
FINE += [(96, 192, 3, 1, 1), *DILATED]
ATTENTION = [(3, 48, 5, 1, 1), (24, 48, 3, 2, 1), (24, 96, 3, 1, 1), (48, 192, 3, 2, 1), *[(96, 192, 3, 1, 1)] * 2]
UP = [(96, 96, 3, 1, 1), (48, 96, 3, 1, 1), (48, 48, 3, 1, 1), (24, 24, 3, 1, 1), (12, 3, 3, 1, 1)]


def test_layers_at_paper_width_are_the_papers():
    g = Method(Settings(), 64).generator
    assert gates(g.coarse_encoder) == COARSE and gates(g.coarse_dilated) == DILATED
    assert gates(g.coarse_decoder) == [(96, 192, 3, 1, 1)] * 2 + UP
    assert gates(g.fine_dilated) == FINE and gates(g.attention_encoder) == ATTENTION
    assert gates(g.attention_after) == [(96, 192, 3, 1, 1)] * 2
    assert gates(g.fine_decoder) == [(192, 192, 3, 1, 1), (96, 192, 3, 1, 1), *UP]


def test_parameter_counts_at_paper_width():
    """By hand: Σ out·(in·k² + 1). The authors' generator has 4.1 million."""
    wide = 192 * (96 * 9 + 1)  # the convolution that comes most often, 96 → 192
    up = 96 * (96 * 9 + 1) + 96 * (48 * 9 + 1) + 48 * (48 * 9 + 1) + 24 * (24 * 9 + 1) + 3 * (12 * 9 + 1)
    coarse = 48 * (5 * 25 + 1) + 96 * (24 * 9 + 1) + 96 * (48 * 9 + 1) + 192 * (48 * 9 + 1) + 8 * wide + up
    start = 48 * (3 * 25 + 1) + 48 * (24 * 9 + 1) + 96 * (24 * 9 + 1)
    dilated = start + 96 * (48 * 9 + 1) + 192 * (48 * 9 + 1) + 5 * wide
    attention = start + 192 * (48 * 9 + 1) + 4 * wide
    fine = 192 * (192 * 9 + 1) + wide + up
    m = Method(Settings(), 64)
    assert sum(p.numel() for p in m.generator.parameters()) == coarse + dilated + attention + fine == 4_052_478
    pairs = [(4, 64), (64, 128), (128, 256), (256, 256), (256, 256), (256, 256)]
    assert sum(p.numel() for p in m.critic.parameters()) == sum(o * (i * 25 + 1) for i, o in pairs)
    assert m.feature_dim == (96 + 192) * 16


@pytest.mark.parametrize("size", [32, 64, 96])
def test_maps_are_at_a_half_and_a_quarter_and_the_critic_ends_in_patches(size):
    m = method(size)
    maps = m.stages(torch.rand(2, 3, size, size))
    half, quarter = size // 2, size // 4
    widths = {"stage1": (8, half), "stage2": (16, quarter), "stage3": (16, quarter), "stage4": (32, quarter)}
    assert {k: tuple(v.shape[1:3]) for k, v in maps.items()} == widths
    patches = -(-size // 64)
    scores = m.critic(torch.rand(2, 3, size, size), torch.zeros(2, 1, size, size))
    assert scores.shape == (2, 16, patches, patches)


def test_widths_scale_down_to_four_channels_through_the_gates():
    firsts = {w: method(width=w).generator.coarse_encoder[0].out_channels for w in (4, 8, 16, 32)}
    assert firsts == {4: 8, 8: 8, 16: 12, 32: 24}


def test_with_open_gates_it_is_an_elu_convolution_and_with_shut_gates_nothing():
    torch.manual_seed(0)
    layer, x = Gated(3, 5, stride=2, dilation=2), torch.randn(2, 3, 8, 8)
    for bias, open_ in ((40.0, 1), (-40.0, 0)):
        with torch.no_grad():
            layer.bias[5:] = bias
            expected = open_ * elu(conv2d(x, layer.weight[:5], layer.bias[:5], stride=2, padding=2, dilation=2))
            torch.testing.assert_close(layer(x), expected)


def slow_attention(x, hole, rate, scale):
    """The attention by loops over places, from the definitions: patches, cosines, fusing, softmax, pasting."""
    height, width = x.shape[2:]
    places = list(product(range(height // rate), range(width // rate)))
    around = list(product((-1, 0, 1), repeat=2))
    rim = list(product(range(-1, rate + 1), repeat=2))
    out = torch.zeros_like(x)

    def at(image, i, j):
        return image[:, i, j] if 0 <= i < image.shape[1] and 0 <= j < image.shape[2] else image.new_zeros(len(image))

    for image, missing, result in zip(x, hole[:, 0], out):
        small = image[:, ::rate, ::rate]
        patch = {(i, j): torch.cat([at(small, i + a, j + b) for a, b in around]) for i, j in places}
        patch = {p: v / v.norm() for p, v in patch.items()}
        score = {(p, q): (patch[p] @ patch[q]).item() for p, q in product(places, places)}
        for a, b in ((0, 1), (1, 0)):
            score = {
                (p, q): sum(
                    score.get(((p[0] + s * a, p[1] + s * b), (q[0] + s * a, q[1] + s * b)), 0) for s in (-1, 0, 1)
                )
                for p, q in score
            }
        gone = {(i // rate, j // rate) for i, j in missing.nonzero().tolist()}
        seen = [(i, j) for i, j in places if not gone.intersection((i + a, j + b) for a, b in around)]
        times = torch.zeros(height, width)
        for here in places:
            weights = torch.tensor([scale * score[there, here] for there in seen], dtype=x.dtype).softmax(0)
            for a, b in rim:
                i, j = here[0] * rate + a, here[1] * rate + b
                if 0 <= i < height and 0 <= j < width:
                    times[i, j] += 1
                    pieces = [at(image, there[0] * rate + a, there[1] * rate + b) for there in seen]
                    result[:, i, j] += weights @ torch.stack(pieces)
        result /= times
    return out


@pytest.mark.parametrize(("rate", "shape"), [(2, (10, 8)), (1, (5, 4))])
def test_attention_equals_the_slow_loops(rate, shape):
    torch.manual_seed(0)
    x, hole = torch.randn(2, 3, *shape, dtype=torch.float64), torch.zeros(2, 1, *shape, dtype=torch.float64)
    hole[0, 0, 0, -1], hole[1, 0, -1, 0] = 1, 1  # another one in each image
    fast = contextual_attention(x, hole, rate, scale=0.7)
    torch.testing.assert_close(fast, slow_attention(x, hole, rate, 0.7))


def test_fusing_adds_up_along_both_diagonals_and_stops_at_the_borders():
    scores = torch.zeros(1, 4, 5, 4, 5)
    scores[0, 1, 1, 2, 3] = 1  # there (1, 1) for here (2, 3)
    fused = fuse(scores)
    expected = torch.zeros_like(scores)
    for a in (-1, 0, 1):
        for b in (-1, 0, 1):
            expected[0, 1 + a, 1 + b, 2 + a, 3 + b] = 1
    assert torch.equal(fused, expected)
    scores = torch.zeros(1, 4, 5, 4, 5)
    scores[0, 0, 4, 2, 0] = 1  # there in a corner of the map, here at its left: nothing comes in from another line
    assert fuse(scores).sum() == 2 and fuse(scores)[0, 1, 4, 3, 0] == 1


def test_what_is_missing_is_copied_from_where_it_stands_in_the_seen_part():
    """Every place its own texture; the hole, over the right half's middle, is a faint and noisy copy from the left."""
    torch.manual_seed(0)
    x = torch.randn(1, 32, 16, 32)
    hole = torch.zeros(1, 1, 16, 32)
    hole[..., 4:12, 18:26] = 1
    wanted = x[..., 4:12, 6:14].clone()
    x[..., 2:14, 16:28] = x[..., 2:14, 4:16]  # the hole with its surroundings, for the patches at its rim
    x[..., 4:12, 18:26] = 0.1 * (wanted + 0.3 * torch.randn_like(wanted))
    out = contextual_attention(x, hole)
    torch.testing.assert_close(out[..., 4:12, 18:26], wanted, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("rate", [1, 2])
def test_attention_takes_from_seen_patches_only_and_gives_nothing_where_there_are_none(rate):
    torch.manual_seed(0)
    x, hole = torch.randn(2, 3, 12, 12), torch.zeros(2, 1, 12, 12)
    hole[0, :, 3, 8], hole[1] = 1, 1
    attention = attend(x, hole, rate, 10.0)
    side = 12 // rate
    i, j = 3 // rate, 8 // rate
    touched = torch.zeros(side, side, dtype=torch.bool)
    touched[i - 1 : i + 2, j - 1 : j + 2] = True
    assert (attention[0, touched.flatten()] == 0).all() and (attention[0, ~touched.flatten()] > 0).any(1).all()
    torch.testing.assert_close(attention[0].sum(0), torch.ones(side**2))
    assert (attention[1] == 0).all() and (contextual_attention(x, hole, rate)[1] == 0).all()


def test_attention_in_bf16_is_that_of_float32_but_for_rounding():
    torch.manual_seed(0)
    x, hole = torch.randn(2, 8, 16, 16), torch.zeros(2, 1, 16, 16)
    hole[..., 2:6, 2:6] = 1
    with torch.autocast("cpu", torch.bfloat16):
        half = contextual_attention(x.bfloat16(), hole)
    assert half.dtype == torch.bfloat16
    error = (half.float() - contextual_attention(x, hole)).abs().mean()
    assert error < 0.02


def test_spectral_norm_bounds_every_weight_of_the_critic_at_one():
    torch.manual_seed(0)
    critic = Critic(8).train()
    with torch.no_grad():
        for layer in critic.layers:
            raw = layer.parametrizations.weight.original
            raw.copy_(5 * torch.randn_like(raw))
    for _ in range(30):  # each pass is a step of power iteration
        critic(torch.rand(1, 3, 32, 32), torch.zeros(1, 1, 32, 32))
    critic.eval()
    largest = [torch.linalg.svdvals(layer.weight.detach().flatten(1))[0].item() for layer in critic.layers]
    assert len(largest) == 6 and all(0.99 < value < 1.02 for value in largest)


@pytest.mark.parametrize("backbone", ["native", "mde"])
def test_losses_are_those_of_the_definition_in_float64(backbone):
    m, b = method(backbone=backbone).double().eval(), batch()
    b = Batch(b.images.double(), *[getattr(b, f) for f in ("index", "step", "epoch", "seed", "generator", "updates")])
    critic = m.loss("critic", b)
    outputs, seen = m._turn
    total, parts = m.loss("generator", b)
    real = 2 * b.images - 1
    hole = 1 - seen[:, :1]
    fake = real.where(seen > 0, outputs[-1].float().double())
    judged, truth = (m.critic(image, hole).flatten().tolist() for image in (fake, real))
    hinge = sum(max(0, 1 - v) for v in truth) / len(truth) + sum(max(0, 1 + v) for v in judged) / len(judged)
    assert critic.total.item() == pytest.approx(hinge, rel=1e-5)
    l1 = sum((o - real).abs().sum().item() / real.numel() for o in outputs)
    assert total.item() == pytest.approx(l1 - sum(judged) / len(judged), rel=1e-5)
    assert list(parts) == (["coarse", "fine", "adv"] if backbone == "native" else ["fine", "adv"])


@pytest.mark.parametrize("backbone", ["native", "mde"])
def test_one_update_completes_once_and_judges_twice_and_each_turn_moves_its_own_player(backbone):
    m, b, calls = method(backbone=backbone), batch(), []
    for part in ("generator", "critic"):
        getattr(m, part).register_forward_hook(lambda *_, part=part: calls.append(part))
    assert m.turns(0, 10) == ("critic", "generator")
    for player, other in (("critic", "generator"), ("generator", "critic")):
        m.zero_grad()
        m.loss(player, b).total.backward(inputs=m.players()[player].parameters)
        assert all(p.grad is not None for p in m.players()[player].parameters)
        assert all(p.grad is None for p in m.players()[other].parameters)
    assert calls == ["generator", "critic", "critic"] and m._turn is None


@pytest.mark.parametrize("backbone", ["native", "mde"])
def test_only_seen_values_matter_also_where_channels_are_missing_one_by_one(backbone):
    m = method(backbone=backbone).eval()
    torch.manual_seed(1)
    images, other, seen = torch.rand(2, 3, 32, 32), torch.rand(2, 3, 32, 32), (torch.rand(2, 3, 32, 32) > 0.3).float()
    with torch.no_grad():
        output = m.complete(images, seen)
        assert torch.equal(m.complete(torch.where(seen > 0, images, other), seen), output)
        assert not torch.equal(m.complete(torch.where(seen > 0, other, images), seen), output)
        assert m.complete(images, torch.ones(1)).shape == images.shape
    assert torch.equal(hole_of(seen)[:, 0] > 0, (seen == 0).any(1))


def test_the_training_mask_is_free_form_and_the_same_in_all_channels():
    seen = method().draw_seen(batch(20))
    assert seen.shape == (20, 3, 32, 32) and set(seen.unique().tolist()) == {0, 1}
    assert (seen == seen[:, :1]).all() and 0.5 < seen.mean() < 0.9


def test_the_code_of_the_mde_backbone_and_of_the_two_stages():
    images = torch.rand(2, 3, 32, 32)
    m = method(backbone="mde").eval()
    assert m.encode(images).shape == (2, 8) == (2, m.feature_dim) and m.losses == "l1+hinge"
    m = method().eval()
    maps = m.stages(images)
    cells = [maps[k].unflatten(3, (4, 2)).unflatten(2, (4, 2)).mean((3, 5)) for k in ("stage3", "stage4")]
    torch.testing.assert_close(m.encode(images), torch.cat([c.flatten(1) for c in cells], 1))
    assert m.losses == "l1_coarse+l1_fine+hinge"


def test_small_images_are_attended_to_at_rate_1_and_it_is_said():
    assert method().generator.rate == 1 and "rate 1" in method().notes[0]
    assert method(64).generator.rate == 2 and not method(64).notes


def test_mistakes_are_told():
    with pytest.raises(UserError, match=r"backbone 'natve'.*Did you mean 'native'"):
        Settings(backbone="natve")
    for size, rate in ((30, 1), (64, 3), (64, 0)):
        with pytest.raises(UserError, match="a quarter of the size has to be a multiple of rate"):
            method(size, rate=rate)


def test_training_masks_may_be_where_vcnet_s_damage_lies():
    """Drawn as VCNet draws them: at least half of a pixel is left of what is seen."""
    b = batch(20)
    left = draw_damage(b.count, b.images.shape[-1], torch.Generator().set_state(b.generator.get_state()))
    assert torch.equal(method(masks="damage").draw_seen(b), (left >= 0.5).float().expand(-1, 3, -1, -1))
    with pytest.raises(UserError, match="masks"):
        method(masks="boxes")
