"""VCNet: widths and counts by hand, context normalisation and losses against slow ones, who learns what and when."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import conv2d, elu

from mdebench.baselines.vcnet import (
    ContextNorm,
    Critics,
    MaskNetwork,
    Method,
    Residual,
    Settings,
    mask_loss,
    moved,
)
from mdebench.errors import UserError
from mdebench.methods import Completes, Encodes, Locates, Restores, Stages
from mdebench.methods.contract import Batch
from mdebench.methods.masks import damage, draw_damage, intact, strange
from mdebench.methods.perceptual import load_perceptual
from mdebench.runs import Recipe
from mdebench.settings import build
from mdebench.training.trainer import Trainer

SIZE, COUNT = 16, 3


def method(size=SIZE, seed=0, **values):
    torch.manual_seed(seed)
    return Method(Settings(**({"width": 4, "code": 8, "perceptual": "none"} | values)), size)


def batch(step=0, updates=10, dtype=torch.float32):
    generator = torch.Generator().manual_seed(step)
    images = torch.rand(COUNT, 3, SIZE, SIZE, generator=generator).to(dtype)
    return Batch(images, torch.arange(COUNT), step, 0, 0, generator, updates)


def damaged(b):
    """What an update of this batch draws: damaged images in [-1, 1] and where, with the same generator."""
    generator = torch.Generator()
    generator.set_state(b.generator.get_state())
    alpha = draw_damage(COUNT, SIZE, generator)
    others = strange(b.images, torch.rand(COUNT, 3, generator=generator))
    return 2 * damage(b.images, alpha, others) - 1, (1 - intact(alpha)).to(b.images)


def count(module):
    return sum(p.numel() for p in module.parameters())


def conv(inputs, outputs, kernel=3):
    return outputs * (inputs * kernel**2 + 1)


def residual(inputs, outputs, kernel=3, project=True):
    return conv(inputs, outputs, kernel) + conv(outputs, outputs, kernel) + project * conv(inputs, outputs, 1)


def test_parameter_counts_at_96_pixels_are_those_of_the_originals():
    """By hand; the public reimplementation has 1.38, 2.50 and twice 4.72 million."""
    with torch.device("meta"):
        m = Method(Settings(), 96)
    same = residual(128, 128, project=False)
    masker = residual(3, 64, 5) + residual(64, 128) + 3 * same + residual(128, 64) + residual(64, 32)
    assert count(m.masker) == masker + conv(32, 16) + conv(16, 1) == 1_376_385

    def shares(channels):  # squeeze and excitation by 16
        hidden = channels // 16
        return hidden * (channels + 1) + channels * (hidden + 1)

    down = residual(3, 32, 5) + residual(32, 64) + residual(64, 64, project=False) + residual(64, 128) + 6 * same
    up = residual(256, 64) + residual(64, 64, project=False) + residual(64, 32) + residual(32, 32, project=False)
    context = 3 * shares(32) + 4 * shares(64) + 7 * shares(128)
    assert count(m.inpainter) == down + up + context + conv(32, 3) == 2_502_353
    critic = sum(conv(i, o, 5) for i, o in [(3, 64), (64, 128), (128, 128), (128, 256), (256, 512)])
    assert count(m.critics.whole) == count(m.critics.patches) == critic == 4_716_288
    assert count(m.critics.head) == 512 * 9 + 1 and m.feature_dim == 4096


def test_layers_are_the_papers():
    m = method(width=64)
    plain = [(b.first.kernel_size[0], b.first.stride[0], b.first.dilation[0]) for b in residuals(m.masker)]
    assert plain == [(5, 2, 1), (3, 2, 1), (3, 1, 2), (3, 1, 4), (3, 1, 1), (3, 1, 1), (3, 1, 1)]
    assert [b.first.out_channels for b in residuals(m.masker)] == [64, 128, 128, 128, 128, 64, 32]
    context = [(b.first.kernel_size[0], b.first.stride[0], b.first.dilation[0]) for b in residuals(m.inpainter)]
    expected = [(5, 1, 1), (3, 2, 1), (3, 1, 1), (3, 2, 1), (3, 1, 1)]
    assert context == expected + [(3, 1, d) for d in (2, 2, 4, 4, 1)] + [(3, 1, 1)] * 4
    assert all(b.norm is None for b in residuals(m.masker)) and all(b.norm for b in residuals(m.inpainter))


def residuals(network):
    return [each for each in network.modules() if isinstance(each, Residual)]


def test_a_block_is_two_convolutions_and_a_shortcut_of_the_same_stride():
    """Channels last at 96 pixels, where a strided shortcut of torch's own ends the process in its backward pass."""
    torch.manual_seed(0)
    block, x = Residual(3, 8, kernel=5, stride=2), torch.randn(2, 3, 96, 96)
    inner = conv2d(x, block.first.weight, block.first.bias, stride=2, padding=2)
    inner = conv2d(elu(inner), block.second.weight, block.second.bias, padding=2)
    expected = elu(inner + conv2d(x, block.shortcut.weight, block.shortcut.bias, stride=2))
    expected = torch.autograd.grad(expected.square().mean(), list(block.parameters()))
    block.to(memory_format=torch.channels_last)
    for _ in range(5):
        out = block(x.contiguous(memory_format=torch.channels_last))
        found = torch.autograd.grad(out.square().mean(), list(block.parameters()))
    for a, b in zip(found, expected):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


