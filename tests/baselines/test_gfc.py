"""GFC: layers and parameters by hand, poolings undone, stages to the update, losses by plain arithmetic."""

import math
from dataclasses import asdict

import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torchvision.models import get_model

from mdebench.baselines._parser import load_parser
from mdebench.baselines._squares import cut, draw_corners, outside
from mdebench.baselines.gfc import Encoder, Judge, Method, Settings, unpool
from mdebench.errors import UserError
from mdebench.methods.contract import Batch
from mdebench.runs import Recipe
from mdebench.training.trainer import Trainer

SIZE, COUNT = 32, 3
G, BOTH = ("generator",), ("judges", "generator")


def method(size=SIZE, **values):
    torch.manual_seed(0)
    return Method(Settings(**({"width": 4, "code": 8} | values)), size).eval()


def batch(step=0, updates=10, size=SIZE, count=COUNT, dtype=torch.float32):
    images = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(1000 + step)).to(dtype)
    return Batch(images, torch.arange(count), step, 0, 0, torch.Generator().manual_seed(step), updates)


def draws(step, size=SIZE, count=COUNT):
    """What a batch's generator gives for its holes and their noise, in [-1, 1]."""
    generator = torch.Generator().manual_seed(step)
    corners = draw_corners(count, size, generator)
    return corners, 2 * torch.rand(count, 3, size, size, generator=generator) - 1


def layers(network):
    """(inputs, outputs, kernel, stride) of each convolution, (inputs, outputs) of each fully connected layer."""
    found = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    return [
        (m.in_channels, m.out_channels, m.kernel_size[0], m.stride[0])
        if isinstance(m, nn.Conv2d)
        else (m.in_features, m.out_features)
        for m in found
    ]


def parameters(network):
    return sum(p.numel() for p in network.parameters())


# --- the networks -----------------------------------------------------------------------------------------------------

ENCODER = [(3, 32), (32, 32), (32, 64), (64, 64), (64, 128), (128, 128), (128, 256), *[(256, 256)] * 3]
DECODER = [
    (256, 64),
    (64, 64),
    (64, 64),
    (64, 128),
    (128, 64),
    (64, 64),
    (64, 64),
    (64, 32),
    (32, 32),
    (32, 32),
    (32, 3),
]


def test_the_paper_width_has_the_authors_layers_and_parameters_at_96_pixels():
    with torch.device("meta"):
        m = Method(Settings(), 96)
    three = [(*each, 3, 1) for each in ENCODER]
    assert layers(m.generator.encoder) == [*three, (6 * 6 * 256, 4096)]
    assert layers(m.generator.decoder) == [(4096, 6 * 6 * 256), *[(*each, 3, 1) for each in DECODER]]
    convolutions = sum(9 * a * b + b for a, b in ENCODER + DECODER)
    full = 2 * 4096 * 9216 + 4096 + 9216
    assert parameters(m.generator) == convolutions + full == 78_343_907  # the originals: 78.3, 7.13 and 7.16 million
    assert round(parameters(m.judges["local"]) / 1e6, 2) == 7.13
    assert round(parameters(m.judges["global"]) / 1e6, 2) == 7.16
    assert m.feature_dim == 4096 and m.PAPER == "Li et al. 2017"


def test_the_judges_keep_a_size_then_halve_it_and_end_in_one_logit():
    with torch.device("meta"):
        judges = Method(Settings(), 128).judges  # the paper's size, where both end in 4×4 pixels
    pairs = [(64, 64), (128, 128), (256, 256), (512, 512)]
    shared = [(64, 128, 3, 1), (128, 256, 3, 1), (256, 512, 3, 1)]
    first, *rest = [(a, b, 4, 2) for a, b in pairs]
    tail = [first, *(each for both in zip(shared, rest, strict=True) for each in both), (512 * 16, 1)]
    assert layers(judges["local"]) == [(3, 64, 3, 1), *tail]
    assert layers(judges["global"]) == [(3, 32, 3, 1), (32, 32, 4, 2), (32, 64, 3, 1), *tail]
    assert not any(isinstance(m, nn.BatchNorm2d | nn.InstanceNorm2d) for m in judges.modules())


