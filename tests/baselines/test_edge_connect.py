"""EdgeConnect: layers and counts by hand, phases to the update, losses by plain arithmetic, who sees what."""

import math
from dataclasses import asdict

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, conv_transpose2d

from mdebench.baselines._canny import canny, grey
from mdebench.baselines.edge_connect import Critic, Method, Residual, Settings, Spectral, SpectralUp
from mdebench.errors import UserError
from mdebench.methods.contract import Batch
from mdebench.methods.masks import draw_damage, draw_free_form
from mdebench.methods.perceptual import Perceptual
from mdebench.runs import Recipe
from mdebench.settings import build
from mdebench.training.trainer import Trainer

SIZE, COUNT = 32, 3


def method(size=SIZE, **values):
    torch.manual_seed(0)
    return Method(Settings(**({"width": 2, "code": 8, "perceptual": "none"} | values)), size)


def batch(step=0, updates=10, dtype=torch.float32):
    """Pictures with edges: smooth blotches of 8×8."""
    source = torch.Generator().manual_seed(100 + step)
    coarse = torch.rand(COUNT, 3, 5, 5, generator=source, dtype=dtype)
    images = nn.functional.interpolate(coarse, size=(SIZE, SIZE), mode="bicubic").clamp(0, 1)
    return Batch(images, torch.arange(COUNT), step, 0, 0, torch.Generator().manual_seed(step), updates)


def convolutions(network):
    """(inputs, outputs, kernel, stride, dilation, bias) of each convolution, in order."""
    found = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    return [
        (m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0], m.dilation[0], m.bias is not None) for m in found
    ]


# --- the networks -----------------------------------------------------------------------------------------------------

BLOCK = [(256, 256, 3, 1, 2, False), (256, 256, 3, 1, 1, False)]


def painter(inputs, outputs):
    down = [(inputs, 64, 7, 1, 1, False), (64, 128, 4, 2, 1, False), (128, 256, 4, 2, 1, False)]
    up = [(256, 128, 4, 2, 1, False), (128, 64, 4, 2, 1, False), (64, outputs, 7, 1, 1, True)]
    return [*down, *8 * BLOCK, *up]


def judge(inputs):
    widths = [(inputs, 64), (64, 128), (128, 256), (256, 512), (512, 1)]
    return [(i, o, 4, s, 1, False) for (i, o), s in zip(widths, (2, 2, 2, 1, 1))]


def by_hand(layers):
    return sum(i * o * k * k + o * bias for i, o, k, _, _, bias in layers)


def test_layers_and_parameters_at_paper_width_are_the_papers():
    """10.8 million in either generator, 2.76 million in either critic."""
    m = Method(Settings(), 96)
    networks = (m.edge_generator, m.image_generator, m.edge_critic, m.image_critic)
    expected = (painter(3, 1), painter(4, 3), judge(2), judge(4))
    counts = []
    for network, layers in zip(networks, expected):
        assert convolutions(network) == layers
        counts.append(sum(p.numel() for p in network.parameters()))
        assert counts[-1] == by_hand(layers)
    assert counts == [10_760_449, 10_769_859, 2_762_752, 2_764_800]
    assert m.feature_dim == 4096 and m.PAPER == "Nazeri et al. 2019"
    for network in networks[:2]:
        assert sum(isinstance(each, nn.InstanceNorm2d) for each in network.modules()) == len(painter(1, 1)) - 1
        assert isinstance(network.decoder[-1], nn.Sigmoid)


