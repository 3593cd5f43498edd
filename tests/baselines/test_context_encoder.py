"""The context encoder: its layers from the paper's facts, its losses by plain arithmetic, what each network sees."""

import math
from itertools import pairwise

import pytest
import torch
from torch import nn

from mdebench.baselines.context_encoder import Method, Settings, draw_blocks, pixel_weights
from mdebench.errors import UserError
from mdebench.methods.contract import Batch
from mdebench.methods.networks import Generator
from mdebench.runs import Recipe
from mdebench.training.trainer import Trainer

SMALL = {"width": 4, "code": 8, "overlap": 1}  # at 16 pixels: a square of 8, its hole of 6


def batch(step=0, n=3, size=16):
    generator = torch.Generator().manual_seed(step)
    images = torch.rand(n, 3, size, size, generator=generator)
    return Batch(images, torch.arange(n), step, 0, 0, generator, 10)


def method(size=16, **values):
    torch.manual_seed(0)
    return Method(Settings(**(SMALL | values)), size).eval()  # eval: batch-norm constants keep the game still


def inputs_of(module):
    """What a module is called with from now on, one tensor per call."""
    calls = []
    module.register_forward_pre_hook(lambda _, inputs: calls.append(inputs[0].detach().clone()))
    return calls


def convolutions(module):
    found = [m for m in module.modules() if isinstance(m, nn.Conv2d | nn.ConvTranspose2d)]
    assert all(m.bias is None for m in found)
    return [(m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0], m.padding[0]) for m in found]


def paper(size, mask):
    """At the paper's widths, without memory for the weights."""
    with torch.device("meta"):
        return Method(Settings(mask=mask), size)


def count(module):
    return sum(p.numel() for p in module.parameters())


# Parameters by hand from the facts, 16 per pair of channels in a 4×4 kernel, 2 per channel of a batch-norm.
CODE128 = 512 * 16 * 4000 + 2 * 4000
ENCODER128 = 16 * (3 * 64 + 64 * 64 + 64 * 128 + 128 * 256 + 256 * 512) + 2 * (64 + 128 + 256 + 512) + CODE128
DECODER64 = 4000 * 512 * 16 + 16 * (512 * 256 + 256 * 128 + 128 * 64 + 64 * 3) + 2 * (512 + 256 + 128 + 64)
JUDGE64 = 16 * (3 * 64 + 64 * 128 + 128 * 256 + 256 * 512 + 512) + 2 * (128 + 256 + 512)


@pytest.mark.parametrize(
    ("mask", "ups", "decoder", "judge"),
    [
        ("centre", [512, 256, 128, 64], DECODER64, JUDGE64),
        # one more 64 → 64 layer with its batch-norm in each
        ("random", [512, 256, 128, 64, 64], DECODER64 + 16 * 64 * 64 + 128, JUDGE64 + 16 * 64 * 64 + 128),
    ],
)
def test_the_papers_layers_at_its_128_pixels(mask, ups, decoder, judge):
    m = paper(128, mask)
    downs = [(i, o, 4, 2, 1) for i, o in pairwise([3, 64, 64, 128, 256, 512])]
    assert convolutions(m.generator.encoder) == [*downs, (512, 4000, 4, 1, 0)]
    assert convolutions(m.generator.decoder) == [
        (4000, 512, 4, 1, 0),
        *((i, o, 4, 2, 1) for i, o in pairwise([*ups, 3])),
    ]
    downs = [(i, o, 4, 2, 1) for i, o in pairwise([3, *ups[::-1]])]
    assert convolutions(m.discriminator) == [*downs, (512, 1, 4, 1, 0)]
    parts = m.generator.encoder, m.generator.decoder, m.discriminator
    assert [count(part) for part in parts] == [ENCODER128, decoder, judge]
    assert (ENCODER128, DECODER64, JUDGE64) == (35_599_040, 35_525_504, 2_765_568)


@pytest.mark.parametrize(
    ("size", "downs", "kernel"), [(64, [3, 64, 128, 256, 512], 4), (96, [3, 64, 64, 128, 256, 512], 3)]
)
def test_smaller_images_keep_the_last_layers_and_a_kernel_of_the_maps_size(size, downs, kernel):
    for mask, ups in (("random", downs[:0:-1]), ("centre", downs[:1:-1])):  # the square needs a layer less
        m = paper(size, mask)
        layers = [(i, o, 4, 2, 1) for i, o in pairwise(downs)]
        assert convolutions(m.generator.encoder) == [*layers, (512, 4000, kernel, 1, 0)]
        layers = [(i, o, 4, 2, 1) for i, o in pairwise([*ups, 3])]
        assert convolutions(m.generator.decoder) == [(4000, 512, kernel, 1, 0), *layers]
        assert convolutions(m.discriminator)[-1] == (512, 1, kernel, 1, 0)
        numbers = 16 * sum(i * o for i, o in pairwise(downs)) + 512 * kernel**2 * 4000
        assert count(m.generator.encoder) == numbers + 2 * (sum(downs[2:]) + 4000)


