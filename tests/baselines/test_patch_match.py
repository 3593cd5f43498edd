"""PatchMatch: a periodic texture is found again, every search by the definition of its distance, and nothing hidden."""

import numpy as np
import pytest
import torch

from mdebench.baselines.patch_match import Level, Method, Settings, fill, halved, nearest_seen, whole
from mdebench.methods import fills


def texture(period=6, size=36, seed=0):
    """A tile of random colours, repeated: (size, size, 3)."""
    tile = np.random.default_rng(seed).random((period, period, 3), dtype=np.float32)
    return np.tile(tile, (size // period, size // period, 1))


def with_hole(size, rows, columns):
    seen = np.ones((size, size, 3), bool)
    seen[rows, columns] = False
    return seen


def tensors(*images):
    return [torch.from_numpy(np.ascontiguousarray(image)).permute(2, 0, 1)[None].float() for image in images]


def build(size, **settings):
    return Method(Settings(**settings), size).eval()


# --- what it fills ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "place", [(slice(12, 20), slice(14, 24)), (slice(0, 9), slice(27, 36)), (slice(10, 36), slice(8, 13))]
)
@pytest.mark.parametrize("seed", [0, 1])
def test_a_periodic_texture_is_found_again(place, seed):
    image = texture(seed=seed)
    image_t, seen = tensors(image, with_hole(36, *place))
    filled = build(36).complete(image_t * seen, seen)
    torch.testing.assert_close(filled, image_t, atol=2e-3, rtol=0)
    assert (fills.biharmonic(image_t * seen, seen) - image_t).abs().max() > 0.3  # which a smooth fill does not


def test_what_is_seen_stays_and_what_is_hidden_does_not_matter():
    images = torch.rand(3, 3, 20, 20, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    seen = torch.ones(3, 3, 20, 20, dtype=torch.float64)
    seen[0, :, 4:9, 3:9] = 0
    seen[1, 1, 0:7, 5:8] = 0  # green alone
    seen[2, 2, 10:14, 12:20] = 0
    seen[2, 0, 12:17, 15:19] = 0
    filled = build(20).complete(images, seen)
    assert filled.dtype == torch.float64 and torch.equal(filled[seen == 1], images[seen == 1])
    assert torch.equal(build(20).complete(images * seen, seen), filled)
    assert torch.equal(build(20).complete(1 - (1 - images) * seen, seen), filled)
    for n in range(3):  # nor do its neighbours in the batch
        assert torch.equal(build(20).complete(images[n : n + 1], seen[n : n + 1])[0], filled[n])


def test_every_filled_value_is_a_mean_of_seen_ones():
    """In two colours, with 0 and 1 nowhere: no fill goes beyond them, channel by channel."""
    images = 0.25 + 0.5 * (torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(1)) > 0.5)
    seen = torch.ones(1, 1, 24, 24)
    seen[..., 6:15, 8:20] = 0
    filled = build(24).complete(images * seen, seen)
    assert filled.min() >= 0.2499 and filled.max() <= 0.7501


def test_an_image_without_a_whole_patch_gets_the_mean_colour():
    images = torch.rand(3, 3, 12, 12, generator=torch.Generator().manual_seed(2))
    seen = torch.ones(3, 3, 12, 12)
    seen[0, 1] = 0  # a channel is missing
    seen[1, :, ::4, ::4] = 0  # 3×3 pixels are seen whole, and no 5×5
    seen[2] = 0
    torch.testing.assert_close(build(12).complete(images * seen, seen), fills.mean_colour(images * seen, seen))
    seen[:] = 1
    assert torch.equal(build(12).complete(images, seen), images)
    few = torch.zeros(1, 1, 4, 4)
    assert build(4).complete(images[:1, :, :4, :4], few).isfinite().all()


@pytest.mark.parametrize("patch", [1, 4, 7])
def test_patches_of_other_sides(patch):
    image_t, seen = tensors(texture(), with_hole(36, slice(12, 18), slice(14, 20)))
    filled = build(36, patch=patch).complete(image_t * seen, seen)
    assert torch.equal(filled * seen, image_t * seen) and filled.isfinite().all()
    if patch > 1:  # of single pixels none knows its neighbours
        torch.testing.assert_close(filled, image_t, atol=2e-3, rtol=0)


# --- its parts --------------------------------------------------------------------------------------------------------


def test_whole_patches_are_those_with_nothing_missing_in_any_channel():
    seen = np.random.default_rng(0).random((9, 11, 3)) > 0.02
    found = whole(seen, 3)
    assert found.shape == (7, 9) and found.any() and not found.all()
    for i in range(7):
        for j in range(9):
            assert found[i, j] == seen[i : i + 3, j : j + 3].all()


def test_half_the_size_has_the_means_of_what_is_seen():
    rng = np.random.default_rng(0)
    image, seen = rng.random((5, 7, 3)).astype(np.float32), rng.random((5, 7, 3)) > 0.6
    small, known = halved(image, seen)
    assert small.shape == known.shape == (3, 4, 3)
    for i, j, c in np.ndindex(3, 4, 3):
        values = image[2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c][seen[2 * i : 2 * i + 2, 2 * j : 2 * j + 2, c]]
        assert known[i, j, c] == (len(values) > 0)
        assert small[i, j, c] == pytest.approx(values.mean() if len(values) else 0, abs=1e-6)


def test_it_begins_with_the_nearest_seen_value_of_each_channel():
    rng = np.random.default_rng(0)
    image, seen = rng.random((6, 6, 3)).astype(np.float32), rng.random((6, 6, 3)) > 0.7
    filled = nearest_seen(image, seen)
    for i, j, c in np.ndindex(6, 6, 3):
        places = np.argwhere(seen[..., c])
        away = np.linalg.norm(places - [i, j], axis=1)
        assert filled[i, j, c] in image[..., c][tuple(places[away == away.min()].T)]


def level(seed=0, size=18):
    image = np.random.default_rng(seed).random((size, size, 3), dtype=np.float32)
    seen = with_hole(size, slice(5, 9), slice(6, 12))
    return Level(np.where(seen, image, 0), seen, 3, np.random.default_rng(1)), image


def test_a_search_ends_at_seen_patches_with_their_true_distances_none_farther_than_before():
    it, image = level()
    before = it.found.copy()
    distances = it.search(image, 2)
    better = 0
    for n, (i, j) in enumerate(zip(it.rows, it.columns)):
        wanted = image[i : i + 3, j : j + 3]
        (row, column), (r, c) = it.found[:, i, j], before[:, i, j]
        assert it.seen[row : row + 3, column : column + 3].all()
        assert distances[n] == pytest.approx(
            ((wanted - image[row : row + 3, column : column + 3]) ** 2).sum(), rel=1e-5
        )
        first = ((wanted - image[r : r + 3, c : c + 3]) ** 2).sum()
        assert distances[n] <= first * (1 + 1e-6)
        better += distances[n] < first
    assert better > len(distances) / 2


def test_a_long_search_finds_the_best_patch_that_there_is():
    """Beside a search through all of them, in noise, where a patch says nothing of its neighbours'."""
    it, image = level()
    distances = it.search(image, 300)
    sources = np.argwhere(it.sources)
    found = []
    for n, (i, j) in enumerate(zip(it.rows, it.columns)):
        wanted = image[i : i + 3, j : j + 3]
        best = min(((wanted - image[r : r + 3, c : c + 3]) ** 2).sum() for r, c in sources)
        assert distances[n] >= best * (1 - 1e-5)
        found.append(distances[n] <= best * (1 + 1e-5))
    assert np.mean(found) > 0.8


def test_finds_of_a_neighbour_move_along():
    """Once a patch knows where a copied region is from, a sweep without luck carries that to all patches of the row."""
    it, _ = level()
    image = it.image.copy()
    image[5:9, 6:12] = image[12:16, 4:10]  # what is missing is a copy of what stands 7 down and 2 to the left
    it.found[:] = np.array([0, 0])[:, None, None]
    it.found[:, 6, 7] = 13, 5  # a patch all in the hole, found right
    it.rng = type("Still", (), {"uniform": lambda self, low, high, shape: np.zeros(shape)})()
    it.search(image, 3)
    inside = [(i, j) for i in (5, 6) for j in range(6, 10)]
    assert all(tuple(it.found[:, i, j]) == (i + 7, j - 2) for i, j in inside)


def test_a_pixel_is_the_weighted_mean_of_what_the_patches_over_it_found():
    it, image = level()
    distances = it.search(image, 1)
    spread = 2 * np.quantile(distances, 0.75)
    painted = it.paint(distances)
    assert np.array_equal(painted[it.seen], it.image[it.seen])
    for i in range(5, 9):
        for j in range(6, 12):
            over = [n for n, (r, c) in enumerate(zip(it.rows, it.columns)) if 0 <= i - r < 3 and 0 <= j - c < 3]
            places = [it.found[:, it.rows[n], it.columns[n]] + [i - it.rows[n], j - it.columns[n]] for n in over]
            weights = np.exp(-distances[over] / spread)
            mean = np.average([it.image[r, c] for r, c in places], axis=0, weights=weights)
            assert len(over) == 9
            np.testing.assert_allclose(painted[i, j], mean, atol=1e-4)


def test_patches_unlike_all_that_is_seen_still_paint():
    it, image = level()
    it.search(image, 1)
    distances = np.zeros(len(it.rows), np.float32)
    distances[: len(distances) // 4] = 1e6  # one in four
    painted = it.paint(distances)
    assert np.isfinite(painted).all() and painted[~it.seen].min() > 0


def test_a_finer_size_starts_at_double_the_place():
    coarse, _ = level(size=18)
    fine, _ = level(size=36)
    drawn = fine.found.copy()
    fine.start_from(coarse)
    for i, j in np.ndindex(34, 34):
        near = min(i // 2, 15), min(j // 2, 15)  # the coarser size has 16×16 patches
        r, c = coarse.found[:, *near]
        doubled = (2 * r + i - 2 * near[0], 2 * c + j - 2 * near[1])
        usable = max(doubled) < 34 and fine.sources[doubled]
        assert tuple(fine.found[:, i, j]) == (doubled if usable else tuple(drawn[:, i, j]))


def test_nothing_to_fill_is_given_back():
    image = texture()
    assert fill(image, np.ones_like(image, bool), Settings()) is image
