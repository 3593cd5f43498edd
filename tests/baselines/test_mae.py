"""MAE: an encoder that is given visible patches only, squared errors on the masked ones, targets normalised or not."""

import math
from dataclasses import asdict, replace

import pytest
import torch

from mdebench.baselines.mae import Method, Settings
from mdebench.errors import UserError
from mdebench.methods.contract import Batch
from mdebench.runs import Recipe
from mdebench.training.trainer import Trainer

SMALL = {"width": 4, "depth": 2, "decoder_depth": 1}


def batch(step=0, n=3, size=32, dtype=torch.float32, images=None):
    generator = torch.Generator().manual_seed(step)
    images = torch.rand(n, 3, size, size, generator=generator, dtype=dtype) if images is None else images
    return Batch(images, torch.arange(len(images)), step, 0, 0, generator, 10)


def method(size=32, **values):
    torch.manual_seed(0)
    return Method(Settings(**(SMALL | values)), size).eval()


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_at_width_64_it_is_vit_b_with_the_papers_decoder():
    def block(d):  # two norms, queries keys and values, projection, two layers of the MLP
        return 2 * 2 * d + (d * 3 * d + 3 * d) + (d * d + d) + (d * 4 * d + 4 * d) + (4 * d * d + d)

    network = Method(Settings(), 64).network
    encoder = (3 * 8 * 8 * 768 + 768) + 12 * block(768) + 2 * 768
    assert count(network.vit) == encoder == 85_204_224
    # With patches of 16 pixels, a class token and 197 learned positions this is the known 85.8 M.
    assert encoder + 3 * (16**2 - 8**2) * 768 + 768 + 197 * 768 == 85_798_656
    decoder = (768 * 512 + 512) + 8 * block(512) + 2 * 512
    head, mask_token = 512 * 192 + 192, 512
    assert count(network) == encoder + decoder + head + mask_token == 110_917_056
    assert [b.attn.num_heads for b in (network.vit.blocks[0], network.decoder.blocks[0])] == [12, 16]


def test_the_encoder_is_given_a_quarter_of_the_tokens_and_no_masked_pixel():
    m, b = method(), batch()
    visible = m.draw_visible(b)
    shapes = []
    m.network.vit.blocks[0].register_forward_hook(lambda _, given, __: shapes.append(tuple(given[0].shape)))
    images = b.images.requires_grad_()
    m.network(images, visible)
    assert shapes == [(3, 16, 48)]
    codes = m.network.encode_visible(images, visible, 16)
    (gradient,) = torch.autograd.grad(codes.square().sum(), images)
    seen = m.draw_seen(batch()) == 1
    assert (gradient[~seen] == 0).all() and (gradient[seen] != 0).float().mean() > 0.99


def test_codes_and_mask_tokens_stand_in_their_own_places():
    """Token by token: visible ones are encoded together, and each stands in the decoder where it was in the image."""
    m, b = method().double(), batch(dtype=torch.float64)
    visible = m.draw_visible(b)
    network = m.network
    with torch.no_grad():
        for i in range(3):
            places = [place for place in range(64) if visible[i, place]]
            tokens = network.vit.patch_embed(2 * b.images[i : i + 1] - 1) + network.vit.pos_embed
            codes = network.vit.norm(network.vit.blocks(torch.stack([tokens[0, place] for place in places])[None]))
            given = dict(zip(places, network.decoder.patch_embed(codes[0])))
            row = torch.stack([given.get(place, network.mask_token) for place in range(64)])
            row = network.decoder.blocks(row[None] + network.decoder.pos_embed)
            expected = network.head(network.decoder.norm(row))
            torch.testing.assert_close(network(b.images, visible)[i : i + 1], expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("norm_pixels", [False, True])
def test_the_loss_is_the_mean_squared_error_in_masked_patches(norm_pixels):
    m = method(norm_pixels=norm_pixels).double()
    images = batch(dtype=torch.float64).images
    visible = m.draw_visible(batch(dtype=torch.float64))
    predicted = m.network(images, visible).tolist()
    errors = []
    for n in range(3):
        for patch in (p for p in range(64) if not visible[n, p]):
            top, left = 4 * (patch // 8), 4 * (patch % 8)
            target = [2 * v - 1 for v in images[n, :, top : top + 4, left : left + 4].flatten().tolist()]
            if norm_pixels:
                mean = sum(target) / 48
                deviation = math.sqrt(sum((v - mean) ** 2 for v in target) / 48 + 1e-6)
                target = [(v - mean) / deviation for v in target]
            errors += [(a - v) ** 2 for a, v in zip(predicted[n][patch], target)]
    assert len(errors) == 3 * 48 * 48
    loss = m.loss("network", batch(dtype=torch.float64))
    assert loss.total.item() == pytest.approx(sum(errors) / len(errors), rel=1e-5)
    assert list(loss.parts) == [m.losses] == ["mse_normalised" if norm_pixels else "mse"]


def test_normalised_predictions_are_painted_like_the_average_visible_patch():
    """Where all patches have one mean and deviation, a perfect prediction gives the image back; and it is told."""
    m = method(norm_pixels=True)
    values = torch.linspace(-0.5, 0.7, 48)
    patches = torch.stack([values[torch.randperm(48)] for _ in range(2 * 64)]).unflatten(0, (2, 64))
    visible = torch.arange(64) < torch.tensor([[16], [5]])
    hidden = patches.where(visible[..., None], torch.tensor(0.0))
    torch.testing.assert_close(m.paint(m.target(patches), hidden, visible), patches, rtol=1e-3, atol=1e-3)
    assert "no brightness and contrast" in m.notes[0] and not method().notes
    with pytest.raises(UserError, match="leave one out"):
        Settings(norm_pixels=True, backbone="mde")


def test_four_images_are_learned_by_heart():
    """From a quarter of their patches, far better than the best one picture for all of them."""
    generator = torch.Generator().manual_seed(0)
    corners = torch.rand(4, 3, 2, 2, generator=generator)
    images = torch.nn.functional.interpolate(corners, (16, 16), mode="bilinear")
    m = method(size=16, patches=4, width=8, lr=4e-3)
    recipe = Recipe("mae", "mae", asdict(m.settings), "test", 16, "pack", "", 0, 200, 4, "fp32", {})
    trainer = Trainer(m, recipe, torch.device("cpu"))
    for step in range(200):
        trainer.update(replace(batch(step, images=images), updates=200))
    m.eval()
    given = batch(999, images=images)
    hole = m.draw_seen(given) == 0
    with torch.no_grad():
        error = (m.complete(images, (~hole).float()) - images)[hole].square().mean()
    assert error < (images.mean(dim=0) - images).square().mean() / 10
