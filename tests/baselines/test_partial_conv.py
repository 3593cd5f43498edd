"""Partial convolution: the layer against its definition, layers counted by hand, losses by plain arithmetic."""

from dataclasses import asdict

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d

from mdebench.baselines.partial_conv import Method, PartialConv, Settings
from mdebench.errors import UserError
from mdebench.methods.contract import Batch
from mdebench.methods.masks import draw_damage
from mdebench.methods.perceptual import load_perceptual
from mdebench.runs import Recipe
from mdebench.settings import build
from mdebench.training.trainer import Trainer

SIZE, COUNT = 16, 3


def batch(step=0, updates=8, images=None, dtype=torch.float32):
    source = torch.Generator().manual_seed(1000 + step)
    images = torch.rand(COUNT, 3, SIZE, SIZE, generator=source, dtype=dtype) if images is None else images
    return Batch(images, torch.arange(len(images)), step, 0, 0, torch.Generator().manual_seed(step), updates)


def method(size=SIZE, **values):
    torch.manual_seed(0)
    return Method(Settings(**({"width": 2, "code": 8, "perceptual": "none"} | values)), size).eval()


def trainer(updates=8, **values):
    m = method(**values)
    recipe = Recipe("p", "partial_conv", asdict(m.settings), "test", SIZE, "pack", "", 0, updates, COUNT, "fp32", {})
    return Trainer(m, recipe, torch.device("cpu"))


def layer(groups=(1, 1, 1), outputs=4, kernel=3, stride=1, bias=False):
    torch.manual_seed(0)
    made = PartialConv(groups, outputs, kernel, stride, bias).double()
    if bias:
        nn.init.normal_(made.bias)
    return made


def random_input(groups, size=7, share=0.3):
    """Values, 0 where missing, and a mask for each group, mostly missing so that some windows see nothing."""
    draws = torch.Generator().manual_seed(1)
    seen = (torch.rand(2, len(groups), size, size, generator=draws) < share).double()
    x = torch.rand(2, sum(groups), size, size, generator=draws, dtype=torch.float64)
    return x * seen.repeat_interleave(torch.tensor(groups), dim=1), seen


# --- the layer --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("groups", "kernel", "stride"), [((1, 1, 1), 7, 2), ((3,), 5, 2), ((4, 2), 3, 1), ((2, 1, 1, 1), 3, 1)]
)
def test_a_layer_is_its_definition_window_by_window(groups, kernel, stride):
    """Equations 1 and 2 number by number; what lies beyond the border is missing as well."""
    made = layer(groups, kernel=kernel, stride=stride, bias=True)
    x, seen = random_input(groups, share=0.05)
    found, filled = made(x, seen)
    masks = seen.repeat_interleave(torch.tensor(groups), dim=1)
    weight, bias, half = made.conv.weight, made.bias, kernel // 2
    missing = 0
    for n in range(2):
        for i in range(found.shape[2]):
            for j in range(found.shape[3]):
                total, count = torch.zeros(4, dtype=torch.float64), 0
                for c in range(sum(groups)):
                    for a in range(kernel):
                        for b in range(kernel):
                            row, column = stride * i + a - half, stride * j + b - half
                            if 0 <= row < 7 and 0 <= column < 7 and masks[n, c, row, column] == 1:
                                total += weight[:, c, a, b] * x[n, c, row, column]
                                count += 1
                expected = total * (sum(groups) * kernel**2) / count + bias if count else torch.zeros_like(total)
                torch.testing.assert_close(found[n, :, i, j], expected)
                assert filled[n, 0, i, j] == (count > 0)
                missing += count == 0
    assert missing or kernel == 7


