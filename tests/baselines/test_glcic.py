"""GLCIC: layers counted by hand, phases to the update, losses by plain arithmetic, the window to the pixel."""

import math
from dataclasses import asdict

import pytest
import torch
from torch import nn

from mdebench.baselines.glcic import Method, Settings, cut_windows, draw_holes, window_side
from mdebench.errors import UserError
from mdebench.methods.contract import Batch
from mdebench.runs import Recipe
from mdebench.settings import build
from mdebench.training.trainer import Trainer

SIZE, COUNT = 32, 4


def batch(step=0, updates=500, images=None):
    source = torch.Generator().manual_seed(1000 + step)
    images = torch.rand(COUNT, 3, SIZE, SIZE, generator=source) if images is None else images
    return Batch(images, torch.arange(len(images)), step, 0, 0, torch.Generator().manual_seed(step), updates)


def method(size=SIZE, **values):
    torch.manual_seed(0)
    return Method(Settings(**({"width": 4, "code": 8} | values)), size).eval()  # eval: batch-norm keeps still


def trainer(updates=10, **values):
    m = method(**values)
    recipe = Recipe("glcic", "glcic", asdict(m.settings), "test", SIZE, "pack", "", 0, updates, COUNT, "fp32", {})
    return Trainer(m, recipe, torch.device("cpu"))


def convolutions(network):
    """(inputs, outputs, kernel, stride, dilation) of each convolution, in order."""
    kinds = (nn.Conv2d, nn.ConvTranspose2d)
    found = [m for m in network.modules() if isinstance(m, kinds)]
    return [(m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0], m.dilation[0]) for m in found]


def parameters(network):
    return sum(p.numel() for p in network.parameters())


def positive(network):
    """The network with convolutions of ones: what reaches a pixel does so with a positive slope."""
    for p in network.parameters():
        if p.ndim == 4:
            nn.init.ones_(p)
    return network


# --- the networks -----------------------------------------------------------------------------------------------------

GENERATOR = [
    *((4, 64, 5, 1, 1), (64, 128, 3, 2, 1), (128, 128, 3, 1, 1)),
    *((128, 256, 3, 2, 1), (256, 256, 3, 1, 1), (256, 256, 3, 1, 1)),
    *((256, 256, 3, 1, 2), (256, 256, 3, 1, 4), (256, 256, 3, 1, 8), (256, 256, 3, 1, 16)),
    *((256, 256, 3, 1, 1), (256, 256, 3, 1, 1), (256, 128, 4, 2, 1), (128, 128, 3, 1, 1)),
    *((128, 64, 4, 2, 1), (64, 32, 3, 1, 1), (32, 3, 3, 1, 1)),
]
JUDGE = [(3, 64, 5, 2, 1), (64, 128, 5, 2, 1), (128, 256, 5, 2, 1), (256, 512, 5, 2, 1), (512, 512, 5, 2, 1)]


def test_the_paper_width_has_the_papers_layers_and_the_parameters_counted_by_hand():
    with torch.device("meta"):
        m = Method(Settings(), 96)
    assert convolutions(m.generator) == GENERATOR
    assert convolutions(m.discriminator.whole) == convolutions(m.discriminator.window) == JUDGE
    # 6400 + 73,728 + 147,456 + 294,912 + 8·589,824 + 524,288 + 147,456 + 131,072 + 18,432 weights, 867 of the last
    # layer with its biases, and 2 for each of 2976 channels of batch-norm.
    assert parameters(m.generator) == 6_062_336 + 867 + 2 * 2976
    # Each judge: 25·(3·64 + 64·128 + 128·256 + 256·512 + 512·512) weights and 2·1472 of batch-norm; maps of 3×3 and
    # 2×2 pixels into 1024; then 2048 into one.
    judge = 25 * 434_368 + 2 * 1472
    assert parameters(m.discriminator) == 2 * judge + (9 * 512 + 1) * 1024 + (4 * 512 + 1) * 1024 + 2049
    assert m.feature_dim == 4096 and m.PAPER == "Iizuka et al. 2017"