# --- probabilistic context normalisation ------------------------------------------------------------------------------


def with_share(norm, share):
    """A normalisation whose β is ``share`` for all channels."""
    for layer in (norm.share[0], norm.share[2]):
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    nn.init.constant_(norm.share[2].bias, math.log(share / (1 - share)) if 0 < share < 1 else 1e4 * (2 * share - 1))
    return norm.double()


@pytest.mark.parametrize("soft", [False, True])
def test_context_normalisation_is_the_papers_formula_place_by_place(soft):
    torch.manual_seed(0)
    x, hole = 2 * torch.randn(2, 3, 4, 5).double() + 1, torch.rand(2, 1, 4, 5).double()
    hole = hole if soft else hole.round()
    share = 0.3
    found = with_share(ContextNorm(3), share)(x, hole)
    for i in range(2):
        h = hole[i, 0].flatten().tolist()
        for c in range(3):
            values = x[i, c].flatten().tolist()

            def moments(weights, values=values):
                total = sum(weights)
                mean = sum(w * v for w, v in zip(weights, values)) / total
                return mean, math.sqrt(sum(w * (v - mean) ** 2 for w, v in zip(weights, values)) / total)

            (mean, deviation), (target, spread) = moments(h), moments([1 - w for w in h])
            for value, w, out in zip(values, h, found[i, c].flatten().tolist()):
                transferred = (value - mean) / deviation * spread + target
                expected = (share * transferred + (1 - share) * value * w) * w + value * (1 - w)
                assert out == pytest.approx(expected, abs=1e-3)  # but for the ε of the divisions


def test_damaged_places_take_the_statistics_of_intact_ones_and_intact_places_stay():
    torch.manual_seed(0)
    x, hole = 3 * torch.randn(2, 4, 16, 16).double(), (torch.rand(2, 1, 16, 16) < 0.3).double()
    x = x + 5 * hole  # what is damaged looks otherwise
    out = with_share(ContextNorm(4), 1.0)(x, hole)
    torch.testing.assert_close(out, moved(x, hole) * hole + x * (1 - hole))
    for image, mask in zip(out, hole[:, 0] > 0):
        torch.testing.assert_close(image[:, mask].mean(1), image[:, ~mask].mean(1), rtol=0, atol=1e-4)
        kinds = [image[:, each].var(1, correction=0) for each in (mask, ~mask)]
        torch.testing.assert_close(*kinds, rtol=1e-4, atol=1e-4)
    assert torch.equal(out[(hole == 0).expand_as(x)], x[(hole == 0).expand_as(x)])


def test_with_beta_0_nothing_changes_and_without_damage_nothing_at_any_beta():
    torch.manual_seed(0)
    x, hole = torch.randn(2, 4, 8, 8).double(), (torch.rand(2, 1, 8, 8) < 0.4).double()
    torch.testing.assert_close(with_share(ContextNorm(4), 0.0)(x, hole), x)
    torch.testing.assert_close(with_share(ContextNorm(4), 1.0)(x, torch.zeros_like(hole)), x)
    for everything in (torch.ones_like(hole), torch.zeros_like(hole)):
        assert ContextNorm(4).double()(x, everything).isfinite().all()