def test_with_nothing_missing_it_is_a_convolution():
    made = layer(kernel=5, bias=True)
    x = torch.rand(2, 3, 12, 12, dtype=torch.float64)
    found, filled = made(x, torch.ones(1, 3, 12, 12, dtype=torch.float64))
    expected = conv2d(x, made.conv.weight, made.bias)
    torch.testing.assert_close(found[..., 2:-2, 2:-2], expected)  # two pixels of the border look beyond it
    assert filled.shape == (1, 1, 12, 12) and filled.all()


@pytest.mark.parametrize("groups", [(2,), (4, 2)])
def test_a_constant_image_is_a_fixed_point_of_a_mean_under_any_mask(groups):
    """So it is by the window's factor alone, at the border and where the masks of two groups differ, too."""
    made = layer(groups, outputs=2, kernel=3)
    nn.init.constant_(made.conv.weight, 1 / (9 * sum(groups)))
    _, seen = random_input(groups, size=12, share=0.1)
    found, filled = made(0.7 * seen.repeat_interleave(torch.tensor(groups), dim=1), seen)
    assert 0 < filled.mean() < 1
    torch.testing.assert_close(found, 0.7 * filled.expand_as(found))


def test_holes_close_from_the_rim_by_half_a_kernel():
    made, seen = layer(kernel=7), torch.ones(1, 3, 20, 20, dtype=torch.float64)
    seen[..., 4:16, 5:17] = 0
    _, filled = made(torch.zeros_like(seen), seen)
    expected = torch.ones(20, 20, dtype=torch.float64)
    expected[7:13, 8:14] = 0
    assert torch.equal(filled[0, 0], expected)


# --- the network ------------------------------------------------------------------------------------------------------


def convolutions(network):
    return [
        (m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0])
        for m in network.modules()
        if isinstance(m, nn.Conv2d)
    ]


def test_the_paper_width_has_the_papers_layers_and_the_parameters_counted_by_hand():
    with torch.device("meta"):
        m = Method(Settings(), 96)
    down = [(3, 64, 7, 2), (64, 128, 5, 2), (128, 256, 5, 2), (256, 512, 3, 2), (512, 512, 3, 2)]
    up = [(1024, 512, 3, 1), (768, 256, 3, 1), (384, 128, 3, 1), (192, 64, 3, 1), (67, 3, 3, 1)]
    assert convolutions(m.generator) == down + up
    # 9,408 + 204,800 + 819,200 + 1,179,648 + 2,359,296 down, 4,718,592 + 1,769,472 + 442,368 + 110,592 + 1,809 up; two
    # for each of 2,368 channels of batch-norm, and the biases of the first and the last layer, which have none.
    assert sum(p.numel() for p in m.parameters()) == 4_572_352 + 7_042_833 + 2 * 2368 + 64 + 3
    assert m.feature_dim == 512 * 9 and m.PAPER == "Liu et al. 2018"


@pytest.mark.parametrize(("size", "levels"), [(8, 1), (16, 2), (48, 4), (64, 4)])
def test_it_goes_down_to_maps_of_three_or_four_pixels(size, levels):
    m, images = method(size), torch.rand(1, 3, size, size)
    with torch.no_grad():
        maps = m.stages(images)
        code = m.encode(images)
    assert [each.shape[-1] for each in maps.values()] == [size >> (k + 1) for k in range(levels)]
    assert torch.equal(code, maps[f"stage{levels}"].flatten(1)) and code.shape == (1, m.feature_dim)


def test_a_size_that_does_not_halve_to_such_a_map_is_refused():
    with pytest.raises(UserError, match="20×20"):
        method(20)


def test_only_encoder_and_decoder_layers_inside_have_batch_norm():
    m = method(32)
    levels = [*m.generator.encoder.levels, *m.generator.decoder]
    assert [isinstance(level.norm, nn.BatchNorm2d) for level in levels] == [False, True, True, True, True]
    slopes = [getattr(level.activation, "negative_slope", 0) for level in levels]
    assert slopes == [0, 0, 0, 0.2, 0.2]
    assert [level.conv.bias is not None for level in levels] == [True, False, False, False, False]


