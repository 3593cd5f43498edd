"""What a table costs: its plan, carried out in imagination on machines that are rented by the hour.

The tasks are those of `mdebench reproduce`, begun by the same rule; seconds per update are measured ones (`mdebench
bench step --save`), and where there are none for a machine the page says so. Prices and mishaps are assumptions.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from tabulate import tabulate

from mdebench import catalog
from mdebench.bench.record import speed_rows
from mdebench.files import scratch, write_atomically
from mdebench.home import Home
from mdebench.runs import Recipe
from mdebench.settings import SCALES
from mdebench.suite.plan import LOADING, Order, make_plan
from mdebench.suite.schedule import Mishaps, makespan, schedule
from mdebench.suite.speed import Speed
from mdebench.suite.tasks import Task
from mdebench.training.recipes import method_of


@dataclass(frozen=True)
class Machine:
    """What is rented: so many ``devices``, ``per_run`` of them for each task, at a ``price`` in USD an hour for all.

    ``device`` is a word in the name of the device that a speed was measured on. ``efficiency`` in (0, 1]: how much
    faster several devices train a run, over their number; None where nobody has measured it.
    """

    name: str
    device: str
    devices: int
    price: float
    per_run: int = 1
    efficiency: float | None = 1.0

    @property
    def slots(self) -> int:
        """Tasks at a time."""
        return self.devices // self.per_run


# Assumptions of 21 November 2026, no quotations: the order of magnitude for which such machines are rented.
ASSUMED = "21 November 2026"
MACHINES = (
    Machine("one CPU box", "cpu", 1, 0.10),
    Machine("one H200", "H200", 1, 3.50),
    Machine("8 × H200", "H200", 8, 28.00),
    Machine("8 × 8 × H200", "H200", 64, 224.00),
    Machine("8 × 8 × H200, 2 for each run", "H200", 64, 224.00, 2, None),
)
# A tenth more or less for each task, a failure in a hundred hours of a device, minutes until somebody goes on. A large
# run is saved once in a minute or two: `training.loop.SAVE_SECONDS`, stretched.
MISHAPS = Mishaps(spread=0.1, failures=0.01, restart=300.0, checkpoint=120.0)
DRAWS = 200  # simulations of each machine


@dataclass(frozen=True)
class Bill:
    """Hours until all is done: without mishaps, and the median, 5 % and 95 % quantiles with them; USD at the median.

    ``busy``: the share of the rented time, without mishaps, in which the slots work.
    """

    ideal: float
    hours: float
    low: float
    high: float
    dollars: float
    busy: float


def bill(tasks: Sequence[Task], slots: int, price: float, mishaps: Mishaps, speedup: float = 1.0) -> Bill:
    """What tasks cost on ``slots`` at ``price`` USD an hour for all, where trainings are ``speedup`` times as fast."""
    tasks = [replace(task, seconds=task.seconds / speedup) if task.trains else task for task in tasks]
    stints = schedule(tasks, slots)
    ideal, work = stints[-1].end / 3600, sum(stint.end - stint.begin for stint in stints) / 3600
    drawn = [makespan(tasks, slots, mishaps.seconds(seed)) / 3600 for seed in range(DRAWS)]
    low, hours, high = np.quantile(drawn, (0.05, 0.5, 0.95))
    return Bill(ideal, float(hours), float(low), float(high), float(hours) * price, work / (ideal * slots))


def measured_steps(home: Home, scale: str) -> list[dict[str, Any]]:
    """What `mdebench bench step --save` has kept at a scale, oldest first: method, device in words, ours_ms.

    UserError for a damaged row.
    """
    usual = {"scale": scale, "size": SCALES[scale].size, "batch": SCALES[scale].batch}
    rows = [row for row in speed_rows(home) if row["bench"] == "step" and row["metric"] == "ours"]
    return [
        {"method": row["settings"]["method"], "device": f"{row['device']}: {row['machine']}", "ours_ms": row["value"]}
        for row in rows
        if usual.items() <= row["settings"].items()
    ]


class NotMeasured(Exception):
    """No measured step tells how fast something is."""


def speed_from(steps: Sequence[Mapping[str, Any]]) -> Callable[[Recipe], Speed]:
    """The speed of a recipe by the newest measured step of its network; NotMeasured where there is none.

    To encode or complete an image is counted as its share of an update, which does both and more: an upper bound.
    """
    updates = {catalog.method(step["method"]).module: step["ours_ms"] / 1000 for step in steps}

    def speed(recipe: Recipe) -> Speed:
        entry = method_of(recipe)
        reference = entry.load().Method.REFERENCE  # not trained; counted like the slowest that is
        if not updates or not (reference or entry.module in updates):
            raise NotMeasured("not measured")
        update = max(updates.values()) if reference else updates[entry.module]
        return Speed(0.0 if reference else update, update / recipe.batch, update / recipe.batch)

    return speed


def write_costs(order: Order, out: Path, console: Console) -> Path:
    """Write the page of an order, whose home holds the measured steps; returns its path.

    What is done already is counted like the rest. UserError as in `make_plan`.
    """
    pack = order.home.pack(order.pack)
    steps = measured_steps(order.home, order.scale)
    with scratch() as nothing_done:
        whole = replace(order, home=Home(nothing_done), pack=str(pack.absolute()) if pack.exists() else order.pack)
        unit = make_plan(whole, console, lambda recipe: Speed(1.0, 0.0, 0.0)).missing  # an update takes a second
        trainings = [replace(task, seconds=task.seconds - LOADING) for task in unit if task.kind == "run"]
        lines = []
        for machine in MACHINES:
            on_such = [step for step in steps if machine.device.lower() in step["device"].lower()]
            try:
                tasks = make_plan(whole, console, speed_from(on_such)).missing
                told = _told(machine, on_such[-1], tasks)
            except NotMeasured as what:
                told = [str(what), "", "", "", ""]
            updates = makespan(trainings, machine.slots)
            lines.append([machine.name, f"{machine.slots}", f"{updates:,.0f}", f"{machine.price:,.2f}", *told])
    write_atomically(out, _page(order, unit, lines).encode())
    return out


def _told(machine: Machine, step: Mapping[str, Any], tasks: Sequence[Task]) -> list[str]:
    """The cells of a machine that follow from a measured step."""
    if machine.efficiency is None:
        raise NotMeasured(f"not measured with {machine.per_run} devices")
    b = bill(tasks, machine.slots, machine.price, MISHAPS, machine.per_run * machine.efficiency)
    hours = f"{b.hours:,.1f} ({b.low:,.1f} to {b.high:,.1f})"
    speed = f"{step['ours_ms'] / 1000:.3g} ({step['device']})"
    return [speed, f"{b.ideal:,.1f}", hours, f"{b.dollars:,.0f}", f"{b.busy:.0%}"]


def _page(order: Order, tasks: Sequence[Task], lines: Sequence[Sequence[str]]) -> str:
    """The page as Markdown."""
    runs = sum(task.kind == "run" and task.seconds > LOADING for task in tasks)
    measurements = sum(task.kind == "rows" for task in tasks)
    headers = ["rented", "tasks at a time", "updates in a row", "USD an hour, assumed", "seconds per update"]
    headers += ["hours, all going well", "hours with mishaps", "USD", "busy"]
    return f"""# What {order.what} costs at scale {order.scale}

