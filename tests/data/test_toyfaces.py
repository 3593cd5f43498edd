"""Toy faces: deterministic, exact landmarks, attributes that are seen, CelebA's rates and correlations, identities."""

import hashlib

import numpy as np
import pytest

from mdebench.data import prepare
from mdebench.data.pack import ATTRIBUTES, open_pack, verify_pack
from mdebench.data.toyfaces import IDENTITIES, PICTURES, Chunk, generate, parts, split_of
from mdebench.data.toyfaces.attributes import EXCLUDED_BY, Draws, draw_attributes
from mdebench.data.toyfaces.canvas import Face, blur, bump, landmarks, locate
from mdebench.data.toyfaces.looks import looks
from mdebench.data.toyfaces.parts import render
from mdebench.errors import UserError

# Counted in CelebA's public annotation, per cent, in its order.
CELEBA_RATES = """11.1 26.7 51.3 20.5 2.2 15.2 24.1 23.5 23.9 14.8 5.1 20.5 14.2 5.8 4.7 6.5 6.3 4.2 38.7 45.5
41.7 48.3 4.2 11.5 83.5 28.4 4.3 27.7 8.0 6.6 5.7 48.2 20.8 32.0 18.9 4.8 47.2 12.3 7.3 77.4"""
CELEBA_CORRELATIONS = [
    ("Male", "No_Beard", -0.52),
    ("Male", "Wearing_Lipstick", -0.79),
    ("Heavy_Makeup", "Wearing_Lipstick", 0.80),
    ("Smiling", "Mouth_Slightly_Open", 0.54),
    ("Smiling", "High_Cheekbones", 0.68),
    ("Young", "Gray_Hair", -0.36),
    ("Young", "Attractive", 0.39),
    ("Chubby", "Double_Chin", 0.53),
    ("Goatee", "No_Beard", -0.57),
    ("Straight_Hair", "Wavy_Hair", -0.32),
    ("Male", "Wearing_Necktie", 0.33),
    ("Big_Nose", "Male", 0.37),
]
COLOURS = ["Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair"]


def collect(count: int, size: int, seed: int = 0, **options: int) -> Chunk:
    chunks = list(generate(count, size, seed, **options))
    fields = ([getattr(c, k) for c in chunks] for k in Chunk.__dataclass_fields__)
    return Chunk(*(None if field[0] is None else np.concatenate(field) for field in fields))


def column(table: np.ndarray, name: str) -> np.ndarray:
    return table[:, ATTRIBUTES.index(name)]


@pytest.fixture(scope="module")
def faces() -> Chunk:
    """All pictures of 100 identities, and the first of three more."""
    return collect(503, 32)


@pytest.fixture(scope="module")
def table() -> np.ndarray:
    """Attributes of 10,000 pictures (no drawing)."""
    blocks = [draw_attributes(Draws(7, block, IDENTITIES, PICTURES)) for block in range(20)]
    return np.concatenate([np.stack([has[name] for name in ATTRIBUTES], 1) for has in blocks]).astype(float)


def test_same_seed_same_bytes_and_another_seed_other_people():
    digest = [hashlib.sha256(collect(25, 64, seed).images.tobytes()).hexdigest() for seed in (0, 0, 1)]
    assert digest[0] == digest[1] != digest[2]


def test_a_short_set_is_the_beginning_of_a_long_one(faces):
    short = collect(33, 32)
    for field in Chunk.__dataclass_fields__.keys() - {"segments"}:
        np.testing.assert_array_equal(getattr(short, field), getattr(faces, field)[:33])
    assert faces.identity[-3:].tolist() == [100, 101, 102]


