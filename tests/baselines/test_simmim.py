"""SimMIM: mask tokens at the input, one linear layer at the output, absolute errors on what is masked."""

import pytest
import torch

from mdebench.baselines.simmim import Method, Settings
from mdebench.methods.contract import Batch


def batch(dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(3, 3, 32, 32, generator=generator, dtype=dtype)
    return Batch(images, torch.arange(3), 0, 0, 0, generator, 10)


def method():
    torch.manual_seed(0)
    return Method(Settings(width=4, depth=2), 32).eval()


def test_at_width_64_it_is_vit_b_a_token_and_one_linear_layer():
    network = Method(Settings(), 64).network
    assert sum(p.numel() for p in network.vit.parameters()) == 85_204_224  # worked out in test_mae.py
    assert sum(p.numel() for p in network.parameters()) == 85_204_224 + 768 + (768 * 192 + 192)


def test_the_transformer_sees_all_places_with_one_token_in_the_masked_ones():
    m = method()
    visible = m.draw_visible(batch())
    given = []
    m.network.vit.blocks[0].register_forward_hook(lambda _, tokens, __: given.append(tokens[0]))
    with torch.no_grad():
        m.network(batch().images, visible)
        expected = m.network.vit.patch_embed(2 * batch().images - 1)
        expected[~visible] = m.network.mask_token
    torch.testing.assert_close(given[0], expected + m.network.vit.pos_embed)


def test_the_loss_is_the_mean_absolute_error_of_masked_values():
    m = method().double()
    images = batch(torch.float64).images
    visible = m.draw_visible(batch(torch.float64))
    predicted = m.network(images, visible).tolist()
    errors = []
    for n in range(3):
        for patch in (p for p in range(64) if not visible[n, p]):
            top, left = 4 * (patch // 8), 4 * (patch % 8)
            target = images[n, :, top : top + 4, left : left + 4].flatten().tolist()
            errors += [abs(a - (2 * v - 1)) for a, v in zip(predicted[n][patch], target)]
    assert len(errors) == 3 * 39 * 48
    loss = m.loss("network", batch(torch.float64))
    assert loss.total.item() == pytest.approx(sum(errors) / len(errors), rel=1e-5) and list(loss.parts) == ["l1"]
