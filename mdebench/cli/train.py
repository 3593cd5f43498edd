"""The commands that train: `pretrain` and `judge`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mdebench import catalog
from mdebench.cli.options import (
    METHODS,
    PACKS,
    SEED,
    Whole,
    check_pack,
    home_option,
    pack_option,
    probe_options,
    probes_asked,
    scale_option,
    set_option,
)
from mdebench.errors import UserError
from mdebench.home import Home
from mdebench.settings import SCALES, choose, parse_overrides
from mdebench.words import new_console, tell

if TYPE_CHECKING:
    from rich.console import Console

    from mdebench.data.pack import Pack
    from mdebench.results.probes import Schedule
    from mdebench.runs import Recipe
    from mdebench.training.loop import Watch


@click.command()
@click.argument("method", shell_complete=METHODS)
@click.option("--S", "S", help="Masking ratio in (0, 1), where the variant has one.")
@scale_option
@pack_option("Pack to train on; by default toyfaces at the scale's size.")
@click.option("--seed", type=SEED, default=0, show_default=True)
@click.option("--updates", help="Number of updates instead of the scale's.")
@click.option("--devices", type=Whole(1), help="GPUs (processes, without one) that share each batch; by default 1.")
@click.option(
    "--deterministic",
    is_flag=True,
    help="The same bits for any number of threads, more slowly; part of the recipe, and of the run's name.",
)
@probe_options
@set_option
@home_option
def pretrain(
    method: str,
    S: str | None,
    scale: str,
    pack_name: str | None,
    seed: int,
    updates: str | None,
    devices: int | None,
    deterministic: bool,
    probe_every: int | None,
    probe_at: str | None,
    sets: tuple[str, ...],
    home: Home,
) -> None:
    """Pretrain METHOD (see `mdebench list`, or the path of a file); again: resumes, or says it is finished.

    Under torchrun, which starts processes on several machines, the processes train one run together.
    """
    overrides = parse_overrides(sets)
    overrides |= {"S": S} if S is not None else {}
    overrides |= {"updates": updates} if updates is not None else {}
    overrides |= {"deterministic": "true"} if deterministic else {}
    schedule = probes_asked(probe_every, probe_at)
    catalog.method(method)  # a misspelt method, scale or pack is answered before torch is loaded
    size = choose(scale, SCALES, "scale").size
    check_pack(home, pack_name)

    from mdebench.compute.devices import in_turn, joined
    from mdebench.data import finding
    from mdebench.training import recipes

    recipes.method_settings(method, scale, overrides)  # and a wrong setting before any data are drawn
    console = new_console()
    with joined():
        pack = in_turn(lambda: finding.find_pack(home, pack_name or f"toyfaces{size}", console))
        recipe = recipes.make_recipe(method, pack, scale, seed, overrides)
        if pack.size != size:
            sizes = f"{pack.name} has {pack.size} pixels, scale {scale} {size}"
            tell(console, "note", f"{sizes}: the networks take {pack.size}")
        _train(home, recipe, pack, schedule, devices, console)


def _train(
    home: Home, recipe: "Recipe", pack: "Pack", schedule: "Schedule | None", devices: int | None, console: "Console"
) -> None:
    """Do a run: in this process (with those that torchrun started), or in several ones of this machine."""
    from mdebench.compute.devices import count, part_of
    from mdebench.training import recipes

    if devices in (None, count()):
        recipes.train_run(home, recipe, pack, console, _watch(home, recipe, pack, schedule, console))
        return
    if count() > 1:
        raise UserError(f"torchrun started {count()} processes, but --devices says {devices}: leave it out")
    from mdebench.compute.launch import launch

    part_of(recipe.batch, devices)
    launch(devices, _train_part, home, recipe, pack.path, schedule)


def _train_part(home: Home, recipe: "Recipe", path: Path, schedule: "Schedule | None") -> None:
    """What each of several processes does of a run, on the pack at a path."""
    from mdebench.data.pack import open_pack
    from mdebench.training import recipes

    console, pack = new_console(), open_pack(path)
    recipes.train_run(home, recipe, pack, console, _watch(home, recipe, pack, schedule, console))


def _watch(
    home: Home, recipe: "Recipe", pack: "Pack", schedule: "Schedule | None", console: "Console"
) -> "Watch | None":
    """Who looks at the run on its way, where that was asked for."""
    if schedule is None:
        return None
    from mdebench.evaluation.probing import Probes

    return Probes(home, recipe, pack, schedule, console)


@click.command()
@click.argument("pack_name", metavar="PACK", shell_complete=PACKS)
@click.option("--judge", default="own", show_default=True, help="own, a network's name, or NAME:FILE with its weights.")
@home_option
def judge(pack_name: str, judge: str, home: Home) -> None:
    """Train (or take) the classifier that judges completions on PACK, and say how good it is."""
    check_pack(home, pack_name)
    from mdebench.data import finding
    from mdebench.evaluation.judging.judges import run_judge

    console = new_console()
    run_judge(home, finding.find_pack(home, pack_name, console), judge, console)
