"""`mdebench audit`: the committed results hold; whatever is changed by hand in a copy is found, each by itself."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from madeup import FACTS, displays, measured
from PIL import Image
from rich.console import Console

from mdebench.cli.main import cli
from mdebench.data.pack import open_pack
from mdebench.data.writer import PackWriter
from mdebench.errors import UserError
from mdebench.figures.write import write_figures
from mdebench.files import GROUP, unsealed
from mdebench.home import Home
from mdebench.results.intervals import interval
from mdebench.results.rows import Row, append_rows, keep_values, read_rows, stored_rows, unit_key, values_path
from mdebench.suite.inventory.auditing import audit, told
from mdebench.suite.inventory.mending import mend
from mdebench.tables.says import BEGIN, END, renewed
from mdebench.tables.write import build_tables, write_tables

ROOT = Path(__file__).resolve().parents[2]


def kept(home, method, mean, rng, people=None, **facts):
    """A unit with values of 40 images, under the key of its facts."""
    values = rng.normal(mean, 0.3, 40).astype(np.float32)
    value, low, high = interval(values, people, "px of 96")
    facts = {**FACTS, "method": method, "label": method, "run": f"pack-{method}", "settings": {}, **facts}
    names = ("protocol", "protocol_version", "protocol_settings", "method", "settings", "seed", "pack_hash")
    key = unit_key(**{name: facts[name] for name in (*names, "weights_hash")})
    measurement = measured(value, low=low, high=high, n=40, values=values)
    keep_values(home, key, [measurement], [people])
    append_rows(home, [Row(key=key, **facts, **measurement.plain())])


@pytest.fixture
def home(tmp_path, rng):
    """Rows, tables, figures and a README with its block, all made from one another."""
    home = Home(tmp_path)
    version = displays()["landmarks"].version
    for method, mean in (("pixels", 1.0), ("random", 1.5), ("rec", 0.8)):
        kept(home, method, mean, rng, protocol_version=version)
    write_tables(home, home.tables, displays())
    write_figures(home, displays(), Console(quiet=True))
    (tmp_path / "README.md").write_text(renewed(f"# Mine\n\n{BEGIN}{END}\n", build_tables(home, displays())))
    return home


def packed(home, split, **labels):
    """A pack of noise with these labels."""
    count, rng = len(split), np.random.default_rng(0)
    with PackWriter(home.packs / "pack", 8) as writer:
        writer.info |= {"source": "test", "crop": "none", "resize": "none"}
        images = rng.integers(0, 256, (count, 3, 8, 8), np.uint8)
        writer.add(images, [f"{i}.png" for i in range(count)], np.asarray(split), **labels)
        return open_pack(writer.finish())


def change(path, pattern, by):
    text = path.read_text()
    changed = re.sub(pattern, by, text, count=1)
    assert changed != text
    path.write_text(changed)


def test_what_was_made_of_its_rows_holds(home):
    found = audit(home)
    assert found.finds == [] and "all of it holds" in told(found)
    assert CliRunner().invoke(cli, ["audit", str(home)]).exit_code == 0


ROWS, TABLE = "results/rows/landmarks/pack-rec.jsonl", "results/tables/table1-pack-small.md"
SEAL = r'(.*), "checksum": "\w+"'
CHANGES = {
    "a digit of a row": (ROWS, r'"value": 0\.(\d)', r'"value": 1.\1', "not what its checksum says"),
    "a digit of an older row": (ROWS, r'"value": 0\.(\d)' + SEAL, r'"value": 1.\1\2', "stored values"),
    "a hash of an older row": (ROWS, '"weights_hash": "cd' + SEAL, r'"weights_hash": "ef\1', "the key"),
    "a mark of a table": (TABLE, r" \(†\)", " ≈", "table1-pack-small.md, line"),
    "a sentence of a table": (TABLE, "beats", "crushes", "table1-pack-small.md, line"),
    "a sentence of the README": ("README.md", "beaten", "hardly beaten", "README.md, line"),
    "a number of a figure": ("results/figures/rank-pack-small.csv", r",0\.8", ",0.7", "rank-pack-small.csv, line"),
    "a sentence of the page": ("results/README.md", "beaten", "ahead", "results/README.md, line"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_is_changed_by_hand_is_found(home, what):
    name, pattern, by, said = CHANGES[what]
    change(home.folder / name, pattern, by)
    assert any(said in find for find in audit(home).finds)


def test_four_changes_are_four_finds(home):
    """In places that nothing else is made from, so that each is found by itself."""
    for what in ("a mark of a table", "a sentence of the README", "a number of a figure", "a sentence of the page"):
        name, pattern, by, _ = CHANGES[what]
        change(home.folder / name, pattern, by)
    finds = audit(home).finds
    files = [name for name, *_ in CHANGES.values()]
    assert {file for file in files for find in finds if file in find} >= {
        "results/tables/table1-pack-small.md",
        "README.md",
        "results/figures/rank-pack-small.csv",
        "results/README.md",
    }
    result = CliRunner().invoke(cli, ["audit", str(home)])
    assert isinstance(result.exception, UserError) and "does not hold" in str(result.exception)


def test_a_picture_of_other_numbers_is_found(home):
    picture = next(home.figures.glob("*.png"))
    Image.new("RGB", (4, 4)).save(picture)
    assert audit(home).finds == [
        f"{picture}: is no picture of {picture.stem}.csv as it is; draw it again with `mdebench figures`"
    ]


def test_stale_rows_and_tables_of_no_rows_are_found(home, rng):
    kept(home, "re", 1.0, rng, protocol_version=0, run="pack-re")
    (home.tables / "gone-pack-small.md").write_text("# Gone\n")
    finds = "\n".join(audit(home).finds)
    assert (
        "landmarks of pack-re: measured by version 0, now" in finds and "gone-pack-small.md: no rows give it" in finds
    )


def test_a_pack_that_is_not_what_it_was_is_found(home):
    packed(home, [0, 1, 2])
    assert any("the rows were measured on abababab" in find for find in audit(home).finds)


def test_a_hash_is_found_in_whichever_row_of_a_unit_it_was_changed(home):
    """A second row of a unit, of another metric, without values of its own: that is said not to be looked at."""
    path = home.folder / ROWS
    row = {name: value for name, value in unsealed(json.loads(path.read_text())).items() if name != GROUP}
    path.write_text(path.read_text() + json.dumps(row | {"metric": "other", "weights_hash": "ef" * 32}) + "\n")
    found = audit(home)
    assert sum("pack-rec.jsonl: the key" in find for find in found.finds) == 1
    assert (
        any("of 1 rows (other)" in what for what in found.unseen)
        and "3 rows against their stored values" in found.looked
    )


def test_without_rows_there_is_nothing_to_audit(tmp_path):
    with pytest.raises(UserError, match="no rows"):
        audit(Home(tmp_path))


def test_intervals_of_older_rows_are_mended_from_values_and_pack(tmp_path, rng):
    """Intervals as if images were independent become those over people; a second time nothing changes."""
    home = Home(tmp_path)
    people = np.repeat(np.arange(8), 5).astype(np.int32)
    pack = packed(home, [0, 1] + [2] * 40, identity=np.append([8, 9], people))
    kept(home, "rec", 1.0, rng, pack_hash=pack.hash)
    before = read_rows(home).iloc[0]
    assert ["over 8 people" in line for line in mend(home)] == [True]
    after = read_rows(home).iloc[0]
    with np.load(next(home.values.glob("*.npz"))) as stored:
        values = stored["frozen-probe|landmark_distance|test"]
    expected = interval(values, people, "px of 96")
    assert (after["value"], after["low"], after["high"]) == pytest.approx(expected, rel=1e-6)
    assert after["people"] == 8 and before["people"] == 0 and after["low"] != before["low"]
    assert list(mend(home)) == []


def test_the_committed_results_hold():
    found = audit(Home(ROOT))
    assert found.finds == [] and len(found.looked) > 5


def spoil(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 16
    path.write_bytes(bytes(data))


def test_what_is_damaged_is_a_find_and_the_rest_is_looked_at(home):
    """A picture; a file of rows and one of values, without which tables are not looked at."""
    picture = next(home.figures.glob("*.png"))
    spoil(picture)
    assert [find for find in audit(home).finds if f"{picture} is damaged (" in find]
    rows = home.rows / "landmarks" / "pack-rec.jsonl"
    values = values_path(home, stored_rows(home, "landmarks", "pack-pixels")[0]["key"])
    spoil(rows)
    spoil(values)
    found = audit(home)
    assert any(f"Line 1 of {rows} is damaged" in find for find in found.finds)
    assert any(f"{values} is damaged" in find for find in found.finds)
    assert any("tables and figures against rows, while" in what for what in found.unseen)
    assert any("2 rows against their keys" in what for what in found.looked)


def test_a_damaged_file_of_rows_is_left_as_it_is_when_others_are_mended(home):
    rows = home.rows / "landmarks" / "pack-rec.jsonl"
    spoil(rows)
    before = rows.read_bytes()
    done = list(mend(home))
    assert [line for line in done if line.startswith("left as it is: Line 1 of")] and rows.read_bytes() == before
