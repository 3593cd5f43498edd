"""A user's own pictures: what is done to them, what is seen of them, and the grid that is written."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from PIL.ExifTags import Base

from mdebench.errors import UserError
from mdebench.evaluation.encoders.complete import (
    CELL,
    COLOURS,
    SHARED,
    complete_images,
    draw_fragments,
    load_picture,
    parse_boxes,
    read_mask,
)
from mdebench.training import recipes

RUN = "toyfaces16-mean_colour-tiny-seed0"
ZOOM = CELL // 16
GAP, TITLE = 4, 20  # of pictures.grid


@pytest.fixture
def home_with_runs(home, pack, console):
    """A home with a finished run that completes, one that cannot, and one that was stopped."""
    for method in ("mean_colour", "pixels"):
        recipes.train_run(home, recipes.make_recipe(method, pack, "tiny", 0, {}), pack, console)
    stopped = home.runs / "stopped"
    stopped.mkdir()
    (stopped / "run.json").write_text((home.runs / RUN / "run.json").read_text().replace("finished", "training"))
    return home


@pytest.fixture
def photo(tmp_path):
    """A picture of 48×32: red left, then a green square with a blue lower half in the middle, red right."""
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[..., 0] = 255
    pixels[:16, 8:40] = (0, 255, 0)
    pixels[16:, 8:40] = (0, 0, 255)
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    return path


def said(console):
    """What was printed, however the console broke its lines."""
    return " ".join(console.file.getvalue().split())


def cells(path, row=0, labels=0):
    """The four cells of a row of a written grid, one entry for each zoomed pixel's centre: (16, 16, 3)."""
    sheet = np.asarray(Image.open(path))
    side = 16 * ZOOM
    top, left = TITLE + GAP + row * (side + GAP), labels + GAP
    found = [sheet[top : top + side, left + j * (side + GAP) :][:, :side] for j in range(4)]
    return [cell[ZOOM // 2 :: ZOOM, ZOOM // 2 :: ZOOM] for cell in found]


def test_the_square_in_the_middle_is_taken_and_said(photo):
    picture = load_picture(photo, 16)
    assert picture.pixels.shape == (16, 16, 3) and picture.shape == (48, 32)
    within = picture.pixels[:, 2:-2]  # at its rim the filter leans on what was cut off
    assert (within[:6] == (0, 255, 0)).all() and (within[10:] == (0, 0, 255)).all()
    assert picture.done == ["cut from 48×32 to the 32×32 in the middle", "shrunk from 32 to 16 pixels"]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_a_picture_as_pillow_does(tmp_path, rng, orientation):
    """Against the other order: first the whole picture upright, then cut and scaled."""
    smooth = np.add.outer(np.arange(40), 3 * np.arange(56))[..., None] + np.array([0, 20, 60])
    image, exif = Image.fromarray(smooth.astype(np.uint8)), Image.Exif()
    exif[Base.Orientation] = orientation
    image.save(tmp_path / "turned.png", exif=exif)
    picture = load_picture(tmp_path / "turned.png", 16)
    with Image.open(tmp_path / "turned.png") as turned:
        upright = ImageOps.exif_transpose(turned)
    upright.save(tmp_path / "upright.png", exif=Image.Exif())
    np.testing.assert_array_equal(picture.pixels, load_picture(tmp_path / "upright.png", 16).pixels)
    assert picture.shape == upright.size
    assert ("turned upright as its EXIF says" in picture.done) == (orientation != 1)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "CMYK"])
def test_other_colours_are_converted_aloud(tmp_path, mode):
    Image.new("RGB", (16, 16), (255, 255, 255)).convert(mode).save(path := tmp_path / "image.tiff")
    picture = load_picture(path, 16)
    assert (picture.pixels == 255).all() and picture.done != ["taken as it is"]


def test_a_grid_holds_input_completion_composite_and_original(home_with_runs, photo, console, tmp_path):
    paths = complete_images(home_with_runs, [photo], RUN, console, boxes="0:0:0.5:0.5", out=tmp_path / "new" / "folder")
    assert paths == [tmp_path / "new" / "folder" / f"photo-{RUN}.png"]
    shown, completion, composite, original = cells(paths[0])
    np.testing.assert_array_equal(original, load_picture(photo, 16).pixels)
    np.testing.assert_array_equal(shown[1:7, 1:7], original[1:7, 1:7])
    assert not shown[9:].any() and not shown[:, 9:].any()
    mean = original[:8, :8].reshape(-1, 3).mean(axis=0)  # what mean_colour fills a hole with
    np.testing.assert_allclose(completion[10:].reshape(-1, 3), np.broadcast_to(mean, (96, 3)), atol=1)
    np.testing.assert_array_equal(composite[:8, :8], original[:8, :8])
    text = said(console)
    assert "cut from 48×32" in text and f"photo-{RUN}.png" in text and "replaces" not in text
    complete_images(home_with_runs, [photo], RUN, console, boxes="0:0:0.5:0.5", out=tmp_path / "new" / "folder")
    assert "replaces what was there" in said(console)


@pytest.mark.parametrize(
    ("boxes", "colours"), [("0.1:0.2:0.8:0.9", [SHARED]), ("0:0:0.3:0.3,0.4:0:0.7:0.3,0.2:0.5:0.9:0.8", COLOURS)]
)
def test_boxes_are_drawn_in_their_colours(home_with_runs, photo, console, tmp_path, boxes, colours):
    (path,) = complete_images(home_with_runs, [photo], RUN, console, boxes=boxes, out=tmp_path)
    side = 16 * ZOOM
    shown = np.asarray(Image.open(path))[TITLE + GAP :, GAP:][:side, :side]
    for colour, part in zip(colours, boxes.split(",")):
        rows, columns = np.nonzero((shown == colour).all(axis=2))
        edges = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert edges == [round(float(edge) * side) for edge in part.split(":")]


