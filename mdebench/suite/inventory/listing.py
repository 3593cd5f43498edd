"""`mdebench list`: every method with its paper, its size, what an update costs, what it can do and where it was tried.

Nothing here is kept by hand: a method is built at a scale, its parameters are counted, and so are the operations of an
update on random images. What was counted is kept, with a hash of the code it was counted from: the suite's own counts
beside this file, others in ``home/results/counts.json``.
"""

import ast
import hashlib
import importlib
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from tabulate import tabulate

import mdebench
from mdebench import catalog
from mdebench.catalog import Code
from mdebench.files import read_json, reading, write_json
from mdebench.home import Home
from mdebench.results.rows import whole_rows
from mdebench.runs import Recipe
from mdebench.settings import SCALES, choose
from mdebench.variants import ALIASES
from mdebench.words import tell

if TYPE_CHECKING:
    from mdebench.methods.contract import Method

OWN = Path(__file__).with_name("counts.json")
ABILITIES = {"transfers": "encode", "stages": "stages", "completes": "complete"}


@dataclass(frozen=True)
class Counted:
    """What is counted of a method at a scale; ``gflop`` of an update at the scale's batch, the mean over a run where
    turns change; ``code`` is the hash of what it was counted from."""

    paper: str
    parameters: int
    gflop: float
    abilities: tuple[str, ...]
    code: str
    family: str = ""


@dataclass(frozen=True)
class Listed:
    """A method, what was counted of it (None where it is another distribution's), and where it was tried."""

    name: str
    counted: Counted | None
    tried: tuple[str, ...]
    place: str = ""


def list_methods(home: Home, scale: str, console: Console) -> list[Listed]:
    """All methods of the catalog, counted at a scale; ``tried``: the packs and scales of the rows in ``home``.

    Methods of other distributions are named, and not loaded.
    """
    choose(scale, SCALES, "scale")
    places, kept, listed, new = _places(home, console), _kept(home), list[Listed](), False
    for name, entry in catalog.methods().items():
        key, counted = f"{name} {scale}", None
        if not entry.place:
            counted = kept.get(key)
            if counted is None or counted.code != code_hash(entry, scale):
                with console.status(f"counting the operations of {name}"):
                    counted = kept[key] = count(entry, scale)
                new = True
        called = [name, *(alias for alias, whole in ALIASES.items() if whole == name)]
        tried = {place for each in called for place in places[each]}
        listed.append(Listed(name, counted, tuple(sorted(tried)), entry.place))
    if new:
        write_counts(home.results / "counts.json", kept)
    return listed


def counted(home: Home, method: str, scale: str, console: Console) -> Counted:
    """What is counted of one method at a scale, by name or path; counted now where that was not kept."""
    entry = catalog.method(method)
    key, kept = f"{entry.name} {scale}", _kept(home)
    found = kept.get(key) if not entry.place else None
    if found is None or found.code != code_hash(entry, scale):
        with console.status(f"counting the operations of {entry.name}"):
            found = count(entry, scale)
        if not entry.place:
            write_counts(home.results / "counts.json", kept | {key: found})
    return found


def write_counts(path: Path, counts: Mapping[str, Counted]) -> None:
    """Keep counts by "<method> <scale>"."""
    write_json(path, {key: asdict(counted) for key, counted in sorted(counts.items())})


def _kept(home: Home) -> dict[str, Counted]:
    """What was counted before: here, else with the suite."""
    found: dict[str, Counted] = {}
    for path in (OWN, home.results / "counts.json"):
        if path.is_file():
            way_on = "delete it, and methods are counted again"
            plain = read_json(path, way_on)
            with reading(path, way_on):
                found |= {
                    key: Counted(**{**each, "abilities": tuple(each["abilities"])}) for key, each in plain.items()
                }
    return found


def _places(home: Home, console: Console) -> dict[str, set[str]]:
    """Method → the packs and scales that there are rows of; of files that are damaged it is said."""
    places: dict[str, set[str]] = defaultdict(set)
    rows, damaged = whole_rows(home)
    for problem in damaged:
        tell(console, "damaged", problem)
    for method, dataset, scale in set(zip(rows["method"], rows["dataset"], rows["scale"])):
        places[method.partition(":")[0]].add(f"{dataset} {scale}")
    return places


