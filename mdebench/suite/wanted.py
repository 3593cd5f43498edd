"""Which runs are wanted: all finished ones of a pack, and the untrained ones that stand in every table.

The references (majority, raw pixels, random weights, …) are runs like all others, made here without anybody asking, and
said aloud.
"""

from collections.abc import Sequence

from rich.console import Console

from mdebench import catalog
from mdebench.data.pack import Pack
from mdebench.home import Home
from mdebench.runs import Run
from mdebench.training.recipes import make_recipe, train_run


def finished_runs(home: Home, pack: str) -> list[Run]:
    """The finished runs that were trained on a pack."""
    return [run for run in home.list_runs() if run.finished and run.info["pack"] == pack]


def references(need: str) -> list[str]:
    """The untrained methods that stand in every table for comparison and can do what is needed."""
    found = {name: entry.load().Method for name, entry in catalog.own_methods().items()}
    return [name for name, cls in found.items() if cls.REFERENCE and hasattr(cls, need)]


def with_references(home: Home, runs: Sequence[Run], pack: Pack, need: str, console: Console) -> list[Run]:
    """``runs`` and, first, the untrained reference methods at the scales of ``runs`` that can do what is needed."""
    made = []
    for scale in sorted({run.info["scale"] for run in runs}):
        for name in references(need):
            recipe = make_recipe(name, pack, scale, 0, {})
            run = home.run(recipe.name)
            made.append(run if run.finished else train_run(home, recipe, pack, console))
    known = {run.folder for run in made}
    return made + [run for run in runs if run.folder not in known]
