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
from mdebench.settings import SCALES, SEEDS, choose, whole
from mdebench.training.beside import known
from mdebench.training.loop import Watch, pretrain


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


RECIPE_KEYS = ("updates", "batch", "precision", "batch_norm", "deterministic")
LONGEST_NAME = 200  # bytes; file systems take 255, and files of rows are called after runs


def method_settings(method: str, scale: str, overrides: Mapping[str, str]) -> Any:
    """A method's settings at a scale with ``overrides``, checked; the recipe's own keys are checked and left out."""
    values = choose(scale, SCALES, "scale")
    for key in ("updates", "batch"):
        whole(overrides.get(key, 1), key)
    if overrides.get("precision", "fp32") not in ("fp32", "bf16", "fp64"):
        raise UserError(f"precision={overrides['precision']} is none of fp32, bf16 and fp64")
    choose(overrides.get("batch_norm", "synchronised"), KINDS, "batch_norm")
    if (answer := overrides.get("deterministic", "true")) not in ("true", "false"):
        raise UserError(f"deterministic={answer} is neither true nor false")
    own = {k: v for k, v in overrides.items() if k not in RECIPE_KEYS}
    return catalog.method(method).settings(values, own)


def make_recipe(method: str, pack: Pack, scale: str, seed: int, overrides: Mapping[str, str]) -> Recipe:
    """The full recipe of a method at a scale on a pack.

    ``overrides`` may name ``updates``, ``batch``, ``precision``, ``batch_norm``, ``deterministic`` and any of the
    method's settings. UserError for what they cannot be.
    """
    values, entry = SCALES[scale], catalog.method(method)
    cls, settings = entry.load().Method, method_settings(method, scale, overrides)
    with entry.guarded():
        try:
            plain = asdict(cls.suited(settings, known(pack)) if cls.TAKES else settings)
        except UserError as error:
            raise UserError(f"{entry.name} cannot learn from the pack {pack.name}: {error}") from error
    S = plain.get("S")
    usual = {"S": overrides.get("S"), "deterministic": "false"}  # S stands in the label
    recipe = Recipe(
        method=entry.name,
        label=entry.name if S is None else f"{entry.name} {S:g}",
        settings=plain,
        scale=scale,
        size=pack.size,
        pack=pack.name,
        pack_hash=pack.hash,
        seed=whole(seed, "seed", 0, SEEDS - 1),
        updates=whole(overrides.get("updates", values.updates), "updates"),
        batch=whole(overrides.get("batch", values.batch), "batch"),
        precision=overrides.get("precision", default_precision(default_device())),
        overrides={k: v for k, v in overrides.items() if k not in usual or usual[k] != v},
        place=entry.place,
    )
    if (length := len(recipe.name.encode())) > LONGEST_NAME:
        told = f"the run's folder would have a name of {length} letters, and {LONGEST_NAME} is the most"
        raise UserError(f"{told}: change fewer settings, or give files shorter names")
    return recipe


def train_run(home: Home, recipe: Recipe, pack: Pack, console: Console, watch: Watch | None = None) -> Run:
    """Do (or go on with, or find finished) the run of a recipe, ``watch`` looking on; returns it."""
    folder = home.runs / recipe.name
    pretrain(recipe, Run(folder), pack, console, watch=watch)
    return Run(folder)