@pytest.mark.parametrize("size", [32, 64, 96])
def test_shapes_at_the_working_sizes(size):
    m, images = method(size), torch.rand(2, 3, size, size)
    with torch.no_grad():
        shapes = [tuple(each.shape) for each in m.stages(images).values()]
        assert shapes == [(2, 8, size // 2, size // 2), *[(2, 16, size // 4, size // 4)] * 2]
        assert m.encode(images).shape == (2, 256)
        assert m.complete(images, torch.ones(1, 1, size, size)).shape == images.shape
        windows = cut_windows(images, draw_holes(2, torch.Generator().manual_seed(0)))
        assert m.discriminator(images, windows).shape == (2,)


def test_every_convolution_but_the_last_has_batch_norm_and_relu():
    m = method()
    for network, plain in ((m.generator, 1), (m.discriminator, 0)):
        blocks = [list(b.children())[1:] for b in network.modules() if isinstance(b, nn.Sequential)]
        normed = [b for b in blocks if [type(each) for each in b] == [nn.BatchNorm2d, nn.ReLU]]
        assert len(normed) == len(convolutions(network)) - plain
    assert isinstance(m.generator.decoder[-1], nn.Sigmoid)


@pytest.mark.parametrize("axis", [2, 3])
def test_a_pixel_of_the_last_map_knows_271_pixels_and_dilation_skips_none(axis):
    """By hand: 5 + 2 + 4 = 11, + 4 + 2·8 = 31, and 2·4·(2 + 4 + 8 + 16) = 240 more. Positive weights never cancel."""
    encoder = positive(method().generator.encoder)
    x = torch.ones(1, 4, 280, 8).transpose(2, axis).requires_grad_()
    reach = []
    for each in encoder.maps(x).values():
        middle = each.sum(5 - axis)[..., each.shape[axis] // 2].sum()
        (gradient,) = torch.autograd.grad(middle, x, retain_graph=True)
        known = gradient[0, 0].sum(3 - axis).nonzero().flatten().tolist()
        assert known == list(range(known[0], known[-1] + 1))
        reach.append(len(known))
    assert reach == [11, 31, 271]


def test_the_dilations_are_2_4_8_and_16():
    """Of the map before them a pixel knows the sums of one step each: every even offset up to 30, and no odd one."""
    dilated = positive(method().generator.encoder.stages[2])
    x = torch.ones(1, 16, 80, 80, requires_grad=True)
    (gradient,) = torch.autograd.grad(dilated(x)[0, :, 40, 40].sum(), x)
    assert (gradient[0, 0, 40] > 0).nonzero().flatten().tolist() == list(range(10, 71, 2))


def test_the_representation_is_the_last_map_averaged_over_a_grid():
    m = method()
    images = batch().images
    last = m.stages(images)["stage3"]
    cells = last.reshape(COUNT, 16, 4, 2, 4, 2).mean((3, 5))
    torch.testing.assert_close(m.encode(images), cells.flatten(1))


def test_the_mde_backbone_sees_four_channels_and_encodes_its_code():
    m = method(backbone="mde")
    assert m.generator.encoder.trunk.stages[0][0][0].in_channels == 4
    assert m.encode(batch().images).shape == (COUNT, 8) and m.feature_dim == 8
    assert list(m.stages(batch().images)) == ["stage1", "stage2", "stage3"]
    assert m.complete(batch().images, torch.ones(1, 1, SIZE, SIZE)).shape == (COUNT, 3, SIZE, SIZE)
    t = trainer(backbone="mde")
    assert [set(t.update(batch(step, 10))) for step in range(3)] == [
        {"generator/mse"},
        {"discriminator/adv"},
        {"discriminator/adv", "generator/mse", "generator/adv"},
    ]


def test_a_wrong_backbone_or_phases_are_told():
    with pytest.raises(UserError, match=r"backbone 'nativ'.*Did you mean 'native'"):
        method(backbone="nativ")
    for phases in ("1,2", "0,0,0", "1,-1,5"):
        with pytest.raises(UserError, match="3 shares"):
            build(Settings, {"phases": phases})


# --- the phases -------------------------------------------------------------------------------------------------------

G, D, BOTH = ("generator",), ("discriminator",), ("discriminator", "generator")


@pytest.mark.parametrize(
    ("updates", "first", "second"),
    [(500_000, 90_000, 100_000), (500, 90, 100), (3000, 540, 600), (200, 36, 40), (10, 1, 2), (7, 1, 1), (1, 0, 0)],
)
def test_phases_end_at_90_and_100_of_500(updates, first, second):
    m = method()
    steps = sorted({0, first - 1, first, second - 1, second, updates - 1} - {-1})
    for step in steps:
        assert m.turns(step, updates) == (G if step < first else D if step < second else BOTH), step
    if updates <= 500:
        turns = [m.turns(step, updates) for step in range(updates)]
        assert turns == [G] * first + [D] * (second - first) + [BOTH] * (updates - second)


def test_phases_can_be_left_out():
    alone = method(phases=(1, 0, 0))
    assert {alone.turns(step, 7) for step in range(7)} == {G} and alone.losses == "mse"
    assert [method(phases=(0, 1, 1)).turns(step, 4) for step in range(4)] == [D, D, BOTH, BOTH]
    assert method().losses == "mse+adv"


def test_only_the_players_of_a_phase_move():
    t = trainer()
    moved = []
    for step in range(4):
        before = {name: p.detach().clone() for name, p in t.method.named_parameters()}
        t.update(batch(step, 10))
        now = t.method.named_parameters()
        moved.append({name.partition(".")[0] for name, p in now if not torch.equal(p, before[name])})
    assert moved == [set(G), set(D), set(BOTH), set(BOTH)]


def test_phase_one_has_no_adversarial_part_and_asks_the_discriminator_nothing():
    m = method()
    for step, adversarial in ((89, False), (100, True)):
        total, parts = m.loss("generator", batch(step))
        found = torch.autograd.grad(total, list(m.discriminator.parameters()), allow_unused=True)
        assert all(g is not None for g in found) if adversarial else all(g is None for g in found)
        assert set(parts) == ({"mse", "adv"} if adversarial else {"mse"})


def test_each_turn_gives_gradients_to_its_own_player_only_and_images_are_completed_once():
    m, calls = method(), []
    m.generator.register_forward_hook(lambda *_: calls.append(torch.is_grad_enabled()))
    for player, other in (BOTH, BOTH[::-1]):
        m.zero_grad()
        m.loss(player, batch(200)).total.backward(inputs=m.players()[player].parameters)
        assert all(p.grad is not None for p in m.players()[player].parameters)
        assert all(p.grad is None for p in m.players()[other].parameters)
    assert calls == [True]
    m.loss("discriminator", batch(95))  # of phase two: no graph of a network that stands still
    assert calls == [True, False]
    m.loss("generator", batch(100))  # and nothing is left over from it
    assert calls == [True, False, True]


def test_both_players_have_adadelta_as_its_authors_left_it():
    for player in method().players().values():
        assert player.optimizer is torch.optim.Adadelta and player.lr == 1.0 and not player.options
        assert player.schedule(0.9) == 1.0


# --- the losses -------------------------------------------------------------------------------------------------------


def doubled(step, **values):
    """A method in float64, a batch, its completions, masks and holes, as the same draws give them."""
    m, b = method(**values).double(), batch(step)
    b = Batch(b.images.double(), b.index, step, 0, 0, b.generator, 500)
    draws = torch.Generator().manual_seed(step)
    holes, elsewhere = draw_holes(COUNT, draws), draw_holes(COUNT, draws)
    seen = method().draw_seen(batch(step)).double()
    m.mean_colour.copy_(torch.tensor([0.2, 0.4, 0.6]).reshape(1, 3, 1, 1))
    return m, b, seen, holes, elsewhere


def expected_fill(m, b, seen):
    """Completions with the seen pixels put back, and the mean squared error of the missing values, one by one."""
    m.mean_colour += (b.images.mean((0, 2, 3), keepdim=True) - m.mean_colour) / (b.step + 1)
    x = torch.cat([b.images * seen + m.mean_colour * (1 - seen), 1 - seen[:, :1]], dim=1)
    output = m.generator(x)
    errors = [
        (output[n, c, i, j].item() - b.images[n, c, i, j].item()) ** 2 for n, c, i, j in (1 - seen).nonzero().tolist()
    ]
    return output * (1 - seen) + b.images * seen, sum(errors) / len(errors)


def log_sigmoid(logit):
    return math.log(1 / (1 + math.exp(-logit)))


def test_generator_loss_by_plain_arithmetic():
    m, b, seen, holes, _ = doubled(200, adv_weight=0.3)
    with torch.no_grad():
        total, parts = m.loss("generator", b)
        m.mean_colour.copy_(torch.tensor([0.2, 0.4, 0.6]).reshape(1, 3, 1, 1))
        fake, error = expected_fill(m, b, seen)
        logits = m.discriminator(fake, cut_windows(fake, holes)).tolist()
    adversarial = -sum(log_sigmoid(z) for z in logits) / COUNT
    assert parts["mse"].item() == pytest.approx(error, rel=1e-9)
    assert parts["adv"].item() == pytest.approx(adversarial, rel=1e-9)
    assert total.item() == pytest.approx(error + 0.3 * adversarial, rel=1e-9)


def test_discriminator_loss_by_plain_arithmetic():
    """The real images' windows lie elsewhere than the holes: their place is a second draw."""
    m, b, seen, holes, elsewhere = doubled(95)
    with torch.no_grad():
        total, parts = m.loss("discriminator", b)
        m.mean_colour.copy_(torch.tensor([0.2, 0.4, 0.6]).reshape(1, 3, 1, 1))
        fake, _ = expected_fill(m, b, seen)
        fakes = m.discriminator(fake, cut_windows(fake, holes)).tolist()
        reals = m.discriminator(b.images, cut_windows(b.images, elsewhere)).tolist()
    expected = -sum(log_sigmoid(r) + log_sigmoid(-f) for r, f in zip(reals, fakes)) / COUNT
    assert total.item() == parts["adv"].item() == pytest.approx(expected, rel=1e-9)


def test_real_and_completed_images_have_batch_statistics_of_their_own():
    m = method().train()
    seen = []
    m.discriminator.whole[0][0].register_forward_hook(lambda _, inputs, __: seen.append(inputs[0]))
    b = batch(95)
    m.loss("discriminator", b)
    assert len(seen) == 2 and torch.equal(seen[0], b.images)
    hidden = (seen[1] != b.images).any(1)
    assert torch.equal(hidden, m.draw_seen(batch(95))[:, 0] == 0)  # what was seen is put back before it is judged


# --- holes, windows, and what is seen ---------------------------------------------------------------------------------


def test_holes_have_the_papers_shares_and_lie_anywhere_inside():
    holes = draw_holes(4000, torch.Generator().manual_seed(0))
    sides = holes[:, 2:] - holes[:, :2]
    assert holes.min() >= 0 and holes.max() <= 1
    assert sides.min() >= 3 / 8 and sides.max() <= 1 / 2
    assert sides.mean(0).tolist() == pytest.approx([7 / 16, 7 / 16], abs=0.003)
    assert abs(torch.corrcoef(sides.T)[0, 1]) < 0.06  # width and height apart; 0.016 is one standard error
    assert holes[:, :2].amin(0).max() < 0.01 and holes[:, 2:].amax(0).min() > 0.99


def test_a_training_mask_is_one_rectangle_in_all_channels():
    seen = method(96).draw_seen(batch(images=torch.rand(64, 3, 96, 96)))
    assert seen.shape == (64, 3, 96, 96) and set(seen.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(seen[:, 0], seen[:, 1]) and torch.equal(seen[:, 0], seen[:, 2])
    missing = seen[:, 0] == 0
    height, width = missing.any(2).sum(1), missing.any(1).sum(1)
    assert torch.equal(missing.sum((1, 2)), height * width)
    assert min(height.min(), width.min()) >= 36 and max(height.max(), width.max()) <= 48


@pytest.mark.parametrize(("size", "side"), [(32, 21), (64, 43), (96, 64)])
def test_windows_contain_the_hole_stay_inside_and_are_the_right_pixels(size, side):
    """Images of their own coordinates tell where a window lies; no other place in the image is nearer to the hole."""
    assert window_side(size) == side
    holes = draw_holes(200, torch.Generator().manual_seed(3))
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    numbered = torch.stack([x, y, x * 0]).float() + 1000 * torch.arange(200)[:, None, None, None]
    windows = cut_windows(numbered, holes)
    assert windows.shape == (200, 3, side, side)
    for n, window in enumerate(windows.long() - 1000 * torch.arange(200)[:, None, None, None]):
        left, top = window[0, 0, 0].item(), window[1, 0, 0].item()
        assert torch.equal(window, (numbered[n] - 1000 * n)[:, top : top + side, left : left + side].long())
        for corner, (low, high) in zip((left, top), holes[n].reshape(2, 2).T.tolist()):
            assert 0 <= corner <= low * size and high * size <= corner + side <= size
            away = [abs(place + side / 2 - size * (low + high) / 2) for place in range(size - side + 1)]
            assert away[corner] == pytest.approx(min(away))


def test_windows_carry_gradients_to_their_own_pixels_only():
    images = torch.rand(2, 3, SIZE, SIZE, requires_grad=True)
    cut_windows(images, torch.tensor([[0.0, 0.0, 0.4, 0.4], [0.6, 0.5, 1.0, 1.0]]).double()).sum().backward()
    expected = torch.zeros(2, 3, SIZE, SIZE)
    expected[0, :, :21, :21] = 1
    expected[1, :, 11:, 11:] = 1
    assert torch.equal(images.grad, expected)


@pytest.mark.parametrize("backbone", ["native", "mde"])
@pytest.mark.parametrize("shape", [(1, 1), (COUNT, 1), (COUNT, 3)])
def test_only_seen_values_matter(backbone, shape):
    m, images = method(backbone=backbone), batch().images
    seen = (torch.rand(*shape, SIZE, SIZE, generator=torch.Generator().manual_seed(5)) > 0.4).float()
    other = images * seen + (1 - seen) * torch.rand(images.shape, generator=torch.Generator().manual_seed(6))
    assert not torch.equal(images, other)
    assert torch.equal(m.complete(images, seen), m.complete(other, seen))


def test_the_generator_sees_the_mean_colour_and_one_mask_for_all_channels():
    m, images = method(), batch().images
    m.mean_colour.copy_(torch.tensor([0.1, 0.2, 0.3]).reshape(1, 3, 1, 1))
    seen = torch.ones(COUNT, 3, SIZE, SIZE)
    seen[:, 0, :8] = 0  # red is missing at the top, blue at the left
    seen[:, 2, :, :8] = 0
    inputs = []
    m.generator.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    m.complete(images, seen)
    expected = images.clone()
    expected[:, 0, :8] = 0.1
    expected[:, 2, :, :8] = 0.3
    mask = torch.zeros(COUNT, SIZE, SIZE)
    mask[:, :8] = mask[:, :, :8] = 1
    torch.testing.assert_close(inputs[0][:, :3], expected, rtol=0, atol=1e-7)
    assert torch.equal(inputs[0][:, 3], mask)


def test_the_mean_colour_is_that_of_all_images_trained_on_and_measuring_leaves_it():
    t = trainer()
    batches = [batch(step, 10) for step in range(3)]
    for each in batches:
        t.update(each)
    expected = torch.cat([each.images for each in batches]).mean((0, 2, 3))
    torch.testing.assert_close(t.method.mean_colour.flatten(), expected)
    t.method.eval().encode(1 - batches[0].images)
    t.method.complete(1 - batches[0].images, torch.ones(1, 1, SIZE, SIZE))
    torch.testing.assert_close(t.method.mean_colour.flatten(), expected)
    assert "mean_colour" in t.method.state_dict()


def test_updates_on_the_same_images_and_holes_halve_the_error():
    t, axis = trainer(), torch.linspace(0, 1, SIZE)
    ramps = torch.stack([axis.expand(SIZE, SIZE), axis[:, None].expand(SIZE, SIZE), axis * axis[:, None]])
    same = [batch(0, 500, ramps.repeat(COUNT, 1, 1, 1)) for _ in range(20)]  # a batch's generator is used up by a turn
    errors = [t.update(each)["generator/mse"] for each in same]
    assert errors[-1] < errors[0] / 2