{runs} trainings ({len(order.seeds)} seeds) and {measurements} measurements on {order.pack},
carried out in imagination by the rule of `mdebench reproduce`.

{tabulate(lines, headers=headers, tablefmt="pipe", disable_numparse=True)}

- *Updates in a row*: how many are done one after another until the last run is trained; times the seconds per update,
  the least that any such machines take.
- *Seconds per update* were measured (`mdebench bench step --save`) on the device named, of which the machines are taken
  to have so many. Where nobody has measured, nothing is said.
- Measuring the runs is counted too: images encoded at a batch's share of an update, which is more than it takes; heads
  and probes as on the machine where this page was made, by what they take at scale `small`.
- *Mishaps* are assumed: {_words(MISHAPS)}.
  Of {DRAWS} simulations the median, and the 5 % and 95 % quantiles. USD are the median's: everything is rented until
  the last task is done.
- *Busy*: the share of the rented time, all going well, in which a device works.
- Prices are assumptions of {ASSUMED}, no quotations; yours go into `mdebench/costs.py`.
"""


def _words(mishaps: Mishaps) -> str:
    return (
        f"a task takes {mishaps.spread:.0%} more or less (log-normal); a worker fails {mishaps.failures:g} times an\n"
        f"  hour and goes on {mishaps.restart:.0f} s later, a training from its last checkpoint, at most"
        f" {mishaps.checkpoint:.0f} s of work ago"
    )