def test_boxes_are_read_channel_by_channel():
    three = parse_boxes("0:0:0.5:0.5,0.1:0.2:0.3:0.4,0.5:0.5:1:1")
    assert three.tolist() == [[0, 0, 0.5, 0.5], [0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 1, 1]]
    assert parse_boxes("0:0.25:0.5:1").tolist() == [[0, 0.25, 0.5, 1]] * 3


@pytest.mark.parametrize(
    "text", ["", "0.1", "0:0:1", "0:0:1:1,0:0:1:1", "0.5:0:0.5:1", "0:0:2:1", "a:b:c:d", "0:0:nan:1"]
)
def test_boxes_that_are_none(text):
    with pytest.raises(UserError, match="--boxes"):
        parse_boxes(text)


def test_white_is_seen_black_is_missing_and_grey_is_told(photo, tmp_path, console):
    grey = np.zeros((32, 48, 4), np.uint8)  # all transparent, which does not count
    grey[:16, :, :3] = 255
    grey[16:24, 24:, :3] = 140
    Image.fromarray(grey).save(path := tmp_path / "mask.png")
    seen = read_mask(path, 16, [load_picture(photo, 16)], console).seen
    assert seen.shape == (1, 3, 16, 16) and (seen[0, 0] == seen[0, 2]).all()
    assert seen[..., :7, :].all() and seen[..., 9:11, 9:].all()
    assert not seen[..., 9:11, :7].any() and not seen[..., 13:, :].any()
    assert "lighter half counts as seen" in said(console)


def test_a_mask_of_other_proportions_is_refused_but_a_square_one_is_not(photo, tmp_path, console):
    picture = load_picture(photo, 16)
    Image.new("L", (32, 48), 255).save(tmp_path / "tall.png")
    with pytest.raises(UserError, match="proportions"):
        read_mask(tmp_path / "tall.png", 16, [picture], console)
    for shape in [(40, 40), (480, 320), (481, 320)]:
        Image.new("L", shape, 255).save(tmp_path / "fits.png")
        assert read_mask(tmp_path / "fits.png", 16, [picture], console).seen.all()


def test_random_scenarios_give_different_samples_and_fixed_ones_a_single_one(home_with_runs, photo, console, tmp_path):
    (path,) = complete_images(home_with_runs, [photo], RUN, console, preset="rec 0.3", count=3, out=tmp_path)
    assert len(np.asarray(Image.open(path))) == TITLE + GAP + 3 * (16 * ZOOM + GAP)
    first, again, other = (draw_fragments("rec 0.3", 16, 2, seed).boxes for seed in (0, 0, 1))
    assert torch.equal(first, again) and not torch.equal(first, other) and not torch.equal(first[0], first[1])
    assert "one sample" not in said(console)
    for name in ("both_eyes", "inpainting", "ri 0.3"):
        assert len(draw_fragments(name, 16, 3, 0).seen) == 1
    complete_images(home_with_runs, [photo], RUN, console, preset="both_eyes", count=3, out=tmp_path)
    assert "one sample instead of 3" in said(console)


def test_a_mask_that_hides_nothing_or_everything_is_told(home_with_runs, photo, console, tmp_path):
    for colour, what in ((255, "nothing is missing"), (0, "nothing is seen")):
        Image.new("L", (8, 8), colour).save(tmp_path / "mask.png")
        complete_images(home_with_runs, [photo], RUN, console, mask=tmp_path / "mask.png", out=tmp_path)
        assert what in said(console)


@pytest.mark.parametrize(
    ("run", "options", "words"),
    [
        (RUN, {}, "exactly one"),
        (RUN, {"preset": "mouth", "boxes": "0:0:1:1"}, "exactly one"),
        (RUN, {"preset": "nose"}, "no test scenario 'nose'.*both_eyes"),
        (RUN, {"preset": "mouth", "count": 0}, "-n 0"),
        ("toyfaces16-mean_color-tiny-seed0", {"preset": "mouth"}, "Did you mean"),
        ("toyfaces16-pixels-tiny-seed0", {"preset": "mouth"}, "cannot complete"),
        ("stopped", {"preset": "mouth"}, "not finished"),
    ],
)
def test_mistakes_are_one_sentence_and_write_nothing(home_with_runs, photo, console, tmp_path, run, options, words):
    with pytest.raises(UserError, match=words):
        complete_images(home_with_runs, [photo], run, console, **options, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_files_that_are_no_pictures_and_pictures_of_one_name(home_with_runs, photo, console, tmp_path):
    text, cut = tmp_path / "text.png", tmp_path / "cut.png"
    text.write_text("no picture")
    cut.write_bytes(photo.read_bytes()[:60])
    for path, words in [
        (tmp_path / "none.png", "No such file"),
        (text, "not a JPEG"),
        (cut, "cut.png"),
        (tmp_path, "cannot be read"),
    ]:
        with pytest.raises(UserError, match=words):
            complete_images(home_with_runs, [photo, path], RUN, console, preset="mouth", out=tmp_path / "out")
    (tmp_path / "two").mkdir()
    (tmp_path / "two" / "photo.png").write_bytes(photo.read_bytes())
    with pytest.raises(UserError, match="different folders"):
        complete_images(
            home_with_runs, [photo, tmp_path / "two" / "photo.png"], RUN, console, preset="mouth", out=tmp_path
        )
    assert not (tmp_path / "out").exists()
