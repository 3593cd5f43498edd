"""Each term against a slow float64 reference written from its equation, number by number, and by its properties."""

import math
from itertools import product

import pytest
import torch
from torch import nn

from mdebench.methods import appearance as look
from mdebench.methods.perceptual import load_perceptual


def maps(seed, *shapes):
    g = torch.Generator().manual_seed(seed)
    return [torch.rand(s, generator=g, dtype=torch.float64) for s in shapes]


SHAPES = ((2, 3, 4, 5), (2, 4, 2, 2))


def slow_gram(x):
    channels, height, width = x.shape
    rows = x.flatten(1).tolist()
    return [[sum(a * b for a, b in zip(p, q)) / (channels * height * width) for q in rows] for p in rows]


def test_gram_is_every_product_of_channels():
    (x,) = maps(0, SHAPES[0])
    torch.testing.assert_close(look.gram(x), torch.tensor([slow_gram(each) for each in x], dtype=torch.float64))


def test_gram_knows_no_places():
    (x,) = maps(0, SHAPES[0])
    shuffled = x.flatten(2)[..., torch.randperm(20, generator=torch.Generator().manual_seed(0))].reshape(x.shape)
    torch.testing.assert_close(look.gram(shuffled), look.gram(x))


def test_style_and_feature_distance_are_those_of_the_definition():
    output, image = maps(1, *SHAPES), maps(2, *SHAPES)
    style = features = 0.0
    for a, b in zip(output, image):
        channels, numbers = a.shape[1], a[0].numel()
        for x, y in zip(a, b):
            pairs = product(range(channels), repeat=2)
            g, h = slow_gram(x), slow_gram(y)
            style += sum(abs(g[i][j] - h[i][j]) for i, j in pairs) / channels**2 / 2
            features += sum(abs(p - q) for p, q in zip(x.flatten().tolist(), y.flatten().tolist())) / numbers / 2
    assert look.style(output, image).item() == pytest.approx(style, rel=1e-12)
    assert look.feature_l1(output, image).item() == pytest.approx(features, rel=1e-12)


@pytest.mark.parametrize("term", [look.style, look.feature_l1])
def test_no_gradient_reaches_the_true_images_maps(term):
    output, image = ([each.requires_grad_() for each in maps(seed, *SHAPES)] for seed in (1, 2))
    term(output, image).backward()
    assert all(each.grad is None for each in image) and all(each.grad.abs().sum() > 0 for each in output)


