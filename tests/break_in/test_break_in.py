"""The break-in in its short form, `make break` is the long one: drawn by one seed, the same every time.

It runs in a process of its own, which forks for each command, as this one may have threads.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SEED = 16
TURN = "mutations=41,kills=10,full=2,scarce=2,races=1,hostile=6"  # a minute, and a command of every kind


@pytest.fixture(scope="module")
def broken_in(tmp_path_factory):
    kept = tmp_path_factory.mktemp("break-in") / "kept.json"
    words = ["--rounds", "1", "--a-round", TURN, "--seed", str(SEED), "--page", str(kept.with_suffix(".md"))]
    done = subprocess.run(
        [sys.executable, str(HERE / "run.py"), *words, "--json", str(kept)], capture_output=True, text=True, check=False
    )
    assert kept.is_file(), done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads(kept.read_text()), kept.with_suffix(".md").read_text()


@pytest.mark.parametrize("part", ["kills", "mutations", "full", "scarce", "races", "hostile"])
def test_nothing_is_lost_nothing_silent_nobody_in(broken_in, part):
    kept, _ = broken_in
    failures = [failure for failure in kept["failures"] if failure["part"] == part]
    assert not failures, kept["findings"]
    if part == "full" and not kept["tried"]["full"]:
        pytest.skip("machine: no small file system may be mounted here")
    assert kept["tried"][part] > 0


def test_the_page_tells_all_counts(broken_in):
    kept, page = broken_in
    assert f"seed {SEED}" in page and "Revision" in page and "cores" in page
    assert f"{kept['tried']['mutations']:,} mutations" in page
