"""A plan that fits a time: how many seeds, and how many operations of each run, so that all comes out within it.

Every run gets the same operations, in as many updates as its method needs for them. More seeds come before longer runs,
as long as a run keeps half of the scale's updates; then runs grow until the time is full. What was chosen is kept, so
that the same command goes on with the same runs; when it runs late, whole seeds are left out and no run is changed.
"""

import json
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console

from mdebench.errors import UserError
from mdebench.files import read_json, reading, write_json
from mdebench.home import Home
from mdebench.runs import Recipe
from mdebench.settings import SCALES
from mdebench.suite.plan import LOADING, Order, make_plan
from mdebench.suite.schedule import makespan
from mdebench.suite.speed import Speed, measure_speed
from mdebench.suite.tasks import Task
from mdebench.suite.workers import Workers, keep_to
from mdebench.words import duration, tell, words

LEAST = 0.5  # of the scale's updates that a run keeps for the sake of another seed
MOST = 20.0  # times the scale's updates that runs grow to
LATE = 1.1  # times the budget up to which a further seed may reach
STEPS = 24  # halvings of the search for the operations that fill the time
WRITING = 20.0  # seconds for tables at the end
_UNITS = {"h": 3600.0, "m": 60.0, "min": 60.0, "s": 1.0}
_WAY_ON = "delete it to have a plan chosen anew"


@dataclass(frozen=True)
class Chosen:
    """How a budget is spent: the seeds, and the operations of every run in GFLOP."""

    seeds: tuple[int, ...]
    gflop: float


def read_budget(text: str) -> float:
    """Seconds of "8h", "30m", "1h30m" or "90s"; UserError for anything else."""
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?)(h|min|m|s)", text, re.ASCII)
    if not parts or "".join(number + unit for number, unit in parts) != text.replace(" ", ""):
        raise UserError(f"--budget {text}: give a time like 8h, 30m or 1h30m")
    if not (seconds := sum(float(number) * _UNITS[unit] for number, unit in parts)):
        raise UserError(f"--budget {text}: there is nothing to be done in no time")
    return seconds


def carry_out(
    order: Order, seconds: float, dry_run: bool, console: Console, workers: Workers, show: Callable[..., None]
) -> tuple[Order, list[str], list[str]]:
    """Do what fits into ``seconds`` of an order; returns the order as it was carried out, the titles of the tasks done,
    and a sentence for each that failed. ``show`` shows a plan. UserError where even one seed does not fit."""
    begun = time.monotonic()
    pace = _paces(workers)
    path = order.home.results / ".budgets.json"
    chosen = _kept(path).get(name := _name(order, seconds))
    if chosen:
        told = f"goes on with what was chosen for this budget before ({_WAY_ON.replace('it', str(path), 1)})"
        tell(console, "note", told)
    else:
        chosen = choose_for(order, seconds, pace, workers.jobs, console)
        if not dry_run:
            _keep(path, name, chosen)
    console.print(_said(order, chosen, seconds))
    done, failed, planned = list[str](), list[str](), 0.0
    for k, seed in enumerate(chosen.seeds):
        part = replace(order, seeds=(seed,), gflop=chosen.gflop)
        plan = make_plan(part, console, pace)
        show(plan, workers.jobs, console)
        takes, spent = makespan(plan.missing, workers.jobs), time.monotonic() - begun
        slower = max(1.0, spent / planned) if planned else 1.0
        if k and spent + slower * takes > LATE * seconds:
            left = words(f"seed {each}" for each in chosen.seeds[k:])
            late = f"{duration(spent)} are spent, and {duration(slower * takes)} more would be needed"
            tell(console, "left out", f"{left}: {late}; the same command without --budget does it")
            return replace(order, seeds=chosen.seeds[:k], gflop=chosen.gflop), done, failed
        if dry_run or not plan.missing:
            continue
        now_done, now_failed = workers.carry_out(plan.missing, order.home, console)
        done, failed, planned = done + now_done, failed + now_failed, planned + takes
    return replace(order, seeds=chosen.seeds, gflop=chosen.gflop), done, failed


