"""What can be begun when, and how long tasks take together."""

import math
import random
from itertools import pairwise

import pytest

from mdebench.suite.schedule import Agenda, Mishaps, makespan, schedule
from mdebench.suite.tasks import Task


def nothing(home, console):
    pass


def task(name, seconds=1.0, needs=(), run="", kind="rows"):
    return Task(kind, name, "missing", "", seconds, nothing, tuple(needs), run)


def table(runs=12):
    """A plan as a table has it: a pack, runs that need it, two measurements of each run."""
    draw, tasks = random.Random(0), [task("p", 50, kind="pack")]
    tasks += [task(f"r{i}", draw.uniform(2000, 9000), ["pack p"], f"r{i}", "run") for i in range(runs)]
    tasks += [task(f"{p}{i}", draw.uniform(10, 900), [f"run r{i}"], f"r{i}") for p in "al" for i in range(runs)]
    return tasks


def test_a_task_waits_for_what_it_needs_and_for_its_run():
    a, b, c, d = task("a"), task("b", needs=["rows a"]), task("c", run="r"), task("d", run="r")
    agenda = Agenda([a, b, c, d])
    assert [agenda.begin(), agenda.begin(), agenda.begin()] == [a, c, None]  # b needs a, d is of c's run
    agenda.end(c)
    assert agenda.begin() == d
    agenda.end(a)
    assert agenda.begin() == b


def test_what_is_needed_and_done_already_does_not_hold_up():
    assert Agenda([task("b", needs=["run of before"])]).begin() is not None


def test_a_failure_takes_along_what_needs_it_however_far():
    a, b, c, d = task("a"), task("b", needs=["rows a"]), task("c", needs=["rows b"]), task("d")
    agenda = Agenda([a, b, c, d])
    agenda.begin()
    assert agenda.fail(a) == [b, c] and agenda.waiting == [d]


def test_makespan_by_hand():
    # Two at a time: a 0–4, b 0–1, c (needs b) 1–3, d (of a's run) 4–5.
    tasks = [task("a", 4, run="r"), task("b", 1), task("c", 2, needs=["rows b"]), task("d", 1, run="r")]
    assert makespan(tasks, 1) == 8 and makespan(tasks, 2) == 5 and makespan(tasks, 9) == 5
    assert makespan([], 2) == 0


# --- in imagination

BAD = Mishaps(spread=0.3, failures=0.5, restart=60, checkpoint=100)


@pytest.mark.parametrize("jobs", [1, 2, 5, 64])
@pytest.mark.parametrize("mishaps", [Mishaps(), BAD])
def test_every_task_is_done_once_after_what_it_needs_by_no_more_workers_than_there_are(jobs, mishaps):
    tasks, seconds = table(), mishaps.seconds(seed=1)
    stints = schedule(tasks, jobs, seconds)
    assert sorted(s.task.title for s in stints) == sorted(t.title for t in tasks)
    assert sum(s.end - s.begin for s in stints) == pytest.approx(sum(map(seconds, tasks)))
    end = {s.task.title: s.end for s in stints}
    assert all(s.begin >= end[need] for s in stints for need in s.task.needs)
    by_run = sorted((s.task.run, s.begin, s.end) for s in stints if s.task.run)
    assert all(a[0] != b[0] or a[2] <= b[1] for a, b in pairwise(by_run))
    assert all(sum(s.begin <= at.begin < s.end for s in stints) <= jobs for at in stints)


@pytest.mark.parametrize("jobs", [1, 2, 5, 64])
def test_without_mishaps_it_takes_the_makespan(jobs):
    assert makespan(table(), jobs, Mishaps().seconds(seed=3)) == makespan(table(), jobs)


def test_a_makespan_lies_between_what_no_workers_can_beat_and_one_worker():
    tasks = table()
    work, longest = sum(t.seconds for t in tasks), max(t.seconds for t in tasks)
    assert makespan(tasks, 1) == pytest.approx(work)
    assert all(max(work / jobs, longest) <= makespan(tasks, jobs) <= work for jobs in (2, 5, 64))


def test_what_fails_takes_longer_and_the_same_seed_the_same():
    tasks, fails = table(), Mishaps(failures=0.5, restart=60, checkpoint=100)
    took = [makespan(tasks, 1, fails.seconds(seed)) for seed in range(20)]
    assert min(took) > makespan(tasks, 1) and len(set(took)) == 20
    assert took == [makespan(tasks, 1, fails.seconds(seed)) for seed in range(20)]


def mean_seconds(piece, rate, restart):
    """What a piece of work takes on average when it is begun anew after each failure, by the theory of such trials."""
    return (1 / rate + restart) * (math.exp(rate * piece) - 1)


def test_a_failed_training_goes_on_from_its_last_checkpoint():
    training, often = task("r", 3600, kind="run"), Mishaps(failures=1000, restart=5, checkpoint=1)
    took = [often.seconds(seed)(training) for seed in range(50)]
    assert sum(took) / 50 == pytest.approx(3600 * mean_seconds(1, 1000 / 3600, 5), rel=0.02)


def test_a_failed_measurement_begins_at_its_beginning():
    rows, mishaps = task("a", 3600), Mishaps(failures=1, restart=60, checkpoint=1)
    took = [mishaps.seconds(seed)(rows) for seed in range(4000)]
    assert sum(took) / 4000 == pytest.approx(mean_seconds(3600, 1 / 3600, 60), rel=0.05)


def test_the_spread_has_the_median_one():
    took = sorted(Mishaps(spread=0.3).seconds(seed)(task("a", 100)) for seed in range(2000))
    assert took[1000] == pytest.approx(100, rel=0.03) and took[1682] / took[1000] == pytest.approx(1.35, rel=0.05)
