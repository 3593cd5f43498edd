"""What a table costs follows from the plan and from measured seconds, and nothing is said that was not measured."""

import json
from dataclasses import asdict

import pytest

from mdebench.bench.clock import Measured
from mdebench.bench.record import Record
from mdebench.bench.record import save as save_record
from mdebench.bench.step import step_case
from mdebench.suite import costs
from mdebench.suite.plan import Order
from mdebench.suite.schedule import Mishaps
from mdebench.suite.tasks import Task

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


def save(home, ours_ms, device="cpu", machine="a processor", **settings):
    """A row as `mdebench bench step --save` keeps it."""
    settings = {"method": "rec", "scale": "tiny", "size": 64, "batch": 24, **settings}
    path = home.speed / "step.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    facts = {"bench": "step", "case": str(settings), "machine": machine, "device": device, "settings": settings}
    with path.open("a") as file:
        for metric, value in (("plain (fp32, contiguous)", 3 * ours_ms), ("ours", ours_ms)):
            file.write(json.dumps({**facts, "metric": metric, "value": value}) + "\n")


def cells(path):
    lines = [line for line in path.read_text().splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return {row[0]: dict(zip(rows[0], row)) for row in rows[2:]}


def test_the_page_says_what_was_measured_and_nothing_else(home, tmp_path, console):
    order = Order(home, "table1", "tiny", "toyfaces16", seeds=(0, 1))
    save(home, 9e9, method="inpainting")
    save(home, 72_000.0, method="inpainting")  # the newer of the same case
    page = cells(costs.write_costs(order, tmp_path / "out" / "page.md", console))
    assert list(page) == [machine.name for machine in costs.MACHINES]
    cpu = page["one CPU box"]
    assert cpu["updates in a row"] == "4,000" and cpu["seconds per update"] == "72 (cpu: a processor)"
    trained = 4000 * 72 / 3600
    assert trained < float(cpu["hours, all going well"]) < 1.1 * trained  # and measured
    assert page["8 × H200"]["updates in a row"] == "600" and page["8 × H200"]["seconds per update"] == "not measured"
    assert {machine["USD"] for name, machine in page.items() if name != "one CPU box"} == {""}


def test_how_several_devices_share_a_run_is_not_guessed(home, tmp_path, console):
    save(home, 10.0, device="cuda", machine="NVIDIA H200")
    page = cells(costs.write_costs(Order(home, "table1", "tiny", "toyfaces16"), tmp_path / "page.md", console))
    alone, shared = page["8 × 8 × H200"], page["8 × 8 × H200, 2 for each run"]
    assert alone["USD"] and (shared["seconds per update"], shared["USD"]) == ("not measured with 2 devices", "")


def test_only_steps_of_the_scale_as_it_is_count(home):
    save(home, 1.0, scale="paper")
    save(home, 2.0, batch=2)
    save(home, 3.0, size=8)
    save(home, 4.0)
    assert [step["ours_ms"] for step in costs.measured_steps(home, "tiny")] == [4.0]


def test_what_the_bench_keeps_is_what_the_page_reads(home):
    case = step_case("rec", "tiny", {})
    measured = [Measured("ours", "ms", 5.0, 4.0, 6.0, 3)]
    save_record(home, Record("step", str(case), {**asdict(case.recipe), "images": 10}, measured))
    (step,) = costs.measured_steps(home, "tiny")
    assert step["method"] == "rec" and step["ours_ms"] == 5.0 and step["device"].startswith(("cpu: ", "cuda: "))
