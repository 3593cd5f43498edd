"""The report: one file that holds all it shows, and says what was run and where each number is from."""

import base64
import io
import json
import re
from dataclasses import asdict

import numpy as np
import pytest
from madeup import RECORD, displays, measured, store
from PIL import Image

from mdebench.errors import UserError
from mdebench.evaluation import readouts
from mdebench.home import Home
from mdebench.report.embedded import Original, fit
from mdebench.report.page import write_report
from mdebench.results.displays import HEAD
from mdebench.results.galleries import Gallery, write_gallery
from mdebench.words import duration


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


RUN = {
    "name": "pack-rec-S0.1-tiny-seed0",
    "method": "rec",
    "label": "rec <0.1>",
    "scale": "tiny",
    "pack": "pack",
    "seed": 0,
    "updates": 1200,
    "seconds": 185.2,
    "images_per_second": 155.5,
    "parameters": 1020560,
    "losses": "compl+adv",
    "perceptual": "none",
    "status": "finished",
    "step": 1200,
    "notes": ["nothing to seek"],
}
NOW = displays()


def add_run(home, **changes):
    record = {**RECORD, **RUN, **changes}
    folder = home.runs / record["name"]
    (folder / "samples").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def picture(path, shade):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 9, 3), shade, np.uint8)).save(path)


def exhibit(folder, scenario, shade, k=1, box=(0.25, 0.25, 0.75, 0.75)):
    """A gallery of eight 8×8 images: original i is 10·i, everything outside the box is seen, the completion `shade`."""
    originals = np.arange(0, 80, 10, dtype=np.uint8)[:, None, None, None].repeat(8, 1).repeat(8, 2).repeat(3, 3)
    boxes = np.broadcast_to(np.array(box, np.float32), (8, k, 3, 4)).copy()
    seen = np.ones((8, k, 8, 8, 3), bool)
    seen[:, :, 2:6, 2:6] = False
    completed = np.full((8, k, 8, 8, 3), shade, np.uint8)
    return write_gallery(folder, "pack", Gallery(scenario, originals, boxes, seen, completed))


def page(home, **options):
    return write_report(home, home.folder / "index.html", NOW, **options).read_text(encoding="utf-8")


def test_the_page_holds_everything_within_itself(home):
    folder = add_run(home)
    picture(folder / "samples" / "000600.png", 10)
    picture(folder / "samples" / "001200.png", 200)
    picture(home.sheets / "pack-both_eyes.png", 90)
    exhibit(folder, "rec 0.1", 200)
    store(home, "rec 0.1", [measured(1.25)], scale="tiny")
    path = write_report(home, home.folder / "new" / "index.html", NOW, title="A & B")
    text = path.read_text(encoding="utf-8")
    assert "<title>A &amp; B</title>" in text
    images = re.findall(r"<img [^>]*>", text)
    assert len(images) == 4 and all('src="data:image/webp;base64,' in image for image in images)
    assert all(re.search(r'alt="[^"]{20,}"', image) for image in images)
    assert sum('width="9" height="6"' in image for image in images) == 2
    assert "pack: both eyes" in text
    assert not re.search(r"https?://|<script src|<link|url\(|@import|src=\"(?!data:)", text)
    assert "default-src 'none'" in text and 'name="viewport"' in text and "prefers-color-scheme: dark" in text
    for words in (
        "rec &lt;0.1&gt;",
        "1,200",
        "3 min 05 s",
        "155.5",
        "1,020,560",
        "nothing to seek",
        ">1.25</a> <small>[1.15, 1.35]</small>",
    ):
        assert words in text


def test_every_number_leads_to_its_row(home):
    for seed in (0, 1):
        store(
            home,
            "rec 0.1",
            [measured(1.25 + seed, note="alpha 1")],
            seed=seed,
            dirty=bool(seed),
            judge="resnet",
        )
    text = page(home)
    links = re.findall(r'<a href="#(r\d+)" data-rows="([^"]*)">1.75</a>', text)
    assert links and all(len(rows.split()) == 2 and rows.split()[0] == first for first, rows in links)
    anchors = re.findall(r'id="([^"]*)"', text)
    assert len(anchors) == len(set(anchors))
    assert set(re.findall(r'href="#([^"]*)"', text)) <= set(anchors)
    assert {name for _, rows in links for name in rows.split()} <= set(anchors)
    for words in (
        "results/rows/landmarks/rec 0.1-small-seed1.jsonl",
        "landmarks of rec 0.1-small-seed1",
        "landmarks version 1, updates 5000",
        "weights cdcdcdcdcdcdcdcd",
        "pack hash abababababababab",
        "0123456789012345 with uncommitted changes",
        "0123456789012345, committed",
        "2026-01-01T00:00:00.000+00:00, cpu",
        "<dd>resnet</dd>",
        "frozen-probe, landmark_distance: 1.25 px of 96, 95 % interval 1.15 to 1.35, 330 images; alpha 1</li>",
    ):
        assert words in text


