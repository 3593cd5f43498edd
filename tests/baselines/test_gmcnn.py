"""GMCNN: layers counted by hand, the confidence and the losses by plain loops, phases and turns to the update."""

import math
from dataclasses import replace

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.nn.functional import conv2d, elu

from mdebench.baselines.gmcnn import Convolution, Method, Settings, confidence, cut, draw_corners
from mdebench.errors import UserError
from mdebench.methods.appearance import id_mrf
from mdebench.methods.contract import Batch
from mdebench.methods.perceptual import load_perceptual
from mdebench.settings import build

SIZE, COUNT = 32, 3


def batch(step=9, size=SIZE, count=COUNT):
    """Of a run of ten updates: from the fifth on the critics play."""
    g = torch.Generator().manual_seed(step)
    return Batch(torch.rand(count, 3, size, size, generator=g), torch.arange(count), step, 0, 0, g, 10)


def method(size=SIZE, **values):
    torch.manual_seed(0)
    return Method(Settings(**({"width": 4, "code": 8, "perceptual": "none"} | values)), size)


def parameters(network):
    return sum(p.numel() for p in network.parameters())


# --- the networks -----------------------------------------------------------------------------------------------------

TRUNK = [(4, 32, 1, 1), (32, 64, 2, 1), (64, 64, 1, 1), (64, 128, 2, 1), *[(128, 128, 1, 1)] * 2]
TRUNK += [*((128, 128, 1, d) for d in (2, 4, 8, 16)), *[(128, 128, 1, 1)] * 2]
AFTER = {7: [], 5: [(128, 64, 1, 1), (64, 64, 1, 1)]}
AFTER[3] = [*AFTER[5], (64, 32, 1, 1), (32, 32, 1, 1)]


def test_the_paper_width_has_the_papers_layers_and_the_originals_parameters():
    with torch.device("meta"):
        m = Method(Settings(), 96)
    expected = 0
    for column, kernel in zip(m.generator.columns, (7, 5, 3), strict=True):
        found = [c for c in column.modules() if isinstance(c, nn.Conv2d)]
        assert {c.kernel_size for c in found} == {(kernel, kernel)}
        layers = [(c.in_channels, c.out_channels, c.stride[0], c.dilation[0]) for c in found]
        assert layers == TRUNK + AFTER[kernel]
        expected += sum(o * (i * kernel**2 + 1) for i, o, *_ in layers)
    joined = 128 + 64 + 32
    expected += 16 * (joined * 9 + 1) + 3 * (16 * 9 + 1)
    assert parameters(m.generator) == expected == 12_561_891  # 12.56 million in the original
    trunk = sum(o * (i * 25 + 1) for i, o in [(3, 64), (64, 128), (128, 256), (256, 256)])
    heads = 6 * 6 * 256 + 1 + 3 * 3 * 256 + 1
    assert parameters(m.critics) == 2 * trunk + heads == 5_347_330  # 5.35 million
    assert m.feature_dim == 3 * 128 * 16 and m.PAPER == "Wang et al. 2018"


