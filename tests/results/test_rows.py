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
from mdebench.results.rows import Measurement, append_rows, has_unit, read_rows, stale, superseded, unit_key


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path)


KEYED = ("protocol", "protocol_version", "protocol_settings", "method", "settings", "seed", "pack_hash", "weights_hash")


def file_of(home: Path) -> Path:
    return home.rows / "landmarks" / "pack-rec-S0.1-small-seed0.jsonl"


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
    old = {key: value for key, value in json.loads(path.read_text()).items() if key not in ("seconds", "gflop")}
    path.write_text(json.dumps(old) + "\n")
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
    path.write_bytes(path.read_bytes() + damage(path.read_bytes()))
    before = path.read_bytes()
    for use in (
        lambda: read_rows(home),
        lambda: has_unit(home, "landmarks", FACTS["run"], "a"),
        lambda: append_rows(home, [row("b")]),
    ):
        with pytest.raises(UserError, match=rf"Line 2 of .*seed0\.jsonl is damaged \((?s:.*)({says})"):
            use()
    assert path.read_bytes() == before


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
    old = {"time": "2026-01-01T00:00:00.000+00:00", "weights_hash": "old"}
    new = {"time": "2026-01-02T00:00:00.000+00:00", "weights_hash": "new"}
    append_rows(home, [row("new", **new), row("old", **old), row("old", head, **old)])
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