def test_a_number_tells_the_settings_that_it_was_read_with(home):
    """A probe is solved: the updates and the batch of a head, which its unit has by default, say nothing of it."""
    own = asdict(readouts.Settings())
    for name in ("frozen-head", "frozen-probe", "frozen-probe-1%"):
        store(home, "rec 0.1", [measured(1.0, setting=name)], key=name, protocol_settings=own | {"setting": name})
    told = re.findall(r"<dt>measured by</dt><dd>landmarks version 1, setting ([^<]*)</dd>", page(home))
    head = "updates 5000, batch_size 16, learning_rate 0.0002, beta1 0.5, annealing_power 0.9"
    assert sorted(told) == [f"frozen-head, {head}", "frozen-probe", "frozen-probe-1%"]
    assert {"setting", *HEAD} == set(own)


def test_what_training_took_and_how_is_told_in_words_and_numbers(home):
    """Words are not sorted by as numbers are, and lead to a row as numbers do."""
    for seed in (0, 1):
        store(home, "rec 0.1", [measured(1.0)], seed=seed, gflop=118_500.0)
    store(home, "re 0.33", [measured(1.0)], losses="compl", key="x", run="x")
    text = page(home)
    assert '<th scope="col" data-better="down">Updates</th>' in text and '<th scope="col">Loss set</th>' in text
    assert re.search(r'data-rows="r\d+ r\d+">0, 1</a></td>', text)
    assert "3,000 updates of together 118 TFLOP, weights" in text


def test_the_gallery_shows_each_run_on_the_same_images(home):
    for name, label, shade in (("b", "rec 0.5", 200), ("a", "re 0.33", 100)):
        folder = add_run(home, name=name, label=label, method=label.split()[0])
        exhibit(folder, "rec 0.1", shade)
        exhibit(folder, "resampling", shade, k=10)
    text = page(home)
    boxes = text.split('<details class="exhibit"')[1:]
    assert [re.search(r"<summary>(.*?)</summary>", box)[1] for box in boxes] == ["pack: rec 0.1", "pack: resampling"]
    captions = re.findall(r"<figcaption>(.*?)</figcaption>", boxes[0])
    assert captions == ["Originals; below, what was seen of them, with the boxes drawn in", "re 0.33", "rec 0.5"]
    assert 'data-columns="8" data-rows="completion|with the seen pixels"' in boxes[0]
    assert 'data-rows="step 1|step 2|' in boxes[1]
    sheet = np.asarray(opened(re.findall(r'src="data:image/webp;base64,([^"]*)"', boxes[0])[1]))
    assert sheet.shape == (16, 64, 3)
    assert np.abs(sheet[:8, :, 0].astype(int) - 100).max() < 8
    corners, middles = sheet[8, ::8, 0].astype(int), sheet[12, 4::8, 0].astype(int)  # original outside, filled inside
    assert np.abs(corners - np.arange(0, 80, 10)).max() < 12 and np.abs(middles - 100).max() < 12


def opened(data):
    return Image.open(io.BytesIO(base64.b64decode(data))).convert("RGB")


@pytest.mark.parametrize(("source", "warned"), [("celeba", True), ("toyfaces", False), (None, True)])
def test_pictures_of_people_are_not_to_be_published(home, source, warned):
    exhibit(add_run(home), "rec 0.1", 200)
    if source:
        (home.packs / "pack").mkdir(parents=True)
        (home.packs / "pack" / "pack.json").write_text(json.dumps({"source": source}))
    assert ("Not for publication" in page(home)) == warned


def test_without_pictures_there_is_nothing_to_warn_of(home):
    add_run(home)
    assert "Not for publication" not in page(home)


