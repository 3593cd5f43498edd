"""`mdebench list`: every method with its paper, its size, what an update costs, what it can do and where it was tried.

Nothing here is kept by hand: a method is built at a scale, its parameters are counted, and so are the operations of an
update on random images.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import torch
from rich.console import Console
from tabulate import tabulate

from mdebench import catalog
from mdebench.compute.machine import default_device
from mdebench.home import Home
from mdebench.methods.contract import Batch, Completes, Encodes, Method, Stages
from mdebench.results.rows import read_rows
from mdebench.runs import Recipe
from mdebench.settings import SCALES, choose
from mdebench.training.operations import Operations
from mdebench.training.trainer import Trainer, build_method, step_seed
from mdebench.variants import ALIASES

ABILITIES: Mapping[str, type] = {"transfers": Encodes, "stages": Stages, "completes": Completes}


@dataclass(frozen=True)
class Listed:
    """One method at a scale; ``gflop`` of an update at the scale's batch, the mean over a run where turns change."""

    name: str
    paper: str
    parameters: int
    gflop: float
    abilities: tuple[str, ...]
    tried: tuple[str, ...]


def list_methods(home: Home, scale: str, console: Console) -> list[Listed]:
    """All methods of the catalog, counted at a scale; ``tried``: the packs and scales of the rows in ``home``."""
    choose(scale, SCALES, "scale")
    rows = read_rows(home)
    places: dict[str, set[str]] = defaultdict(set)
    for by, dataset, at in zip(rows["method"], rows["dataset"], rows["scale"]):
        places[by.partition(":")[0]].add(f"{dataset} {at}")
    listed = []
    for name in catalog.methods():
        with console.status(f"counting the operations of {name}"):
            recipe = _recipe(name, scale)
            method = build_method(name, recipe.settings, recipe.size, 0)
            gflop = _gflop(method, recipe) if method.players() else 0.0
        called = [name, *(alias for alias, whole in ALIASES.items() if whole == name)]
        tried = {place for each in called for place in places[each]}
        parameters = sum(p.numel() for p in method.parameters())
        abilities = tuple(word for word, ability in ABILITIES.items() if isinstance(method, ability))
        listed.append(Listed(name, method.PAPER, parameters, gflop, abilities, tuple(sorted(tried))))
    return listed


def _recipe(name: str, scale: str) -> Recipe:
    values, entry = SCALES[scale], catalog.method(name)
    own = entry.load().Settings.__dataclass_fields__
    settings = asdict(entry.settings(values, {"perceptual": "none"} if "perceptual" in own else {}))
    return Recipe(name, name, settings, scale, values.size, "", "", 0, values.updates, values.batch, "fp32", {})


def _gflop(method: Method, recipe: Recipe) -> float:
    """The mean over the updates of a run; each order of turns is counted once."""
    trainer, counts = Trainer(method, recipe, default_device()), Operations()
    turns = [method.turns(step, recipe.updates) for step in range(recipe.updates)]
    for moved in dict.fromkeys(turns):
        step = turns.index(moved)
        generator = torch.Generator().manual_seed(step_seed(0, step))
        images = torch.rand(recipe.batch, 3, recipe.size, recipe.size, generator=generator).to(trainer.device)
        images = images.contiguous(memory_format=torch.channels_last)
        counts.update(trainer, Batch(images, torch.arange(len(images)), step, 0, 0, generator, recipe.updates))
    return sum(counts.gflop[moved] * times for moved, times in Counter(turns).items()) / recipe.updates


def print_methods(home: Home, scale: str, console: Console) -> None:
    """The list as a table."""
    short = {whole: alias for alias, whole in ALIASES.items()}
    lines = [
        (
            f"{method.name} ({short[method.name]})" if method.name in short else method.name,
            method.paper or "–",
            f"{method.parameters / 1e6:.2f}",
            f"{method.gflop:.1f}" if method.gflop else "–",
            ", ".join(method.abilities),
            ", ".join(method.tried) or "–",
        )
        for method in list_methods(home, scale, console)
    ]
    headers = ("method", "paper", "parameters (M)", "GFLOP per update", "does", "tried on")
    console.print(tabulate(lines, headers=headers, disable_numparse=True))
    values = SCALES[scale]
    console.print(
        f"parameters and operations at scale {scale}: {values.size}×{values.size} pixels, batch {values.batch}"
    )
