"""PGGAN, reconstructed: layers and parameters by hand, where the paths part, losses by plain arithmetic."""

import math
from dataclasses import asdict

import pytest
import torch
from torch import nn

from mdebench.baselines._squares import draw_corners, outside
from mdebench.baselines.patch_gan import Discriminator, Method, Residual, Settings
from mdebench.errors import UserError
from mdebench.methods.contract import Batch
from mdebench.runs import Recipe
from mdebench.training.trainer import Trainer

SIZE, COUNT = 32, 3


def method(size=SIZE, **values):
    torch.manual_seed(0)
    return Method(Settings(**({"width": 4, "code": 8} | values)), size).eval()  # eval: batch-norm keeps still


def batch(step=0, size=SIZE, count=COUNT, dtype=torch.float32):
    images = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1000 + step)).to(dtype)
    return Batch(images, torch.arange(count), step, 0, 0, torch.Generator().manual_seed(step), 10)


def seen_at(step, size=SIZE, count=COUNT):
    """What a batch's generator leaves to see, (count, 1, size, size)."""
    return outside(draw_corners(count, size, torch.Generator().manual_seed(step)), size)


def trainer(m, count=COUNT, precision="fp32"):
    recipe = Recipe(
        "patch_gan", "patch_gan", asdict(m.settings), "test", m.size, "pack", "", 0, 10, count, precision, {}
    )
    return Trainer(m, recipe, torch.device("cpu"))


def convolutions(network):
    """(inputs, outputs, kernel, stride, dilation) of each convolution, in order."""
    found = [m for m in network.modules() if isinstance(m, nn.Conv2d)]
    return [(m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0], m.dilation[0]) for m in found]


def parameters(network):
    return sum(p.numel() for p in network.parameters())


# --- the networks -----------------------------------------------------------------------------------------------------

RESIDUAL = [each for d in (2, 2, 4, 4, 8, 8) for each in ((256, 256, 3, 1, d), (256, 256, 3, 1, 1))]
ENCODER = [(4, 64, 7, 1, 1), (64, 128, 4, 2, 1), (128, 256, 4, 2, 1), *RESIDUAL]
DECODER = [(256, 128, 3, 1, 1), (128, 64, 3, 1, 1), (64, 3, 7, 1, 1)]


def test_the_paper_width_has_the_layers_and_parameters_counted_by_hand():
    with torch.device("meta"):
        m = Method(Settings(), 96)
    assert convolutions(m.generator.encoder) == ENCODER and convolutions(m.generator.decoder) == DECODER
    weights = sum(i * o * k * k for i, o, k, *_ in ENCODER + DECODER)
    norms = 2 * sum(o for _, o, *_ in ENCODER + DECODER[:-1])  # two numbers for each channel of batch-norm
    assert parameters(m.generator) == weights + norms + 3 == 8_131_267
    shared = [(3, 64, 4, 2, 1), (64, 128, 4, 2, 1), (128, 256, 4, 2, 1)]
    whole = [(256, 512, 4, 2, 1), (512, 512, 4, 2, 1)]
    patch = [(256, 512, 3, 1, 1), (512, 1, 3, 1, 1)]
    assert convolutions(m.discriminator.shared) == shared
    assert convolutions(m.discriminator.heads["global"]) == whole
    assert convolutions(m.discriminator.heads["patch"]) == patch
    weights = sum(i * o * k * k for i, o, k, *_ in shared + whole + patch)
    # Biases of the first layer, of the score of patches and of the whole, whose layer sees 3×3 pixels of 512.
    assert parameters(m.discriminator) == weights + 2 * (128 + 256 + 3 * 512) + 64 + 1 + 9 * 512 + 1
    assert m.feature_dim == 4096 and m.PAPER == "Demir & Unal 2018" and "reconstruction" in m.notes[0]