@pytest.mark.parametrize("backbone", ["native", "mde"])
@pytest.mark.parametrize("shape", [(1, 1), (COUNT, 1), (COUNT, 3)])
def test_only_seen_values_matter(backbone, shape):
    m, images = method(backbone=backbone), batch().images
    seen = (torch.rand(*shape, SIZE, SIZE, generator=torch.Generator().manual_seed(5)) > 0.4).float()
    other = images * seen + (1 - seen) * torch.rand(images.shape, generator=torch.Generator().manual_seed(6))
    assert torch.equal(m.complete(images, seen), m.complete(other, seen))
    assert m.complete(images, torch.zeros(1, 1, SIZE, SIZE)).isfinite().all()


def test_the_mde_backbone_sees_image_and_mask_and_encodes_its_code():
    m = method(backbone="mde")
    assert m.generator.encoder.trunk.stages[0][0][0].in_channels == 6 and m.feature_dim == 8
    assert m.encode(batch().images).shape == (COUNT, 8) and list(m.stages(batch().images)) == ["stage1", "stage2"]
    seen = torch.ones(COUNT, 3, SIZE, SIZE)
    seen[:, 0, :8] = 0
    inputs = []
    m.generator.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    m.complete(batch().images, seen)
    torch.testing.assert_close(inputs[0], torch.cat([(2 * batch().images - 1) * seen, seen], dim=1))


# --- the phases -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("backbone", ["native", "mde"])
def test_in_the_second_phase_the_encoders_batch_norm_stands_still(backbone):
    """Statistics, weights and biases; in spite of Adam's momentum, and of the mode the trainer sets."""
    t = trainer(8, backbone=backbone)
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
    norms = {n: m for n, m in t.method.generator.named_modules() if isinstance(m, kinds)}
    inside = {n for n in norms if n.startswith("encoder.")}
    assert inside and inside < set(norms)
    for step in range(8):
        before = {n: {k: v.clone() for k, v in m.state_dict().items()} for n, m in norms.items()}
        weight = t.method.generator.encoder.get_parameter(
            "levels.1.conv.conv.weight" if backbone == "native" else "trunk.stages.1.0.0.weight"
        )
        old = weight.detach().clone()
        t.update(batch(step))
        assert not torch.equal(weight, old)
        for name, norm in norms.items():
            moved = {k for k, v in norm.state_dict().items() if not torch.equal(v, before[name][k])}
            assert not moved if name in inside and step >= 6 else moved == set(before[name]), (step, name)
        assert t.optimizers["generator"].param_groups[0]["lr"] == pytest.approx(5e-5 if step >= 6 else 2e-4)


def test_phases_can_be_left_out_and_wrong_ones_are_told():
    for phases, factors in (((1, 0), {1.0}), ((0, 1), {0.25})):
        (player,) = method(phases=phases).players().values()
        assert {player.schedule(step / 7) for step in range(7)} == factors
    for phases in ("1", "0,0", "-1,2"):
        with pytest.raises(UserError, match="2 shares"):
            build(Settings, {"phases": phases})


# --- the loss ---------------------------------------------------------------------------------------------------------


