"""Tiles: cut where they should be, normalised one by one, AlexNet's sizes, images as a convolution."""

import pytest
import torch

from mdebench.baselines._tiles import TileNetwork, cut, normalise, side_of
from mdebench.errors import UserError


def network(side=8, width=4, code=6, backbone="native", **values):
    torch.manual_seed(0)
    built = TileNetwork(side, width, code, backbone, **values).double().train()
    built(torch.randn(20, 3, side, side, dtype=torch.float64))  # so that batch-norm has statistics
    return built.eval()


def test_tiles_are_cut_by_row_and_column_each_channel_where_it_is_told():
    images = torch.rand(2, 3, 12, 12)
    top, left = (torch.randint(9, (2, 5, 3), generator=torch.Generator().manual_seed(n)) for n in (0, 1))
    tiles, together = cut(images, top, left, 4), cut(images, top[..., :1], left[..., :1], 4)
    for n, t, c in ((n, t, c) for n in range(2) for t in range(5) for c in range(3)):
        y, x = top[n, t, c], left[n, t, c]
        assert torch.equal(tiles[n, t, c], images[n, c, y : y + 4, x : x + 4])
        y, x = top[n, t, 0], left[n, t, 0]
        assert torch.equal(together[n, t, c], images[n, c, y : y + 4, x : x + 4])


def test_neither_brightness_nor_contrast_of_a_tile_is_left():
    tiles = torch.rand(2, 9, 3, 6, 6, dtype=torch.float64)
    plain = normalise(tiles)
    torch.testing.assert_close(plain.mean(dim=(3, 4)), torch.zeros(2, 9, 3, dtype=torch.float64))
    torch.testing.assert_close(plain.square().mean(dim=(2, 3, 4)), torch.ones(2, 9, dtype=torch.float64))
    contrast, light = torch.rand(2, 9, 1, 1, 1) + 0.2, torch.rand(2, 9, 3, 1, 1)
    torch.testing.assert_close(normalise(tiles * contrast + light), plain, rtol=1e-6, atol=1e-6)
    assert (normalise(torch.full((1, 3, 4, 4), 0.7)).abs() < 1e-3).all()


def test_at_96_pixels_the_maps_are_the_papers():
    """12×12, 6×6 and fc6 over 3×3 are what Doersch's conv1 of stride 4 leaves of a patch of 96 pixels."""
    assert side_of(96) == 24
    built = TileNetwork(24, 64, 4096, "native")
    shapes = [tuple(x.shape[1:]) for x in built.maps(torch.rand(1, 3, 24, 24)).values()]
    assert shapes == [(96, 12, 12), (256, 6, 6), (384, 6, 6), (384, 6, 6), (256, 6, 6)]
    convolutions = 3 * 25 * 96 + 96 * 25 * 256 + 256 * 9 * 384 + 384 * 9 * 384 + 384 * 9 * 256
    assert sum(p.numel() for p in built.parameters()) == convolutions + 256 * 9 * 4096 == 13_155_360


@pytest.mark.parametrize("backbone", ["native", "mde"])
def test_a_whole_image_goes_through_the_same_weights(backbone):
    """An image as large as a tile has the tile's own code; a larger one the mean of what its places have."""
    built = network(backbone=backbone)
    tile = torch.randn(3, 3, 8, 8, dtype=torch.float64)
    with torch.no_grad():
        represented = built.represent(tile)
        torch.testing.assert_close(represented[:, -6:], built(tile))
        assert represented.shape == (3, built.feature_dim) and (represented >= 0).all()
        image = torch.randn(2, 3, 32, 32, dtype=torch.float64)
        last = list(built.maps(image).values())[-1]
        side = last.shape[-1] // 4
        cells = torch.stack(
            [
                last[:, :, y * side : (y + 1) * side, x * side : (x + 1) * side].mean(dim=(2, 3))
                for y in range(4)
                for x in range(4)
            ],
            dim=2,
        )
        torch.testing.assert_close(built.represent(image)[:, :-6], cells.flatten(1))


@pytest.mark.parametrize("side, stages", [(6, 1), (8, 1), (16, 2), (24, 3)])
def test_the_mdes_network_has_the_stages_that_a_tile_allows(side, stages):
    built = TileNetwork(side, 4, 6, "mde")
    assert len(built.stages) == stages and built.to_code[0].kernel_size[0] in (3, 4)
    assert built(torch.rand(2, 3, side, side)).shape == (2, 6)


def test_sizes_that_cannot_be_are_told():
    assert side_of(16) == 4
    with pytest.raises(UserError, match="--size 16 or more"):
        side_of(15)
    with pytest.raises(UserError, match="a quarter of the side: an image of 10×10"):
        TileNetwork(10, 4, 6, "mde")