@pytest.mark.parametrize("kernel", [3, 5, 7])
def test_taps_that_never_reach_the_map_change_nothing(kernel):
    """Output and gradients of the whole kernel in zeros, on maps that it hangs over and on one that it does not."""
    g = torch.Generator().manual_seed(0)
    for side, dilation, stride in ((6, 16, 1), (6, 2, 1), (2, 1, 2), (1, 1, 1), (60, 16, 1)):
        layer = Convolution(3, 4, kernel, stride, dilation).double()
        x = torch.randn(2, 3, side, side, generator=g, dtype=torch.float64)
        whole = elu(conv2d(x, layer.weight, layer.bias, stride, dilation * (kernel // 2), dilation))
        expected = torch.autograd.grad(whole.square().sum(), layer.weight)
        found = layer(x)
        torch.testing.assert_close(found, whole)
        torch.testing.assert_close(torch.autograd.grad(found.square().sum(), layer.weight), expected)


def test_weights_start_so_that_the_variance_stays():
    torch.manual_seed(0)
    x = torch.randn(4, 16, 40, 40)
    for _ in range(6):
        x = Convolution(x.shape[1], 32, 3)(x)
    assert 0.6 < x[..., 8:-8, 8:-8].square().mean() < 1.6


@pytest.mark.parametrize("size", [8, 12, 32, 64])
def test_shapes_at_the_working_sizes(size):
    m, images = method(size).eval(), torch.rand(2, 3, size, size)
    with torch.no_grad():
        half, quarter = size // 2, size // 4
        shapes = [tuple(each.shape) for each in m.stages(images).values()]
        assert shapes == [(2, 12, half, half), *[(2, 24, quarter, quarter)] * 2]
        assert m.encode(images).shape == (2, m.feature_dim) == (2, 384)
        assert m.complete(images, torch.ones(1, 1, size, size)).shape == images.shape
        assert m.critics["image"](images).shape == m.critics["hole"](images[..., :half, :half]).shape == (2,)


def test_the_representation_is_all_columns_averaged_over_a_grid():
    m, images = method().eval(), batch().images
    x = torch.cat([2 * images - 1, torch.zeros(COUNT, 1, SIZE, SIZE)], dim=1)
    cells = []
    for column in m.generator.columns:
        last = x
        for stage in column.stages:
            last = stage(last)
        cells.append(last.reshape(COUNT, 8, 4, 2, 4, 2).mean((3, 5)).flatten(1))
    torch.testing.assert_close(m.encode(images), torch.cat(cells, dim=1))


# --- holes, confidence, and what is seen ------------------------------------------------------------------------------


def test_holes_have_half_of_the_side_and_lie_anywhere_inside():
    corners = draw_corners(4000, 8, torch.Generator().manual_seed(0))
    assert sorted(set(map(tuple, corners.tolist()))) == [(y, x) for y in range(5) for x in range(5)]
    m = method()
    b = batch(count=40)
    seen = m.draw_seen(b)
    assert seen.shape == (40, 3, SIZE, SIZE) and set(seen.unique().tolist()) == {0.0, 1.0}
    missing = seen[:, 0] == 0
    assert (seen == seen[:, :1]).all() and (missing.any(2).sum(1) == 16).all() and (missing.sum((1, 2)) == 256).all()


def test_what_is_cut_out_is_the_hole():
    m, b = method(), batch()
    turn = m._complete_batch(b)
    assert (cut(turn.hole, turn.corners) == 1).all() and turn.hole.sum() == COUNT * 256
    assert torch.equal((turn.composite == 2 * b.images - 1).all(1, keepdim=True), turn.hole == 0)
    assert torch.equal(cut(turn.composite, turn.corners), cut(turn.output, turn.corners))


def test_confidence_equals_the_slow_loops():
    """At 16 pixels: a window of 5 with a deviation of 2.5, nothing known outside the image, seven times."""
    hole = torch.zeros(1, 1, 16, 16, dtype=torch.float64)
    hole[..., 6:14, 0:8] = 1
    offsets = range(-2, 3)
    bell = {(a, b): math.exp(-(a * a + b * b) / (2 * 2.5**2)) for a in offsets for b in offsets}
    total, weights = sum(bell.values()), [[0.0] * 16 for _ in range(16)]
    for _ in range(7):
        known = [[1 - hole[0, 0, i, j].item() + weights[i][j] for j in range(16)] for i in range(16)]
        weights = [
            [
                hole[0, 0, i, j].item()
                * sum(
                    g / total * known[i + a][j + b] for (a, b), g in bell.items() if 0 <= i + a < 16 and 0 <= j + b < 16
                )
                for j in range(16)
            ]
            for i in range(16)
        ]
    torch.testing.assert_close(confidence(hole)[0, 0], torch.tensor(weights, dtype=torch.float64))


def test_confidence_falls_from_the_rim_to_the_middle():
    hole = torch.zeros(1, 1, 96, 96)
    hole[..., 24:72, 24:72] = 1
    row = confidence(hole)[0, 0, 48, 24:48]
    assert (row.diff() < 0).all() and 0.8 < row[0] < 0.9 and row[-1] > 0.4
    assert (confidence(hole)[hole == 0] == 0).all()


@pytest.mark.parametrize("backbone", ["native", "mde"])
def test_only_seen_values_matter_also_where_channels_are_missing_one_by_one(backbone):
    m = method(backbone=backbone).eval()
    g = torch.Generator().manual_seed(1)
    images, other = torch.rand(2, 2, 3, SIZE, SIZE, generator=g)
    seen = (torch.rand(2, 3, SIZE, SIZE, generator=g) > 0.3).float()
    with torch.no_grad():
        output = m.complete(images, seen)
        assert torch.equal(m.complete(torch.where(seen > 0, images, other), seen), output)
        assert not torch.equal(m.complete(torch.where(seen > 0, other, images), seen), output)


# --- phases and turns -------------------------------------------------------------------------------------------------

ALONE, ALL = ("generator",), ("critics",) * 5 + ("generator",)


def test_the_critics_come_in_at_their_share_five_turns_for_one():
    m = method()
    assert [m.turns(step, 5) for step in range(5)] == [ALONE] * 2 + [ALL] * 3
    assert {method(phases=(1, 0)).turns(step, 7) for step in range(7)} == {ALONE}
    assert {method(phases=(0, 1)).turns(step, 7) for step in range(7)} == {ALL}
    assert [method(phases=(1, 0)).losses, method().losses] == ["l1", "l1+adv"]


@pytest.mark.parametrize("backbone", ["native", "mde"])
def test_an_update_completes_once_and_each_turn_gives_gradients_to_its_own_player_only(backbone):
    m, b, calls = method(backbone=backbone), batch(), []
    m.generator.register_forward_hook(lambda *_: calls.append("generator"))
    penalties = []
    for player in m.turns(9, 10):
        m.zero_grad()
        total, parts = m.loss(player, b)
        total.backward(inputs=m.players()[player].parameters)
        other = ({"critics", "generator"} - {player}).pop()
        assert all(p.grad is not None for p in m.players()[player].parameters)
        assert all(p.grad is None for p in m.players()[other].parameters)
        penalties.append(parts.get("penalty"))
    assert calls == ["generator"] and m._turn is None
    assert len({p.item() for p in penalties[:5]}) == 5  # each between images mixed anew
    assert set(parts) == {"seen", "hole", "adv"}


def test_another_batch_is_completed_anew():
    """A turn whose update was broken off is not gone on with."""
    m = method()
    alone = m.loss("critics", batch(8)).total
    m.loss("critics", batch(9))
    assert m.loss("critics", batch(8)).total == alone


def test_phase_one_asks_the_critics_nothing():
    m = method(perceptual="random:0")
    total, parts = m.loss("generator", batch(0))
    found = torch.autograd.grad(total, list(m.critics.parameters()), allow_unused=True)
    assert all(each is None for each in found) and set(parts) == {"seen", "hole"}
    assert total.item() == pytest.approx(sum(p.item() for p in parts.values()), rel=1e-6)


# --- the losses -------------------------------------------------------------------------------------------------------


def doubled(**values):
    """A method in float64 and a batch; completion, hole and corners as the same draws give them."""
    m, b = method(**values).double().eval(), batch()
    b = replace(b, images=b.images.double())
    same = torch.Generator()
    same.set_state(b.generator.get_state())
    corners = draw_corners(COUNT, SIZE, same)
    seen = torch.ones(COUNT, 1, SIZE, SIZE, dtype=torch.float64)
    for n, (y, x) in enumerate(corners.tolist()):
        seen[n, :, y : y + 16, x : x + 16] = 0
    real = 2 * b.images - 1
    with torch.no_grad():
        output = m.generator(torch.cat([real * seen, 1 - seen], dim=1))
    return m, b, real, output, seen, [(slice(y, y + 16), slice(x, x + 16)) for y, x in corners.tolist()]


def test_generator_loss_by_plain_arithmetic():
    m, b, real, output, seen, holes = doubled(adv_weight=0.3, mrf_weight=0.2, perceptual="random:0")
    weights = confidence(1 - seen).expand_as(real)
    total, parts = m.loss("generator", b)
    errors = {True: [], False: []}
    for o, r, s, w in zip(*(each.flatten().tolist() for each in (output, real, seen.expand_as(real), weights))):
        errors[s == 1].append(abs(o - r) * (1 if s else w))
    assert parts["seen"].item() == pytest.approx(sum(errors[True]) / len(errors[True]), rel=1e-9)
    assert parts["hole"].item() == pytest.approx(sum(errors[False]) / len(errors[False]), rel=1e-9)
    fake = torch.where(seen > 0, real, output)
    windows, wanted = (torch.stack([i[:, y, x] for i, (y, x) in zip(each, holes)]) for each in (fake, real))
    with torch.no_grad():
        judged = m.critics["image"](fake).mean() + m.critics["hole"](windows).mean()
    assert parts["adv"].item() == pytest.approx(-judged.item(), rel=1e-9)
    assert parts["mrf"].item() == pytest.approx(slow_textures(m, windows, wanted), rel=1e-6)
    expected = parts["seen"] + parts["hole"] + 0.3 * parts["adv"] + 0.2 * parts["mrf"]
    assert total.item() == pytest.approx(expected.item(), rel=1e-9) and m.losses == "l1+adv+mrf"


def slow_textures(m, made, true):
    """2 L_M(conv4_2) + L_M(conv3_2) with the network's layers one by one; L_M is tested where it stands."""
    vgg, found = m.vgg, {}
    for name, images in (("made", made), ("true", true)):
        x, convolutions = ((images + 1) / 2 - vgg.mean) / vgg.std, vgg.convolutions()
        for place, conv in enumerate(convolutions[:9]):
            x = nn.functional.max_pool2d(x, 2) if place in (2, 4, 7) else x
            x = conv(x).relu()
            found[name, place] = x
    return sum(weight * id_mrf(found["made", k], found["true", k]).item() for k, weight in ((5, 1), (8, 2)))


def test_critics_loss_by_plain_arithmetic():
    m, b, real, output, seen, holes = doubled(penalty_weight=3.0)
    state = b.generator.get_state()
    total, parts = m.loss("critics", b)
    g = torch.Generator()
    g.set_state(state)
    draw_corners(COUNT, SIZE, g)
    fake, weights = torch.where(seen > 0, real, output), confidence(1 - seen)
    distance = penalty = 0.0
    for name, critic in m.critics.items():
        mix = torch.rand(COUNT, 1, 1, 1, generator=g).flatten().double()
        for n in range(COUNT):
            y, x = holes[n] if name == "hole" else (slice(None), slice(None))
            r, f, w = (each[n : n + 1, :, y, x] for each in (real, fake, weights))
            with torch.no_grad():
                distance += (critic(f) - critic(r)).item() / COUNT
            point = (mix[n] * r + (1 - mix[n]) * f).requires_grad_()
            (slope,) = torch.autograd.grad(critic(point).sum(), point)
            length = math.sqrt(sum(v * v for v in (slope * w).flatten().tolist()))
            penalty += (length - 1) ** 2 / COUNT
    assert parts["distance"].item() == pytest.approx(distance, rel=1e-6)
    assert parts["penalty"].item() == pytest.approx(penalty, rel=1e-6)
    assert total.item() == pytest.approx(distance + 3 * penalty, rel=1e-6)


@pytest.mark.parametrize("player", ["critics", "generator"])
def test_processes_that_share_a_batch_find_what_one_alone_would(player):
    """The mean over two halves of a batch is the loss of all of it."""
    m = method(perceptual="random:0").double()

    def loss(rows, **part):
        whole = batch(count=4)
        return m.loss(player, replace(whole, images=whole.images[rows].double(), index=whole.index[rows], **part))

    found = [loss(slice(2 * part, 2 * part + 2), part=part, parts=2) for part in range(2)]
    expected = loss(slice(None))
    for name, value in expected.parts.items():
        torch.testing.assert_close((found[0].parts[name] + found[1].parts[name]) / 2, value)


@pytest.mark.parametrize(("size", "count"), [(8, 1), (20, 2)])
def test_bf16_gives_what_float32_gives_but_for_rounding(size, count):
    """Down to critics whose last maps are a single pixel."""
    losses = []
    for bf16 in (False, True):
        m, b = method(size), batch(size=size, count=count)
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            for player in ("critics", "generator"):
                loss = m.loss(player, b)
                loss.total.backward(inputs=m.players()[player].parameters)
                losses.append(loss.total)
        assert all(p.grad.isfinite().all() for p in m.parameters())
    assert all(each.dtype == torch.float32 for each in losses)
    torch.testing.assert_close(losses[2:], losses[:2], rtol=0.05, atol=0.05)


# --- textures that are left out, aloud --------------------------------------------------------------------------------


def test_what_is_left_out_is_said():
    assert method().notes == ["ID-MRF left out: perceptual=none, and it compares textures in a perceptual network"]
    small = method(16, perceptual="random:0")
    assert small.notes == ["ID-MRF without relu4_2: of a hole of 8 pixels these see one place"]
    assert set(small.loss("generator", batch(size=16)).parts) == {"seen", "hole", "adv", "mrf"}
    assert method(8, perceptual="random:0").losses == "l1+adv" and method(8, perceptual="random:0").perceptual == "none"
    whole = method(perceptual="random:0")
    assert not whole.notes and whole.perceptual == "vgg16-random:0" and whole.losses == "l1+adv+mrf"
    alone = method(perceptual="random:0", phases=(1, 0))
    assert not alone.notes and alone.perceptual == "none"


def test_a_file_that_is_not_deep_enough_gives_what_it_has(tmp_path):
    deep = load_perceptual("random:0")
    names = [f"features.{n}" for n in (0, 2, 5, 7, 10, 12, 14)]
    state = {f"{n}.{part}": getattr(c, part) for n, c in zip(names, deep.convolutions()) for part in ("weight", "bias")}
    save_file(state, tmp_path / "vgg.safetensors")
    m = method(perceptual=str(tmp_path / "vgg.safetensors"))
    assert m.perceptual.startswith("vgg16-relu3:")
    assert m.notes == [f"ID-MRF without relu4_2: {m.perceptual} is not that deep"]
    assert m.loss("generator", batch()).parts["mrf"].isfinite()


def test_mistakes_are_told():
    with pytest.raises(UserError, match=r"backbone 'natve'.*Did you mean 'native'"):
        Settings(backbone="natve")
    for phases in ("1", "0,0", "1,-1", "1,1,1"):
        with pytest.raises(UserError, match="2 shares"):
            build(Settings, {"phases": phases})
    for size in (30, 4):
        with pytest.raises(UserError, match="8 pixels or more that 4 divides"):
            method(size)
