"""What a table costs follows from the plan and from measured seconds, and nothing is said that was not measured."""

import json

import pytest

from mdebench import costs
from mdebench.errors import UserError
from mdebench.plan import Order
from mdebench.schedule import Mishaps
from mdebench.work import Task

SURE = Mishaps()


def nothing(home, console):
    pass


def run(name, seconds):
    return Task("run", name, "missing", "", seconds, nothing)


def test_a_bill_by_hand():
    # Three runs of an hour in two places: two hours, and one of the four hours rented is idle.
    tasks = [run(name, 3600.0) for name in "abc"]
    b = costs.bill(tasks, 2, 10.0, SURE)
    assert (b.ideal, b.hours, b.low, b.high, b.dollars, b.busy) == (2.0, 2.0, 2.0, 2.0, 20.0, 0.75)


def test_several_devices_for_a_run_speed_up_trainings_alone():
    measured = Task("rows", "a", "missing", "", 3600.0, nothing)
    assert costs.bill([run("a", 3600.0), measured], 1, 1.0, SURE, speedup=2 * 0.8).ideal == pytest.approx(1 + 1 / 1.6)


def test_mishaps_cost():
    b = costs.bill([run(name, 36000.0) for name in "abcd"], 2, 10.0, Mishaps(failures=1, restart=600, checkpoint=100))
    assert b.ideal < b.low < b.hours < b.high and b.dollars == pytest.approx(10 * b.hours)


def save(home, *rows):
    path = home / "results" / "rows" / "bench" / "step.jsonl"
    path.parent.mkdir(parents=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def cells(path):
    lines = [line for line in path.read_text().splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: dict(zip(rows[0], row)) for row in rows[2:]}


def test_the_page_says_what_was_measured_and_nothing_else(home, tmp_path, console):
    order = Order(home, "table1", "tiny", "toyfaces16", seeds=(0, 1))
    step = {"method": "inpainting", "scale": "tiny", "precision": "bf16"}
    save(home, {**step, "device": "cpu", "ours_ms": 9e9}, {**step, "device": "cpu, 2 threads", "ours_ms": 72_000.0})
    page = cells(costs.write_costs(order, tmp_path / "out" / "page.md", console))
    assert list(page) == [machine.name for machine in costs.MACHINES]
    cpu = page["one CPU box"]
    assert cpu["updates in a row"] == "4,000" and cpu["seconds per update"] == "72 (cpu, 2 threads)"
    trained = 4000 * 72 / 3600
    assert trained < float(cpu["hours, all going well"]) < 1.1 * trained  # and measured
    assert page["8 × H200"]["updates in a row"] == "600" and page["8 × H200"]["seconds per update"] == "not measured"
    assert {machine["USD"] for name, machine in page.items() if name != "one CPU box"} == {""}


def test_how_several_devices_share_a_run_is_not_guessed(home, tmp_path, console):
    save(home, {"method": "rec", "scale": "tiny", "device": "NVIDIA H200", "ours_ms": 10.0})
    page = cells(costs.write_costs(Order(home, "table1", "tiny", "toyfaces16"), tmp_path / "page.md", console))
    alone, shared = page["8 × 8 × H200"], page["8 × 8 × H200, 2 for each run"]
    assert alone["USD"] and (shared["seconds per update"], shared["USD"]) == ("not measured with 2 devices", "")


def test_only_steps_of_the_scale_as_it_is_count(home):
    step = {"method": "rec", "scale": "tiny", "device": "cpu", "ours_ms": 5.0}
    save(home, {**step, "scale": "paper"}, {**step, "batch": 2}, {**step, "size": 8}, {**step, "batch": 24, "size": 64})
    assert [(s["batch"], s["size"]) for s in costs.measured_steps(home, "tiny")] == [(24, 64)]


def test_a_line_that_is_no_step_is_told(home):
    save(home, {"method": "rec", "scale": "tiny"})
    with pytest.raises(UserError, match=r"line 1 of .*step\.jsonl"):
        costs.measured_steps(home, "tiny")
