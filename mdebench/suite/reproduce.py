"""Reproduce a table or figure: show the plan, do what is missing, write the result.

Killed and started again it goes on: what is finished stands in run folders and rows, and the plan is made from those.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from tabulate import tabulate

from mdebench.errors import UserError
from mdebench.evaluation.displays import displays as gather_displays
from mdebench.figures.contact_sheets import write_sheets
from mdebench.figures.write import write_figures
from mdebench.files import Damaged, Rest, read_json, reading, write_json
from mdebench.home import Home
from mdebench.report.page import write_report
from mdebench.results.published import paper_dir
from mdebench.suite import budget
from mdebench.suite.plan import Order, make_plan
from mdebench.suite.schedule import makespan
from mdebench.suite.tasks import Plan
from mdebench.suite.workers import ALONE, Workers, at_threads
from mdebench.tables.write import write_tables
from mdebench.words import duration, tell


def reproduce(
    order: Order, dry_run: bool, console: Console, workers: Workers = ALONE, seconds: float | None = None
) -> list[str]:
    """Plan an order and, unless `dry_run`, have `workers` carry it out, and write tables, figures and report.

    With a budget of `seconds` what fits into it. Returns the titles of the tasks that were done. UserError at the end
    when some of them failed.
    """
    if seconds is not None:
        order, done, failed = budget.carry_out(order, seconds, dry_run, console, workers, show)
        return [] if dry_run else _ended(order, done, failed, console)
    with at_threads(workers.threads):  # so that a job's pace is measured
        plan = make_plan(order, console)
    console.print(f"plan: {order.what} on {plan.tasks[0].name} at scale {order.scale}, {_seeds(order.seeds)}")
    show(plan, workers.jobs, console)
    if dry_run:
        return []
    done, failed = workers.carry_out(plan.missing, order.home, console) if plan.missing else ([], [])
    return _ended(order, done, failed, console)


def _ended(order: Order, done: list[str], failed: list[str], console: Console) -> list[str]:
    """Write what there is now, and say what failed."""
    write(order, console)
    if failed:
        raise UserError(f"not all was done: {'; '.join(failed)}; the same command tries these again")
    return done


def show(plan: Plan, jobs: int, console: Console) -> None:
    """The plan as a table: each pack, judge and run, the rows by protocol, what is missing, and the time it takes."""
    lines = [[t.kind, t.name, t.state, t.left, _time(t.seconds)] for t in plan.tasks if t.kind != "rows"]
    protocols = dict.fromkeys(task.name.partition(" of ")[0] for task in plan.tasks if task.kind == "rows")
    for name in protocols:
        tasks = [t for t in plan.tasks if t.kind == "rows" and t.name.startswith(f"{name} of ")]
        todo = [t for t in tasks if t.state != "kept"]
        stale = sum(t.state == "stale" for t in tasks)
        left = f"{len(todo)} of {len(tasks)} runs" + (f", {stale} with stale rows" if stale else "") if todo else ""
        state = "stale" if stale else "missing" if todo else "kept"
        lines.append(["rows", name, state, left, _time(sum(t.seconds for t in todo))])
    console.print(tabulate(lines, headers=("", "what", "state", "left", "time"), tablefmt="plain"))
    for note in plan.notes:
        tell(console, "note", f"{note}")
    done, all_tasks = len(plan.tasks) - len(plan.missing), len(plan.tasks)
    if not plan.missing:
        console.print("nothing is missing")
        return
    left, at_a_time = duration(makespan(plan.missing, jobs)), f", {jobs} at a time" if jobs > 1 else ""
    console.print(f"{done} of {all_tasks} tasks are done; the others{at_a_time} take about {left}")


def write(order: Order, console: Console) -> None:
    """The tables and figures of what there is now; for everything, the report as well.

    They are views of files, so where no file has changed since they were written, they are kept as they are.
    """
    stamp, state = order.home.results / ".written.json", _state_of(order.home)
    written = _written(stamp, console)
    last = written.get(order.what, {"state": "", "files": []})
    if last["state"] == state and all((order.home.folder / name).is_file() for name in last["files"]):
        tell(console, "kept", f"{len(last['files'])} files in {order.home}: nothing has changed since")
        return
    files = _write(order, console)
    console.print("\n".join(str(path) for path in files))
    names = [str(path.relative_to(order.home.folder)) for path in files]
    # What was drawn on the way, such as contact sheets, is among the files that the next look at them sees.
    written[order.what] = {"state": _state_of(order.home), "files": names}
    write_json(stamp, written)


def _written(stamp: Path, console: Console) -> dict[str, dict[str, Any]]:
    """What was written by whom: for each order the state that it was made of, and its files."""
    try:
        written = read_json(stamp, "all is written anew")
        with reading(stamp, "all is written anew"):
            if not all(set(map(type, each["files"])) <= {str} and each["state"] for each in written.values()):
                raise ValueError("it names no files")
        return written
    except FileNotFoundError:
        return {}
    except Damaged as error:
        tell(console, "note", str(error))
        return {}


def _write(order: Order, console: Console) -> list[Path]:
    files, rest = list[Path](), Rest()
    displays = gather_displays(order.home, rest)
    if order.what.startswith("figure"):
        files = write_figures(order.home, displays, console, only={order.what})
        rest.end("all is written, with rows of that protocol shown as they can")
        return files
    with rest.without():
        files += write_tables(order.home, order.home.tables, displays)
    with rest.without():
        write_sheets(order.home, order.home.sheets)
    if order.what == "families":
        with rest.without():
            files += write_figures(order.home, displays, console, only={"families"})
    if order.what == "all":
        with rest.without():
            files += write_figures(order.home, displays, console)
        with rest.without():
            files.append(write_report(order.home, order.home.report, displays))
    if rest.damaged:
        raise Damaged("; ".join(rest.damaged))
    return files


def _state_of(home: Home) -> str:
    """A hash over name, size and time of every file that tables, figures and report are made from, and of our code."""
    folders = [(home.rows, "*/*.json*"), (home.values, "*"), (home.sheets, "*")]
    folders += [(home.runs, f"*/{what}") for what in ("run.json", "log.jsonl", "samples/*", "gallery/*/*")]
    folders += [(Path(__file__).parent.parent, "**/*.*"), (paper_dir(), "*.csv")]
    digest = hashlib.sha256()
    for folder, pattern in folders:
        for path in sorted(folder.glob(pattern)):
            if "__pycache__" not in path.parts:
                digest.update(f"{path} {path.stat().st_size} {path.stat().st_mtime_ns}\n".encode())
    return digest.hexdigest()


def _seeds(seeds: Iterable[int]) -> str:
    *most, last = map(str, seeds)
    return f"seeds {', '.join(most)} and {last}" if most else f"seed {last}"


def _time(seconds: float) -> str:
    return f"about {duration(seconds)}" if seconds else ""
