"""Recipes: from a method, a scale and what is changed to a run, trained or found finished."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console

from mdebench import catalog
from mdebench.catalog import Code
from mdebench.compute.batchnorm import KINDS
from mdebench.compute.machine import default_device, default_precision
from mdebench.data.pack import Pack
from mdebench.errors import UserError
from mdebench.home import Home
from mdebench.runs import Recipe, Run
from mdebench.settings import SCALES, choose
from mdebench.training.loop import pretrain


def method_of(recipe: Recipe) -> Code:
    """The method of a recipe; Absent where its code is not here."""
    return catalog.method_at(recipe.method, recipe.place)


def entry_of(info: Mapping[str, Any]) -> Code:
    """The method of a run, from its record; Absent where its code is not here."""
    return catalog.method_at(info["method"], info.get("recipe", {}).get("place", ""))


def changed_code(info: Mapping[str, Any]) -> str:
    """That a run was trained by other code than its method is now, in words, "" where it is the same."""
    before, now = info.get("source", ""), entry_of(info).source
    own = "the suite's own code"
    return "" if before == now else f"trained by {before or own}; its method is now {now or own}"


RECIPE_KEYS = ("updates", "batch", "precision", "batch_norm")


def method_settings(method: str, scale: str, overrides: Mapping[str, str]) -> Any:
    """A method's settings at a scale with ``overrides``, checked; the recipe's own keys are checked and left out."""
    values = choose(scale, SCALES, "scale")
    for key in ("updates", "batch"):
        _positive(key, overrides, 1)
    if overrides.get("precision", "fp32") not in ("fp32", "bf16", "fp64"):
        raise UserError(f"precision={overrides['precision']} is none of fp32, bf16 and fp64")
    choose(overrides.get("batch_norm", "synchronised"), KINDS, "batch_norm")
    own = {k: v for k, v in overrides.items() if k not in RECIPE_KEYS}
    return catalog.method(method).settings(values, own)


def make_recipe(method: str, pack: Pack, scale: str, seed: int, overrides: Mapping[str, str]) -> Recipe:
    """The full recipe of a method at a scale on a pack.

    ``overrides`` may name ``updates``, ``batch``, ``precision``, ``batch_norm`` and any of the method's settings.
    """
    values, entry = SCALES[scale], catalog.method(method)
    plain = asdict(method_settings(method, scale, overrides))
    S = plain.get("S")
    return Recipe(
        method=entry.name,
        label=entry.name if S is None else f"{entry.name} {S:g}",
        settings=plain,
        scale=scale,
        size=pack.size,
        pack=pack.name,
        pack_hash=pack.hash,
        seed=seed,
        updates=_positive("updates", overrides, values.updates),
        batch=_positive("batch", overrides, values.batch),
        precision=overrides.get("precision", default_precision(default_device())),
        overrides={k: v for k, v in overrides.items() if k != "S"},
        place=entry.place,
    )


def _positive(key: str, overrides: Mapping[str, str], default: int) -> int:
    try:
        value = int(overrides.get(key, default))
    except ValueError:
        value = 0
    if value < 1:
        raise UserError(f"{key}={overrides[key]!r} is not a whole number of at least 1")
    return value


def train_run(home: Home, recipe: Recipe, pack: Pack, console: Console) -> Run:
    """Do (or go on with, or find finished) the run of a recipe; returns it."""
    folder = home.runs / recipe.name
    pretrain(recipe, Run(folder), pack, console)
    return Run(folder)
