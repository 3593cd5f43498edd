"""A user's own pictures: what is done to them, what is seen of them, and the grid that is written."""

import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image, ImageOps
from PIL.ExifTags import Base

from mdebench.cli.main import cli
from mdebench.errors import UserError
from mdebench.evaluation.encoders.complete import (
    CELL,
    COLOURS,
    SHARED,
    complete_images,
    draw_fragments,
    mask_fragments,
    parse_boxes,
)
from mdebench.evaluation.encoders.mask_files import read_mask
from mdebench.evaluation.encoders.own_pictures import load_picture, parse_crop
from mdebench.files import write_json
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
    write_json(stopped / "run.json", home.run(RUN).info | {"status": "training"})
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


def test_white_is_seen_black_is_missing_and_grey_is_told(photo, tmp_path):
    grey = np.zeros((32, 48, 4), np.uint8)  # all transparent, which does not count
    grey[:16, :, :3] = 255
    grey[16:24, 24:, :3] = 140
    Image.fromarray(grey).save(path := tmp_path / "mask.png")
    fragments = mask_fragments(read_mask(path), load_picture(photo, 16), 16)
    seen = fragments.seen
    assert seen.shape == (1, 3, 16, 16) and (seen[0, 0] == seen[0, 2]).all()
    assert seen[..., :7, :].all() and seen[..., 9:11, 9:].all()
    assert not seen[..., 9:11, :7].any() and not seen[..., 13:, :].any()
    assert "192 of its 1,536 pixels lie between: the lighter half counts as seen" in fragments.said


def test_a_mask_of_other_proportions_is_refused_but_a_square_one_is_not(photo, tmp_path):
    picture = load_picture(photo, 16)
    Image.new("L", (32, 48), 255).save(tmp_path / "tall.png")
    with pytest.raises(UserError, match="proportions"):
        mask_fragments(read_mask(tmp_path / "tall.png"), picture, 16)
    for shape in [(40, 40), (480, 320), (481, 320)]:
        Image.new("L", shape, 255).save(tmp_path / "fits.png")
        assert mask_fragments(read_mask(tmp_path / "fits.png"), picture, 16).seen.all()


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


def said_of(console, path):
    """What was told of the last picture and its share, up to the paths that were written."""
    return said(console).rpartition(f"{path}: ")[2]


def test_the_completed_picture_lies_beside_the_grid_with_the_seen_pixels_as_they_were(
    home_with_runs, photo, console, tmp_path
):
    (path,) = complete_images(home_with_runs, [photo], RUN, console, boxes="0:0:0.5:0.5", out=tmp_path / "out")
    assert {file.name for file in (tmp_path / "out").iterdir()} == {f"photo-{RUN}.png", f"photo-{RUN}-completed.png"}
    completed = np.asarray(Image.open(path.with_name(f"photo-{RUN}-completed.png")))
    original = load_picture(photo, 16).pixels
    assert completed.shape == (16, 16, 3)
    np.testing.assert_array_equal(completed[:8, :8], original[:8, :8])
    np.testing.assert_array_equal(completed, cells(path)[2])
    assert "shrunk from 32 to 16 pixels; 75 % of it is missing" in said_of(console, photo)
    printed = said(console).split()
    assert [printed.count(str(file)) for file in (path, path.with_name(f"photo-{RUN}-completed.png"))] == [1, 1]


def test_every_sample_has_its_share_and_its_completed_picture(home_with_runs, photo, console, tmp_path):
    complete_images(home_with_runs, [photo], RUN, console, preset="rec 0.3", count=3, out=tmp_path / "out")
    names = {f"photo-{RUN}.png", *(f"photo-{RUN}-completed-{i}.png" for i in (1, 2, 3))}
    assert {file.name for file in (tmp_path / "out").iterdir()} == names
    seen = draw_fragments("rec 0.3", 16, 3, 0).seen
    one, two, three = (f"{100 * (sample == 0).sum().item() / 768:.3g} %" for sample in seen)
    assert f"missing of its three channels in samples 1 to 3: {one}, {two} and {three}" in said_of(console, photo)


