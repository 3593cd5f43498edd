"""Rows: whole or not at all, followed to their unit, never silently lost, merged or misread."""

import json
import math
import multiprocessing
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from madeup import FACTS, POINT, row

from mdebench.errors import UserError
from mdebench.home import Home
from mdebench.results.provenance import _git, provenance
from mdebench.results.rows import (
    Measurement,
    append_rows,
    change_rows,
    has_unit,
    read_rows,
    stale,
    superseded,
    unit_key,
    whole_rows,
)


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


KEYED = ("protocol", "protocol_version", "protocol_settings", "method", "settings", "seed", "pack_hash", "weights_hash")


def file_of(home: Path) -> Path:
    return home.rows / "landmarks" / "pack-rec-S0.1-small-seed0.jsonl"


def older(line: bytes, *lacking: str) -> bytes:
    """A line as it was written before it had a digest, and these fields."""
    return json.dumps({k: v for k, v in json.loads(line).items() if k not in ("checksum", *lacking)}).encode() + b"\n"


def test_rows_come_back_as_they_went(home):
    undefined = Measurement("landmark_distance_iod", "%", math.nan, math.nan, math.nan, 0, "frozen-probe")
    written = [row(), row(measurement=undefined)]
    assert append_rows(home, written) == 2
    read = read_rows(home)
    assert read.iloc[0].to_dict() == asdict(written[0])
    assert math.isnan(read.iloc[1]["value"])
    assert "NaN" not in file_of(home).read_text()  # JSON has no NaN


def test_rows_from_before_the_costs_were_counted_are_read(home):
    append_rows(home, [row()])
    path = file_of(home)
    path.write_bytes(older(path.read_bytes(), "seconds", "gflop"))
    read = read_rows(home).iloc[0]
    assert math.isnan(read["seconds"]) and math.isnan(read["gflop"]) and read["value"] == POINT.value


def test_no_rows_is_an_empty_frame_with_all_columns(home):
    read = read_rows(home)
    assert read.empty and list(read.columns) == list(asdict(row()))
    assert append_rows(home, []) == 0
    assert stale(read, {"landmarks": 2}).empty and superseded(read).empty


def test_the_key_is_of_what_decides_and_of_nothing_else():
    parts = {name: FACTS[name] for name in KEYED}
    key = unit_key(**parts)
    assert key == unit_key(**dict(reversed(parts.items())))
    other = {
        "protocol": "attributes",
        "protocol_version": 2,
        "protocol_settings": {"updates": 5001},
        "method": "re",
        "settings": {"S": 0.2},
        "seed": 1,
        "pack_hash": "ef",
        "weights_hash": "ef",
    }
    assert len({key, *(unit_key(**{**parts, name: value}) for name, value in other.items())}) == 1 + len(other)


def test_a_stored_unit_is_not_stored_again(home):
    append_rows(home, [row("k")])
    assert has_unit(home, "landmarks", FACTS["run"], "k")
    assert not has_unit(home, "landmarks", FACTS["run"], "other")
    assert not has_unit(home, "attributes", FACTS["run"], "k")
    assert append_rows(home, [row("k"), row("new")]) == 1
    assert list(read_rows(home)["key"]) == ["k", "new"]


def test_one_call_is_one_file(home):
    with pytest.raises(ValueError, match="one protocol and one run"):
        append_rows(home, [row(), row(run="another")])


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda line: line[: len(line) // 2], "Unterminated|Expecting|delimiter"),
        (lambda line: b"[1]\n", "not a JSON object"),
        (lambda line: b"\xff" + line, "decode|utf"),
        (lambda line: line.replace(b'"seed": 0, ', b""), "fields missing or unknown: seed"),
        (lambda line: line.replace(b'"n": 330', b'"n": "many"'), "n is 'many', not int"),
    ],
)
def test_a_damaged_line_is_named_by_every_reader_and_kept(home, damage, says):
    append_rows(home, [row("a")])
    path = file_of(home)
    path.write_bytes(path.read_bytes() + damage(older(path.read_bytes())))
    before = path.read_bytes()
    for use in (
        lambda: read_rows(home),
        lambda: has_unit(home, "landmarks", FACTS["run"], "a"),
        lambda: append_rows(home, [row("b")]),
    ):
        with pytest.raises(UserError, match=rf"Line 2 of .*seed0\.jsonl is damaged \((?s:.*)({says})"):
            use()
    assert path.read_bytes() == before


def test_every_digit_of_a_row_is_held_to_its_digest(home, rng):
    append_rows(home, [row("a"), row("b", replace(POINT, value=0.1 + 0.2, note="1 of 2"))])
    path, whole = file_of(home), read_rows(home)
    text = path.read_bytes()
    digits = [i for i, sign in enumerate(text) if chr(sign).isdigit()]
    for place in rng.choice(digits, 60, replace=False):
        path.write_bytes(text[:place] + (b"1" if text[place : place + 1] != b"1" else b"2") + text[place + 1 :])
        with pytest.raises(UserError, match=r"Line [12] of .*seed0\.jsonl is damaged \(it is not what its checksum"):
            read_rows(home)
    for place in rng.integers(len(text), size=200):  # any bit, the name of the digest among them
        path.write_bytes(text[:place] + bytes([text[place] ^ 1 << rng.integers(8)]) + text[place + 1 :])
        try:
            assert read_rows(home).equals(whole)  # white space
        except UserError as problem:
            assert " is damaged (" in str(problem)


