"""Alignment: level 0 is the plain probe, landmarks go where their pixels go, and all runs meet the same draws."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from mocks import COUNT, TEST, Oracle, make_pack, measured, numbered
from scipy.ndimage import affine_transform
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from mdebench.evaluation.readouts import converged
from mdebench.evaluation.tasks import Attributes, mean_error
from mdebench.methods.contract import Method
from mdebench.protocols import alignment, attributes, classes, landmarks

RNG = np.random.default_rng(5)
LABELS = RNG.random((COUNT, 3)) < [0.5, 0.3, 0.8]
POINTS = np.clip(0.5 + RNG.normal(0, 0.1, (COUNT, 5, 2)), 0, 1)
TURN, SCALE, RIGHT = np.eye(4)[:3]  # a draw that does nothing but this, to the full
BOTH = ("5 %", "10 %", "20 %")


class Small(Method):
    """Encodes an image as its pixels on a coarse grid, and counts the images."""

    def __init__(self, side=4):
        super().__init__(None, 64)
        self.side, self.feature_dim, self.encoded = side, 3 * side**2, 0

    def encode(self, images):
        self.encoded += len(images)
        return adaptive_avg_pool2d(images, self.side).flatten(1)


class Spot(Method):
    """Encodes an image as the place of its light, x and y in the unit of landmarks."""

    feature_dim = 2

    def __init__(self):
        super().__init__(None, 64)

    def encode(self, images):
        light, place = images[:, 0], (torch.arange(64) + 0.5) / 64
        return torch.stack([(light.sum(axis) * place).sum(1) for axis in (1, 2)], 1) / light.sum((1, 2))[:, None]


def light(points):
    """A spot of 5×5 pixels around each point (n, 2), in pixels: (n, 3, 64, 64) uint8."""
    images = np.zeros((len(points), 3, 64, 64), np.uint8)
    for image, (x, y) in zip(images, points):
        image[:, y - 2 : y + 3, x - 2 : x + 3] = 255
    return images


def test_level_0_is_the_probe_of_the_transfers_to_the_last_bit(tmp_path):
    people = np.arange(COUNT) % 5
    pack, code = (
        make_pack(numbered(), LABELS.astype(int), POINTS, identities=people),
        np.random.default_rng(7).normal(size=(COUNT, 4)),
    )
    rows = measured(alignment, Oracle(code), pack, tmp_path)
    plain = {
        (attributes, "attribute_error"): "frozen-probe",
        (landmarks, "landmark_distance"): "frozen-probe",
        (classes, "accuracy"): "probe",
    }
    for (protocol, metric), setting in plain.items():
        probe = measured(
            protocol, Oracle(code), pack, tmp_path, **({} if protocol is classes else {"setting": setting})
        )
        mine, its = rows["0 %", "test", metric], probe[setting, "test", metric]
        assert (mine.value, mine.low, mine.high, mine.n) == (its.value, its.low, its.high, its.n)
        np.testing.assert_array_equal(mine.values, its.values)


def test_a_spot_and_its_landmark_move_together():
    draws = np.random.default_rng(8).uniform(-1, 1, (8, 4))
    images = torch.zeros(8, 3, 64, 64)
    images[:, :, 20:23, 37:40] = 1  # centred on pixel (x 38, y 21)
    spot = np.tile(np.array([[38.5, 21.5]], np.float32) / 64, (8, 1, 1))
    found = Spot().encode(alignment.misaligned(images, draws, 0.2)).double().numpy()
    np.testing.assert_allclose(found, alignment.moved(spot, draws, 0.2)[:, 0], atol=0.3 / 64)


def test_a_quarter_turn_to_the_right_is_one():
    images = torch.rand(2, 3, 64, 64)
    right, left = 90 / alignment.DEGREES * np.outer([1, -1], TURN)
    found = alignment.misaligned(images, np.stack([right, left]), 1.0)
    torch.testing.assert_close(found[0], images[0].rot90(-1, (1, 2)), atol=1e-5, rtol=0)
    torch.testing.assert_close(found[1], images[1].rot90(1, (1, 2)), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("level", "degrees"), [(0.05, 1.7), (0.1, 3.4), (0.2, 6.8)])
def test_turns_shrinking_and_shifts_are_as_large_as_is_said(level, degrees):
    points = np.float32([[[0.5, 0.5], [0.75, 0.5]]])  # the centre, and right of it
    centre, beside = alignment.moved(points, TURN[None], level)[0]
    x, y = beside - centre
    assert np.degrees(np.arctan2(y, x)) == pytest.approx(degrees, abs=1e-3)  # y points down: clockwise
    np.testing.assert_allclose(centre, 0.5)
    np.testing.assert_allclose(alignment.moved(points, -SCALE[None], level)[0, 1], [0.5 + 0.25 * (1 - level), 0.5])
    np.testing.assert_allclose(alignment.moved(points, RIGHT[None], level)[0], points[0] + [level, 0], rtol=1e-6)


def test_what_does_not_shrink_is_scipys_bilinear_image_with_its_edge_pixels_continued():
    images, draws = (
        torch.rand(6, 3, 64, 64, generator=torch.Generator().manual_seed(9)),
        np.random.default_rng(9).uniform(-1, 1, (6, 4)),
    )
    draws[:, 1] = abs(draws[:, 1])
    found = alignment.misaligned(images, draws, 0.2).numpy()
    for image, (turn, scale, right, down), mine in zip(images.numpy(), draws, found):
        angle, centre = np.radians(6.8 * turn), np.array([31.5, 31.5])
        cos, sin = np.cos(angle), np.sin(angle)
        back = np.linalg.inv((1 + 0.2 * scale) * np.array([[cos, sin], [-sin, cos]]))  # of (y, x)
        offset = centre - back @ (centre + 64 * 0.2 * np.array([down, right]))
        theirs = [affine_transform(channel, back, offset, order=1, mode="nearest") for channel in image]
        np.testing.assert_allclose(mine, theirs, atol=1e-4)


@pytest.mark.parametrize("side", [48, 56])
def test_what_shrinks_is_antialiased_as_when_an_image_is_made_smaller(side):
    images = torch.rand(8, 3, 64, 64)
    edge = (64 - side) // 2
    inner = slice(edge + 2, 62 - edge)  # without the borders, which are treated otherwise
    found = alignment.misaligned(images, np.tile(-SCALE, (8, 1)), 1 - side / 64)[:, :, inner, inner]
    theirs, plain = (interpolate(images, (side, side), mode="bilinear", antialias=a)[:, :, 2:-2, 2:-2] for a in (1, 0))
    assert (found - theirs).std() < 0.5 * (plain - theirs).std()
    assert found.std() == pytest.approx(theirs.std().item(), rel=0.05)  # white noise: the width of the filter
    assert plain.std() > 1.1 * theirs.std()


def test_nothing_jumps_where_shrinking_begins():
    images = torch.rand(1, 3, 64, 64)
    more, less = (alignment.misaligned(images, share * SCALE[None], 0.2) for share in (1e-5, -1e-5))
    assert (more - less).abs().max() < 0.01


def test_draws_depend_on_pack_image_and_seed_alone():
    pack = make_pack(numbered(), LABELS.astype(int), POINTS)
    other = make_pack(numbered(), LABELS.astype(int), POINTS)
    other.info["hash"] = "cd" * 32
    draws = alignment.drawn(pack, 0)
    np.testing.assert_array_equal(draws, alignment.drawn(pack, 0))
    assert (draws != alignment.drawn(pack, 1)).all() and (draws != alignment.drawn(other, 0)).all()
    assert draws.shape == (COUNT, 4) and abs(draws).max() < 1
    assert len(np.unique(draws)) == draws.size


@pytest.fixture(scope="module")
def noise():
    """A pack of coarse noise, of which two attributes tell what is bright and where."""
    coarse = np.random.default_rng(10).random((COUNT, 3, 8, 8))
    images = (255 * coarse.repeat(8, axis=2).repeat(8, axis=3)).astype(np.uint8)
    labels = np.stack([coarse[:, 0].mean((1, 2)) > 0.5, coarse[:, 1, :4].mean((1, 2)) > 0.5], axis=1)
    return make_pack(images, labels.astype(int))


def test_alone_the_probe_has_seen_aligned_images_and_both_ways_the_same_misaligned_ones(noise, tmp_path):
    rows = measured(alignment, Small(), noise, tmp_path)
    task, device = Attributes.of(noise).task, torch.device("cpu")
    images, draws = torch.from_numpy(noise.images).float() / 255, alignment.drawn(noise, 0)
    aligned = Small().encode(images).numpy()
    probe, _ = converged(lambda part: aligned[part], task, task.partition, device)
    for setting, level in zip(BOTH, (0.05, 0.1, 0.2)):
        codes = Small().encode(alignment.misaligned(images, draws, level)).numpy()
        own, _ = converged(lambda part, codes=codes: codes[part], task, task.partition, device)
        for name, by in ((setting, own), (f"{setting}, test alone", probe)):
            wrong = mean_error(by(codes[TEST]), task.targets[TEST])
            assert rows[name, "test", "attribute_error"].value == pytest.approx(wrong, abs=1e-4)
    alone = [rows[f"{setting}, test alone", "test", "attribute_error"].value for setting in BOTH]
    assert alone != [rows[setting, "test", "attribute_error"].value for setting in BOTH]


def test_each_image_is_encoded_once_for_each_level(noise, tmp_path):
    method = Small()
    measured(alignment, method, noise, tmp_path)
    assert method.encoded == pytest.approx(4 * COUNT, abs=4)  # the aligned ones too, and two to know the width
    assert alignment.cost(noise, alignment.Settings()).encoded == 3 * COUNT


def test_landmarks_are_read_where_they_come_to_lie(tmp_path):
    """A code that is the landmark's place tells it at every level, by the probe of aligned images, too."""
    spots = np.random.default_rng(6).integers(22, 42, (COUNT, 2))  # which no level moves out of the picture
    points = np.repeat((spots[:, None] + 0.5) / 64, 5, axis=1)
    pack = make_pack(light(spots), points=points)
    rows = measured(alignment, Spot(), pack, tmp_path)
    for setting in ("0 %", *BOTH, *(f"{each}, test alone" for each in BOTH)):
        assert rows[setting, "test", "landmark_distance"].value < 0.5  # px of 96
    away = 96 * np.hypot(*(alignment.moved(pack.landmarks, alignment.drawn(pack, 0), 0.2) - points)[TEST].T).mean()
    assert away > 5


