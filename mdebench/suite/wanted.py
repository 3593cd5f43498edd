"""Which runs are wanted: all finished ones of a pack, and the untrained ones that stand in every table.

The references (majority, raw pixels, random weights, …) are runs like all others, made here without anybody asking, and
said aloud.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import partial

from rich.console import Console

from mdebench import catalog
from mdebench.data.finding import find_pack
from mdebench.data.pack import Pack
from mdebench.errors import UserError
from mdebench.evaluation import measuring
from mdebench.home import Home
from mdebench.methods.contract import Method
from mdebench.runs import Run
from mdebench.suite import tasks
from mdebench.suite.places import workers
from mdebench.suite.tasks import Task
from mdebench.training.recipes import make_recipe, train_run
from mdebench.words import tell


def finished_runs(home: Home, pack: str) -> list[Run]:
    """The finished runs that were trained on a pack."""
    return [run for run in home.list_runs() if run.finished and run.info["pack"] == pack]


def references(need: str) -> list[str]:
    """The untrained methods that stand in every table for comparison and can do what is needed."""
    return [name for name, cls in _methods().items() if cls.REFERENCE and hasattr(cls, need)]


def lacking(names: Sequence[str]) -> dict[str, str]:
    """Those of the methods that cannot be used here, and what each of them lacks."""
    return {name: cls.lacking() for name, cls in _methods().items() if name in names and cls.lacking()}


def _methods() -> dict[str, type[Method]]:
    return {name: entry.load().Method for name, entry in catalog.own_methods().items()}


def with_references(home: Home, runs: Sequence[Run], pack: Pack, need: str, console: Console) -> list[Run]:
    """``runs`` and, first, the untrained reference methods at the scales of ``runs`` that can do what is needed.

    Those that lack something on this machine are left out, and said so.
    """
    made, names = [], references(need)
    lack = lacking(names)
    for name, what in lack.items():
        tell(console, "left out", f"{name}: {what}")
    for scale in sorted({run.info["scale"] for run in runs}):
        for name in [name for name in names if name not in lack]:
            recipe = make_recipe(name, pack, scale, 0, {})
            run = home.run(recipe.name)
            made.append(run if run.finished else train_run(home, recipe, pack, console))
    known = {run.folder for run in made}
    return made + [run for run in runs if run.folder not in known]


def measure_all(
    home: Home,
    protocol: str,
    named: Sequence[Run],
    pack_name: str | None,
    overrides: Mapping[str, str],
    jobs: int | None,
    where: str | None,
    console: Console,
) -> int:
    """Measure runs (all finished ones of a pack, where none is named) and the references by a protocol.

    With ``jobs`` or ``where`` several at a time, as in `reproduce`. Returns the number of new rows. UserError where
    nothing can be measured, and at the end when some of the tasks failed.
    """
    runs, pack = runs_and_pack(home, named, pack_name, console)
    cases = measuring.check(home, protocol, named, pack, overrides)
    everything = with_references(home, runs, pack, catalog.protocol(protocol).NEEDS, console)
    if jobs is None and where is None:
        return measuring.measure(home, protocol, everything, pack, overrides, console)
    able = measuring.measurable(protocol, everything, console)
    measuring.judge_for(home, cases, pack, console)  # trained once, before several tasks ask for it
    plain, name = [asdict(case) for case in cases], catalog.find_protocol(protocol).name
    todo = [
        Task(
            "rows",
            f"{name} of {run.folder.name}",
            "missing",
            "",
            1.0,
            partial(tasks.measure, protocol, run.folder.name, pack_name or pack.name, plain),
            run=run.folder.name,
        )
        for run in able
    ]
    before = _count(home, name)
    with workers(where, jobs) as those:
        _, failed = those.carry_out(todo, home, console)
    if failed:
        raise UserError(f"not all was measured: {'; '.join(failed)}; the same command tries these again")
    return _count(home, name) - before


def _count(home: Home, protocol: str) -> int:
    return sum(len(path.read_bytes().splitlines()) for path in (home.rows / protocol).glob("*.jsonl"))


def runs_and_pack(home: Home, named: Sequence[Run], pack_name: str | None, console: Console) -> tuple[list[Run], Pack]:
    """The runs named (or all finished ones of a pack) and the pack to measure on; UserError where there is none."""
    trained = sorted({run.info["pack"] for run in named or home.list_runs() if run.finished or named})
    if pack_name is None and len(trained) != 1:
        if not trained:
            raise UserError(f"there is no finished run under {home.runs}; begin with `mdebench pretrain rec --S 0.1`")
        raise UserError(f"the runs were trained on several packs ({', '.join(trained)}); choose one with --pack")
    pack = find_pack(home, pack_name or trained[0], console)
    runs = list(named) or finished_runs(home, pack.name)
    if not runs:
        raise UserError(f"there is no finished run of {pack.name} under {home.runs}; name the runs to measure on it")
    return runs, pack