def test_how_much_is_moved_is_decided_channel_by_channel_from_their_means():
    torch.manual_seed(0)
    norm, x = ContextNorm(4), torch.randn(2, 4, 8, 8)
    hole = (torch.rand(2, 1, 8, 8) < 0.4).float()
    hidden = (x.mean((2, 3)) @ norm.share[0].weight.T + norm.share[0].bias).clamp(min=0)
    share = 1 / (1 + (-(hidden @ norm.share[2].weight.T + norm.share[2].bias)).exp())
    share = share[..., None, None]
    expected = (share * moved(x, hole) + (1 - share) * x) * hole + x * (1 - hole)
    torch.testing.assert_close(norm(x, hole), expected)


# --- losses -----------------------------------------------------------------------------------------------------------


def test_the_mask_loss_weighs_each_class_by_the_share_of_the_other():
    torch.manual_seed(0)
    logit, hole = torch.randn(2, 1, 4, 4).double(), (torch.rand(2, 1, 4, 4) < 0.3).double()
    expected = 0.0
    for scores, mask in zip(logit.flatten(1).tolist(), hole.flatten(1).tolist()):
        tau = sum(m == 0 for m in mask) / 16
        for score, m in zip(scores, mask):
            p = 1 / (1 + math.exp(-score))
            expected -= (tau * math.log(p) if m else (1 - tau) * math.log(1 - p)) / 32
    assert mask_loss(logit, hole).item() == pytest.approx(expected, rel=1e-12)
    # A network that says "intact" everywhere pays as much as one that says "damaged" everywhere.
    sure = torch.full_like(logit, 5.0)
    one = hole[:1]
    assert mask_loss(sure[:1], one).item() == pytest.approx(mask_loss(-sure[:1], one).item(), rel=1e-12)


def test_patches_without_damage_are_not_judged():
    torch.manual_seed(0)
    critics = Critics(128, 2).double()
    assert critics.patches.side == 4
    image, hole = torch.randn(2, 3, 128, 128).double(), torch.zeros(2, 1, 128, 128).double()
    hole[0, :, 40:60, 70:100], hole[1, :, 3, 127] = 1, 1  # patches (1, 2) and (1, 3); (0, 3)
    scores = critics.patches(image).mean(1)
    found = critics.judge_patches(image, hole)
    torch.testing.assert_close(found, torch.stack([scores[0, 1, 2:].mean(), scores[1, 0, 3]]))
    assert critics.judge_patches(image, torch.zeros_like(hole)).abs().sum() == 0


def test_losses_are_those_of_the_definition_in_float64():
    m, b = method(perceptual="random:0", phases=(0, 1)).double(), batch(dtype=torch.float64)
    bad, hole = damaged(b)
    real = 2 * b.images - 1
    logit, neck = m.masker(bad)
    output = m.inpainter(bad, logit.sigmoid(), neck)
    critics = m.loss("critics", b)
    c = m.critics
    judged = [(c.judge_whole(x), c.judge_patches(x, hole)) for x in (real, output)]
    adv = sum((fake - true).mean() for true, fake in zip(*judged))
    assert critics.parts["adv"].item() == pytest.approx(adv.item(), rel=1e-9)
    expected = critics.parts["adv"] + 10 * critics.parts["penalty"]
    assert critics.total.item() == pytest.approx(expected.item(), rel=1e-12)
    total, parts = m.loss("networks", b)
    assert list(parts) == ["l1", "mask", "semantic", "id_mrf", "adv"]
    vgg = load_perceptual("random:0").double()
    images, convolutions = [], 0
    for x in ((output + 1) / 2, b.images):
        x = (x - vgg.mean) / vgg.std
        for block in vgg.blocks[:2]:
            x = block(x)
        images.append(vgg.blocks[2][:5](x))  # the pooling, two convolutions, each with its ReLU
        convolutions = sum(isinstance(each, nn.Conv2d) for each in vgg.blocks[2][:5])
    assert convolutions == 2
    assert parts["l1"].item() == pytest.approx((output - real).abs().mean().item(), rel=1e-9)
    assert parts["mask"].item() == pytest.approx(mask_loss(logit, hole).item(), rel=1e-9)
    assert parts["semantic"].item() == pytest.approx((images[0] - images[1]).abs().mean().item(), rel=1e-9)
    assert parts["adv"].item() == pytest.approx(-sum(each.mean() for each in judged[1]).item(), rel=1e-9)
    weights = {"l1": 1.4, "mask": 2.0, "semantic": 1e-4, "id_mrf": 1e-3, "adv": 1e-3}
    assert total.item() == pytest.approx(sum(w * parts[k].item() for k, w in weights.items()), rel=1e-9)


