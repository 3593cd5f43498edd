"""I-JEPA: blocks of the sizes that are said, a predictor that sees the context alone, a copy that follows slowly."""

from dataclasses import asdict, replace

import pytest
import torch
from torch.nn.functional import layer_norm

from mdebench.baselines.ijepa import LEAST, Method, Settings, block_sides, draw_blocks
from mdebench.errors import UserError
from mdebench.methods.contract import Batch
from mdebench.runs import Recipe
from mdebench.training.trainer import Trainer

SMALL = {"width": 2, "depth": 2, "predictor_depth": 1}


def batch(step=0, n=4, dtype=torch.float32, updates=10):
    generator = torch.Generator().manual_seed(step)
    images = torch.rand(n, 3, 32, 32, generator=generator, dtype=dtype)
    return Batch(images, torch.arange(n), step, 0, 0, generator, updates)


def method(**values):
    torch.manual_seed(0)
    return Method(Settings(**(SMALL | values)), 32)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def test_targets_are_rectangles_of_their_area_and_contexts_have_none_of_them():
    for seed in range(30):
        context, targets = draw_blocks(20, 14, seeded(seed))
        assert len(set(context.sum(dim=1).tolist())) == 1 and len(set(targets.sum(dim=2).flatten().tolist())) == 1
        assert not (context[:, None] & targets).any() and context.sum(dim=1).min() >= LEAST * 14**2
        for rows in targets.flatten(0, 1).view(-1, 14, 14)[:8]:
            ys, xs = rows.nonzero().unbind(dim=1)
            height, width = (int(each.max() - each.min() + 1) for each in (ys, xs))
            assert rows.sum() == height * width and 0.6 < height / width < 1.8
            assert 0.12 < height * width / 14**2 < 0.24


def test_sides_say_area_and_aspect():
    for at, (area, aspect) in {(0.0, 0.0): (0.15, 0.75), (1.0, 1.0): (0.2, 1.5), (0.0, 1.0): (0.15, 1.5)}.items():
        height, width = block_sides((0.15, 0.2), (0.75, 1.5), 1000, torch.tensor(at)).tolist()
        assert height * width == pytest.approx(area * 1e6, rel=0.01) and height / width == pytest.approx(
            aspect, rel=0.01
        )


def test_every_place_is_a_target_and_a_context_sometimes():
    drawn = [draw_blocks(50, 8, seeded(seed)) for seed in range(20)]
    assert torch.cat([context for context, _ in drawn]).any(dim=0).all()
    targets = torch.cat([targets for _, targets in drawn])
    assert targets.any(dim=(0, 1)).all()
    turned = targets.float().mean(dim=(0, 1)).view(8, 8)  # as often at one side as at the other
    torch.testing.assert_close(turned, turned.flip(0, 1), rtol=0, atol=0.03)


@pytest.mark.parametrize("side", [1, 2, 3])
def test_a_context_is_never_empty(side):
    context, targets = draw_blocks(200, side, seeded())
    assert (context.sum(dim=1) >= 1).all() and (targets.sum(dim=2) >= 1).all()


def test_predictions_see_no_pixel_outside_of_the_context_and_targets_have_no_gradient():
    m, b = method().eval(), batch()
    images = b.images.requires_grad_()
    loss = m.loss("network", replace(batch(), images=images)).total
    context, _ = draw_blocks(4, 8, batch().generator)
    (gradient,) = torch.autograd.grad(loss, images, retain_graph=True)
    seen = context.view(4, 1, 8, 8).repeat_interleave(4, dim=2).repeat_interleave(4, dim=3).expand_as(gradient)
    assert (gradient[~seen] == 0).all() and (gradient[seen] != 0).float().mean() > 0.99
    reached = torch.autograd.grad(loss, list(m.target.parameters()), allow_unused=True)
    assert all(each is None for each in reached)
    moved = {id(p) for p in m.players()["network"].parameters}
    assert moved == {id(p) for p in (*m.encoder.parameters(), *m.predictor.parameters())}