@pytest.mark.parametrize(("size", "sides"), [(64, [32, 16, 8, 4]), (96, [48, 24, 12, 6, 3]), (128, [64, 32, 16, 8, 4])])
@pytest.mark.parametrize("mask", ["random", "centre"])
def test_maps_halve_and_the_window_is_the_image_or_half_its_side(size, sides, mask):
    m, images = method(size, mask=mask), torch.rand(2, 3, size, size)
    with torch.no_grad():
        window = m.generator(images)
        assert window.shape[2:] == ((size, size) if mask == "random" else (size // 2, size // 2))
        assert m.discriminator(window).shape == (2,) and m.encode(images).shape == (2, 8)
        assert [each.shape[2] for each in m.stages(images).values()] == sides


def test_activations_are_leaky_on_the_way_down_and_plain_on_the_way_up_and_only_the_first_layer_has_no_norm():
    m = method(32)
    names = [[type(layer).__name__ for layer in stage] for stage in m.generator.encoder.stages]
    assert names == [["Conv2d", "LeakyReLU"]] + [["Conv2d", "BatchNorm2d", "LeakyReLU"]] * 2
    assert {x.negative_slope for x in m.modules() if isinstance(x, nn.LeakyReLU)} == {0.2}
    up = ["ConvTranspose2d", "BatchNorm2d", "ReLU"]
    assert [type(layer).__name__ for layer in m.generator.decoder] == ["Unflatten", *up * 3, "ConvTranspose2d", "Tanh"]


def test_weights_start_from_a_normal_of_deviation_002():
    m = method(32, width=32, code=100)
    for network in (m.generator.encoder, m.generator.decoder, m.discriminator):
        convs = [x.weight.flatten() for x in network.modules() if isinstance(x, nn.Conv2d | nn.ConvTranspose2d)]
        norms = [x.weight for x in network.modules() if isinstance(x, nn.BatchNorm2d)]
        drawn = torch.cat(convs)
        assert abs(drawn.mean()) < 3e-4 and drawn.std().item() == pytest.approx(0.02, rel=0.02)
        assert drawn.abs().max() > 0.06  # no uniform of that deviation reaches beyond 0.035
        assert torch.cat(norms).mean().item() == pytest.approx(1, abs=5e-3)
        assert torch.cat(norms).std().item() == pytest.approx(0.02, rel=0.2)
        assert not any(x.bias.any() for x in network.modules() if isinstance(x, nn.BatchNorm2d))


def test_the_band_lies_on_the_seen_side_of_the_holes_edge():
    seen = torch.ones(1, 1, 5, 6)
    seen[..., 1:3, 0:2] = 0
    by_hand = [
        [10, 10, 10, 1, 1, 1],
        [1, 1, 10, 1, 1, 1],
        [1, 1, 10, 1, 1, 1],
        [10, 10, 10, 1, 1, 1],
        [1, 1, 1, 1, 1, 1],
    ]
    assert pixel_weights(seen, 1, 10.0)[0, 0].tolist() == by_hand
    assert pixel_weights(seen, 0, 10.0).unique().tolist() == [1]


def test_the_centred_hole_is_the_square_less_its_band():
    m, b = method(mask="centre", overlap=2), batch()
    seen = m.draw_seen(b)
    hole = torch.zeros(16, 16, dtype=torch.bool)
    hole[6:10, 6:10] = True  # the square is 4:12, two pixels of it seen on each side
    assert torch.equal(seen == 0, hole.expand(3, 3, 16, 16))
    weights = m._predict_batch(b)[1]
    by_hand = torch.full((8, 8), 10.0)
    by_hand[2:6, 2:6] = 1
    assert torch.equal(weights, by_hand.expand(3, 1, 8, 8))


def slow_weight(seen, overlap, y, x):
    """1 on a missing pixel and far from any; 10 on a seen one with a missing one within ``overlap``."""
    size = len(seen)
    near = [
        seen[v][u]
        for v in range(max(0, y - overlap), min(size, y + overlap + 1))
        for u in range(max(0, x - overlap), min(size, x + overlap + 1))
    ]
    return 10 if seen[y][x] == 1 and 0 in near else 1


def slow_l2(b, seen, window, low, high, overlap):
    """Mean over every predicted number of weight × error², in [-1, 1], pixel by pixel in Python's floats."""
    images, predicted, seen, terms = b.images.tolist(), window.tolist(), seen.tolist(), []
    for n in range(len(images)):
        for y in range(low, high):
            for x in range(low, high):
                weight = slow_weight(seen[n][0], overlap, y, x)
                for c in range(3):
                    target = 2 * images[n][c][y][x] - 1
                    terms.append(weight * (predicted[n][c][y - low][x - low] - target) ** 2)
    return math.fsum(terms) / len(terms)


def slow_entropy(logits, real):
    """Mean of −log D, or of −log(1 − D), D the sigmoid."""
    shares = [1 / (1 + math.exp(-logit if real else logit)) for logit in logits.tolist()]
    return -math.fsum(math.log(share) for share in shares) / len(shares)


@pytest.mark.parametrize("backbone", ["native", "mde"])
@pytest.mark.parametrize("mask", ["random", "centre"])
@pytest.mark.parametrize("objective", ["l2", "adv", "joint"])
def test_each_objective_against_plain_arithmetic(objective, mask, backbone):
    m = method(objective=objective, mask=mask, backbone=backbone)
    low, high = (4, 12) if mask == "centre" else (0, 16)
    outputs = []
    m.generator.register_forward_hook(lambda *call: outputs.append(call[2].detach()))
    seen = m.draw_seen(batch())
    parts = {player: m.loss(player, batch()) for player in m.turns(0, 10)}
    assert len(outputs) == 1  # the completion serves both players
    window = outputs[0] if backbone == "native" else outputs[0][..., low:high, low:high]
    total, found = parts["generator"]
    expected = 0.0
    if objective != "adv":
        l2 = slow_l2(batch(), seen, window, low, high, overlap=1)
        assert found["l2"].item() == pytest.approx(l2, rel=1e-5)
        expected += 0.999 * l2
    if objective != "l2":
        with torch.no_grad():
            fake = m.discriminator(window)
            real = m.discriminator(2 * batch().images[..., low:high, low:high] - 1)
        fooled = slow_entropy(fake, real=True)
        assert found["adv"].item() == pytest.approx(fooled, rel=1e-5)
        expected += 0.001 * fooled
        judged = slow_entropy(real, real=True) + slow_entropy(fake, real=False)
        assert parts["discriminator"].total.item() == pytest.approx(judged, rel=1e-5)
    assert total.item() == pytest.approx(expected, rel=1e-5)
    assert list(found) == m.losses.split("+") and m.losses == {"joint": "l2+adv"}.get(objective, objective)


def test_without_an_adversary_there_is_no_discriminator():
    m = method(objective="l2")
    assert m.discriminator is None and m.turns(0, 10) == ("generator",)
    assert method().turns(0, 10) == ("discriminator", "generator")


@pytest.mark.parametrize("objective", ["adv", "joint"])
def test_each_turn_gives_gradients_to_its_own_player_only(objective):
    m, b = method(objective=objective), batch()
    players = m.players()
    assert sum(len(p.parameters) for p in players.values()) == len(list(m.parameters()))
    judged = m.loss("discriminator", b).total
    to_generator = torch.autograd.grad(judged, players["generator"].parameters, allow_unused=True, retain_graph=True)
    assert all(g is None for g in to_generator)  # the prediction is detached
    judged.backward(inputs=players["discriminator"].parameters)
    assert all(p.grad.any() for p in players["discriminator"].parameters)
    m.zero_grad()
    m.loss("generator", b).total.backward(inputs=players["generator"].parameters)
    assert all(p.grad is None for p in players["discriminator"].parameters)
    assert all(p.grad is not None for p in players["generator"].parameters)
    assert m.generator.encoder.stages[0][0].weight.grad.any()


@pytest.mark.parametrize(("mask", "low", "high"), [("random", 0, 16), ("centre", 4, 12)])
def test_the_discriminator_sees_all_that_is_predicted_and_nothing_else(mask, low, high):
    m, b = method(mask=mask), batch()
    judged = inputs_of(m.discriminator)
    predicted, _ = m._predict_batch(batch())
    m.loss("discriminator", b)
    m.loss("generator", b)
    real, fake, again = judged
    torch.testing.assert_close(real, 2 * b.images[..., low:high, low:high] - 1)
    assert torch.equal(fake, predicted) and torch.equal(again, fake)


@pytest.mark.parametrize("backbone", ["native", "mde"])
@pytest.mark.parametrize("mask", ["random", "centre"])
def test_the_hole_is_invisible_to_the_encoder(mask, backbone):
    m, b = method(mask=mask, backbone=backbone), batch()
    m.colour.copy_(torch.tensor([0.2, 0.4, 0.6])[:, None, None])
    seen = m.draw_seen(batch())
    entered = inputs_of(m.generator.encoder)
    m.loss("generator", b)
    other = batch()
    other.images.copy_(torch.where(seen == 1, other.images, torch.rand_like(other.images)))
    m.loss("generator", other)
    m.complete(other.images, seen)
    for each in entered:
        torch.testing.assert_close(each[seen == 1], 2 * b.images[seen == 1] - 1)
        for c, colour in enumerate([0.2, 0.4, 0.6]):
            hidden = each[:, c][seen[:, c] == 0]
            torch.testing.assert_close(hidden, torch.full_like(hidden, 2 * colour - 1))
    assert len(entered) == 3


@pytest.mark.parametrize("backbone", ["native", "mde"])
def test_outside_the_centred_square_the_completion_is_the_input(backbone):
    m, images = method(mask="centre", backbone=backbone), batch().images
    seen = torch.ones(1, 1, 16, 16)
    seen[..., 4:12, 4:12] = 0
    outputs = []
    m.generator.register_forward_hook(lambda *call: outputs.append(call[2]))
    with torch.no_grad():
        completed = m.complete(images, seen)
        outside = seen.expand_as(images) == 1
        assert torch.equal(completed[outside], images[outside])
        window = outputs[0][..., -8:, -8:] if backbone == "native" else outputs[0][..., 4:12, 4:12]
        torch.testing.assert_close(completed[..., 4:12, 4:12], (window + 1) / 2)
        corner = torch.ones(1, 1, 16, 16)
        corner[..., :3, :3] = 0  # nothing is predicted there
        assert (m.complete(images, corner)[..., :3, :3] == 0.5).all()
    assert "centred square only" in m.notes[0]


def test_random_blocks_hide_about_a_quarter_and_each_image_another():
    seen = draw_blocks(500, 64, torch.Generator().manual_seed(0))
    hidden = (1 - seen).mean((1, 2, 3))
    assert hidden.mean().item() == pytest.approx(0.26, abs=0.01)
    assert hidden.min() > 1 / 64 and hidden.max() < 5 * 9 / 64  # one of the smallest, five of the largest
    assert (seen[0] != seen[1]).any() and seen.unique().tolist() == [0, 1]
    covered = (1 - seen).amax((0, 1))
    assert covered.amax(0).all() and covered.amax(1).all()  # the outermost rows and columns too
    m = method()
    assert torch.equal(m.draw_seen(batch()), m.draw_seen(batch())) and m.draw_seen(batch()).shape == (3, 3, 16, 16)


def test_the_fill_is_the_mean_colour_of_all_training_images_so_far():
    m = method().train()
    batches = [batch(step) for step in range(3)]
    for b in batches:
        for player in m.turns(b.step, 10):
            m.loss(player, b)
    mean = torch.cat([b.images for b in batches]).double().mean((0, 2, 3))
    torch.testing.assert_close(m.colour.flatten().double(), mean, rtol=1e-6, atol=1e-6)
    before = m.eval().colour.clone()
    m.loss("generator", batch(7))
    m.complete(batch(8).images, torch.zeros(1))
    assert torch.equal(m.colour, before)


def test_the_mde_plays_the_same_game():
    m = method(32, backbone="mde")
    assert count(m.generator) == count(Generator(32, 4, 8)) and m.feature_dim == 8
    images = batch(size=32).images
    assert torch.equal(m.encode(images), m.generator.encoder(2 * images - 1)[0])
    assert {k: v.shape for k, v in m.stages(images).items()} == {
        "stage1": (3, 4, 16, 16),
        "stage2": (3, 8, 8, 8),
        "stage3": (3, 16, 4, 4),
    }


def test_wrong_settings_are_told():
    with pytest.raises(UserError, match=r"objective 'joined'.*'joint'"):
        Settings(objective="joined")
    with pytest.raises(UserError, match=r"mask 'center'.*'centre'"):
        Settings(mask="center")
    with pytest.raises(UserError, match="backbone 'nativ'"):
        Settings(backbone="nativ")
    with pytest.raises(UserError, match="overlap=-1"):
        Settings(overlap=-1)
    with pytest.raises(UserError, match="leaves no hole in a square of 8"):
        method(mask="centre", overlap=4)


def test_a_few_images_can_be_learned_by_heart():
    settings = {"objective": "l2", "mask": "centre", "width": 8, "code": 32, "overlap": 1}
    m = method(**settings)
    recipe = Recipe("context_encoder", "ce", settings, "test", 16, "pack", "", 0, 150, 4, "fp32", {})
    t, images = Trainer(m, recipe, torch.device("cpu")), batch(n=4).images
    seen = m.draw_seen(batch(n=4))

    def psnr():
        with torch.no_grad():
            error = (m.complete(images, seen) - images)[seen == 0]
        return -10 * error.square().mean().log10().item()

    before = psnr()
    for step in range(150):
        t.update(Batch(images, torch.arange(4), step, 0, 0, torch.Generator().manual_seed(step), 150))
    m.eval()
    assert before < 12 and psnr() > 25
