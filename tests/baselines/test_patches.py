"""What mae, pixio and simmim share: patches, masks over them, positions, the optimizer, and a game that hides them."""

import math

import pytest
import torch

from mdebench import catalog
from mdebench.baselines._patches import (
    MatrixDecay,
    build_vit,
    heads,
    patchify,
    seen_patches,
    seen_pixels,
    unpatchify,
    warm_up_cosine,
)
from mdebench.errors import UserError
from mdebench.methods.contract import Batch
from mdebench.settings import build
from mdebench.training.trainer import optimizer_of

BOTH = pytest.mark.parametrize("name", ["mae", "simmim"])
ALL = pytest.mark.parametrize("name", ["mae", "pixio", "simmim"])
SMALL = {"width": 4, "depth": 2, "code": 8}
SIZE = 32


def batch(n=4, size=SIZE, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(n, 3, size, size, generator=generator, dtype=dtype)
    return Batch(images, torch.arange(n), 0, 0, 0, generator, 10)


def method(name, **values):
    module = catalog.method(name).load()
    torch.manual_seed(0)
    return module.Method(build(module.Settings, SMALL | values), SIZE).eval()


def some_visible(n=4):
    """Masks over 64 patches with different counts: none, one, 33 and all visible."""
    noise = torch.rand(n, 64, generator=torch.Generator().manual_seed(1))
    return noise.argsort(dim=1) < torch.tensor([0, 1, 33, 64])[:n, None]


def test_patches_are_cut_row_by_row_and_put_together_again():
    images = torch.rand(2, 3, 12, 12)
    patches = patchify(images, 4)
    assert patches.shape == (2, 9, 48)
    assert torch.equal(patches[1, 5], images[1, :, 4:8, 8:12].flatten())  # second row, third column
    assert torch.equal(unpatchify(patches, 12), images)


def test_a_patch_with_one_missing_value_is_not_seen_and_masks_go_to_pixels_and_back():
    seen = torch.ones(2, 3, SIZE, SIZE)
    seen[1, 2, 7, 31] = 0
    visible = seen_patches(seen, 4)
    assert visible[0].all() and (~visible[1]).nonzero().tolist() == [[1 * 8 + 7]]
    pixels = seen_pixels(visible, SIZE)
    assert torch.equal(seen_patches(pixels, 4), visible) and (pixels == 0).sum() == 3 * 4 * 4


@pytest.mark.parametrize(("name", "masked"), [("mae", 48), ("simmim", 39)])  # 0.75 and 0.6 of 64, rounded up
def test_exactly_so_many_patches_are_masked_and_each_as_often_as_any_other(name, masked):
    m, b = method(name), batch(2000, size=1)
    hidden = ~m.draw_visible(b)
    assert (hidden.sum(dim=1) == masked).all() and len(hidden.unique(dim=0)) > 1990
    share = masked / 64
    assert ((hidden.float().mean(dim=0) - share).abs() < 5 * math.sqrt(share * (1 - share) / 2000)).all()
    seen = m.draw_seen(batch())
    assert seen.shape == (4, 3, SIZE, SIZE) and (seen == 0).sum() == 4 * 3 * masked * 4 * 4


def test_positions_are_sines_and_cosines_of_row_and_column():
    positions = build_vit(SIZE, 4, 48, 1).pos_embed
    assert positions.shape == (1, 64, 48)
    row, column, bands = 2, 5, [10000 ** (-k / 12) for k in range(12)]
    by_hand = [f(at * w) for f in (math.sin, math.cos) for at in (row, column) for w in bands]
    torch.testing.assert_close(positions[0, 8 * row + column], torch.tensor(by_hand))


def test_heads_divide_the_tokens_and_are_64_wide_where_they_can_be():
    assert [heads(12 * width, 64) for width in (4, 8, 16, 28, 32, 64)] == [1, 1, 3, 4, 6, 12]
    assert [heads(8 * width, 32) for width in (2, 4, 8, 16, 64)] == [1, 1, 2, 4, 16]


def test_the_learning_rate_rises_for_a_twentieth_and_falls_as_half_a_cosine():
    table = {0: 0, 0.025: 0.5, 0.05: 1, 0.05 + 0.95 / 4: 0.853553, 0.525: 0.5, 0.05 + 0.95 * 3 / 4: 0.146447, 1: 0}
    factor = warm_up_cosine(0.05)
    assert {progress: factor(progress) for progress in table} == pytest.approx(table, abs=1e-6)


def test_decay_shrinks_matrices_and_leaves_vectors():
    matrix, vector = torch.nn.Parameter(torch.ones(2, 2)), torch.nn.Parameter(torch.ones(2))
    matrix.grad, vector.grad = torch.zeros(2, 2), torch.zeros(2)
    MatrixDecay([vector, matrix], 0.1, (0.9, 0.95), 0.5).step()
    assert matrix.detach().unique().tolist() == pytest.approx([1 - 0.1 * 0.5]) and vector.tolist() == [1, 1]


@BOTH
def test_every_parameter_is_the_optimizers_once_with_the_papers_values(name):
    m = method(name)
    player = m.players()["network"]
    optimizer = optimizer_of(player, fast=True)
    moved = [id(p) for group in optimizer.param_groups for p in group["params"]]
    assert sorted(moved) == sorted(id(p) for p in m.parameters())
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.05, 0]
    assert {group["betas"] for group in optimizer.param_groups} == {(0.9, {"mae": 0.95, "simmim": 0.999}[name])}
    free = {id(p) for p in optimizer.param_groups[1]["params"]}
    assert {k for k, p in m.named_parameters() if id(p) in free} == {
        k for k, p in m.named_parameters() if k.endswith(("bias", "mask_token")) or "norm" in k
    }