def test_the_loss_is_the_smooth_l1_of_each_target_predicted_by_itself():
    """Image by image, block by block and token by token, in float64."""
    m, b = method().double().eval(), batch(dtype=torch.float64)
    with torch.no_grad():  # so that the copy differs from the encoder
        for p in m.target.parameters():
            p.add_(0.1 * torch.randn(p.shape, dtype=p.dtype, generator=seeded()))
    context, targets = draw_blocks(4, 8, batch(dtype=torch.float64).generator)
    predictor, errors = m.predictor, []
    with torch.no_grad():
        for n in range(4):
            image = 2 * b.images[n : n + 1] - 1
            wanted = m.target.vit.norm(m.target.vit.blocks(m.target.vit.patch_embed(image) + m.target.vit.pos_embed))[0]
            kept = context[n].nonzero()[:, 0].tolist()
            tokens = (m.encoder.vit.patch_embed(image) + m.encoder.vit.pos_embed)[:, kept]
            codes = m.encoder.vit.norm(m.encoder.vit.blocks(tokens))
            given = predictor.vit.patch_embed(codes) + predictor.vit.pos_embed[:, kept]
            for block in range(4):
                places = targets[n, block].nonzero()[:, 0].tolist()
                asked = torch.stack([predictor.mask_token + predictor.vit.pos_embed[0, place] for place in places])
                out = predictor.vit.norm(predictor.vit.blocks(torch.cat([given, asked[None]], dim=1)))[0, len(kept) :]
                for token, place in zip(predictor.head(out), places):
                    difference = (token - layer_norm(wanted[place], wanted[place].shape)).abs()
                    errors.append(torch.where(difference < 1, difference.square() / 2, difference - 0.5))
        loss = m.loss("network", batch(dtype=torch.float64)).total
    torch.testing.assert_close(loss, torch.stack(errors).mean(), rtol=1e-10, atol=0)


def test_the_copy_follows_at_a_momentum_that_rises_to_one():
    m = method(momentum=0.9, lr=1e-2)
    recipe = Recipe("ijepa", "ijepa", asdict(m.settings), "test", 32, "pack", "", 0, 10, 4, "fp32", {})
    trainer = Trainer(m, recipe, torch.device("cpu"))
    slow = [p.detach().clone().double() for p in m.encoder.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(m.target.parameters(), m.encoder.parameters()))
    for step in range(6):
        weight = 0.9 + 0.1 * step / 10
        slow = [weight * a + (1 - weight) * p.detach().double() for a, p in zip(slow, m.encoder.parameters())]
        trainer.update(batch(step))  # which first lets the copy follow
        for a, p in zip(slow, m.target.parameters()):
            torch.testing.assert_close(p.detach().double(), a, rtol=0, atol=1e-6)
    m.eval()
    before = [p.clone() for p in m.target.parameters()]
    m.loss("network", batch(7))  # what is only looked at moves nothing
    assert all(torch.equal(a, b) for a, b in zip(before, m.target.parameters()))


def test_the_copys_mean_token_is_the_representation():
    m, images = method().eval(), batch().images
    with torch.no_grad():
        for p in m.encoder.parameters():
            p.zero_()  # it is not asked
        maps = m.stages(images)
        last = m.target.vit.norm(maps[f"stage{len(maps)}"].flatten(2).mT)
        torch.testing.assert_close(m.encode(images), last.mean(dim=1))
    assert m.feature_dim == 24 and not hasattr(m, "complete")


def test_processes_that_share_a_batch_draw_what_one_would():
    m = method().eval()
    whole = m.loss("network", batch()).total
    parts = [replace(batch(), images=batch().images[2 * k : 2 * k + 2], part=k, parts=2) for k in range(2)]
    torch.testing.assert_close(torch.stack([m.loss("network", each).total for each in parts]).mean(), whole)


@pytest.mark.parametrize("width", [1, 3])
def test_odd_widths_have_a_predictor_too(width):
    m, b = method(width=width, predictor_depth=1), batch()
    assert m.loss("network", b).total.isfinite() and m.predictor.mask_token.numel() == {1: 8, 3: 20}[width]


def test_a_grid_that_cannot_be_cut_is_told():
    with pytest.raises(UserError, match="7×7 equal patches"):
        method(patches=7)
