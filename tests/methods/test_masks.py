"""Masks against equation (6) worked out by hand, the simulated figures of the reading of the paper, and properties."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from mdebench.data import toyfaces
from mdebench.data.pack import LANDMARKS
from mdebench.errors import UserError
from mdebench.methods.masks import (
    PRESETS,
    _near,
    damage,
    draw,
    draw_boxes,
    draw_damage,
    draw_free_form,
    intact,
    preset,
    preset_box,
    rasterize,
    strange,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize(
    ("S", "dropped", "corrupted"),
    [(0.1, 0.737, 0.998), (0.25, 0.483, 0.962), (0.33, 0.396, 0.912), (0.5, 0.256, 0.745)],
)
def test_rec_drops_and_corrupts_what_simulation_says(S, dropped, corrupted):
    """Not (1 − S)³ and 1 − S³: the three boxes crowd the centre."""
    none, some = [], []
    for part in range(10):
        seen, _ = draw("rec", S, 2000, 96, seeded(part))
        count = seen.sum(dim=1)
        none.append((count == 0).float().mean())
        some.append((count < 3).float().mean())
    assert torch.stack(none).mean().item() == pytest.approx(dropped, abs=0.005)
    assert torch.stack(some).mean().item() == pytest.approx(corrupted, abs=0.005)


@pytest.mark.parametrize("S", [0.1, 0.33, 0.5])
def test_boxes_have_area_S_and_stay_inside(S):
    boxes = draw_boxes((40000,), S, seeded())
    x1, y1, x2, y2 = boxes.unbind(-1)
    torch.testing.assert_close((x2 - x1) * (y2 - y1), torch.full((40000,), S, dtype=torch.float64))
    assert boxes.min() >= 0 and boxes.max() <= 1 + 1e-12
    # h ~ U(S, 1): mean (1 + S) / 2, and every value at least S.
    assert (y2 - y1).mean().item() == pytest.approx((1 + S) / 2, abs=0.005)
    assert (y2 - y1).min() >= S - 1e-12


def test_mean_area_of_masks_is_S():
    seen, _ = draw("re", 0.33, 4000, 96, seeded())
    assert seen.mean().item() == pytest.approx(0.33, abs=0.005)


def test_pixels_are_numbered_from_one():
    """x_c < x ≤ x_c + w by hand: x_c = 1, w = 2 of 4 pixels holds the pixels 2 and 3; a half-open end is left out."""
    box = torch.tensor([0.25, 0.0, 0.75, 0.3], dtype=torch.float64)
    assert rasterize(box, 4, 4).tolist() == [[0, 1, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]


def test_re_shares_its_box_between_channels_and_rec_does_not():
    seen, boxes = draw("re", 0.33, 50, 32, seeded())
    assert (seen[:, :1] == seen).all() and (boxes[:, :1] == boxes).all()
    seen, boxes = draw("rec", 0.33, 50, 32, seeded())
    assert (boxes[:, 0] != boxes[:, 1]).all()
    torch.testing.assert_close(rasterize(boxes, 32, 32), seen)


def test_inpainting_is_reverse_inpainting_inverted():
    inside, boxes = draw("reverse_inpainting", 0.25, 3, 64, seeded())
    hole, _ = draw("inpainting", 0.25, 3, 64, seeded(1))
    assert (hole == 1 - inside).all()
    assert inside.mean() == 0.25 and (boxes[0, 0] == torch.tensor([0.25, 0.25, 0.75, 0.75])).all()


@pytest.mark.parametrize("missing", [1, 2])
def test_colorization_hides_whole_channels(missing):
    seen, boxes = draw(f"colorization{missing}", None, 300, 16, seeded())
    channels = seen.flatten(2)
    assert (channels.min(2).values == channels.max(2).values).all()
    assert (channels[:, :, 0].sum(1) == 3 - missing).all()
    assert channels[:, :, 0].mean(0).numpy() == pytest.approx([(3 - missing) / 3] * 3, abs=0.1)
    torch.testing.assert_close(rasterize(boxes, 16, 16), seen)


@pytest.mark.parametrize("S", [0.0, 1.0, -0.5, 7, None])
def test_S_outside_the_open_interval_is_refused(S):
    with pytest.raises(UserError, match=r"must lie in \(0, 1\)"):
        draw("rec", S, 1, 64, seeded())


def test_colorization_has_no_S():
    with pytest.raises(UserError, match="has no ratio S"):
        draw("colorization1", 0.5, 1, 64, seeded())


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("size", [64, 96])
def test_presets_scale_with_the_image(name, size):
    mask = preset(name, size)
    x1, y1, x2, y2 = preset_box(name)
    assert mask.shape == (1, 1, size, size) and set(mask.unique().tolist()) == {0, 1}
    assert (1 - mask).mean().item() == pytest.approx((x2 - x1) * (y2 - y1), abs=0.02)


def test_left_and_right_are_the_viewers():
    left, right = preset("left_eye", 64), preset("right_eye", 64)
    columns = torch.arange(64.0)
    assert ((1 - left) * columns).sum() / (1 - left).sum() < 31.5 < ((1 - right) * columns).sum() / (1 - right).sum()


def test_unknown_preset_names_the_six():
    with pytest.raises(UserError, match="both_eyes"):
        preset("nose", 64)


COVERS = {
    "left_half": ["lefteye", "leftmouth"],
    "right_half": ["righteye", "rightmouth"],
    "both_eyes": ["lefteye", "righteye"],
    "left_eye": ["lefteye"],
    "right_eye": ["righteye"],
    "mouth": ["leftmouth", "rightmouth"],
}


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_hides_its_landmarks_in_at_least_99_percent_of_the_faces(name):
    """On the embedded faces, which stand where CelebA's alignment puts faces (there it is 99.8 % and more)."""
    landmarks = np.concatenate([chunk.landmarks for chunk in toyfaces.generate(1000, 16)])
    x1, y1, x2, y2 = preset_box(name)
    x, y = landmarks[:, [LANDMARKS.index(point) for point in COVERS[name]]].transpose(2, 0, 1)
    inside = (x > x1) & (x <= x2) & (y > y1) & (y <= y2)
    assert inside.all(axis=1).mean() >= 0.99