# --- who learns what, and when ----------------------------------------------------------------------------------------


def test_the_critics_move_five_times_the_networks_once_and_images_are_repaired_once():
    m, calls = method(), []
    assert m.turns(0, 10) == m.turns(9, 10) == ("critics",) * 5 + ("networks",)
    assert method(critic_turns=2).turns(0, 10) == ("critics", "critics", "networks")
    for part in ("masker", "inpainter"):
        getattr(m, part).register_forward_hook(lambda *_, part=part: calls.append(part))
    b, penalties = batch(9), []
    for player in m.turns(9, 10):
        other = "networks" if player == "critics" else "critics"
        m.zero_grad()
        loss = m.loss(player, b)
        loss.total.backward(inputs=m.players()[player].parameters)
        assert all(p.grad is not None for p in m.players()[player].parameters)
        assert all(p.grad is None for p in m.players()[other].parameters)
        penalties.append(loss.parts.get("penalty"))
    assert calls == ["masker", "inpainter"] and m._turn is None
    assert len({p.item() for p in penalties[:5]}) == 5  # each turn mixes anew
    m.loss("critics", b)
    m.loss("critics", batch(9))  # another batch is repaired anew
    assert len(calls) == 6


def test_apart_no_gradient_crosses_and_the_true_mask_is_given_together_the_found_one():
    m = method(phases=(1, 1))
    for step, together in ((0, False), (4, False), (5, True)):
        b = batch(step)
        bad, hole = damaged(b)
        logit, neck = m.masker(bad)
        total, parts = m.loss("networks", b)
        output = m.inpainter(bad, logit.sigmoid() if together else hole, neck)
        assert parts["l1"].item() == pytest.approx((output - 2 * b.images + 1).abs().mean().item(), rel=1e-5)
        mine = list(m.masker.parameters())
        found = torch.autograd.grad(total, mine)
        alone = torch.autograd.grad(2 * mask_loss(logit, hole), mine)
        assert all(torch.allclose(a, c, atol=1e-7) for a, c in zip(found, alone)) != together


