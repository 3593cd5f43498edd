"""Masks as users bring them: each kind is drawn here from one hole, and what is seen is held against that hole."""

import numpy as np
import pytest
from PIL import Image
from PIL.ExifTags import Base

from mdebench.errors import UserError
from mdebench.evaluation.encoders.complete import mask_fragments
from mdebench.evaluation.encoders.mask_files import read_mask
from mdebench.evaluation.encoders.own_pictures import load_picture, parse_crop

WIDTH, HEIGHT, SIZE = 96, 64, 16  # of the picture and of the run: a pixel of the run is 4×4 of the picture's
MAROON = (128, 0, 0)


@pytest.fixture
def hole():
    """(64, 96): what is missing, in whole pixels of the run, off the middle both ways."""
    hole = np.zeros((HEIGHT, WIDTH), bool)
    hole[12:40, 28:60] = True
    hole[40:52, 28:36] = True
    return hole


@pytest.fixture
def pixels():
    """(64, 96, 3): a picture of mid tones, smooth enough for JPEG."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    channels = 120 + 50 * np.sin(x / 9), 110 + 40 * np.cos(y / 7), 90 + 40 * np.sin((x + y) / 11)
    return np.stack(channels, axis=-1).astype(np.uint8)


@pytest.fixture
def photo(pixels, tmp_path):
    Image.fromarray(pixels).save(path := tmp_path / "photo.png")
    return load_picture(path, SIZE)


def expected(hole):
    """What a run of 16 pixels sees of the square in the middle: (16, 16)."""
    return ~hole[:, 16:80][::4, ::4]


def seen(path, photo, means=None):
    """(16, 16) bool, the same for all channels."""
    shown = mask_fragments(read_mask(path, means), photo, SIZE).seen
    assert shown.shape == (1, 3, SIZE, SIZE) and (shown == shown[:, :1]).all()
    return shown[0, 0].numpy() == 1


def two(hole, black, white, dtype=np.uint8):
    return Image.fromarray(np.where(hole, black, white).astype(dtype))


def palette(indices, *colours):
    image = Image.fromarray(indices.astype(np.uint8), "P")
    image.putpalette([channel for colour in colours for channel in colour])
    return image


def layered(hole, mode, colour, noise=False):
    """`colour` with the hole erased; what stands under it is noise, as editors leave it."""
    image = Image.new(mode.removesuffix("A"), (WIDTH, HEIGHT), colour)
    if noise:
        under = np.random.default_rng(1).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
        image = Image.composite(Image.fromarray(under), image, Image.fromarray(hole))
    image.putalpha(Image.fromarray(np.where(hole, 0, 255).astype(np.uint8)))
    return image


def nearly(hole):
    """0 and 255, here and there 1 less or more."""
    values = np.where(hole, 0, 255)
    values[::3] = np.where(hole, 1, 254)[::3]
    return Image.fromarray(values.astype(np.uint8))


def see_through(hole):
    image = palette(hole * 1, (200, 10, 10), (10, 10, 200))
    image.info["transparency"] = 1
    return image


PLAIN = {
    "black and white": (lambda hole: two(hole, 0, 255), "png"),
    "one bit": (lambda hole: Image.fromarray(~hole), "png"),
    "0 and 1": (lambda hole: two(hole, 0, 1), "png"),
    "0 and 254": (lambda hole: two(hole, 0, 254), "png"),
    "0, 1, 254 and 255": (nearly, "png"),
    "grey and white": (lambda hole: two(hole, 128, 255), "png"),
    "RGB": (lambda hole: two(hole, 0, 255).convert("RGB"), "bmp"),
    "16 bits": (lambda hole: two(hole, 0, 65535, np.uint16), "png"),
    "0 and 1 of 16 bits": (lambda hole: two(hole, 0, 1, np.uint16), "png"),
    "0 and 255 of 16 bits": (lambda hole: two(hole, 0, 255, np.uint16), "tiff"),
    "0 and 1 of 32 bits": (lambda hole: two(hole, 0, 1, np.int32), "tiff"),
    "fractions": (lambda hole: two(hole, 0.0, 1.0, np.float32), "tiff"),
    "noise of JPEG": (lambda hole: two(hole, 0, 255), "jpg"),
    "colours of JPEG": (lambda hole: two(hole, 0, 255).convert("RGB"), "jpg"),
    "palette of greys": (lambda hole: palette(~hole * 1, (0, 0, 0), (255, 255, 255)), "png"),
    "palette the other way": (lambda hole: palette(hole * 1, (255, 255, 255), (0, 0, 0)), "png"),
    "palette all black": (lambda hole: palette(~hole * 1, (0, 0, 0), (0, 0, 0)), "png"),
    "label map of one class": (lambda hole: palette(~hole * 1, (0, 0, 0), MAROON), "png"),
    "erased from white": (lambda hole: layered(hole, "RGBA", "white"), "png"),
    "erased from grey": (lambda hole: layered(hole, "LA", 200), "png"),
    "erased, noise under it": (lambda hole: layered(hole, "RGBA", "white", noise=True), "png"),
    "erased in a palette": (see_through, "png"),
    "erased in WebP": (lambda hole: layered(hole, "RGBA", "white"), "webp"),
}


@pytest.mark.parametrize("kind", PLAIN)
def test_every_coding_of_black_and_white_shows_what_was_drawn(kind, hole, photo, tmp_path):
    draw, ending = PLAIN[kind]
    image, path = draw(hole), tmp_path / f"mask.{ending}"
    image.save(path, **({"lossless": True} if ending == "webp" else {}))
    assert (seen(path, photo) == expected(hole)).all()
    assert (seen(path, photo, "seen") == expected(hole)).all()
    assert (seen(path, photo, "missing") == ~expected(hole)).all()
    said = mask_fragments(read_mask(path, "missing"), photo, SIZE).said
    assert str(path) in said and " is missing, " in said and " is seen" in said


def test_the_hole_erased_from_the_photo_itself(hole, pixels, photo, tmp_path):
    alpha = np.where(hole, 0, 255)[..., None]
    Image.fromarray(np.concatenate([pixels, alpha], axis=2).astype(np.uint8)).save(path := tmp_path / "erased.png")
    assert (seen(path, photo) == expected(hole)).all()


@pytest.mark.parametrize("colour", [(255, 0, 0), (255, 255, 255), (0, 255, 0)])
@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_strokes_painted_over_the_picture_are_missing(ending, colour, hole, pixels, photo, tmp_path):
    painted = np.where(hole[..., None], np.array(colour, np.uint8), pixels)
    Image.fromarray(painted).save(path := tmp_path / f"strokes.{ending}")
    assert (seen(path, photo) == expected(hole)).all()
    assert (seen(path, photo, "seen") == ~expected(hole)).all()
    said = mask_fragments(read_mask(path), photo, SIZE).said
    assert said.endswith("what was painted over in this copy of photo.png is missing, the rest is seen")
    square = Image.fromarray(painted).crop((16, 0, 80, 64)).resize((128, 128), Image.Resampling.NEAREST)
    square.save(path)  # drawn over the square that is taken
    assert (seen(path, photo) == expected(hole)).all()


def test_strokes_painted_over_a_grey_picture(hole, pixels, tmp_path):
    Image.fromarray(pixels).convert("L").save(tmp_path / "grey.png")
    grey = load_picture(tmp_path / "grey.png", SIZE)
    strokes = np.where(hole, 255, np.asarray(Image.open(grey.path)))
    Image.fromarray(strokes.astype(np.uint8)).save(path := tmp_path / "strokes.png")
    assert (seen(path, grey) == expected(hole)).all()


def test_a_copy_with_nothing_painted_over_is_told(photo, tmp_path):
    fragments = mask_fragments(read_mask(photo.path), photo, SIZE)
    assert fragments.seen.all() and "nothing is painted over" in fragments.said


def labels(hole, background=0):
    """A label map: background, two classes and 255 between."""
    values = np.where(hole, 15, background)
    values[2:6, 2:6] = 3
    values[10:12, 28:60] = 255
    return values


def coloured(values):
    colours = {0: (0, 0, 0), 3: (128, 128, 0), 15: (192, 128, 128), 255: (224, 224, 192)}
    return np.array([[colours[value] for value in row] for row in values], np.uint8)


ASKED = {  # what is asked about, and what is marked
    "label map": (lambda hole: Image.fromarray(labels(hole).astype(np.uint8)), "png", "values 0, 3, 15 and 255", True),
    "label map in colour": (lambda hole: Image.fromarray(coloured(labels(hole))), "png", "colours #000000", True),
    "one class and what has none": (
        lambda hole: Image.fromarray(np.where(labels(hole) == 255, 255, hole * 1).astype(np.uint8)),
        "png",
        "values 0, 1 and 255, as a label map does; .*all that is not 0 is",
        True,
    ),
    "red on white": (
        lambda hole: Image.fromarray(np.where(hole[..., None], (255, 0, 0), 255).astype(np.uint8)),
        "png",
        "all that is not white is",
        False,
    ),
    "blue on white in JPEG": (
        lambda hole: Image.fromarray(np.where(hole[..., None], (0, 0, 255), 255).astype(np.uint8)),
        "jpg",
        "in colour; .*all that is not white is|colours",
        False,
    ),
    "black on nothing": (lambda hole: layered(~hole, "RGBA", "black"), "png", "black on a transparent ground", False),
}


@pytest.mark.parametrize("kind", ASKED)
def test_what_cannot_be_told_is_asked(kind, hole, photo, tmp_path):
    draw, ending, words, void = ASKED[kind]
    draw(hole).save(
        path := tmp_path / f"mask.{ending}", **({"quality": 98, "subsampling": 0} if ending == "jpg" else {})
    )
    with pytest.raises(UserError, match=f"(?s)mask\\.{ending}.*({words}).*") as refused:
        seen(path, photo)
    assert "--mask-is missing or --mask-is seen" in str(refused.value)
    marked = labels(hole) > 0 if void and kind != "one class and what has none" else hole | (labels(hole) == 255) * void
    marked = marked.reshape(16, 4, 24, 4).mean(axis=(1, 3))[:, 4:20]
    sure = marked != 0.5  # of a pixel that is half marked, half is seen
    assert (seen(path, photo, "missing") == (marked <= 0.5))[sure].all()
    assert (seen(path, photo, "seen") == (marked >= 0.5))[sure].all()


def gradient(hole):
    return Image.fromarray(np.tile(np.linspace(0, 255, WIDTH), (HEIGHT, 1)).astype(np.uint8))


REFUSED = {
    "trimap": (lambda hole: Image.fromarray((1 + labels(hole) % 7).astype(np.uint8)), "png", "no background of 0"),
    "two classes without background": (lambda hole: two(hole, 1, 2), "png", "values 1 and 2.*no background of 0"),
    "0 and 1 in JPEG": (lambda hole: two(hole, 0, 1), "jpg", "does not tell from noise; save it as PNG"),
    "black, white and transparent": (
        lambda hole: Image.merge("LA", (two(hole, 0, 255), two(hole.T.reshape(hole.shape), 0, 255))),
        "png",
        "black, white and transparent parts",
    ),
    "one colour": (lambda hole: Image.new("RGB", (WIDTH, HEIGHT), "red"), "png", "#ff0000, all over"),
    "two colours": (
        lambda hole: palette(hole * 1, (0, 200, 0), (200, 0, 0)),
        "png",
        "colours #00c800 and #c80000.*make it black and white",
    ),
    "another photograph": (
        lambda hole: Image.fromarray(np.random.default_rng(2).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)),
        "png",
        "is a picture in colour.*nor is it a copy of photo.png",
    ),
    "no number": (lambda hole: two(hole, np.nan, 1.0, np.float32), "tiff", "values that are no number"),
}


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.parametrize("means", [None, "missing"])
def test_what_no_word_can_make_a_mask_is_refused(kind, means, hole, photo, tmp_path):
    draw, ending, words = REFUSED[kind]
    draw(hole).save(path := tmp_path / f"mask.{ending}")
    with pytest.raises(UserError, match=f"mask.{ending}.*{words}"):
        seen(path, photo, means)


def test_shades_are_taken_where_it_is_said_what_they_are(hole, photo, tmp_path):
    gradient(hole).save(path := tmp_path / "mask.png")
    with pytest.raises(UserError, match=r"neither black nor white.*--mask-is"):
        seen(path, photo)
    right = np.arange(SIZE) >= SIZE / 2
    assert (seen(path, photo, "seen") == right).all() and (seen(path, photo, "missing") == ~right).all()


def test_a_mask_inside_out_is_noticed(hole, photo, tmp_path):
    """A white hole is asked about, and right and quiet with the word for it; a large hole is completed with a note."""
    two(hole, 255, 0).save(path := tmp_path / "mask.png")
    with pytest.raises(UserError, match=r"black all along its rim, as where white marks a hole: say by --mask-is"):
        mask_fragments(read_mask(path), photo, SIZE)
    for means in ("missing", "seen"):
        assert not mask_fragments(read_mask(path, means), photo, SIZE).notes
    assert (seen(path, photo, "missing") == expected(hole)).all()
    hole[:, 20:] = True  # to the rim
    two(hole, 0, 255).save(path)
    (note,) = mask_fragments(read_mask(path), photo, SIZE).notes
    assert note.startswith("more than half is missing")
    hole[:] = np.arange(WIDTH) < 40
    two(hole, 0, 255).save(path)
    assert not mask_fragments(read_mask(path), photo, SIZE).notes


def test_a_hole_that_is_lost_on_the_way_is_noticed(photo, tmp_path):
    for rows, columns in [(slice(10, 20), slice(0, 12)), (slice(9, 10), slice(40, 41))]:  # outside, too small
        mask = np.full((HEIGHT, WIDTH), 255, np.uint8)
        mask[rows, columns] = 0
        Image.fromarray(mask).save(path := tmp_path / "mask.png")
        fragments = mask_fragments(read_mask(path), photo, SIZE)
        assert fragments.seen.all() and "what the mask says is missing lies outside" in fragments.notes[0]
        fragments = mask_fragments(read_mask(path, "missing"), photo, SIZE)
        assert not fragments.seen.any() and "what the mask says is seen lies outside" in fragments.notes[0]


def test_a_mask_of_one_value_shows_all_or_nothing(photo, tmp_path):
    white = np.random.default_rng(0).integers(251, 256, (HEIGHT, WIDTH)).astype(np.uint8)
    for image, whole in [
        (Image.new("L", (8, 8), 255), True),
        (Image.new("L", (8, 8), 1), True),
        (Image.fromarray(white), True),
        (Image.new("L", (8, 8), 0), False),
        (Image.new("1", (8, 8), 0), False),
    ]:
        image.save(path := tmp_path / "mask.png")
        assert seen(path, photo).all() == whole and seen(path, photo).any() == whole
        assert seen(path, photo, "missing").all() != whole and seen(path, photo, "missing").any() != whole


@pytest.mark.parametrize(("orientation", "stored"), [(3, Image.Transpose.ROTATE_180), (6, Image.Transpose.ROTATE_90)])
def test_a_mask_is_turned_as_its_exif_says(orientation, stored, hole, photo, tmp_path):
    exif = Image.Exif()
    exif[Base.Orientation] = orientation
    two(hole, 0, 255).transpose(stored).save(path := tmp_path / "mask.jpg", exif=exif, quality=100)
    assert (seen(path, photo) == expected(hole)).all()
    assert "turned upright as its EXIF says; white is seen" in mask_fragments(read_mask(path), photo, SIZE).said


def test_a_mask_drawn_over_the_picture_before_it_was_turned_is_answered(hole, pixels, tmp_path):
    exif = Image.Exif()
    exif[Base.Orientation] = 6
    Image.fromarray(pixels).save(tmp_path / "turned.jpg", exif=exif)
    two(hole, 0, 255).save(tmp_path / "mask.png")
    with pytest.raises(UserError, match=r"96×64 and .*64×96: it was turned upright as its EXIF says, so turn the mask"):
        seen(tmp_path / "mask.png", load_picture(tmp_path / "turned.jpg", SIZE))


def test_a_mask_is_cut_where_its_picture_is(hole, photo, tmp_path):
    """Of the picture's proportions at twice its size, under another square than the one in the middle."""
    picture = load_picture(photo.path, SIZE, parse_crop("24,8,48"))
    large = two(hole, 0, 255).resize((2 * WIDTH, 2 * HEIGHT), Image.Resampling.NEAREST)
    large.save(path := tmp_path / "mask.png")
    inside = ~hole[8:56, 24:72].reshape(16, 3, 16, 3).mean(axis=(1, 3)).round().astype(bool)
    sure = np.isin(hole[8:56, 24:72].reshape(16, 3, 16, 3).mean(axis=(1, 3)), (0, 1))
    assert (seen(path, picture) == inside)[sure].all() and sure.sum() > 200
    two(hole, 0, 255).crop((24, 8, 72, 56)).save(path)  # square: over the square that is taken
    assert (seen(path, picture) == inside)[sure].all()