def test_the_loss_by_plain_arithmetic():
    weights = {"hole_weight": 2.0, "perceptual_weight": 0.3, "style_weight": 50.0, "tv_weight": 0.7}
    m, b = method(perceptual="random:0", **weights).double(), batch(dtype=torch.float64)
    assert m.losses == "valid+hole+tv+perceptual+style" and m.perceptual == "vgg16-random:0" and not m.notes
    seen = method().draw_seen(batch()).double()
    with torch.no_grad():
        total, parts = m.loss("generator", b)
        output = (m.generator((2 * b.images - 1) * seen, seen) + 1) / 2
        valid = hole = smooth = 0.0
        composite = torch.where(seen > 0, b.images, output)
        for n in range(COUNT):
            region = {
                (i + a, j + c)
                for i, j in (seen[n, 0] == 0).nonzero().tolist()
                for a in (-1, 0, 1)
                for c in (-1, 0, 1)
                if 0 <= i + a < SIZE and 0 <= j + c < SIZE
            }
            for i in range(SIZE):
                for j in range(SIZE):
                    error = (output[n, :, i, j] - b.images[n, :, i, j]).abs().sum().item()
                    valid, hole = valid + error * seen[n, 0, i, j].item(), hole + error * (1 - seen[n, 0, i, j].item())
                    for k, o in ((i + 1, j), (i, j + 1)):
                        if {(i, j), (k, o)} <= region:
                            smooth += (composite[n, :, k, o] - composite[n, :, i, j]).abs().sum().item()
        vgg = load_perceptual("random:0").double()
        maps = [[nn.functional.max_pool2d(x, 2) for x in vgg(y)[:3]] for y in (b.images, output, composite)]
        perceptual = sum((x - y).abs().mean().item() for made in maps[1:] for x, y in zip(made, maps[0]))
        grams = [[torch.einsum("nchw,ndhw->ncd", x, x) / x[0].numel() for x in made] for made in maps]
        looks = sum((x - y).abs().mean().item() for made in grams[1:] for x, y in zip(made, grams[0]))
    n = b.images.numel()
    expected = {"valid": valid / n, "hole": hole / n, "tv": smooth / n, "perceptual": perceptual, "style": looks}
    assert {key: value.item() for key, value in parts.items()} == pytest.approx(expected, rel=1e-9)
    weighted = valid / n + 2 * hole / n + 0.7 * smooth / n + 0.3 * perceptual + 50 * looks
    assert total.item() == pytest.approx(weighted, rel=1e-9)


def test_without_a_perceptual_network_that_is_said():
    m = method()
    assert m.losses == "valid+hole+tv" and m.perceptual == "none"
    assert set(m.loss("generator", batch()).parts) == {"valid", "hole", "tv"}
    (note,) = m.notes
    assert "style and perceptual loss left out" in note


def test_a_perceptual_network_of_fewer_blocks_is_refused(monkeypatch):
    short = load_perceptual("random:0")
    short.blocks = short.blocks[:2]
    monkeypatch.setattr("mdebench.methods.perceptual.load_perceptual", lambda spec: short)
    with pytest.raises(UserError, match="ends before the third pooling layer"):
        method(perceptual="random:0").loss("generator", batch())


def test_completions_lie_in_the_unit_interval_and_losses_see_them_unclipped():
    m = method()
    with torch.no_grad():
        m.generator.last.bias.fill_(9.0)
    b = batch()
    assert m.complete(b.images, torch.ones_like(b.images)).max() == 1
    assert sum(m.loss("generator", b).parts[key] for key in ("valid", "hole")) > 2


def test_updates_on_the_same_images_and_holes_halve_the_error():
    t, axis = trainer(200, lr=0.01, width=4), torch.linspace(0, 1, SIZE)
    ramps = torch.stack([axis.expand(SIZE, SIZE), axis[:, None].expand(SIZE, SIZE), axis * axis[:, None]])
    same = [batch(0, 200, ramps.repeat(COUNT, 1, 1, 1)) for _ in range(30)]
    errors = [t.update(each)["generator/hole"] for each in same]
    assert errors[-1] < errors[0] / 2


def test_training_masks_may_be_where_vcnet_s_damage_lies():
    """Drawn as VCNet draws them: at least half of a pixel is left of what is seen."""
    b = batch()
    left = draw_damage(b.count, b.images.shape[-1], torch.Generator().set_state(b.generator.get_state()))
    assert torch.equal(method(masks="damage").draw_seen(b), (left >= 0.5).float().expand(-1, 3, -1, -1))
    with pytest.raises(UserError, match="masks"):
        method(masks="boxes")