@pytest.mark.parametrize(
    ("side", "stages", "last"), [(8, 1, 4), (16, 2, 4), (24, 3, 3), (48, 4, 3), (64, 4, 4), (3, 1, 1)]
)
def test_a_judge_of_small_images_has_the_last_stages(side, stages, last):
    judge = Judge(side, (2, 4, 8, 16))
    found = [each for each in layers(judge) if len(each) == 4]
    assert [each[1] for each in found[::2]] == [2, 4, 8, 16][-stages:]
    assert judge.head.in_features == 16 * last**2
    assert judge(torch.zeros(2, 3, side, side)).shape == (2,)


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_unpooling_puts_each_number_where_the_maximum_was(form):
    torch.manual_seed(0)
    x, given = torch.randn(2, 3, 4, 6).contiguous(memory_format=form), torch.randn(2, 3, 2, 3)
    _, places = nn.functional.max_pool2d(x, 2, return_indices=True)
    expected = torch.zeros_like(x)
    for n, c, i, j in torch.ones(2, 3, 2, 3).nonzero().tolist():
        window = x[n, c, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        at = window.flatten().argmax().item()
        expected[n, c, 2 * i + at // 2, 2 * j + at % 2] = given[n, c, i, j]
    assert torch.equal(unpool(given, places), expected)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(unpool(given.bfloat16(), places), expected.bfloat16())


def test_the_encoder_remembers_the_places_that_its_own_maps_came_from():
    encoder = Encoder(SIZE, 2, 8)
    x = torch.rand(2, 3, SIZE, SIZE)
    _, places = encoder(x)
    before = x
    for stage, each, pooled in zip(encoder.stages, places, encoder.maps(x).values(), strict=True):
        before = stage(before)
        assert torch.equal(before.flatten(2).gather(2, each.flatten(2)).view_as(pooled), pooled)
        before = pooled


@pytest.mark.parametrize("size", [16, 48, 96])
def test_shapes_at_the_working_sizes(size):
    m, images = method(size), torch.rand(2, 3, size, size)
    with torch.no_grad():
        shapes = [tuple(each.shape[1:]) for each in m.stages(images).values()]
        assert shapes == [(2 << n, size >> n + 1, size >> n + 1) for n in range(4)]
        assert m.encode(images).shape == (2, 8)
        assert m.complete(images, torch.ones(1, 1, size, size)).shape == images.shape


@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp64"])
@pytest.mark.parametrize(("size", "width", "count"), [(16, 1, 1), (32, 4, 2), (48, 2, 1)])
def test_it_trains_at_small_sizes_narrow_one_by_one_and_in_all_precisions(size, width, count, precision):
    m = method(size, width=width)
    recipe = Recipe("gfc", "gfc", asdict(m.settings), "test", size, "pack", "", 0, 10, count, precision, {})
    t = Trainer(m, recipe, torch.device("cpu"))
    dtype = torch.float64 if precision == "fp64" else torch.float32
    for step in (0, 1, 5):
        parts = t.update(batch(step, 10, size, count, dtype))
        assert all(value.isfinite() for value in parts.values())
    t.state()


def test_the_first_output_is_grey_and_the_signal_of_the_judges_is_kept():
    m = method(width=8)
    output = m.complete(batch().images, torch.ones(1, 1, SIZE, SIZE))
    assert (output - 0.5).abs().max() < 0.1
    for judge, images in (("global", torch.randn(64, 3, 32, 32)), ("local", torch.randn(64, 3, 16, 16))):
        features = m.judges[judge].trunk(images)
        assert 0.2 < features.square().mean() < 5


@pytest.mark.parametrize("backbone", ["native", "mde"])
def test_the_code_of_the_mde_backbone_and_the_native_one(backbone):
    m = method(backbone=backbone)
    images = batch().images
    assert m.encode(images).shape == (COUNT, 8) and m.encode(images).min() >= 0
    if backbone == "native":
        last = m.stages(images)["stage4"].flatten(1)
        torch.testing.assert_close(m.encode(images), m.generator.encoder.to_code[1:](last))
    recipe = Recipe("gfc", "gfc", asdict(m.settings), "test", SIZE, "pack", "", 0, 10, COUNT, "fp32", {})
    t = Trainer(m, recipe, torch.device("cpu"))
    assert [set(t.update(batch(step))) for step in (0, 1, 2)] == [
        {"generator/l1"},
        {"judges/local", "generator/l1", "generator/local"},
        {"judges/local", "judges/global", "generator/l1", "generator/local", "generator/global"},
    ]


def test_mistakes_are_told():
    for size in (8, 24, 40):
        with pytest.raises(UserError, match=rf"a side that 16 divides, not {size} pixels"):
            method(size)
    with pytest.raises(UserError, match=r"backbone 'nativ'.*Did you mean 'native'"):
        Settings(backbone="nativ")
    with pytest.raises(UserError, match="3 shares"):
        Settings(phases=(1, 1))
    with pytest.raises(UserError, match="joins in the third"):
        Settings(phases=(1, 1, 0), parser="faces.pth")


# --- holes, noise, and what is seen -----------------------------------------------------------------------------------


def test_a_hole_is_a_square_of_half_the_side_and_any_place_is_as_likely():
    corners = draw_corners(5000, 8, torch.Generator().manual_seed(0))
    assert corners.shape == (5000, 2) and corners.min() == 0 and corners.max() == 4
    for axis in (0, 1):
        counts = torch.bincount(corners[:, axis], minlength=5)
        assert (counts - 1000).abs().max() < 130  # 4.6 standard errors
    assert abs(torch.corrcoef(corners.T.double())[0, 1]) < 0.06
    seen = outside(corners, 8)
    numbered = torch.arange(5000 * 64.0).reshape(5000, 1, 8, 8)
    for n in (0, 17, 4999):
        x, y = corners[n].tolist()
        expected = torch.ones(8, 8)
        expected[y : y + 4, x : x + 4] = 0
        assert torch.equal(seen[n, 0], expected)
        assert torch.equal(cut(numbered, corners)[n].flatten(), numbered[n][seen[n] == 0])


def test_a_training_mask_is_the_same_in_all_channels():
    seen = method().draw_seen(batch())
    assert seen.shape == (COUNT, 3, SIZE, SIZE) and set(seen.unique().tolist()) == {0, 1}
    assert torch.equal(seen, outside(draws(0)[0], SIZE).expand_as(seen)) and seen.mean() == 0.75


def test_holes_are_noise_anew_in_training_and_the_same_at_test_time():
    m, inputs = method(), []
    m.generator.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    b = batch()
    m.loss("generator", b)
    corners, noise = draws(0)
    seen = outside(corners, SIZE)
    torch.testing.assert_close(inputs[0], seen * (2 * b.images - 1) + (1 - seen) * noise)
    with torch.no_grad():
        m.complete(b.images, seen), m.complete(b.images, seen)
    assert torch.equal(inputs[1], inputs[2])
    hole = (seen == 0).expand_as(b.images)
    assert inputs[1][hole].std() == pytest.approx(1 / math.sqrt(3), abs=0.02) and inputs[1].abs().max() <= 1
    again = method()
    assert torch.equal(again.noise, m.noise) and "noise" not in m.state_dict()


@pytest.mark.parametrize("backbone", ["native", "mde"])
@pytest.mark.parametrize("shape", [(1, 1), (COUNT, 1), (COUNT, 3)])
def test_only_seen_values_matter(backbone, shape):
    m, images = method(backbone=backbone), batch().images
    nn.init.normal_(m.generator.decoder.last.weight) if backbone == "native" else None
    seen = (torch.rand(*shape, SIZE, SIZE, generator=torch.Generator().manual_seed(5)) > 0.4).float()
    other = torch.rand(images.shape, generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        output = m.complete(images, seen)
        assert torch.equal(m.complete(images.where(seen > 0, other), seen), output)
        assert not torch.equal(m.complete(other.where(seen > 0, images), seen), output)
    assert output.min() >= 0 and output.max() <= 1


# --- stages and losses ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("phases", "ends"), [((1, 1, 8), (10, 20)), ((1, 1, 1), (33, 66)), ((0, 0, 1), (0, 0))])
def test_stages_end_at_their_shares(phases, ends):
    m = method(phases=phases)
    stages = [m.judging(step, 100) for step in range(100)]
    assert stages == [()] * ends[0] + [("local",)] * (ends[1] - ends[0]) + [("local", "global")] * (100 - ends[1])
    assert [m.turns(step, 100) for step in range(100)] == [BOTH if stage else G for stage in stages]


def test_what_is_played_is_said():
    assert method().losses == "l1+local+global" and "parsing loss is left out" in method().notes[0]
    assert method(phases=(1, 1, 0)).losses == "l1+local" and not method(phases=(1, 1, 0)).notes
    alone = method(phases=(1, 0, 0))
    assert alone.losses == "l1" and {alone.turns(step, 7) for step in range(7)} == {G}


@pytest.mark.parametrize("step", [0, 1, 5])
def test_losses_by_plain_arithmetic(step):
    """At weights where every term counts; the sums are over the values of an image of 128 pixels."""
    m, b = method(local_weight=30_000, global_weight=10_000).double(), batch(step, dtype=torch.float64)
    nn.init.normal_(m.generator.decoder.last.weight, std=0.1)
    corners, noise = draws(step)
    seen, real = outside(corners, SIZE).double(), 2 * b.images - 1
    with torch.no_grad():
        output = m.generator(seen * real + (1 - seen) * noise.double())
        fake = seen * real + (1 - seen) * output
        whole = {"local": cut, "global": lambda images, _: images}
        logits = {j: [m.judges[j](whole[j](each, corners)).tolist() for each in (real, fake)] for j in m.judges}
    playing = ("local", "global")[: min(step, 2)]
    if playing:
        with torch.no_grad():
            total, parts = m.loss("judges", b)
        expected = {
            j: sum(math.log1p(math.exp(-r)) + math.log1p(math.exp(f)) for r, f in zip(*logits[j], strict=True)) / COUNT
            for j in playing
        }
        assert {k: v.item() for k, v in parts.items()} == pytest.approx(expected, rel=1e-9)
        assert total.item() == pytest.approx(sum(expected.values()), rel=1e-9)
    with torch.no_grad():
        total, parts = m.loss("generator", b)
    l1 = sum(abs(a - c) for a, c in zip(output.flatten().tolist(), real.flatten().tolist())) / real.numel()
    adversarial = {j: sum(math.log1p(math.exp(-f)) for f in logits[j][1]) / COUNT for j in playing}
    assert {k: v.item() for k, v in parts.items()} == pytest.approx({"l1": l1, **adversarial}, rel=1e-9)
    weights = {"local": 30_000, "global": 10_000}
    summed = l1 * 3 * 128**2 + sum(weights[j] * value for j, value in adversarial.items())
    assert total.item() == pytest.approx(summed, rel=1e-9)


def test_the_judges_gradient_reaches_no_pixel_outside_the_hole():
    m, b = method(), batch(5)
    kept = []
    m.generator.register_forward_hook(lambda module, inputs, output: (output.retain_grad(), kept.append(output))[0])
    parts = m.loss("generator", b).parts
    (parts["local"] + parts["global"]).backward()
    seen = outside(draws(5)[0], SIZE)
    assert (kept[0].grad * seen).abs().max() == 0 and (kept[0].grad * (1 - seen)).abs().max() > 0


def test_one_update_completes_once_and_each_turn_moves_its_own_player():
    m, calls = method(), []
    m.generator.register_forward_hook(lambda *_: calls.append(1))
    b = batch(5)
    for player, other in (BOTH, BOTH[::-1]):
        m.zero_grad()
        m.loss(player, b).total.backward(inputs=m.players()[player].parameters)
        assert all(p.grad is not None for p in m.players()[player].parameters)
        assert all(p.grad is None for p in m.players()[other].parameters)
    assert len(calls) == 1 and m._turn is None


def test_adam_has_the_authors_rates():
    players = method().players()
    assert (players["judges"].lr, players["judges"].options["betas"]) == (2e-4, (0.5, 0.999))
    assert (players["generator"].lr, players["generator"].options["betas"]) == (1e-4, (0.9, 0.999))


# --- the parser -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def parser_file(tmp_path_factory):
    """An untrained parser of five kinds of parts, as a trainer leaves it."""
    torch.manual_seed(3)
    network = get_model("lraspp_mobilenet_v3_large", weights=None, weights_backbone=None, num_classes=5)
    path = tmp_path_factory.mktemp("parser") / "faces.pth"
    torch.save({"model": {f"module.{name}": each for name, each in network.state_dict().items()}}, path)
    return path, network.eval()


def test_a_parser_is_found_by_its_tensors_and_judges_images_as_imagenets_networks_do(parser_file):
    path, network = parser_file
    state = torch.get_rng_state()
    parser = load_parser(str(path))
    assert torch.equal(torch.get_rng_state(), state) and not any(p.requires_grad for p in parser.parameters())
    images = torch.rand(2, 3, 32, 32)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    with torch.no_grad():
        expected = network((images - mean[:, None, None]) / std[:, None, None])["out"]
        torch.testing.assert_close(parser(images), expected)
    assert expected.shape == (2, 5, 32, 32)


def test_the_parsing_loss_is_the_cross_entropy_with_what_the_parser_says_of_the_whole_image(parser_file):
    path, _ = parser_file
    m, b = method(parser=str(path), local_weight=0.0, global_weight=0.0), batch(5)
    assert m.losses == "l1+local+global+parsing" and not m.notes
    assert m.told["parser"].startswith("faces.pth:") and not any("parser" in name for name in m.state_dict())
    total, parts = m.loss("generator", b)
    corners, noise = draws(5)
    seen = outside(corners, SIZE)
    with torch.no_grad():
        output = (m.generator(seen * (2 * b.images - 1) + (1 - seen) * noise) + 1) / 2
        logits = load_parser(str(path))(seen * b.images + (1 - seen) * output).log_softmax(1)
        target = load_parser(str(path))(b.images).argmax(1)
    picked = [-logits[n, target[n, i, j], i, j].item() for n, i, j in torch.ones(COUNT, SIZE, SIZE).nonzero().tolist()]
    assert parts["parsing"].item() == pytest.approx(sum(picked) / len(picked), rel=1e-4)
    # 0.05 of the sum over an image's pixels, beside the sum of the errors over its values; more where there are fewer.
    summed = parts["l1"].item() * 3 * SIZE**2 + 0.05 * sum(picked) / COUNT
    assert total.item() == pytest.approx(summed * (128 / SIZE) ** 2, rel=1e-5)
    assert "parsing" not in m.loss("generator", batch(1)).parts  # it joins with the global judge


def test_a_finished_run_needs_its_parser_no_more(tmp_path):
    m = method(parser=str(tmp_path / "gone.pth"))
    assert m.encode(batch().images).shape == (COUNT, 8)
    with pytest.raises(UserError, match="no such file"):
        m.players()


def test_a_file_without_a_parser_is_refused(tmp_path, parser_file):
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.zeros(2, 2), "bias": torch.zeros(2)}, path)
    with pytest.raises(UserError, match=r"holds no face parser: .*missing.*lraspp_mobilenet_v3_large"):
        load_parser(str(path))
    state = {name: each for name, each in parser_file[1].state_dict().items() if "_classifier" not in name}
    torch.save(state, tmp_path / "headless.pth")
    with pytest.raises(UserError, match="holds no face parser"):
        load_parser(str(tmp_path / "headless.pth"))