@pytest.fixture
def aligned(tmp_path):
    """A picture of CelebA's aligned shape: black, with white eyes where CelebA's are on average."""
    pixels = np.zeros((218, 178, 3), np.uint8)
    for x, y in ((69, 111), (108, 111)):
        pixels[y - 4 : y + 5, x - 6 : x + 7] = 255
    Image.fromarray(pixels).save(path := tmp_path / "aligned.png")
    return path


def trained_on_faces(home, **changes):
    """The run as if its pack had been made from CelebA."""
    run = home.run(RUN)
    info = run.info | {"crop": "square of side 0.75·W centred at (W/2, 121/218·H)"} | changes
    write_json(run.info_path, {key: value for key, value in info.items() if value is not None})


def test_both_eyes_covers_the_eyes_of_aligned_pictures_where_the_run_learned_from_them(
    home_with_runs, aligned, console, tmp_path
):
    def visible():
        (path,) = complete_images(home_with_runs, [aligned], RUN, console, preset="both_eyes", out=tmp_path)
        shown, _, _, original = cells(path)
        assert original.max() > 60
        return shown.max() > 30

    assert visible()  # a run of another pack: the square in the middle, in which the forehead is covered
    trained_on_faces(home_with_runs)
    assert not visible()
    assert "cut from 178×218 to the 133.5×133.5 on the face, as of CelebA's aligned pictures" in said(console)


def test_a_picture_of_another_shape_is_cut_in_the_middle_aloud(home_with_runs, photo, console, tmp_path):
    trained_on_faces(home_with_runs)
    complete_images(home_with_runs, [photo], RUN, console, preset="mouth", out=tmp_path)
    assert "32×32 in the middle, for want of the one on the face: it is 48×32, which is not shaped as" in said(console)


def test_a_run_that_kept_no_word_of_its_crop_asks_its_pack(home_with_runs, aligned, console, tmp_path):
    home = home_with_runs
    packs = home.packs.resolve()
    home.packs.unlink()
    trained_on_faces(home, crop=None)
    complete_images(home, [aligned], RUN, console, preset="mouth", out=tmp_path)
    assert "does not say how the run's pictures were cut, and its pack is not here" in said(console)
    assert "178×178 in the middle" in said(console)
    info = json.loads((packs / "toyfaces16" / "pack.json").read_text())
    (home.packs / "toyfaces16").mkdir(parents=True)
    manifest = home.packs / "toyfaces16" / "pack.json"
    write_json(manifest, info | {"crop": "square of side 0.75·W centred at (W/2, 121/218·H)"})
    complete_images(home, [aligned], RUN, console, preset="mouth", out=tmp_path)
    assert "133.5×133.5 on the face" in said(console)
    console.file.truncate(0)
    write_json(manifest, info | {"hash": "another"})  # a pack that was replaced under its name
    complete_images(home, [aligned], RUN, console, preset="mouth", out=tmp_path)
    assert "178×178 in the middle" in said(console) and "not here" in said(console)


def test_another_square_is_taken_where_it_is_asked_for(home_with_runs, aligned, console, tmp_path):
    trained_on_faces(home_with_runs)
    whole = Image.open(aligned)
    for crop, box in [
        ("centre", (0, 20, 178, 198)),
        ("20,8.5,100", (20, 8.5, 120, 108.5)),
        ("0,0,178", (0, 0, 178, 178)),
    ]:
        (path,) = complete_images(home_with_runs, [aligned], RUN, console, preset="mouth", crop=crop, out=tmp_path)
        expected = whole.resize((16, 16), Image.Resampling.BICUBIC, box=box)
        np.testing.assert_array_equal(cells(path)[3], np.asarray(expected))
    assert "cut from 178×218 to the 100×100 at 20,8.5" in said(console)
    assert load_picture(aligned, 16, parse_crop("face")).box == pytest.approx((22.25, 54.25, 155.75, 187.75))