@pytest.mark.parametrize("size", [48, 64, 96, 128])
def test_any_size_shows_the_same_people(size, faces):
    chunk = collect(25, size)
    assert chunk.images.shape == (25, 3, size, size) and chunk.images.dtype == np.uint8
    assert (
        chunk.attributes.dtype == np.int8 and chunk.identity.dtype == np.int32 and chunk.landmarks.dtype == np.float32
    )
    np.testing.assert_array_equal(chunk.attributes, faces.attributes[:25])
    np.testing.assert_array_equal(chunk.landmarks, faces.landmarks[:25])
    coarse = [x.reshape(25, 3, 16, x.shape[2] // 16, 16, -1).mean((3, 5)) for x in (chunk.images, faces.images[:25])]
    same, other = (np.abs(coarse[0] - np.roll(coarse[1], shift, axis=0)).mean() for shift in (0, 1))
    assert same < 0.2 * other


def test_values(faces):
    assert set(np.unique(faces.attributes)) == {0, 1}
    assert (faces.landmarks > 0).all() and (faces.landmarks < 1).all()
    assert faces.images.min() < 10 and faces.images.max() > 245
    assert faces.images.std((1, 2, 3)).min() > 15


def test_faces_are_where_celeba_has_them(faces):
    expected = [[0.35, 0.425], [0.645, 0.425], [0.5, 0.59], [0.375, 0.73], [0.625, 0.73]]
    np.testing.assert_allclose(faces.landmarks.mean(0), expected, atol=0.012)
    assert faces.landmarks.std(0).max() < 0.035


def test_landmarks_are_where_the_face_point_is_drawn():
    """A blob painted in face coordinates, through the pose, has its centroid at the landmark."""
    draws = Draws(3, 0, 12, 1)
    face = looks(draws, draw_attributes(draws))
    centres = (np.arange(320, dtype=np.float32) + 0.5) / 320
    x, y = locate(centres[None, None, :], centres[None, :, None], face)
    wry, width = face["asymmetry"], face["mouth_width"]
    points = [(face["gaze"] - 0.1475, 0.425 - wry), (face["gaze"] + 0.1475, 0.425 + wry), (0.0, face["nose_tip"])]
    points += [(-width, face["mouth_y"] - wry), (width, face["mouth_y"] + wry)]
    for (px, py), landmark in zip(points, landmarks(face).transpose(1, 0, 2)):
        blob = bump((x - px) / 0.02, (y - py) / 0.02)
        centroid = (
            np.stack([(blob * centres).sum((1, 2)), (blob * centres[:, None]).sum((1, 2))], 1)
            / blob.sum((1, 2))[:, None]
        )
        np.testing.assert_allclose(centroid, landmark, atol=0.002)  # an eighth of a pixel of 64


def test_pupils_are_dark_and_in_the_middle_of_an_iris():
    chunk = collect(50, 128)
    clear = ~np.any([column(chunk.attributes, name) for name in ("Blurry", "Narrow_Eyes", "Eyeglasses")], axis=0)
    light = chunk.images[clear].mean(1)
    rows = np.arange(len(light))
    for eye in (0, 1):
        x, y = (chunk.landmarks[clear, eye] * 128).astype(int).T
        beside = np.minimum(light[rows, y, x - 6], light[rows, y, x + 6])
        assert np.mean(light[rows, y, x] < beside) > 0.97
        assert light[rows, y, x].mean() < 70 < beside.mean() - 30


@pytest.mark.parametrize("who", ["woman", "man"])
def test_every_attribute_is_seen(who):
    """The same people, drawn with and without one attribute: a patch of the picture changes plainly."""

    def draw(**changed: bool) -> np.ndarray:
        draws, n = Draws(5, 0, 13, 1), 13
        has = {name: np.full(n, changed.get(name, name in ("No_Beard", "Young"))) for name in ATTRIBUTES}
        has["Male"] = np.full(n, changed.get("Male", who == "man"))
        return render(looks(draws, has), 64, np.zeros((n, 3, 64, 64), np.float32))[0].astype(int)

    plain = draw()
    for name in ATTRIBUTES:
        changed = {name: name not in ("No_Beard", "Young")} if name != "Male" else {"Male": who != "man"}
        difference = np.abs(draw(**changed) - plain).max(1)
        assert np.median((difference > 20).sum((1, 2))) >= 12, name


def test_no_part_is_cut_by_its_window(monkeypatch):
    draws = Draws(9, 0, 75, 1)
    face = looks(draws, draw_attributes(draws))
    noise = np.zeros((75, 3, 64, 64), np.float32)
    windowed = render(face, 64, noise)[0].astype(int)
    monkeypatch.setattr(parts, "MARGIN", 2.0)
    assert np.abs(render(face, 64, noise)[0] - windowed).max() <= 2


def test_blurry_is_a_blur():
    chunk = collect(125, 64)
    detail = np.abs(np.diff(chunk.images.astype(float), axis=3)).mean((1, 2, 3))
    blurry = column(chunk.attributes, "Blurry") == 1
    assert np.median(detail[blurry]) < 0.7 * np.median(detail[~blurry])
    impulse = np.zeros((1, 3, 33, 33), np.float32)
    impulse[..., 16, 16] = 1
    spread = np.sqrt((blur(impulse, 2.0)[0, 0].sum(0) * (np.arange(33) - 16.0) ** 2).sum())
    assert spread == pytest.approx(2.0, rel=0.03)


def test_rates_are_celebas(table):
    np.testing.assert_allclose(100 * table.mean(0), [float(v) for v in CELEBA_RATES.split()], atol=3.5)


@pytest.mark.parametrize(("a", "b", "celeba"), CELEBA_CORRELATIONS)
def test_correlations_are_celebas(table, a, b, celeba):
    ours = np.corrcoef(column(table, a), column(table, b))[0, 1]
    assert np.sign(ours) == np.sign(celeba) and abs(ours - celeba) < 0.2


def test_what_excludes_each_other(table):
    assert sum(column(table, colour) for colour in COLOURS).max() == 1
    for name, rivals in EXCLUDED_BY.items():
        assert all((column(table, name) * column(table, rival)).max() == 0 for rival in rivals)
    assert not (column(table, "Bald") * column(table, "Bangs")).any()


def test_an_identity_keeps_its_face_and_changes_its_picture(faces):
    assert np.bincount(faces.identity[:500]).tolist() == [5] * 100
    order = np.argsort(faces.identity[:500], kind="stable")
    people = faces.attributes[order].reshape(100, 5, 40)
    for name in ("Male", "Young", "Big_Nose", "Oval_Face", "Pale_Skin", *COLOURS):
        assert (np.ptp(people[:, :, ATTRIBUTES.index(name)], axis=1) == 0).all(), name
    assert np.ptp(people[:, :, ATTRIBUTES.index("Smiling")], axis=1).mean() > 0.8
    x = faces.images[order].reshape(100, 5, 3, 32, 32)[:, :, :, 8:28, 8:24].astype(float)  # the face alone
    within = np.abs(x[:, 0] - x[:, 1]).mean()
    between = np.abs(x[:, 0] - np.roll(x[:, 1], 1, axis=0)).mean()
    assert 5 < within < 0.8 * between


def test_splits_share_no_identity():
    identity = np.arange(10_000)
    split = split_of(identity)
    assert split.dtype == np.uint8 and np.bincount(split).tolist() == [8000, 1000, 1000]
    np.testing.assert_array_equal(split_of(np.repeat(identity, 5)), np.repeat(split, 5))


@pytest.mark.parametrize(("count", "size"), [(-1, 64), (5, 8)])
def test_refuses_what_cannot_be_drawn(count, size):
    with pytest.raises(UserError):
        next(generate(count, size))


# Clips


@pytest.fixture(scope="module")
def moving() -> Chunk:
    """25 clips of 8 frames."""
    return collect(200, 64, frames=8)


def test_a_clip_begins_as_the_still_and_a_longer_one_goes_on(faces, moving):
    shorter = collect(100, 64, frames=4)
    assert moving.clip.tolist() == np.repeat(np.arange(25), 8).tolist() and (faces.clip == -1).all()
    np.testing.assert_allclose(moving.landmarks[::8], faces.landmarks[:25], atol=1e-6)
    np.testing.assert_array_equal(moving.identity[::8], faces.identity[:25])
    np.testing.assert_allclose(
        shorter.landmarks.reshape(25, 4, 5, 2), moving.landmarks.reshape(25, 8, 5, 2)[:, :4], atol=1e-6
    )
    stills = collect(25, 64).images.astype(float)
    noise = np.abs(stills - moving.images[::8])
    assert noise.mean() < 4 and np.percentile(noise, 99.9) < 20  # two draws of a sensor's, std 0.012 · 255
    block = collect(3 * 503, 16, frames=3)
    assert block.clip.tolist() == np.repeat(np.arange(503), 3).tolist()
    assert block.identity[-9:].tolist() == np.repeat([100, 101, 102], 3).tolist()


def test_what_moves_moves_smoothly_and_no_attribute_with_it(moving):
    points = moving.landmarks.reshape(25, 8, 10) * 64
    speed, bend = np.diff(points, axis=1), np.diff(points, n=2, axis=1)
    assert np.abs(speed).max() < 3 and np.abs(speed).mean() > 0.2  # pixels a frame
    # Independent draws bend by √3 times their speed; a sine of at most 1/12 of a turn a frame by 2 sin(15°).
    assert np.sqrt(np.square(bend).mean() / np.square(speed).mean()) < 0.7
    assert (np.ptp(moving.attributes.reshape(25, 8, 40), axis=1) == 0).all()
    np.testing.assert_array_equal(np.ptp(moving.identity.reshape(25, 8), axis=1), 0)


def test_frames_are_as_likely_as_stills():
    """A path between two normals at right angles is normal everywhere: landmarks spread as those of stills do."""

    def drawn(frames: int) -> np.ndarray:
        blocks = [Draws(0, block, IDENTITIES, PICTURES, frames) for block in range(5)]
        return np.concatenate(
            [landmarks(looks(draws, draw_attributes(draws)))[frames - 1 :: frames] for draws in blocks]
        )

    stills, late = drawn(1), drawn(6)
    assert np.abs(stills - late).mean() > 0.005
    np.testing.assert_allclose(late.mean(0), stills.mean(0), atol=0.004)
    np.testing.assert_allclose(late[:, 2:].std(0), stills[:, 2:].std(0), rtol=0.15)  # pupils swing besides


def test_mouths_that_are_open_stay_open():
    draws = Draws(0, 0, IDENTITIES, PICTURES, 8)
    has = draw_attributes(draws)
    gap, is_open = looks(draws, has)["gap"].reshape(-1, 8), has["Mouth_Slightly_Open"].reshape(-1, 8)
    assert gap[is_open[:, 0]].min() > 0.005 and (gap[~is_open[:, 0]] == 0).all()
    assert np.median(np.ptp(gap[is_open[:, 0]], axis=1)) > 0.01


# Segments


COLOURED = {"wall": "background", "hair": "hair", "lips": "mouth", "brow": "brows", "beard": "beard", "hat": "hat"}


@pytest.mark.parametrize("colour", COLOURED)
def test_segments_are_where_the_picture_changes_with_a_parts_colour(colour):
    """The same people with that colour made darker: the pixels that change plainly are those of the class."""
    draws = Draws(2, 0, 40, 1)
    face = looks(draws, draw_attributes(draws))
    plain = face.values | {"Blurry": 0 * face["Blurry"], "gap": 0 * face["gap"]}
    shades = {"wall": ("wall", "wall2", "wall3"), "hat": ("hat", "hat_band")}.get(colour, (colour,))
    light, dark = (Face(plain | {name: np.full_like(face[name], value) for name in shades}) for value in (1, 0))
    noise = np.zeros((40, 3, 96, 96), np.float32)
    bright, _, segments = render(light, 96, noise, segments=True)
    change = (bright.astype(int) - render(dark, 96, noise)[0]).mean(1)
    inside = segments == parts.SEGMENTS.index(COLOURED[colour])
    assert inside.any(axis=(1, 2)).sum() >= (2 if colour in ("beard", "hat") else 35)
    changes = change > 0.5 * np.median(change[inside])
    overlap = (changes & inside).sum() / (changes | inside).sum()
    assert overlap > (0.75 if colour in ("brow", "lips") else 0.9), overlap


def test_segments_of_clips_move_with_the_landmarks():
    chunk = collect(80, 64, frames=8, segments=True)
    assert chunk.segments.shape == (80, 64, 64) and chunk.segments.max() < len(parts.SEGMENTS) < 255
    nose, eyes = (chunk.segments == parts.SEGMENTS.index(name) for name in ("nose", "eyes"))
    columns = np.arange(64) + 0.5
    place = (nose * columns).sum((1, 2)) / nose.sum((1, 2)) / 64
    assert np.corrcoef(place, chunk.landmarks[:, 2, 0])[0, 1] > 0.8
    x, y = (chunk.landmarks[:, 0] * 64).astype(int).T
    assert eyes[np.arange(80), y, x].mean() > 0.9  # a narrow eye, or one behind a frame, may be hidden
    np.testing.assert_array_equal(chunk.images, collect(80, 64, frames=8).images)


def test_a_pack_of_clips_with_segments(tmp_path):
    pack = open_pack(prepare("toyfaces", None, 16, tmp_path, count=1200, clips=12, segments=True))
    assert pack.name == "toyfaces-clips-segments16" and verify_pack(pack.path) == []
    assert pack.clip.tolist() == np.repeat(np.arange(100), 12).tolist()
    assert all(len(set(pack.split[pack.clip == clip])) == 1 for clip in range(100))
    assert pack.names[11:13] == ["000000-11", "000001-00"] and pack.info["options"]["clips"] == 12
    assert pack.segment_names == parts.SEGMENTS and pack.segments.shape == (1200, 16, 16)
    assert "clips: 100, of 1,200 frames" in pack.summary()
    stills = open_pack(prepare("toyfaces", None, 16, tmp_path, count=10))
    assert stills.name == "toyfaces16" and stills.info["options"] == {"count": 10, "seed": 0}
    assert not {"clip", "segments"} & stills.info["arrays"].keys()


@pytest.mark.parametrize(("options", "said"), [({"clips": 1}, "2 to 100"), ({"clips": 7}, "no whole number of clips")])
def test_refuses_clips_that_cannot_be(tmp_path, options, said):
    with pytest.raises(UserError, match=said):
        prepare("toyfaces", None, 16, tmp_path, count=100, **options)


def test_face_rows():
    face = Face({"a": np.arange(3.0).reshape(3, 1, 1)})
    assert face.rows(np.array([2, 0]))["a"].ravel().tolist() == [2, 0]
