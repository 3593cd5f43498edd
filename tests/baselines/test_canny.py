"""Canny's edges against scikit-image's, to the pixel, and by what they must not depend on."""

import numpy as np
import pytest
import torch
from skimage.color import rgb2gray
from skimage.feature import canny as reference
from torch.nn.functional import interpolate

from mdebench.baselines._canny import SIGMA, canny, grey
from mdebench.data import toyfaces
from mdebench.methods.masks import draw_free_form


@pytest.fixture(scope="module")
def faces():
    images = np.concatenate([chunk.images for chunk in toyfaces.generate(12, 64)])
    return torch.from_numpy(images).double() / 255


def blotches(height, width):
    """Smooth random grey images, (8, 1, height, width) in [0, 1]."""
    coarse = torch.rand(8, 1, 5, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)


def test_grey_is_scikit_images(faces):
    expected = rgb2gray(faces.permute(0, 2, 3, 1).numpy())
    np.testing.assert_allclose(grey(faces)[:, 0].numpy(), expected, rtol=0, atol=1e-12)


def test_edges_are_scikit_images_with_and_without_a_mask(faces):
    for images in (grey(faces), blotches(40, 57)):
        for seen in (torch.ones_like(images), draw_free_form(len(images), 64, torch.Generator().manual_seed(1))):
            seen = seen[..., : images.shape[2], : images.shape[3]]
            found = canny(images, seen)
            assert found.dtype == images.dtype and found.shape == images.shape and found.sum() > 100
            for image, mask, edges in zip(images[:, 0], seen[:, 0], found[:, 0]):
                mask = None if mask.all() else mask.numpy() > 0
                np.testing.assert_array_equal(edges.numpy() > 0, reference(image.numpy(), sigma=SIGMA, mask=mask))


def test_what_is_not_seen_has_no_influence_and_no_edges(faces):
    images, seen = grey(faces), draw_free_form(len(faces), 64, torch.Generator().manual_seed(2))
    edges = canny(images, seen)
    assert torch.equal(edges, canny(torch.where(seen > 0, images, torch.rand_like(images)), seen))
    assert (edges * (1 - seen)).sum() == 0


def test_images_have_no_influence_on_each_other(faces):
    images = grey(faces).float()
    alone = torch.cat([canny(image[None], torch.ones_like(image[None])) for image in images])
    assert torch.equal(canny(images, torch.ones_like(images)), alone) and alone.dtype == torch.float32


def test_a_weak_edge_counts_where_it_runs_into_a_strong_one():
    """Two steps from black to grey: one falls from 0.5 to 0.1 on its way down, the other is 0.1 high everywhere."""
    height = torch.linspace(0.5, 0.1, 48, dtype=torch.float64)[:, None]
    right = torch.arange(48) >= 24
    steps = torch.stack([right * height, right * torch.full_like(height, 0.1)])[:, None]
    falling, low = canny(steps, torch.ones_like(steps))
    assert (falling[0, 1:-1].sum(1) >= 1).all() and low.sum() == 0
