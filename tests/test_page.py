"""The page: one file that holds all it shows, and says what was run."""

import json
import re

import numpy as np
import pytest
from madeup import measured, store
from PIL import Image

from mdebench.errors import UserError
from mdebench.page import duration, write_page

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
NOW = {"landmarks": 1}


def add_run(home, **changes):
    record = {**RUN, **changes}
    folder = home / "runs" / record["name"]
    (folder / "samples").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def picture(path, shade):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((6, 9, 3), shade, np.uint8)).save(path)


def test_the_page_holds_everything_within_itself(tmp_path):
    folder = add_run(tmp_path)
    picture(folder / "samples" / "000600.png", 10)
    picture(folder / "samples" / "001200.png", 200)
    picture(tmp_path / "results" / "sheets" / "pack-both_eyes.png", 90)
    store(tmp_path, "rec 0.1", [measured(1.25)], scale="tiny")
    page = write_page(tmp_path, tmp_path / "new" / "index.html", NOW, title="A & B")
    text = page.read_text(encoding="utf-8")
    assert "<title>A &amp; B</title>" in text
    images = re.findall(r"<img [^>]*>", text)
    assert len(images) == 2 and all('src="data:image/webp;base64,' in image for image in images)
    assert all(re.search(r'alt="[^"]{20,}"', image) and 'width="9" height="6"' in image for image in images)
    assert "pack: both eyes" in text
    assert not re.search(r"https?://|<script|<link|url\(|src=\"(?!data:)", text)
    assert "prefers-color-scheme: dark" in text and 'name="viewport"' in text
    for words in (
        "rec &lt;0.1&gt;",
        "1,200",
        "3 min 05 s",
        "155.5",
        "1,020,560",
        "nothing to seek",
        "1.25 <small>[1.15, 1.35]</small>",
    ):
        assert words in text


def test_an_empty_home_gives_a_page_that_says_so(tmp_path):
    text = write_page(tmp_path, tmp_path / "index.html", NOW).read_text(encoding="utf-8")
    assert "no runs yet" in text and "Nothing has been measured yet." in text


def test_runs_that_are_not_finished_or_not_trained_say_so(tmp_path):
    add_run(tmp_path, status="interrupted", step=70, notes=[])
    add_run(tmp_path, name="pack-random-tiny-seed0", method="random", label="random", updates=0, notes=[])
    text = write_page(tmp_path, tmp_path / "index.html", NOW).read_text(encoding="utf-8")
    assert "interrupted at update 70" in text
    assert text.index("Random weights") < text.index("rec &lt;0.1&gt;")


def test_a_damaged_picture_is_named(tmp_path):
    folder = add_run(tmp_path)
    (folder / "samples" / "1.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"1\.png is damaged"):
        write_page(tmp_path, tmp_path / "index.html", NOW)


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (59.6, "1 min 00 s"), (185.2, "3 min 05 s"), (7805, "2 h 10 min")]
)
def test_durations_in_words(seconds, words):
    assert duration(seconds) == words