def test_the_reading_stands_before_its_table(home):
    for label, value in (("pixels", 1.0), ("rec 0.1", 0.5)):
        store(home, label, [measured(value)])
    text = page(home)
    said = text.index("<b>Landmarks, probe</b>: rec 0.1 (0.50 px) beats in these runs raw pixels")
    assert text.index('id="table1-pack-small"') < said < text.index("<h4>Landmarks, frozen encoder</h4>")
    assert "better than the table's reference in these runs, compared by their intervals alone" in text


def test_a_tower_is_made_as_small_as_webp_needs_and_that_is_said():
    tower = Original(Image.new("RGB", (3, 40_000), "white"), "a tower", "white", drawn=True)
    pictures, note = fit([tower], 10**6, "grids")
    stored = Image.open(io.BytesIO(base64.b64decode(pictures[0].source.partition(",")[2])))
    assert stored.size == (1, 13_333) and (pictures[0].width, pictures[0].height) == (3, 40_000)
    assert "made smaller where longer than 16,383 pixels (1 of 1)" in note


def test_pictures_that_do_not_fit_are_reduced_then_left_out_aloud(rng):
    noise = [Image.fromarray(rng.integers(0, 255, (64, 64, 3), np.uint8)) for _ in range(4)]
    originals = [Original(image, f"picture {i}", "noise") for i, image in enumerate(noise)]
    whole, note = fit(originals, 10**6, "pictures")
    assert (len(whole), note) == (4, "")
    smaller, note = fit(originals, sum(len(p.source) for p in whole) // 2, "pictures")
    assert len(smaller) == 4 and note.startswith("To keep this page small, pictures are stored at quality ")
    least, note = fit(originals, 400, "pictures")
    assert len(least) < 4 and sum(len(p.source) for p in least) <= 400
    assert note.endswith(f"at 1/4 of their size; {4 - len(least)} of 4 left out.")


def test_an_empty_home_gives_a_page_that_says_so(home):
    text = write_report(home, home.folder / "index.html", NOW).read_text(encoding="utf-8")
    assert "no runs yet" in text and "Nothing has been measured yet." in text


def test_runs_that_are_not_finished_or_not_trained_say_so(home):
    add_run(home, status="interrupted", step=70, notes=[])
    add_run(home, name="pack-random-tiny-seed0", method="random", label="random", updates=0, notes=[])
    text = write_report(home, home.folder / "index.html", NOW).read_text(encoding="utf-8")
    assert "interrupted at update 70" in text
    assert text.index("Random weights") < text.index("rec &lt;0.1&gt;")


def test_a_damaged_picture_is_named(home):
    folder = add_run(home)
    (folder / "samples" / "1.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"1\.png is damaged"):
        write_report(home, home.folder / "index.html", NOW)


def test_the_page_is_written_without_what_is_damaged_and_says_so(home):
    folder = add_run(home)
    picture(folder / "samples" / "000600.png", 10)
    picture(home.figures / "rank-pack-tiny.png", 40)
    picture(home.figures / "occlusion-pack-tiny.png", 50)
    exhibit(folder, "rec 0.1", 200).write_bytes(b"PK\x03\x04")
    (home.figures / "rank-pack-tiny.png").write_bytes(b"no picture")
    (folder / "samples" / "000600.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"(?s)rank-pack-tiny\.png is damaged.*npz is damaged.*000600\.png is damaged"):
        write_report(home, home.folder / "index.html", NOW)
    text = (home.folder / "index.html").read_text("utf-8")
    assert "occlusion" in text and text.count("Left out, as the file is damaged: ") == 2
    assert "Their files are damaged: rank-pack-tiny.png." in text
    assert str(home.folder) not in text


def test_no_control_character_reaches_the_page(home):
    add_run(home, label="<rec>\x1b[31m\u202e\x00", method="rec")
    store(home, "pixels", [measured(0.9)])
    store(home, "\ud800", [measured(1.0, note="\x07<i>")], pack_note="a\x9b31m pack", run="run", key="k")
    text = page(home)
    assert not {sign for sign in text if (ord(sign) < 32 and sign not in "\n\t\r") or 0x7F <= ord(sign) < 0xA0}
    assert (
        "\u202e" not in text and "\\x1b[31m" in text and "\\ud800" in text and "<i>" not in text.partition("<main")[2]
    )


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (185.2, "3 min 05 s"), (7805, "2 h 10 min")]
)
def test_durations_in_words(seconds, words):
    assert duration(seconds) == words
