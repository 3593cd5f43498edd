"""Reproduce a table or figure: show the plan, do what is missing in its order, write the result.

Killed and started again it goes on: what is finished stands in run folders and rows, and the plan is made from those. A
run that fails stops only what depends on it.
"""

import time
from collections.abc import Iterable

from rich.console import Console
from tabulate import tabulate

from mdebench import catalog
from mdebench.errors import UserError
from mdebench.figures import write_figures
from mdebench.plan import Order, Plan, make_plan
from mdebench.report import duration, write_report
from mdebench.tables import write_sheets, write_tables


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
    """The tables and figures of what there is now; for everything, the report as well."""
    versions = {name: catalog.protocol(name).VERSION for name in catalog.protocols()}
    results = order.home / "results"
    written = []
    if order.what.startswith("table") or order.what == "all":
        written += write_tables(order.home, results / "tables", versions)
        write_sheets(order.home, results / "sheets")
    if order.what.startswith("figure"):
        written += write_figures(order.home, versions, console, only={order.what})
    if order.what == "all":
        written += write_figures(order.home, versions, console)
        written.append(write_report(order.home, order.home / "report.html", versions))
    console.print("\n".join(str(path) for path in written))


def _seeds(seeds: Iterable[int]) -> str:
    *most, last = map(str, seeds)
    return f"seeds {', '.join(most)} and {last}" if most else f"seed {last}"


def _time(seconds: float) -> str:
    return f"about {duration(seconds)}" if seconds else ""