def test_older_lines_stand_as_they_were_written(home):
    append_rows(home, [row("a"), row("b")])
    path = file_of(home)
    first = older(path.read_bytes().splitlines(keepends=True)[0], "width")
    path.write_bytes(first)
    append_rows(home, [row("c")])
    assert path.read_bytes().startswith(first) and list(read_rows(home)["key"]) == ["a", "c"]
    change_rows(home, "landmarks", FACTS["run"], lambda row: row | {"low": 0.5} if row["key"] == "c" else row)
    assert path.read_bytes().startswith(first) and list(read_rows(home)["low"]) == [POINT.low, 0.5]


def test_every_damaged_file_is_told_and_the_others_can_be_read(home):
    for run in "abc":
        append_rows(home, [row(run, run=run)])
    for path in sorted(home.rows.glob("*/*.jsonl"))[:2]:
        path.write_bytes(b"\x1b[2J{\n")
    with pytest.raises(UserError, match=r"(?s)a\.jsonl is damaged.*b\.jsonl is damaged"):
        read_rows(home)
    rows, damaged = whole_rows(home)
    assert list(rows["run"]) == ["c"] and len(damaged) == 2


def test_a_row_that_is_too_deep_or_too_large_is_damaged(home):
    append_rows(home, [row("a")])
    path = file_of(home)
    line = older(path.read_bytes())
    for bad in (b"[" * 100_000, line.replace(b'"value": 1.25', b'"value": 1e999')):
        path.write_bytes(bad)
        with pytest.raises(UserError, match=r"jsonl is damaged \("):
            read_rows(home)


def test_a_full_disk_loses_nothing(home, monkeypatch):
    append_rows(home, [row("a")])
    before = file_of(home).read_bytes()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        append_rows(home, [row("b")])
    assert file_of(home).read_bytes() == before
    assert [path.name for path in file_of(home).parent.iterdir()] == [file_of(home).name]  # no scraps


def test_an_infinite_value_is_the_protocols_mistake(home):
    with pytest.raises(ValueError, match="range float"):
        append_rows(home, [row(measurement=replace(POINT, value=math.inf))])
    assert not file_of(home).exists()


def _append_many(home: str, worker: int) -> None:
    for i in range(8):
        append_rows(Home(home), [row(f"{worker}-{i}"), row(f"{worker}-{i}", replace(POINT, metric="other"))])


def test_two_processes_lose_no_row(home):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_append_many, args=(str(home), worker)) for worker in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    counts = read_rows(home)["key"].value_counts()
    assert len(counts) == 16 and set(counts) == {2}


def test_older_evaluators_make_rows_stale(home):
    append_rows(home, [row("a", protocol_version=1), row("b", protocol_version=2)])
    append_rows(home, [row("c", protocol="unknown")])
    read = read_rows(home).set_index("key")
    assert stale(read, {"landmarks": 2}).to_dict() == {"a": True, "b": False, "c": False}


def test_the_newest_unit_of_a_run_supersedes_the_older_setting_by_setting(home):
    head = replace(POINT, setting="frozen-head-5000")
    """Whatever the clock said, which was set back in between."""
    old = {"time": "2026-01-02T00:00:00.000+00:00", "weights_hash": "old"}
    new = {"time": "2026-01-01T00:00:00.000+00:00", "weights_hash": "new"}
    append_rows(home, [row("old", **old), row("old", head, **old)])
    append_rows(home, [row("new", **new)])
    append_rows(home, [row("elsewhere", run="another", **old)])
    read = read_rows(home)
    lost = set(zip(read.loc[superseded(read), "key"], read.loc[superseded(read), "setting"]))
    assert lost == {("old", "frozen-probe")}


def test_another_judge_supersedes_nothing_of_the_same_weights(home):
    """Judge 2 saw what judge 1 had seen; of a run trained again, the old weights are gone whoever judged them."""
    for run, weights in (("same", "w"), ("trained again", "v")):
        append_rows(home, [row(f"{run} 1", run=run, judge="judge 1", weights_hash="w")])
        later = {"run": run, "time": "2026-01-02T00:00:00.000+00:00", "weights_hash": weights}
        append_rows(home, [row(f"{run} 2", judge="judge 2", **later)])
    read = read_rows(home).set_index("key")
    assert list(read.index[superseded(read.reset_index()).to_numpy()]) == ["trained again 1"]


def test_provenance_tells_code_from_results():
    facts = provenance()
    assert set(facts) == {"git", "dirty", "packages", "time"}
    assert facts["packages"]["numpy"] and facts["time"].endswith("+00:00")


def test_a_wheel_inside_somebody_elses_checkout_is_not_that_revision(home, monkeypatch):
    _git(home.folder, "init")
    package = home.folder / "venv" / "mdebench"
    package.mkdir(parents=True)
    monkeypatch.setattr("mdebench.results.provenance.__file__", str(package / "results" / "provenance.py"))
    assert provenance()["git"] == "wheel" and provenance()["dirty"] is False