def test_landmarks_outside_of_the_picture_are_measured_there_and_counted(tmp_path):
    corner = np.tile([[3, 3]], (COUNT, 1))
    pack = make_pack(light(corner), points=np.repeat((corner[:, None] + 0.5) / 64, 5, axis=1))
    rows = measured(alignment, Small(), pack, tmp_path)
    there = alignment.moved(pack.landmarks, alignment.drawn(pack, 0), 0.2)[TEST]
    outside = int((there < 0).any(axis=2).sum())
    assert 0 < outside < 100
    row = rows["20 %", "test", "landmark_distance"]
    assert row.n == 20 and f"{outside} of 100 landmarks lie outside of the picture, measured there" in row.note
    assert "outside" not in rows["0 %", "test", "landmark_distance"].note


def test_notes_tell_how_far_faces_are_moved(noise, tmp_path):
    rows = measured(alignment, Small(), noise, tmp_path, seed=3)
    note = rows["20 %, test alone", "test", "attribute_error"].note
    assert "turned by up to 6.8°, scaled and shifted by up to 20 %, seed 3, borders continue the edge pixels" in note


def test_a_pack_without_labels_is_refused_in_one_sentence(noise):
    assert alignment.requires(noise) is None
    assert "\n" not in alignment.requires(replace(noise, attributes=np.zeros((COUNT, 0), np.int8)))