@pytest.mark.parametrize(
    ("crop", "words"),
    [
        ("0,0", "is not centre, face, or x,y,side"),
        ("center", "is not centre"),
        ("0,0,0", "is not centre"),
        ("-1,0,10", "is not centre"),
        ("nan,0,10", "is not centre"),
        ("20,8,32", "photo.png: --crop 20,8,32 leaves the picture, which is 48×32"),
        ("face", "photo.png: --crop face is for pictures shaped as CelebA's .* and this one is 48×32"),
    ],
)
def test_a_square_that_is_none_is_refused(home_with_runs, photo, console, tmp_path, crop, words):
    with pytest.raises(UserError, match=words):
        complete_images(home_with_runs, [photo], RUN, console, preset="mouth", crop=crop, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def album(tmp_path, photo):
    """A folder of three pictures, two of one stem, with brackets in its name and other things in it."""
    folder = tmp_path / "album [b]x[/b]"
    (folder / "older").mkdir(parents=True)
    for name in ("a.png", "b [1].PNG", "a.bmp"):
        Image.open(photo).save(folder / name)
    for name in ("notes.txt", ".hidden.png", f"a-{RUN}.png", f"a-{RUN}-completed-2.png"):
        (folder / name).write_text("")
    return folder


def test_a_folder_is_completed_and_what_else_lies_in_it_is_told(home_with_runs, album, console, tmp_path):
    Image.new("L", (48, 32), 255).save(album / "mask.png")
    paths = complete_images(home_with_runs, [album], RUN, console, mask=album / "mask.png", out=tmp_path / "[out]")
    assert [path.name for path in paths] == [f"a.bmp-{RUN}.png", f"a.png-{RUN}.png", f"b [1]-{RUN}.png"]
    assert len(list((tmp_path / "[out]").iterdir())) == 6
    text = console.file.getvalue()
    for part in (
        "1 not named as a picture (notes.txt)",
        "1 hidden (.hidden.png)",
        "1 in folders of their own, which are not looked into unless they are named (older)",
        f"2 written by this command (a-{RUN}-completed-2.png, a-{RUN}.png)",
        "1 the mask (mask.png)",
        str(album / "b [1].PNG"),
        str(paths[2]),
    ):
        assert part in text


def test_one_bad_picture_of_a_folder_does_not_stop_the_others(home_with_runs, album, console, tmp_path):
    (album / "c.jpg").write_text("no picture")
    Image.new("RGB", (32, 48)).save(album / "tall.png")
    Image.new("L", (48, 32), 255).save(tmp_path / "mask.png")
    with pytest.raises(UserError, match="2 of 5 pictures could not be completed"):
        complete_images(home_with_runs, [album], RUN, console, mask=tmp_path / "mask.png", out=tmp_path / "out")
    assert len(list((tmp_path / "out").iterdir())) == 6
    text = console.file.getvalue()
    assert f"left out {album / 'c.jpg'} cannot be completed: not a JPEG" in text
    assert "tall.png 32×48; give the mask the picture's proportions" in text


def test_folders_without_pictures_and_pictures_of_one_name_in_two(home_with_runs, album, photo, console, tmp_path):
    with pytest.raises(UserError, match=r"no picture to complete in .*older"):
        complete_images(home_with_runs, [album / "older"], RUN, console, preset="mouth", out=tmp_path / "out")
    (album / "older" / "broken.png").write_text("")
    with pytest.raises(UserError, match="none of the 1 pictures"):
        complete_images(home_with_runs, [album / "older"], RUN, console, preset="mouth", out=tmp_path / "out")
    Image.open(photo).save(album / "older" / "A.png")
    with pytest.raises(UserError, match=r"a\.png and .*A\.png have one name.*different folders"):
        complete_images(home_with_runs, [album, album / "older"], RUN, console, preset="mouth", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_command_prints_its_paths_once(home_with_runs, photo, tmp_path):
    typed = ["complete", str(photo), "--run", RUN, "--home", str(home_with_runs), "--out", str(tmp_path / "[red]out")]
    Image.new("L", (48, 32), 1).save(tmp_path / "mask.png")
    result = CliRunner().invoke(cli, [*typed, "--mask", str(tmp_path / "mask.png"), "--mask-is", "missing"])
    assert result.exit_code == 0 and result.output.count(str(tmp_path / "[red]out" / f"photo-{RUN}.png")) == 1
    assert "100 % of it is missing" in result.output
    with pytest.raises(UserError, match="--mask-is says what the marked part of a --mask is"):
        CliRunner().invoke(cli, [*typed, "--preset", "mouth", "--mask-is", "seen"], catch_exceptions=False)