@cache
def _source(path: Path) -> str:
    """A file without what changes no count: docstrings, lines of comment, empty lines."""
    text = path.read_text()
    lines = dict(enumerate(text.splitlines(), start=1))
    for node in ast.walk(ast.parse(text)):
        body = getattr(node, "body", None)
        first = body[0] if isinstance(body, list) and body else None
        if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
            for number in range(first.lineno, (first.end_lineno or first.lineno) + 1):
                lines.pop(number, None)
    return "\n".join(line.rstrip() for line in lines.values() if line.strip() and not line.lstrip().startswith("#"))


def code_hash(entry: Code, scale: str) -> str:
    """A hash of all that counts depend on: the method's file, the parts that methods are built from, the scale."""
    package = Path(mdebench.__file__).parent
    parts = sorted(path for path in (package / "methods").glob("*.py") if path.stem != "__init__")
    if entry.module.startswith("mdebench.baselines."):
        for place in map(Path, importlib.import_module("mdebench.baselines").__path__):
            parts += [place / f"{entry.module.rpartition('.')[2]}.py", *sorted(place.glob("_*.py"))]
    text = repr((SCALES[scale], entry.defaults, [_source(path) for path in parts if path.is_file()]))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def count(entry: Code, scale: str) -> Counted:
    """Build a method at a scale and count its parameters and operations."""
    from mdebench.training.trainer import build_method

    recipe = recipe_of(entry, scale)
    method = build_method(entry, recipe.settings, recipe.size, 0)
    abilities = tuple(word for word, ability in ABILITIES.items() if hasattr(method, ability))
    parameters = sum(p.numel() for p in method.parameters())
    flops = gflop(method, recipe) if method.players() else 0.0
    family = method.family(method.settings)
    return Counted(method.PAPER, parameters, flops, abilities, code_hash(entry, scale), family)


def recipe_of(entry: Code, scale: str) -> Recipe:
    """A recipe of the method at a scale, without a pack; perceptual weights are random: they cost the same."""
    values = SCALES[scale]
    from mdebench.training.beside import MADE_UP

    own, network = entry.load().Settings.__dataclass_fields__, "random:0" if "vgg" in values.losses else "none"
    settings = entry.settings(values, {"perceptual": network} if "perceptual" in own else {})
    plain = asdict(entry.load().Method.suited(settings, MADE_UP))
    facts: list[Any] = [scale, values.size, "", "", 0, values.updates, values.batch, "fp32", {}]
    return Recipe(entry.name, entry.name, plain, *facts)


def gflop(method: "Method", recipe: Recipe) -> float:
    """The mean over the updates of a run; each order of turns is counted once."""
    import torch

    from mdebench.compute.machine import default_device
    from mdebench.methods.contract import Batch
    from mdebench.training.beside import made_up
    from mdebench.training.operations import Operations
    from mdebench.training.trainer import Trainer, step_seed

    trainer, counts = Trainer(method, recipe, default_device()), Operations()
    given = made_up(method, recipe.batch)
    turns = [method.turns(step, recipe.updates) for step in range(recipe.updates)]
    for moved in dict.fromkeys(turns):
        step = turns.index(moved)
        generator = torch.Generator().manual_seed(step_seed(0, step))
        images = torch.rand(recipe.batch, 3, recipe.size, recipe.size, generator=generator).to(trainer.device)
        images = images.contiguous(memory_format=torch.channels_last)
        counts.update(
            trainer, Batch(images, torch.arange(len(images)), step, 0, 0, generator, recipe.updates, given=given)
        )
    return sum(counts.gflop[moved] * times for moved, times in Counter(turns).items()) / recipe.updates


def print_methods(home: Home, scale: str, console: Console) -> None:
    """The list as a table."""
    short = {whole: alias for alias, whole in ALIASES.items()}
    lines = []
    for method in list_methods(home, scale, console):
        name = f"{method.name} ({short[method.name]})" if method.name in short else method.name
        tried = ", ".join(method.tried) or "–"
        if method.counted is None:
            lines.append((name, "–", f"from {method.place}", "–", "–", "–", tried))
            continue
        own = method.counted
        flops = f"{own.gflop:.1f}" if own.gflop else "–"
        lines.append(
            (
                name,
                own.family or "–",
                own.paper or "–",
                f"{own.parameters / 1e6:.2f}",
                flops,
                ", ".join(own.abilities),
                tried,
            )
        )
    headers = ("method", "family", "paper", "parameters (M)", "GFLOP per update", "does", "tried on")
    console.print(tabulate(lines, headers=headers, disable_numparse=True))
    values = SCALES[scale]
    console.print(
        f"parameters and operations at scale {scale}: {values.size}×{values.size} pixels, batch {values.batch}"
    )
