"""What can be begun when, and how long tasks take together."""

from mdebench.schedule import Agenda, makespan
from mdebench.work import Task


def nothing(home, console):
    pass


def task(name, seconds=1.0, needs=(), run=""):
    return Task("rows", name, "missing", "", seconds, nothing, tuple(needs), run)


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