def test_terms_are_computed_in_float32_between_maps_in_bfloat16():
    a = torch.full((1, 1, 16, 32), 1.0, dtype=torch.bfloat16)
    b = torch.full((1, 1, 16, 32), 1.0 + 2**-7, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        found = {"style": look.style([a], [b]), "features": look.feature_l1([a], [b])}
        flat = look.total_variation(torch.cat([a, b], dim=3))
    assert all(each.dtype == torch.float32 for each in (*found.values(), flat))
    assert found["style"].item() == (1 + 2**-7) ** 2 - 1 and found["features"].item() == 2**-7
    assert flat.item() == 16 * 2**-7 / 1024


def slow_variation(image, region):
    count, channels, height, width = image.shape
    total = 0.0
    for n, c, i, j in product(range(count), range(channels), range(height), range(width)):
        for k, m in ((i, j + 1), (i + 1, j)):
            if k < height and m < width and region[n, 0, i, j] and region[n, 0, k, m]:
                total += abs(image[n, c, i, j].item() - image[n, c, k, m].item())
    return total / image.numel()


def test_total_variation_is_that_of_neighbours_in_the_region():
    (image,) = maps(3, (2, 3, 5, 4))
    hole = torch.zeros(2, 1, 5, 4, dtype=torch.float64)
    hole[0, 0, 2, 1], hole[1, 0, 0, 3] = 1, 1
    region = look.dilate(hole)
    assert region[0, 0].nonzero().tolist() == [[i, j] for i in (1, 2, 3) for j in (0, 1, 2)]
    assert region[1, 0].nonzero().tolist() == [[i, j] for i in (0, 1) for j in (2, 3)]
    expected = slow_variation(image, region)
    assert look.total_variation(image, region).item() == pytest.approx(expected, rel=1e-12)
    expected = slow_variation(image, torch.ones_like(region))
    assert look.total_variation(image).item() == pytest.approx(expected, rel=1e-12)
    # What lies outside of the region does not count.
    elsewhere = image + (1 - region) * torch.rand(image.shape, generator=torch.Generator().manual_seed(4))
    torch.testing.assert_close(look.total_variation(elsewhere, region), look.total_variation(image, region))


# --- ID-MRF -----------------------------------------------------------------------------------------------------------


def slow_id_mrf(output, image, h, epsilon):
    """Equations 1 to 3, place by place."""
    total = 0.0
    for made, true in zip(output.flatten(2), image.flatten(2)):
        v, s = made.T.tolist(), true.T.tolist()

        def cosine(a, b):
            return sum(x * y for x, y in zip(a, b)) / math.sqrt(sum(x * x for x in a) * sum(y * y for y in b))

        places = range(len(s))
        mu = [[cosine(a, b) for b in s] for a in v]
        rs = [[math.exp(row[j] / (max(row[r] for r in places if r != j) + epsilon) / h) for j in places] for row in mu]
        normalised = [[row[j] / sum(row[r] for r in places if r != j) for j in places] for row in rs]
        total -= math.log(sum(max(row[j] for row in normalised) for j in places) / len(s))
    return total / len(image)


@pytest.mark.parametrize(("h", "epsilon"), [(0.5, 1e-5), (0.3, 0.1)])
def test_id_mrf_equals_the_slow_loops(h, epsilon):
    output, image = maps(5, (3, 4, 3, 2), (3, 4, 3, 2))
    found = look.id_mrf(output, image, h, epsilon)
    assert found.item() == pytest.approx(slow_id_mrf(output, image, h, epsilon), rel=1e-10)


def test_id_mrf_has_the_gradient_that_numerical_differentiation_finds():
    output, image = maps(6, (2, 3, 2, 2), (2, 3, 2, 2))
    assert torch.autograd.gradcheck(lambda x: look.id_mrf(x, image), output.requires_grad_())


def test_id_mrf_is_least_where_every_true_patch_is_used():
    """The image itself is better than any one of its patches everywhere, and the order of the patches is nothing."""
    (image,) = maps(7, (1, 16, 3, 3))
    single = image[..., :1, :1].expand_as(image)
    assert look.id_mrf(image, image) < look.id_mrf(single, image) - 0.01
    shuffled = image.flatten(2)[..., torch.randperm(9, generator=torch.Generator().manual_seed(0))]
    torch.testing.assert_close(look.id_mrf(shuffled.reshape(image.shape), image), look.id_mrf(image, image))


def test_id_mrf_stays_finite_where_patches_are_orthogonal_or_empty():
    """Orthogonal: μ of the others is 0, so RS = exp(1 / ε / h), which is no float; by hand, R̄S = RS / (Z − 1)."""
    image = torch.eye(4, dtype=torch.float64).reshape(1, 4, 2, 2)
    found = look.id_mrf(image.clone(), image)
    assert found.item() == pytest.approx(-(1 / 1e-5 / 0.5 - math.log(3)), rel=1e-9)
    empty = torch.zeros(1, 4, 2, 2, requires_grad=True)
    found = look.id_mrf(empty.relu(), image.float())
    found.backward()
    assert found.item() == pytest.approx(math.log(3), rel=1e-5) and empty.grad.isfinite().all()


def test_id_mrf_needs_more_than_one_place():
    with pytest.raises(ValueError, match="one only"):
        look.id_mrf(torch.rand(1, 3, 1, 1), torch.rand(1, 3, 1, 1))


# --- weights of the hole ----------------------------------------------------------------------------------------------


def test_spatial_discount_of_a_rectangle_is_by_the_distance_to_its_nearest_side():
    hole = torch.zeros(1, 1, 12, 12)
    hole[..., 2:9, 3:11] = 1
    weights = look.spatial_discount(hole, 0.9)
    for i, j in product(range(12), repeat=2):
        inside = 2 <= i < 9 and 3 <= j < 11
        steps = min(i - 1, 9 - i, j - 2, 11 - j) if inside else 0
        assert weights[0, 0, i, j].item() == pytest.approx(0.9**steps, rel=1e-5)


def test_spatial_discount_knows_any_hole_by_its_nearest_seen_pixel():
    """Chessboard distances by looking at every seen pixel; with none, as many steps as the longer side has pixels."""
    g = torch.Generator().manual_seed(8)
    hole = (torch.rand(3, 1, 9, 7, generator=g) < 0.9).double()
    hole[2] = 1
    weights = look.spatial_discount(hole, 0.5)
    for n in range(2):
        seen = (hole[n, 0] == 0).nonzero().tolist()
        for i, j in product(range(9), range(7)):
            steps = min(max(abs(i - a), abs(j - b)) for a, b in seen)
            assert weights[n, 0, i, j].item() == 0.5**steps
    assert (weights[2] == 0.5**9).all()
    assert (look.spatial_discount(torch.zeros(1, 1, 4, 4), 0.5) == 1).all()


# --- single layers of a perceptual network ----------------------------------------------------------------------------


def test_activations_are_those_after_the_named_convolutions():
    """VGG by hand: convolution and ReLU, one by one; the last of a block is what the network itself gives."""
    network = load_perceptual("random:1")
    images = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    found = look.activations(network, images, ("relu4_2", "relu3_2", "relu3_3", "relu3_9"))
    assert list(found) == ["relu3_2", "relu3_3", "relu4_2"]
    x = (images - network.mean) / network.std
    convolutions = iter(network.convolutions())
    for block, count in enumerate((2, 2, 3, 3), start=1):
        x = nn.functional.max_pool2d(x, 2) if block > 1 else x
        for number in range(1, count + 1):
            x = next(convolutions)(x).relu()
            if (name := f"relu{block}_{number}") in found:
                torch.testing.assert_close(found[name], x)
    torch.testing.assert_close(found["relu3_3"], network(images)[2])