@pytest.mark.parametrize(
    ("values", "losses"),
    [
        ({"perceptual": "random:0", "semantic_weight": 0.0}, "mask+l1+id_mrf+adv"),
        ({}, "mask+l1+adv"),
        ({"mask_network": False}, "l1+adv"),
        ({"fusion": False}, "mask+l1+adv"),
        ({"remove": True}, "mask+l1+adv"),
        ({"backbone": "mde"}, "mask+l1+adv"),
    ],
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_every_line_of_the_ablation_trains(values, losses, precision):
    m = method(**values)
    assert m.losses == losses and bool(m.notes) == ("perceptual" not in values)
    recipe = Recipe("vcnet", "vcnet", {}, "tiny", SIZE, "", "", 0, 4, COUNT, precision, {})
    trainer = Trainer(m, recipe, torch.device("cpu"))
    for step in (0, 3):  # apart, together
        parts = trainer.update(batch(step, 4))
    trainer.read()
    assert {"networks/" + term for term in losses.split("+")} <= set(parts)
    with torch.no_grad():
        m.eval()
        images = batch().images
        assert m.restore(images).shape == images.shape and m.encode(images).shape == (COUNT, m.feature_dim)


def test_what_the_ablation_leaves_out_is_not_there():
    whole = method()
    assert whole.inpainter.up_half[0].first.in_channels == 4 * 4 + 2 * 4 and whole.feature_dim == 24 * 16
    unfused = method(fusion=False)
    assert unfused.inpainter.up_half[0].first.in_channels == 4 * 4 and unfused.feature_dim == 16 * 16
    blind = method(mask_network=False).eval()
    assert blind.masker is None and blind.feature_dim == 16 * 16
    images = batch().images
    torch.testing.assert_close(blind.restore(images), (blind.inpainter(2 * images - 1, None, None) + 1) / 2)
    with pytest.raises(UserError, match="mask_network=false"):
        blind.locate(images)
    removed, kept = method(remove=True).eval(), method().eval()
    logit, neck = removed.masker(2 * images - 1)
    blanked = (2 * images - 1) * (1 - logit.sigmoid())
    torch.testing.assert_close(removed.restore(images), (removed.inpainter(blanked, logit.sigmoid(), neck) + 1) / 2)
    assert not torch.allclose(removed.restore(images), kept.restore(images))


# --- what it can do ---------------------------------------------------------------------------------------------------


def test_it_locates_restores_completes_and_encodes():
    m, images = method().eval(), batch().images
    for capability in (Locates, Restores, Completes, Encodes, Stages):
        assert isinstance(m, capability)
    with torch.no_grad():
        found = m.locate(images)
        logit = m.masker(2 * images - 1)[0]
        torch.testing.assert_close(found, 1 - logit.sigmoid())
        assert found.shape == (COUNT, 1, SIZE, SIZE)
        restored = m.restore(images)
        assert restored.min() >= 0 and restored.max() <= 1
        # Told what it would have found, and with nothing blanked, it does the same.
        told = m._repair(2 * images - 1, 1 - found, m.masker.encoder(2 * images - 1))
        torch.testing.assert_close(restored, (told + 1) / 2)


@pytest.mark.parametrize("backbone", ["native", "mde"])
def test_only_seen_values_matter_also_where_channels_are_missing_one_by_one(backbone):
    m = method(backbone=backbone).eval()
    torch.manual_seed(1)
    images, other, seen = *torch.rand(2, 2, 3, SIZE, SIZE), (torch.rand(2, 3, SIZE, SIZE) > 0.3).float()
    with torch.no_grad():
        output = m.complete(images, seen)
        assert torch.equal(m.complete(torch.where(seen > 0, images, other), seen), output)
        assert not torch.equal(m.complete(torch.where(seen > 0, other, images), seen), output)
        assert m.complete(images, torch.ones(1)).shape == images.shape


def test_the_representation_is_both_maps_that_are_painted_from():
    m, images = method().eval(), batch().images
    assert [tuple(each.shape[1:3]) for each in m.stages(images).values()] == [(8, 8), (16, 4), (16, 4)]
    neck = m.masker(2 * images - 1)[1]
    both = torch.cat([m.stages(images)["stage3"].flatten(1), neck.flatten(1)], 1)  # 4×4 places are the grid
    torch.testing.assert_close(m.encode(images), both)
    assert method(backbone="mde").eval().encode(images).shape == (COUNT, 8)


def test_the_training_mask_is_that_of_the_damage():
    m, b = method(), batch()
    _, hole = damaged(b)
    assert torch.equal(m.draw_seen(b), (1 - hole).expand(-1, 3, -1, -1))


@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("size", [8, 20])
def test_small_pictures_and_widths_train_in_float64(size, width):
    m = method(size, width=width).double()
    images = torch.rand(1, 3, size, size).double()
    for player in ("critics", "networks"):
        b = Batch(images, torch.arange(1), 0, 0, 0, torch.Generator().manual_seed(0), 1)
        total = m.loss(player, replace(b)).total
        assert total.isfinite() and total.dtype == torch.float64


def test_mistakes_are_told():
    with pytest.raises(UserError, match=r"backbone 'natve'.*Did you mean 'native'"):
        Settings(backbone="natve")
    for phases in ("1", "0,0", "1,-1"):
        with pytest.raises(UserError, match="2 shares"):
            build(Settings, {"phases": phases})
    for size in (4, 30):
        with pytest.raises(UserError, match="--size"):
            method(size)
    with pytest.raises(UserError, match="remove=true blanks"):
        method(remove=True, mask_network=False)


@pytest.mark.slow
def test_the_mask_network_learns_sixteen_damaged_pictures_by_heart():
    """Intersection over union of what it finds with what is damaged, at least 0.9 on average."""
    import numpy as np

    from mdebench.data import toyfaces

    size, generator = 32, torch.Generator().manual_seed(0)
    images = torch.from_numpy(np.concatenate([chunk.images for chunk in toyfaces.generate(16, size)])).float() / 255
    alpha = draw_damage(16, size, generator)
    bad = 2 * damage(images, alpha, strange(images, torch.rand(16, 3, generator=generator))) - 1
    hole = 1 - intact(alpha)
    torch.manual_seed(0)
    network = MaskNetwork(16)
    optimizer = torch.optim.Adam(network.parameters(), 3e-3, betas=(0.5, 0.9))
    for _ in range(400):
        optimizer.zero_grad()
        mask_loss(network(bad)[0], hole).backward()
        optimizer.step()
    with torch.no_grad():
        found, true = network(bad)[0] > 0, hole > 0
    overlap = (found & true).sum((1, 2, 3)) / (found | true).sum((1, 2, 3))
    assert overlap.mean() >= 0.9
