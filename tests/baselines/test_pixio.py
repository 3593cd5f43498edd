"""Pixio: squares of patches masked together, class tokens, a decoder as deep as the encoder."""

import math

import pytest
import torch

from mdebench.baselines.pixio import Method, Settings
from mdebench.errors import UserError
from mdebench.methods.contract import Batch
from mdebench.settings import build

SMALL = {"width": 4, "depth": 4, "decoder_depth": 2, "class_tokens": 3}


def batch(n=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(n, 3, 32, 32, generator=generator, dtype=dtype)
    return Batch(images, torch.arange(n), 0, 0, 0, generator, 10)


def method(**values):
    torch.manual_seed(0)
    return Method(build(Settings, SMALL | values), 32).eval()


def count(module):
    return sum(p.numel() for p in module.parameters())


def test_at_width_64_it_is_vit_b_with_eight_class_tokens_and_a_decoder_of_twelve_blocks():
    with torch.device("meta"):
        network = Method(Settings(), 64).network
    # Worked out in test_mae.py: ViT-B, and a decoder of 8 blocks of tokens of 512 numbers with what stands around it.
    block = 2 * 2 * 512 + (512 * 3 * 512 + 3 * 512) + (512 * 512 + 512) + 2 * 4 * 512 * 512 + 5 * 512
    assert count(network.vit) == 85_204_224
    assert count(network) == 110_917_056 + 4 * block + 8 * 768


def test_twelve_of_sixteen_squares_are_masked_and_each_as_often_as_any_other():
    m, b = method(), batch(2000)
    hidden = (~m.draw_visible(b)).view(2000, 4, 2, 4, 2)
    squares = hidden[:, :, 0, :, 0]
    assert torch.equal(hidden, squares[:, :, None, :, None].expand_as(hidden))
    assert (squares.sum(dim=(1, 2)) == 12).all() and len(squares.flatten(1).unique(dim=0)) > 1000  # of 1820
    assert ((squares.float().mean(dim=0) - 0.75).abs() < 5 * math.sqrt(0.75 * 0.25 / 2000)).all()
    assert (m.draw_seen(batch()) == 0).sum() == 3 * 3 * 12 * 8 * 8


def test_class_tokens_go_first_through_encoder_and_decoder():
    """Token by token, against one image at a time."""
    m, b = method().double(), batch(dtype=torch.float64)
    network, visible = m.network, m.draw_visible(b)
    with torch.no_grad():
        for i in range(3):
            places = [place for place in range(64) if visible[i, place]]
            tokens = network.vit.patch_embed(2 * b.images[i : i + 1] - 1) + network.vit.pos_embed
            given = [*network.class_tokens, *(tokens[0, place] for place in places)]
            codes = network.decoder.patch_embed(network.vit.norm(network.vit.blocks(torch.stack(given)[None])))[0]
            coded = dict(zip(places, codes[3:]))
            row = torch.stack([coded.get(place, network.mask_token) for place in range(64)]) + network.decoder.pos_embed
            row = network.decoder.blocks(torch.cat([codes[None, :3], row], dim=1))
            expected = network.head(network.decoder.norm(row))[:, 3:]
            torch.testing.assert_close(network(b.images, visible)[i : i + 1], expected, rtol=1e-10, atol=1e-10)


def test_the_mean_class_token_is_the_representation_and_maps_are_of_patches():
    m, images = method(), batch().images
    with torch.no_grad():
        everything = torch.ones(3, 64, dtype=torch.bool)
        codes = m.network.encode_visible(images, everything, 64)
        torch.testing.assert_close(m.encode(images), codes[:, :3].mean(dim=1))
        maps = m.stages(images)
        assert [tuple(each.shape) for each in maps.values()] == [(3, 48, 8, 8)] * 4
        torch.testing.assert_close(m.network.vit.norm(maps["stage4"].flatten(2).mT), codes[:, 3:])
    assert m.feature_dim == 48


def test_its_loss_reaches_every_weight_and_is_that_of_masked_patches():
    m, b = method(), batch()
    visible = m.draw_visible(b)
    error = m.loss("network", batch()).total
    error.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in m.parameters())
    wanted = torch.nn.functional.unfold(2 * b.images - 1, 4, stride=4).mT
    expected = (m.network(b.images, visible) - wanted)[~visible].square().mean()
    torch.testing.assert_close(error, expected)


def test_squares_that_do_not_fit_are_told():
    with pytest.raises(UserError, match=r"block=3 does not divide the 8 patches of a side \(1, 2, 4, 8 do\)"):
        method(block=3)
    with pytest.raises(UserError, match="masks 1 of 1 squares of patches"):
        method(block=8)
    with pytest.raises(UserError, match="leave one out"):
        method(norm_pixels=True, backbone="mde")