@ALL
@pytest.mark.parametrize("backbone", ["native", "mde"])
def test_a_prediction_depends_on_visible_pixels_only(name, backbone):
    m, b = method(name, backbone=backbone), batch(2)
    visible = m.draw_visible(b)
    images = b.images.requires_grad_()
    prediction = m.network(images, visible)
    assert prediction.shape == (2, 64, 48)
    reached = patchify(torch.autograd.grad(prediction[~visible].square().sum(), images)[0], 4).abs().sum(dim=2)
    assert (reached[~visible] == 0).all() and (reached[visible] > 0).all()


@ALL
def test_images_with_differently_many_visible_patches_are_predicted_as_if_alone(name):
    m, images, visible = method(name), batch().images, some_visible()
    with torch.no_grad():
        together = m.network(images, visible)
        alone = torch.cat([m.network(images[i : i + 1], visible[i : i + 1]) for i in range(4)])
        assert together.isfinite().all() and not torch.allclose(together[0], together[1])
        torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)
        seen = seen_pixels(visible, SIZE)
        alone = torch.cat([m.complete(images[i : i + 1], seen[i : i + 1]) for i in range(4)])
        torch.testing.assert_close(m.complete(images, seen), alone, rtol=1e-4, atol=1e-5)


@ALL
@pytest.mark.parametrize("backbone", ["native", "mde"])
def test_completion_keeps_whole_patches_and_loses_the_others(name, backbone):
    m, images = method(name, backbone=backbone), batch().images
    seen = torch.ones(1, 1, SIZE, SIZE)
    seen[..., 10:18, 13:15] = 0  # lies in patches of rows 2 to 4, column 3
    kept = torch.ones(SIZE, SIZE, dtype=torch.bool)
    kept[8:20, 12:16] = False
    with torch.no_grad():
        output = m.complete(images, seen)
        other = m.complete(torch.where(kept, images, torch.rand(4, 3, SIZE, SIZE)), seen)
        nothing = m.complete(images, torch.tensor([1.0, 1.0, 0.0])[None, :, None, None])
    assert torch.equal(output[..., kept], images[..., kept])
    assert (output[..., ~kept] != images[..., ~kept]).all() and torch.equal(output, other)
    torch.testing.assert_close(nothing, nothing[:1].expand_as(nothing))  # of colorization nothing is visible


@BOTH
def test_the_representation_is_the_mean_normed_token_and_the_stages_lead_to_it(name):
    m, images = method(name, depth=12), batch().images
    with torch.no_grad():
        maps, codes = m.stages(images), m.encode(images)
        assert [tuple(each.shape) for each in maps.values()] == [(4, 48, 8, 8)] * 4 and codes.shape == (4, 48)
        last = m.network.vit.norm(maps["stage4"].flatten(2).mT)
        torch.testing.assert_close(last.mean(dim=1), codes)
        token = m.network.vit.patch_embed(2 * images - 1)[:, 8 * 2 + 5] + m.network.vit.pos_embed[:, 8 * 2 + 5]
        by_hand = m.network.vit.patch_embed.proj.weight.flatten(1) @ (2 * images[0, :, 8:12, 20:24] - 1).flatten()
        torch.testing.assert_close(token[0], by_hand + m.network.vit.pos_embed[0, 21], rtol=1e-4, atol=1e-5)
    assert m.network.quarters == [2, 5, 8, 11]


@BOTH
def test_on_the_mdes_network_the_code_is_the_representation_and_the_loss_is_in_the_holes(name):
    m, b = method(name, backbone="mde"), batch()
    assert m.feature_dim == 8 and list(m.stages(b.images)) == ["stage1", "stage2", "stage3"]
    assert torch.equal(m.encode(b.images), m.network.generator.encoder(b.images)[0])
    seen = m.draw_seen(batch())
    difference = (2 * (m.network.generator(b.images * seen) - b.images))[seen == 0]
    expected = difference.square().mean() if name == "mae" else difference.abs().mean()
    torch.testing.assert_close(m.loss("network", batch()).total, expected)


@BOTH
def test_what_cannot_be_cut_masked_or_built_is_said(name):
    with pytest.raises(UserError, match="7×7 equal patches"):
        method(name, patches=7)
    with pytest.raises(UserError, match="masks 64 of 64"):
        method(name, mask_ratio=0.99)
    with pytest.raises(UserError, match=r"Did you mean 'native'\?"):
        method(name, backbone="nativ")
