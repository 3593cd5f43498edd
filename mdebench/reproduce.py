"""Reproduce a table or figure: show the plan, do what is missing in its order, write the result.

Killed and started again it goes on: what is finished stands in run folders and rows, and the plan is made from those. A
run that fails stops only what depends on it.
"""

import hashlib
import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from rich.console import Console
from tabulate import tabulate

from mdebench import catalog
from mdebench.errors import UserError
from mdebench.figures import write_figures
from mdebench.plan import Order, Plan, make_plan
from mdebench.report import duration, write_report
from mdebench.runs import write_atomically
from mdebench.tables import paper_dir, write_sheets, write_tables


def reproduce(order: Order, dry_run: bool, console: Console) -> list[str]:
    """Plan an order and, unless `dry_run`, carry it out and write its tables, figures and report.

    Returns the titles of the tasks that were done. UserError at the end when some of them failed.
    """
    plan = make_plan(order, console)
    console.print(f"plan: {order.what} on {plan.tasks[0].name} at scale {order.scale}, {_seeds(order.seeds)}")
    show(plan, console)
    if dry_run:
        return []
    done, failed = carry_out(plan, console)
    write(order, console)
    if failed:
        raise UserError(f"not all was done: {'; '.join(failed)}; the same command tries these again")
    return done


def show(plan: Plan, console: Console) -> None:
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
    console.print(tabulate(lines, headers=("", "what", "state", "left", "time"), tablefmt="plain"), markup=False)
    for note in plan.notes:
        console.print(f"[yellow]note[/] {note}")
    done, all_tasks = len(plan.tasks) - len(plan.missing), len(plan.tasks)
    console.print(
        f"{done} of {all_tasks} tasks are done; the others take about {duration(plan.seconds)}"
        if plan.missing
        else "nothing is missing"
    )


def carry_out(plan: Plan, console: Console) -> tuple[list[str], list[str]]:
    """Do the missing tasks in order; returns the titles of those done, and a sentence for each that failed."""
    done: list[str] = []
    failed: list[str] = []
    broken: set[str] = set()
    begin, spent = time.monotonic(), 0.0
    for i, task in enumerate(plan.missing, start=1):
        pace = (time.monotonic() - begin) / spent if spent > 0 else 1.0
        left = duration((plan.seconds - spent) * pace)
        console.print(f"[bold]{i}/{len(plan.missing)}[/] {task.title} (about {left} left)")
        spent += task.seconds
        if task.run in broken:
            console.print(f"[yellow]left out[/] {task.title}: its run failed")
            continue
        try:
            task.do()
        except UserError as error:
            if not task.run:  # everything needs the pack and the judge
                raise
            console.print(f"[red]failed[/] {task.title}: {error}")
            failed.append(f"{task.title} ({error})")
            broken |= {task.run} if task.kind == "run" else set()
        else:
            done.append(task.title)
    if done:
        took = time.monotonic() - begin
        console.print(f"{len(done)} tasks in {duration(took)}, estimated {duration(plan.seconds)}")
    return done, failed


def write(order: Order, console: Console) -> None:
    """The tables and figures of what there is now; for everything, the report as well.

    They are views of files, so where no file has changed since they were written, they are kept as they are.
    """
    stamp, state = order.home / "results" / ".written.json", _state_of(order.home)
    written: dict[str, dict[str, Any]] = json.loads(stamp.read_text()) if stamp.is_file() else {}
    last = written.get(order.what, {"state": "", "files": []})
    if last["state"] == state and all((order.home / name).is_file() for name in last["files"]):
        console.print(f"[dim]kept[/] {len(last['files'])} files in {order.home}: nothing has changed since")
        return
    files = _write(order, console)
    console.print("\n".join(str(path) for path in files), markup=False)
    names = [str(path.relative_to(order.home)) for path in files]
    # What was drawn on the way, such as contact sheets, is among the files that the next look at them sees.
    written[order.what] = {"state": _state_of(order.home), "files": names}
    write_atomically(stamp, json.dumps(written).encode())


def _write(order: Order, console: Console) -> list[Path]:
    versions = {name: catalog.protocol(name).VERSION for name in catalog.protocols()}
    results = order.home / "results"
    if order.what.startswith("figure"):
        return write_figures(order.home, versions, console, only={order.what})
    files = write_tables(order.home, results / "tables", versions)
    write_sheets(order.home, results / "sheets")
    if order.what == "all":
        files += write_figures(order.home, versions, console)
        files.append(write_report(order.home, order.home / "report.html", versions))
    return files


def _state_of(home: Path) -> str:
    """A hash over name, size and time of every file that tables, figures and report are made from, and of our code."""
    folders = [(home, pattern) for pattern in ("results/rows/*/*.jsonl", "results/values/*", "results/sheets/*")]
    folders += [(home, f"runs/*/{what}") for what in ("run.json", "log.jsonl", "samples/*", "gallery/*/*")]
    folders += [(Path(__file__).parent, "**/*.*"), (paper_dir(), "*.csv")]
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
