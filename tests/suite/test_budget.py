"""A budget: seeds and updates that fill it, the same operations for every run, what is given up, and what is late."""

import pytest

from mdebench.errors import UserError
from mdebench.suite import budget
from mdebench.suite.budget import Chosen, carry_out, choose_for, read_budget
from mdebench.suite.inventory.listing import counted
from mdebench.suite.plan import Order, make_plan
from mdebench.suite.schedule import makespan
from mdebench.suite.speed import Speed

SECOND = Speed(update=1.0, encode=0.0, complete=0.0)  # an update takes a second, and nothing else takes any


@pytest.fixture
def order(home, monkeypatch):
    monkeypatch.setattr("mdebench.suite.plan.slowness", lambda: 0.0)
    return Order(home, "table1", "tiny", "toyfaces16", (0, 1, 2))


def pace(recipe):
    return SECOND


def updates(order, chosen, console, seed=0):
    plan = make_plan(budget.replace(order, seeds=(seed,), gflop=chosen.gflop), console, pace)
    return [
        int(task.left.split(" of ")[1].split(" ")[0].replace(",", "")) for task in plan.tasks if "updates" in task.left
    ]


def test_times_are_read():
    assert [read_budget(text) for text in ("8h", "30m", "1h30m", "90s", "1.5h")] == [28800, 1800, 5400, 90, 5400]
    for wrong in ("", "30", "half an hour", "1h30", "m", "0m"):
        with pytest.raises(UserError, match="--budget"):
            read_budget(wrong)


@pytest.mark.parametrize("seconds", [2000, 4000, 9000])
def test_what_is_chosen_fills_the_time_with_the_same_operations(order, console, seconds):
    chosen = choose_for(order, seconds, pace, 2, console)
    asked = updates(order, chosen, console)
    assert len(asked) == 10  # the variants of Table 1
    whole, seen = budget.WRITING, set()
    for seed in chosen.seeds:
        missing = make_plan(budget.replace(order, seeds=(seed,), gflop=chosen.gflop), console, pace).missing
        whole += makespan([task for task in missing if task.title not in seen], 2)
        seen |= {task.title for task in missing}
    assert 0.9 * seconds < whole <= 1.01 * seconds
    of_each = {name: counted(order.home, name, "tiny", console).gflop for name in ("rec", "inpainting")}
    assert max(asked) * min(of_each.values()) == pytest.approx(min(asked) * max(of_each.values()), rel=0.02)


def test_seeds_come_before_updates_as_long_as_half_of_these_are_left(order, console):
    """Ten runs of 200 updates, two at a time, take 1,000 s for each seed."""
    assert len(choose_for(order, 3200, pace, 2, console).seeds) == 3
    assert len(choose_for(order, 1800, pace, 2, console).seeds) == 3
    assert len(choose_for(order, 1300, pace, 2, console).seeds) == 2
    assert len(choose_for(order, 700, pace, 2, console).seeds) == 1
    assert len(choose_for(order, 100, pace, 2, console).seeds) == 1
    with pytest.raises(UserError, match="are not enough for table1"):
        choose_for(order, 20, pace, 2, console)


class Idle:
    """Workers who only look at the clock."""

    jobs, threads = 2, 1

    def __init__(self, clock, slow=1.0):
        self.clock, self.slow, self.done = clock, slow, []

    def carry_out(self, tasks, home, console):
        self.clock[0] += self.slow * makespan(tasks, self.jobs)
        self.done += [task.title for task in tasks]
        return [task.title for task in tasks], []


@pytest.fixture
def clock(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(budget.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(budget, "_paces", lambda workers: pace)
    return now


def test_the_same_command_goes_on_with_the_same_runs(order, console, clock):
    def shown(*plan):
        pass

    first, _, _ = carry_out(order, 3000.0, False, console, Idle(clock), shown)
    assert "given up" in console.file.getvalue() and "probes on the way" in console.file.getvalue()
    again, _, _ = carry_out(order, 3000.0, False, console, Idle(clock, slow=0.5), shown)
    assert (again.seeds, again.gflop) == (first.seeds, first.gflop)
    assert "goes on with what was chosen for this budget before" in console.file.getvalue()
    other, _, _ = carry_out(order, 2000.0, False, console, Idle(clock), shown)
    assert other.gflop != first.gflop


def test_where_it_runs_late_whole_seeds_are_left_out(order, console, clock):
    slow = Idle(clock, slow=2.0)
    done, titles, _ = carry_out(order, 3000.0, False, console, slow, lambda *plan: None)
    assert done.seeds == (0,) and all("seed0" in title for title in titles if title.startswith("run"))
    assert "left out seed 1 and seed 2" in console.file.getvalue() and clock[0] < 3000


def test_the_time_that_timing_takes_is_part_of_the_budget(order, console, clock):
    def slow_to_time(recipe):
        clock[0] += 20
        return SECOND

    quick, slow = choose_for(order, 1400, pace, 2, console), choose_for(order, 1400, slow_to_time, 2, console)
    assert slow.gflop * len(slow.seeds) < 0.97 * quick.gflop * len(quick.seeds)


def test_a_dry_run_does_and_keeps_nothing(order, console, clock):
    carry_out(order, 3000.0, True, console, workers := Idle(clock), lambda *plan: None)
    assert workers.done == [] and not (order.home.results / ".budgets.json").exists()
    assert isinstance(choose_for(order, 3000, pace, 2, console), Chosen)