@pytest.mark.parametrize("size", [24, 32, 64, 96])
def test_shapes_at_the_working_sizes(size):
    m, images = method(size).eval(), torch.rand(2, 3, size, size)
    with torch.no_grad():
        shapes = [tuple(each.shape) for each in m.stages(images).values()]
        assert shapes == [(2, 4, size // 2, size // 2), *[(2, 8, size // 4, size // 4)] * 2]
        assert m.encode(images).shape == (2, 128) == (2, m.feature_dim)
        assert m.complete(images, torch.ones(1, 1, size, size)).shape == images.shape
        assert [each.shape[-1] for each in m.image_critic(torch.rand(2, 4, size, size))] == [
            *(size // 2, size // 4, size // 8),
            *(size // 8 - 1, size // 8 - 2),
        ]


def test_a_score_is_that_of_a_patch_of_70_pixels():
    critic = Critic(1, 1)
    for layer in critic.modules():
        if isinstance(layer, Spectral):
            nn.init.ones_(layer.parametrizations.weight.original)
    x = torch.ones(1, 1, 128, 128, requires_grad=True)
    (gradient,) = torch.autograd.grad(critic(x)[-1][0, 0, 7, 7], x)
    known = (gradient[0, 0] > 0).nonzero()
    assert (known.amax(0) - known.amin(0) + 1).tolist() == [70, 70]


def test_a_residual_block_is_two_normalised_convolutions_over_mirrored_borders():
    torch.manual_seed(0)
    block, x = Residual(4, nn.Conv2d).double(), torch.randn(2, 4, 6, 5, dtype=torch.float64)

    def step(x, weight, dilation):
        rows, columns = ([*range(dilation, 0, -1), *range(n), *range(n - 2, n - 2 - dilation, -1)] for n in x.shape[2:])
        y = conv2d(x[:, :, rows][..., columns], weight, dilation=dilation)
        mean, variance = y.mean((2, 3), keepdim=True), y.var((2, 3), keepdim=True, correction=0)
        return (y - mean) / (variance + 1e-5).sqrt()

    first, second = (c.weight for c in block.modules() if isinstance(c, nn.Conv2d))
    torch.testing.assert_close(block(x), x + step(step(x, first, 2).clamp(min=0), second, 1))


def test_edge_generator_and_critics_have_largest_singular_values_of_one():
    m = method().train()
    normal = [c for n in (m.edge_generator, m.edge_critic, m.image_critic) for c in n.modules()]
    normal = [c for c in normal if isinstance(c, Spectral | SpectralUp)]
    assert len(normal) == 21 + 5 + 5
    assert not any(isinstance(c, Spectral | SpectralUp) for c in m.image_generator.modules())
    with torch.no_grad():
        for layer in normal:
            raw = layer.parametrizations.weight.original
            raw.copy_(5 * torch.randn_like(raw))
            for _ in range(60):  # each look is a step of power iteration
                weight = layer.weight
            flat = weight.transpose(0, 1) if isinstance(layer, SpectralUp) else weight
            assert torch.linalg.svdvals(flat.flatten(1))[0].item() == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize(("kind", "convolve"), [(Spectral, conv2d), (SpectralUp, conv_transpose2d)])
def test_weights_are_normalised_in_full_precision_under_autocast(kind, convolve):
    torch.manual_seed(0)
    layer, x = kind(4, 4, 4, stride=2, padding=1, bias=False).eval(), torch.randn(2, 4, 8, 8)
    with torch.autocast("cpu", torch.bfloat16):
        found = layer(x)
    expected = convolve(x.bfloat16(), layer.weight.bfloat16(), stride=2, padding=1)
    assert found.dtype == torch.bfloat16 and torch.equal(found, expected)
    torch.testing.assert_close(layer(x), convolve(x, layer.weight, stride=2, padding=1))


# --- the phases -------------------------------------------------------------------------------------------------------

EDGES, COLOUR, BOTH = ("edge_critic", "edge_generator"), ("image_critic", "image_generator"), ("image_critic", "both")


@pytest.mark.parametrize(
    ("updates", "ends"), [(1000, (300, 600, 900)), (10, (3, 6, 9)), (7, (2, 4, 6)), (1, (0, 0, 0))]
)
def test_phases_end_at_their_shares(updates, ends):
    m = method()
    for step in range(updates):
        phase = sum(step >= end for end in ends)
        assert m.phase(step, updates) == phase
        assert m.turns(step, updates) == (EDGES, COLOUR, COLOUR, BOTH)[phase]


def test_phases_can_be_left_out():
    assert {method(phases=(1, 0, 0, 0)).turns(step, 7) for step in range(7)} == {EDGES}
    assert [method(phases=(0, 1, 0, 1)).phase(step, 4) for step in range(4)] == [1, 1, 3, 3]


def test_only_the_players_of_a_phase_move_and_both_generators_in_the_last():
    m = method()
    recipe = Recipe("edge_connect", "edge_connect", asdict(m.settings), "", SIZE, "", "", 0, 10, COUNT, "fp32", {})
    t = Trainer(m, recipe, torch.device("cpu"))
    moved = []
    for step in (0, 3, 6, 9):
        before = {name: p.detach().clone() for name, p in m.named_parameters()}
        parts = t.update(batch(step))
        assert all(value.isfinite() for value in parts.values())
        moved.append({n.partition(".")[0] for n, p in m.named_parameters() if not torch.equal(p, before[n])})
    assert moved == [set(EDGES), set(COLOUR), set(COLOUR), {"image_critic", "image_generator", "edge_generator"}]


def test_end_to_end_the_generators_move_at_a_hundredth():
    players = method(generator_lr=2e-4, critic_lr=3e-5).players()
    rates = {name: player.lr for name, player in players.items()}
    assert rates == pytest.approx(
        {"edge_critic": 3e-5, "edge_generator": 2e-4, "image_critic": 3e-5, "image_generator": 2e-4, "both": 2e-6}
    )
    assert all(player.options["betas"] == (0.0, 0.9) for player in players.values())


# --- the losses -------------------------------------------------------------------------------------------------------


def drawn(m, b):
    """Masks and what the first stage makes of them, by the definition: hole, true, known and drawn edges."""
    seen = draw_free_form(COUNT, SIZE, torch.Generator().manual_seed(b.step)).to(b.images)
    true = canny(grey(b.images), torch.ones_like(seen))
    known = canny(grey(b.images), seen)
    lines = m.edge_generator(torch.cat([grey(b.images) * seen, known, 1 - seen], 1))
    return 1 - seen, true, known, lines


def log_sigmoid(logits):
    return [math.log(1 / (1 + math.exp(-z))) for z in logits.flatten().tolist()]


def cross_entropies(critic, real, fake):
    """What the critic and what the generator minimise."""
    told, made = (critic(x)[-1] for x in (real, fake))
    count = made.numel()
    return -(sum(log_sigmoid(told)) + sum(log_sigmoid(-made))) / count, -sum(log_sigmoid(made)) / count


def test_losses_of_edges_by_plain_arithmetic():
    m, b = method(matching_weight=3.0).double().eval(), batch(dtype=torch.float64)
    with torch.no_grad():
        critic, _ = m.loss("edge_critic", b)
        total, parts = m.loss("edge_generator", b)
        _, true, _, lines = drawn(m, b)
        image = grey(b.images)
        real, fake = torch.cat([image, true], 1), torch.cat([image, lines], 1)
        expected, adversarial = cross_entropies(m.edge_critic, real, fake)
        matching = sum((a - c).abs().sum().item() / a.numel() for a, c in zip(*map(m.edge_critic, (real, fake))))
    assert true.sum() > 50 and len(m.edge_critic(fake)) == 5
    assert critic.item() == pytest.approx(expected, rel=1e-9)
    assert parts["adv"].item() == pytest.approx(adversarial, rel=1e-9)
    assert parts["fm"].item() == pytest.approx(matching, rel=1e-9)
    assert total.item() == pytest.approx(adversarial + 3 * matching, rel=1e-9)


@pytest.mark.parametrize(("step", "last"), [(3, "image_generator"), (6, "image_generator"), (9, "both")])
def test_losses_of_colour_by_plain_arithmetic(step, last):
    """True edges lead in the second phase, the known ones and in the hole the drawn ones afterwards."""
    m, b = method(l1_weight=2.0, adv_weight=0.3).double().eval(), batch(step, dtype=torch.float64)
    with torch.no_grad():
        critic, _ = m.loss("image_critic", b)
        total, parts = m.loss(last, b)
        hole, true, known, lines = drawn(m, b)
        edges = true if step == 3 else known.where(hole == 0, lines)
        image = m.image_generator(torch.cat([b.images * (1 - hole), edges], 1))
        real, fake = torch.cat([b.images, edges], 1), torch.cat([image, edges], 1)
        expected, adversarial = cross_entropies(m.image_critic, real, fake)
        l1 = (image - b.images).abs().sum().item() / b.images.numel() / (hole.sum().item() / hole.numel())
    assert critic.item() == pytest.approx(expected, rel=1e-9)
    assert parts["l1"].item() == pytest.approx(l1, rel=1e-9)
    assert parts["adv"].item() == pytest.approx(adversarial, rel=1e-9)
    assert total.item() == pytest.approx(2 * l1 + 0.3 * adversarial, rel=1e-9)


def test_perceptual_and_style_terms_are_those_of_the_papers_layers():
    """Of two blocks of VGG: relu1_1 and relu2_1 are perceptual, relu2_2 is style."""
    m, b = method(perceptual="random:0", perceptual_weight=0.5, style_weight=7.0).eval(), batch(3)
    vgg = Perceptual("vgg16", 2, "two blocks").requires_grad_(False)
    m.__dict__["vgg"] = vgg  # where a cached property keeps what it found
    with torch.no_grad():
        total, parts = m.loss("image_generator", b)
        hole, true, _, _ = drawn(m, b)
        image = m.image_generator(torch.cat([b.images * (1 - hole), true], 1))
        (c11, _, c12, _), (_, c21, _, c22, _) = vgg.blocks
        maps = []
        for x in (image, b.images):
            relu11 = c11((x - vgg.mean) / vgg.std).relu()
            relu21 = c21(nn.functional.max_pool2d(c12(relu11).relu(), 2)).relu()
            maps.append((relu11, relu21, c22(relu21).relu()))
        perceptual = sum((x - y).abs().mean().item() for x, y in list(zip(*maps))[:2])
        grams = [torch.einsum("nchw,ndhw->ncd", x[2], x[2]) / x[2][0].numel() for x in maps]
        style = (grams[0] - grams[1]).abs().mean().item()
    assert parts["perceptual"].item() == pytest.approx(perceptual, rel=1e-5)
    assert parts["style"].item() == pytest.approx(style, rel=1e-3)
    expected = parts["l1"] + 0.1 * parts["adv"] + 0.5 * parts["perceptual"] + 7 * parts["style"]
    torch.testing.assert_close(total, expected)
    assert m.perceptual == "two blocks" and m.losses == "adv+fm+l1+perceptual+style" and not m.notes
    assert not any("vgg" in name for name in m.state_dict())


def test_without_a_perceptual_network_its_terms_are_left_out_aloud():
    m = method()
    assert m.losses == "adv+fm+l1" and m.perceptual == "none" and "left out" in m.notes[0]
    assert set(m.loss("image_generator", batch(3)).parts) == {"l1", "adv"}


def test_each_turn_gives_gradients_to_its_own_player_only_and_nothing_is_made_twice():
    m, calls = method(), []
    for part in ("edge_generator", "image_generator"):
        getattr(m, part).register_forward_hook(lambda *_, part=part: calls.append(part))
    for step, wanted in (
        *((0, ["edge_generator"]), (3, ["image_generator"])),
        *((6, ["edge_generator", "image_generator"]), (9, ["edge_generator", "image_generator"])),
    ):
        calls.clear()
        b = batch(step)
        for player in m.turns(step, 10):
            m.zero_grad()
            own = m.players()[player].parameters
            m.loss(player, b).total.backward(inputs=own)
            assert all(p.grad is not None for p in own)
            assert all(p.grad is None for p in m.parameters() if not any(p is each for each in own))
        assert calls == wanted
    assert m._edge_turn is None and m._image_turn is None


# --- what is seen -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", ["native", "mde"])
@pytest.mark.parametrize("shape", [(1, 1), (COUNT, 1), (COUNT, 3)])
def test_only_seen_values_matter(backbone, shape):
    m, images = method(backbone=backbone).eval(), batch().images
    seen = draw_free_form(shape[0] * shape[1], SIZE, torch.Generator().manual_seed(5)).view(*shape, SIZE, SIZE)
    other = images * seen + (1 - seen) * torch.rand(images.shape, generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        output = m.complete(images, seen)
        assert not torch.equal(images, other) and torch.equal(m.complete(other, seen), output)
        assert not torch.equal(m.complete(images * 0.9, seen), output)


def test_completing_is_led_by_known_edges_and_in_the_hole_by_edges_of_its_own():
    m, images = method().eval(), batch().images
    seen = draw_free_form(COUNT, SIZE, torch.Generator().manual_seed(5))
    inputs, lines = [], []
    m.image_generator.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    m.edge_generator.register_forward_hook(lambda _, arguments, output: lines.append((arguments[0], output)))
    with torch.no_grad():
        output = m.complete(images, seen)
    (told, made), (x,) = lines[0], inputs
    assert torch.equal(told, torch.cat([grey(images * seen) * seen, canny(grey(images), seen), 1 - seen], 1))
    assert torch.equal(x[:, :3], images * seen)
    assert torch.equal(x[:, 3:], torch.where(seen > 0, canny(grey(images), seen), made))
    assert torch.equal(output, m.image_generator(x))


def test_where_any_channel_is_missing_no_edge_is_known_and_other_channels_keep_their_values():
    m, images = method().eval(), batch().images
    seen = torch.ones(COUNT, 3, SIZE, SIZE)
    seen[:, 0, :, :16] = 0
    inputs = []
    m.edge_generator.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    m.image_generator.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    m.complete(images, seen)
    edges, image = inputs
    assert (edges[..., :16] == torch.tensor([0.0, 0.0, 1.0])[:, None, None]).all() and (edges[:, 2, :, 16:] == 0).all()
    assert torch.equal(image[:, 1:3], images[:, 1:]) and (image[:, 0, :, :16] == 0).all()


def test_the_code_is_that_of_the_second_stage_led_by_the_images_own_edges():
    images = batch().images
    m = method().eval()
    x = torch.cat([images, canny(grey(images), torch.ones(COUNT, 1, SIZE, SIZE))], 1)
    last = m.image_generator.encoder.maps(x)["stage3"]
    torch.testing.assert_close(m.encode(images), last.reshape(COUNT, 8, 4, 2, 4, 2).mean((3, 5)).flatten(1))
    m = method(backbone="mde").eval()
    torch.testing.assert_close(m.encode(images), m.image_generator.encoder(x)[0])
    assert m.feature_dim == 8 and list(m.stages(images)) == ["stage1", "stage2", "stage3"]


def test_training_masks_are_free_form_and_the_same_in_all_channels():
    seen = method().draw_seen(batch())
    assert seen.shape == (COUNT, 3, SIZE, SIZE) and set(seen.unique().tolist()) == {0, 1}
    assert (seen == seen[:, :1]).all()


def test_mistakes_are_told():
    with pytest.raises(UserError, match=r"backbone 'nativ'.*Did you mean 'native'"):
        method(backbone="nativ")
    for size in (20, 30):
        with pytest.raises(UserError, match=f"at least 24 pixels that 4 divides, not {size} pixels"):
            method(size)
    for phases in ("1,2,3", "0,0,0,0", "1,-1,5,0"):
        with pytest.raises(UserError, match="4 shares"):
            build(Settings, {"phases": phases})


def test_training_masks_may_be_where_vcnet_s_damage_lies():
    """Drawn as VCNet draws them: at least half of a pixel is left of what is seen."""
    b = batch()
    left = draw_damage(b.count, b.images.shape[-1], torch.Generator().set_state(b.generator.get_state()))
    assert torch.equal(method(masks="damage").draw_seen(b), (left >= 0.5).float().expand(-1, 3, -1, -1))
    with pytest.raises(UserError, match="masks"):
        method(masks="boxes")