@pytest.mark.parametrize("size", [8, 32, 96])
def test_shapes_at_the_working_sizes(size):
    m, images = method(size), torch.rand(2, 3, size, size)
    with torch.no_grad():
        shapes = [tuple(each.shape[1:]) for each in m.stages(images).values()]
        assert shapes == [(8, size // 2, size // 2), *[(16, size // 4, size // 4)] * 2]
        assert m.encode(images).shape == (2, 256)
        assert m.complete(images, torch.ones(1, 1, size, size)).shape == images.shape


@pytest.mark.parametrize(
    ("size", "strided", "last", "patches"),
    [(8, 1, 4, 4), (16, 2, 4, 4), (32, 3, 4, 4), (64, 4, 4, 8), (96, 5, 3, 12), (128, 5, 4, 16)],
)
def test_the_judge_has_as_many_strided_layers_as_leave_3_by_3_the_shared_ones_first(size, strided, last, patches):
    judge = Discriminator(size, 2, ("global", "patch")).eval()
    strides = [[each[3] for each in convolutions(part)].count(2) for part in (judge.shared, judge.heads["global"])]
    assert strides == [min(3, strided), max(0, strided - 3)] and convolutions(judge.heads["patch"])[0][3] == 1
    whole = judge.heads["global"][-1]
    assert whole.in_features == (2, 4, 8, 16, 16)[strided - 1] * last**2
    logits = judge(torch.zeros(2, 3, size, size))
    assert logits["global"].shape == (2,) and logits["patch"].shape == (2, 1, patches, patches)


def test_both_paths_go_through_the_shared_layers_and_only_through_their_own_after_them():
    judge = method().discriminator
    logits = judge(batch().images)
    for path, other in (("global", "patch"), ("patch", "global")):
        found = torch.autograd.grad(logits[path].sum(), list(judge.parameters()), retain_graph=True, allow_unused=True)
        reached = {name for (name, _), g in zip(judge.named_parameters(), found) if g is not None}
        assert {name for name, _ in judge.named_parameters() if f"heads.{other}" not in name} == reached


def test_a_score_of_a_patch_knows_its_neighbourhood_alone():
    """By hand: 4, 10, 22 pixels after the shared layers, whose places are 8 pixels apart; 3×3 twice: 22 + 4·8 = 54."""
    judge = Discriminator(96, 1, ("patch",)).eval()
    for p in judge.parameters():
        if p.ndim == 4:
            nn.init.ones_(p)  # what reaches a score does so with a positive slope
    x = torch.ones(1, 3, 96, 96, requires_grad=True)
    (gradient,) = torch.autograd.grad(judge(x)["patch"][0, 0, 6, 6], x)
    known = gradient[0, 0].sum(0).nonzero().flatten().tolist()
    assert known == list(range(known[0], known[0] + 54))


def test_a_residual_block_whose_layers_say_nothing_changes_nothing():
    block, x = Residual(3, 2).eval(), torch.randn(2, 3, 8, 8)
    torch.testing.assert_close(block(x) - x, block.layers(x))
    nn.init.zeros_(block.layers[-1].weight)
    assert torch.equal(block(x), x)


def test_the_residual_blocks_reach_far_and_skip_none():
    """Of the map before them a pixel knows 1 + 2·(2 + 2 + 4 + 4 + 8 + 8) + 2·6 = 69 places in a row."""
    blocks = method(width=1).generator.encoder.stages[2]
    for p in blocks.parameters():
        if p.ndim == 4:
            nn.init.ones_(p)
    x = torch.ones(1, 4, 1, 81, requires_grad=True)
    (gradient,) = torch.autograd.grad(blocks(x)[0, :, 0, 40].sum(), x)
    assert gradient[0, 0, 0].nonzero().flatten().tolist() == list(range(6, 75))


def test_the_representation_is_the_last_map_averaged_over_a_grid():
    m = method()
    cells = m.stages(batch().images)["stage3"].reshape(COUNT, 16, 4, 2, 4, 2).mean((3, 5))
    torch.testing.assert_close(m.encode(batch().images), cells.flatten(1))
    mde = method(backbone="mde")
    assert mde.encode(batch().images).shape == (COUNT, 8) and mde.feature_dim == 8
    assert mde.generator.encoder.trunk.stages[0][0][0].in_channels == 4


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp64"])
@pytest.mark.parametrize(("size", "width", "count"), [(8, 1, 1), (16, 4, 1), (36, 2, 2)])
def test_it_trains_at_small_sizes_narrow_one_by_one_and_in_all_precisions(size, width, count, precision):
    t = trainer(method(size, width=width), count, precision)
    for step in range(2):
        parts = t.update(batch(step, size, count, torch.float64 if precision == "fp64" else torch.float32))
        assert all(value.isfinite() for value in parts.values())
    t.state()


def test_mistakes_are_told():
    with pytest.raises(UserError, match="a side that 4 divides, not 50 pixels"):
        method(50)
    with pytest.raises(UserError, match=r"backbone 'nativ'.*Did you mean 'native'"):
        Settings(backbone="nativ")


# --- losses -----------------------------------------------------------------------------------------------------------


def softplus(x):
    return math.log1p(math.exp(x))


@pytest.mark.parametrize("backbone", ["native", "mde"])
def test_losses_by_plain_arithmetic(backbone):
    m = method(backbone=backbone, l1_weight=0.7, global_weight=0.2, patch_weight=0.1).double()
    b = batch(4, dtype=torch.float64)
    seen, real = seen_at(4).double(), 2 * b.images - 1
    with torch.no_grad():
        output = m.generator(torch.cat([real * seen, 1 - seen], dim=1))
        fakes, reals = m.discriminator(seen * real + (1 - seen) * output), m.discriminator(real)
        total, parts = m.loss("discriminator", b)
    rows = {path: (reals[path].flatten().tolist(), fakes[path].flatten().tolist()) for path in ("global", "patch")}
    assert [len(fake) for _, fake in rows.values()] == [COUNT, COUNT * 16]
    expected = {
        path: sum(softplus(-r) + softplus(f) for r, f in zip(real, fake, strict=True)) / len(real)
        for path, (real, fake) in rows.items()
    }
    assert {k: v.item() for k, v in parts.items()} == pytest.approx(expected, rel=1e-9)
    assert total.item() == pytest.approx(sum(expected.values()), rel=1e-9)
    with torch.no_grad():
        total, parts = m.loss("generator", b)
    l1 = sum(abs(a - c) for a, c in zip(output.flatten().tolist(), real.flatten().tolist())) / real.numel()
    told = {path: sum(softplus(-f) for f in fake) / len(fake) for path, (_, fake) in rows.items()}
    assert {k: v.item() for k, v in parts.items()} == pytest.approx({"l1": l1, **told}, rel=1e-9)
    assert total.item() == pytest.approx(0.7 * l1 + 0.2 * told["global"] + 0.1 * told["patch"], rel=1e-9)


@pytest.mark.parametrize(("left_out", "path"), [("global", "patch"), ("patch", "global")])
def test_a_path_can_be_left_out_and_so_can_both(left_out, path):
    m = method(**{f"{left_out}_weight": 0.0})
    assert m.losses == f"l1+{path}" and list(m.discriminator.heads) == [path]
    assert set(trainer(m).update(batch())) == {f"discriminator/{path}", "generator/l1", f"generator/{path}"}
    m = method(global_weight=0.0, patch_weight=0.0)
    assert m.losses == "l1" and m.turns(0, 10) == ("generator",)
    assert set(trainer(m).update(batch())) == {"generator/l1"}


def test_real_and_completed_images_have_batch_statistics_of_their_own():
    m = method().train()
    given = []
    m.discriminator.shared[0].register_forward_hook(lambda _, inputs, __: given.append(inputs[0]))
    b = batch(4)
    m.loss("discriminator", b)
    assert len(given) == 2 and torch.equal(given[0], 2 * b.images - 1)
    assert torch.equal((given[1] != given[0]).any(1), seen_at(4)[:, 0] == 0)  # what was seen is put back


def test_one_update_completes_once_and_each_turn_moves_its_own_player():
    m, calls, b = method(), [], batch(4)
    m.generator.register_forward_hook(lambda *_: calls.append(1))
    turns = m.turns(0, 10)
    assert turns == ("discriminator", "generator")
    for player, other in (turns, turns[::-1]):
        m.zero_grad()
        m.loss(player, b).total.backward(inputs=m.players()[player].parameters)
        assert all(p.grad is not None for p in m.players()[player].parameters)
        assert all(p.grad is None for p in m.players()[other].parameters)
    assert len(calls) == 1 and m._turn is None


# --- what is seen -----------------------------------------------------------------------------------------------------


def test_a_training_mask_is_a_square_in_all_channels():
    seen = method().draw_seen(batch(4))
    assert torch.equal(seen, seen_at(4).expand(-1, 3, -1, -1)) and seen.mean() == 0.75


def test_the_generator_sees_grey_where_values_are_missing_and_one_mask_for_all_channels():
    m, images, inputs = method(), batch().images, []
    seen = torch.ones(COUNT, 3, SIZE, SIZE)
    seen[:, 0, :8] = 0  # red is missing at the top, blue at the left
    seen[:, 2, :, :8] = 0
    m.generator.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    m.complete(images, seen)
    expected = 2 * images - 1
    expected[:, 0, :8] = 0
    expected[:, 2, :, :8] = 0
    mask = torch.zeros(COUNT, SIZE, SIZE)
    mask[:, :8] = mask[:, :, :8] = 1
    torch.testing.assert_close(inputs[0][:, :3], expected)
    assert torch.equal(inputs[0][:, 3], mask)


@pytest.mark.parametrize("backbone", ["native", "mde"])
@pytest.mark.parametrize("shape", [(1, 1), (COUNT, 1), (COUNT, 3)])
def test_only_seen_values_matter(backbone, shape):
    m, images = method(backbone=backbone), batch().images
    seen = (torch.rand(*shape, SIZE, SIZE, generator=torch.Generator().manual_seed(5)) > 0.4).float()
    other = torch.rand(images.shape, generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        output = m.complete(images, seen)
        assert torch.equal(m.complete(images.where(seen > 0, other), seen), output)
        assert not torch.equal(m.complete(other.where(seen > 0, images), seen), output)


def test_updates_on_the_same_images_and_holes_halve_the_error():
    axis = torch.linspace(0, 1, 16)
    ramps = torch.stack([axis.expand(16, 16), axis[:, None].expand(16, 16), axis * axis[:, None]])
    t = trainer(method(16, lr=2e-3, width=8))
    images = ramps.repeat(COUNT, 1, 1, 1)
    errors = []
    for _ in range(25):
        generator = torch.Generator().manual_seed(0)
        errors.append(t.update(Batch(images, torch.arange(COUNT), 0, 0, 0, generator, 500))["generator/l1"])
    assert errors[-1] < errors[0] / 2