def choose_for(order: Order, seconds: float, pace: Callable[[Recipe], Speed], jobs: int, console: Console) -> Chosen:
    """The most seeds, and the operations of a run, that fit; UserError where one seed of one update does not."""
    begun = time.monotonic()
    full, parts, seen = _gflop_of_scale(order, console), list[list[Task]](), set[str]()
    for seed in order.seeds:  # each seed is done before the next one is begun, which finds done what both need
        missing = make_plan(replace(order, seeds=(seed,), gflop=full), Console(quiet=True), pace).missing
        parts.append([task for task in missing if task.title not in seen])
        seen.update(task.title for task in missing)
    left = seconds - (time.monotonic() - begun)  # methods were timed for the plan

    def takes(count: int, share: float) -> float:
        """Seconds for so many seeds, each run with a share of the scale's operations."""
        return WRITING + sum(makespan([_shared(task, share) for task in part], jobs) for part in parts[:count])

    least = 1 / SCALES[order.scale].updates
    for count in range(len(order.seeds), 0, -1):
        low, high = 0.0, MOST
        for _ in range(STEPS):
            middle = (low + high) / 2
            low, high = (middle, high) if takes(count, middle) <= left else (low, middle)
        if low >= LEAST or (count == 1 and takes(1, least) <= left):
            return Chosen(order.seeds[:count], low * full)
    raise UserError(
        f"{duration(seconds)} are not enough for {order.what} at scale {order.scale} here: measuring one seed alone, "
        f"after an update of each run, takes about {duration(takes(1, least))}; give more, or a smaller --scale"
    )


def _shared(task: Task, share: float) -> Task:
    """A training with a share of its updates; any other task as it is."""
    return replace(task, seconds=LOADING + share * (task.seconds - LOADING)) if task.kind == "run" else task


def _said(order: Order, chosen: Chosen, seconds: float) -> str:
    """What the budget buys, and what it gives up."""
    share = chosen.gflop / _gflop_of_scale(order, Console(quiet=True))
    seeds = f"{len(chosen.seeds)} of {len(order.seeds)} seeds" if len(order.seeds) > 1 else "one seed"
    lost = [f"{1 - share:.0%} of the scale's updates"] if share < 0.995 else []
    fewer = order.seeds[len(chosen.seeds) :]
    lost += [words(f"seed {seed}" for seed in fewer)] if fewer else []
    lost += [] if order.probes else ["probes on the way (--probe-at asks for them)"]
    grown = f", {share:.2g} times the scale's" if share > 1.005 else ""
    told = f"budget {duration(seconds)}: {seeds}, {chosen.gflop / 1000:.3g} TFLOP for every run{grown}"
    return f"{told}; given up: {words(lost)}" if lost else told


def _gflop_of_scale(order: Order, console: Console) -> float:
    """The operations that the scale's updates take, of the method of the table that takes most."""
    from mdebench.suite.inventory.listing import counted

    updates = int(order.of_runs.get("updates", SCALES[order.scale].updates))
    return updates * max(counted(order.home, name, order.scale, console).gflop for name in ("rec", "inpainting"))


def _paces(workers: Workers) -> Callable[[Recipe], Speed]:
    """How fast a method is here while all workers are at work, measured once for each network."""
    known: dict[str, Speed] = {}

    def pace(recipe: Recipe) -> Speed:
        same = {key: value for key, value in recipe.settings.items() if key not in ("variant", "S")}
        name = json.dumps([recipe.method, recipe.place, same, recipe.batch, recipe.precision], default=str)
        if name not in known:
            with ProcessPoolExecutor(workers.jobs, get_context("spawn"), keep_to, (workers.threads,)) as pool:
                found = list(pool.map(measure_speed, [recipe] * workers.jobs))
            known[name] = Speed(*(sum(times) / len(times) for times in zip(*(asdict(each).values() for each in found))))
        return known[name]

    return pace


def _name(order: Order, seconds: float) -> str:
    facts = asdict(replace(order, home=Home("."))) | {"home": "", "budget": seconds}
    return json.dumps(facts, sort_keys=True, default=str)


def _kept(path: Path) -> dict[str, Chosen]:
    try:
        plain = read_json(path, _WAY_ON)
        with reading(path, _WAY_ON):
            return {name: Chosen(tuple(each["seeds"]), float(each["gflop"])) for name, each in plain.items()}
    except FileNotFoundError:
        return {}


def _keep(path: Path, name: str, chosen: Chosen) -> None:
    every: Mapping[str, Any] = {key: asdict(each) for key, each in (_kept(path) | {name: chosen}).items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, every)