def test_a_stroke_is_all_that_is_within_half_its_width_of_its_line():
    """Pixel by pixel against the distance to a segment, found by trying many of its points."""
    start, end, size = np.array([0.2, 0.3]), np.array([0.7, 0.45]), 40
    near = _near(torch.tensor(start), torch.tensor(end), torch.tensor(0.08), size).numpy()
    points = start + np.linspace(0, 1, 2001)[:, None] * (end - start)
    centres = (np.arange(size) + 0.5) / size
    distance = np.array([[np.hypot(*(points - (x, y)).T).min() for x in centres] for y in centres])
    clear = np.abs(distance - 0.08) > 1e-4  # not on the rim itself
    assert (near == (distance <= 0.08))[clear].all() and near.any() and not near.all()


def test_free_form_masks_are_a_rectangle_and_strokes():
    seen = draw_free_form(300, 64, seeded())
    assert seen.shape == (300, 1, 64, 64) and set(seen.unique().tolist()) == {0, 1}
    missing = (1 - seen).mean((1, 2, 3))
    # The rectangle alone covers 1/16 at least, at most 1/4, less what its pixel grid rounds off.
    assert missing.min() >= 0.9 / 16 and 0.2 < missing.mean() < 0.35 and missing.max() < 0.75
    assert (missing > 0.27).float().mean() > 0.3  # strokes add to it
    small, large = draw_free_form(300, 32, seeded()), torch.nn.functional.avg_pool2d(seen, 2).round()
    assert (small == large).float().mean() > 0.93  # the same masks, whatever the size they are drawn at


def test_free_form_is_a_scenario_like_others():
    seen, boxes = draw("free_form", None, 3, 16, seeded())
    assert seen.shape == (3, 3, 16, 16) and (seen[:, :1] == seen).all() and boxes.abs().sum() == 0
    with pytest.raises(UserError, match="no ratio S"):
        draw("free_form", 0.3, 3, 16, seeded())


def test_damage_fades_out_around_its_strokes_as_scipy_smooths_them():
    """Four times: a Gaussian of σ = 1 pixel where the image has 64, cut off at 2, and 1 under the strokes again."""
    alpha = draw_damage(5, 64, seeded())
    assert alpha.shape == (5, 1, 64, 64) and alpha.min() == 0 and alpha.max() == 1
    for each in alpha[:, 0].double().numpy():
        strokes = each == 0
        damaged = strokes.astype(float)
        for _ in range(4):
            damaged = np.where(strokes, 1.0, gaussian_filter(damaged, 1.0, mode="constant", truncate=2.0))
        np.testing.assert_allclose(1 - each, damaged, atol=1e-5)


@pytest.mark.parametrize("size", [16, 32, 64])
def test_damage_covers_the_same_share_at_every_size_and_its_mask_is_the_scenario_of_that_name(size):
    alpha = draw_damage(150, size, seeded())
    assert (alpha == 0).float().mean().item() == pytest.approx(0.143, abs=0.01)  # strokes
    assert 0.13 < (1 - intact(alpha)).mean() < 0.19  # and the inner half of their rims
    assert (intact(alpha) == (alpha >= 0.5)).all()
    assert (alpha[:, 0].flatten(1).min(1).values == 0).all()  # nothing is left whole
    seen, boxes = draw("damage", None, 150, size, seeded())
    assert torch.equal(seen, intact(alpha).expand(-1, 3, -1, -1)) and boxes.abs().sum() == 0


def test_damaged_images_are_the_blend_of_equation_1():
    torch.manual_seed(0)
    images, others = torch.rand(2, 4, 3, 8, 8, dtype=torch.float64)
    alpha = draw_damage(4, 8, seeded())
    damaged = damage(images, alpha, others)
    for i, c, y, x in [(0, 0, 0, 0), (3, 2, 7, 5), (1, 1, 4, 4)]:
        mask = 1 - alpha[i, 0, y, x].item()  # the paper's M is 1 where it is damaged
        expected = images[i, c, y, x].item() * (1 - mask) + others[i, c, y, x].item() * mask
        assert damaged[i, c, y, x].item() == pytest.approx(expected, abs=1e-12)
    assert torch.equal(damage(images, torch.ones(4, 1, 8, 8), others), images)


def test_what_is_strange_is_another_image_cut_out_of_its_mirror_tiling():
    images = torch.arange(5 * 3 * 4 * 6).view(5, 3, 4, 6).double()
    drawn = torch.rand(5, 3, generator=seeded())
    found = strange(images, drawn)
    for i, (which, down, right) in enumerate(drawn.tolist()):
        other = (i + 1 + int(4 * which)) % 5
        assert other != i
        tiled = np.pad(images[other].numpy(), ((0, 0), (0, 8), (0, 12)), mode="symmetric")
        y, x = int(8 * down), int(12 * right)
        assert (found[i].numpy() == tiled[:, y : y + 4, x : x + 6]).all()
    alone = strange(images[:1], torch.tensor([[0.9, 0.5, 0.0]]))
    assert torch.equal(alone, images[:1].flip(2))  # there is no other: itself, upside down
