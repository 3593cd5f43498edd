"""The command line: a thin layer that turns words into calls. Nothing slow is imported on the way to ``--help``.

A user's mistake ends in one sentence on standard error and exit status 1 (2 for a wrong use of the command line), a
stop by Ctrl-C in status 130; only a defect of ours shows a traceback.
"""

import errno
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mdebench import __version__, catalog
from mdebench.cli.bench import bench
from mdebench.cli.data import data
from mdebench.cli.options import Commands, home_option, set_option
from mdebench.errors import UserError
from mdebench.home import Home
from mdebench.settings import SCALES, parse_overrides
from mdebench.suite.experiments import WHAT
from mdebench.words import new_console, tell

if TYPE_CHECKING:
    from rich.console import Console

    from mdebench.data.pack import Pack
    from mdebench.runs import Recipe, Run

_DISK_REFUSES = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def cli() -> None:
    """What does learning to complete images teach an encoder?

    Pretrain by image completion, transfer to attributes and landmarks, complete faces under occlusion, write tables
    beside the published ones. Start with `mdebench demo`.
    """


cli.add_command(bench)
cli.add_command(data)


def main() -> None:
    """Entry point: run the command line and turn a UserError, or a disk that refuses, into one sentence."""
    try:
        cli()
    except UserError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
    except OSError as error:
        if error.errno not in _DISK_REFUSES:
            raise
        click.echo(f"Error: {error.filename}: {error.strerror}; choose another --home or make room", err=True)
        sys.exit(1)


@cli.command()
@click.argument("method")
@click.option("--S", "S", type=float, help="Masking ratio in (0, 1), where the variant has one.")
@click.option("--scale", default="small", show_default=True, help=f"One of {', '.join(SCALES)}.")
@click.option("--pack", "pack_name", help="Pack to train on; by default toyfaces at the scale's size.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--updates", help="Number of updates instead of the scale's.")
@click.option(
    "--devices", type=click.IntRange(min=1), help="GPUs (processes, without one) that share each batch; by default 1."
)
@set_option
@home_option
def pretrain(
    method: str,
    S: float | None,
    scale: str,
    pack_name: str | None,
    seed: int,
    updates: str | None,
    devices: int | None,
    sets: tuple[str, ...],
    home: Home,
) -> None:
    """Pretrain METHOD (see `mdebench list`); again: resumes, or says it is finished.

    Under torchrun, which starts processes on several machines, the processes train one run together.
    """
    from mdebench.settings import choose

    overrides = parse_overrides(sets)
    overrides |= {"S": str(S)} if S is not None else {}
    overrides |= {"updates": updates} if updates is not None else {}
    catalog.method(method)  # a misspelt method or scale is answered before torch is loaded
    size = choose(scale, SCALES, "scale").size

    from mdebench.compute.devices import in_turn, joined
    from mdebench.data import finding
    from mdebench.errors import Interrupted
    from mdebench.training import recipes

    recipes.method_settings(method, scale, overrides)  # and a wrong setting before any data are drawn
    console = new_console()
    with joined():
        pack = in_turn(lambda: finding.find_pack(home, pack_name or f"toyfaces{size}", console))
        recipe = recipes.make_recipe(method, pack, scale, seed, overrides)
        if pack.size != size:
            sizes = f"{pack.name} has {pack.size} pixels, scale {scale} {size}"
            tell(console, "note", f"{sizes}: the networks take {pack.size}")
        try:
            _train(home, recipe, pack, devices, console)
        except Interrupted as stop:
            console.print(f"stopped ({stop}); the same command goes on from there")
            sys.exit(130)


def _train(home: Home, recipe: "Recipe", pack: "Pack", devices: int | None, console: "Console") -> None:
    """Do a run: in this process (with those that torchrun started), or in several ones of this machine."""
    from mdebench.compute.devices import count, part_of
    from mdebench.training import recipes

    if devices in (None, count()):
        recipes.train_run(home, recipe, pack, console)
        return
    if count() > 1:
        raise UserError(f"torchrun started {count()} processes, but --devices says {devices}: leave it out")
    from mdebench.compute.launch import launch

    part_of(recipe.batch, devices)
    launch(devices, _train_part, home, recipe, pack.path)


def _train_part(home: Home, recipe: "Recipe", pack: Path) -> None:
    """What each of several processes does of a run, on the pack at a path."""
    from mdebench.data.pack import open_pack
    from mdebench.training import recipes

    recipes.train_run(home, recipe, open_pack(pack), new_console())


@cli.command()
@click.argument("target")
@click.argument("runs", nargs=-1)
@click.option("--setting", type=click.Choice(["frozen", "finetune", "few-labels"]), default="frozen", show_default=True)
@click.option("--pack", "pack_name", help="Pack to measure on; by default the one the finished runs were trained on.")
@set_option
@home_option
def transfer(
    target: str, runs: tuple[str, ...], setting: str, pack_name: str | None, sets: tuple[str, ...], home: Home
) -> None:
    """Transfer RUNS (all finished ones by default) to TARGET: attributes or landmarks."""
    _measure(target, runs, pack_name, {"setting": setting, **parse_overrides(sets)}, home)


@cli.command()
@click.argument("runs", nargs=-1)
@click.option("--preset", default="all", show_default=True, help="One of the six occlusions, or all.")
@click.option("--pack", "pack_name", help="Pack to measure on; by default the one the finished runs were trained on.")
@home_option
def occlusion(runs: tuple[str, ...], preset: str, pack_name: str | None, home: Home) -> None:
    """Complete occluded faces with RUNS (all finished ones that can, by default)."""
    _measure("occlusion", runs, pack_name, {"preset": preset}, home)


@cli.command()
@click.argument("protocol")
@click.argument("runs", nargs=-1)
@click.option("--pack", "pack_name", help="Pack to measure on; by default the one the finished runs were trained on.")
@set_option
@home_option
def measure(protocol: str, runs: tuple[str, ...], pack_name: str | None, sets: tuple[str, ...], home: Home) -> None:
    """Measure RUNS by any PROTOCOL (see `mdebench protocols`)."""
    _measure(protocol, runs, pack_name, parse_overrides(sets), home)


def _measure(
    protocol: str, names: tuple[str, ...], pack_name: str | None, overrides: dict[str, str], home: Home
) -> None:
    catalog.find_protocol(protocol)
    from mdebench.evaluation import measuring
    from mdebench.suite import wanted

    console = new_console()
    runs, pack = _runs_and_pack(home, names, pack_name, console)
    need = catalog.protocol(protocol).NEEDS
    measuring.check(protocol, runs if names else [], pack, overrides)
    everything = wanted.with_references(home, runs, pack, need, console)
    new = measuring.measure(home, protocol, everything, pack, overrides, console)
    console.print(f"{new} new rows in {home.rows / protocol}; `mdebench tables` writes the tables")


def _runs_and_pack(
    home: Home, names: tuple[str, ...], pack_name: str | None, console: "Console"
) -> tuple[list["Run"], "Pack"]:
    """The runs named (or all finished ones of a pack) and the pack to measure them on."""
    from mdebench.data import finding
    from mdebench.suite import wanted

    named = [home.find_run(name) for name in names]
    trained = sorted({run.info["pack"] for run in named or home.list_runs() if run.finished or named})
    if pack_name is None and len(trained) != 1:
        if not trained:
            raise UserError(f"there is no finished run under {home.runs}; begin with `mdebench pretrain rec --S 0.1`")
        raise UserError(f"the runs were trained on several packs ({', '.join(trained)}); choose one with --pack")
    pack = finding.find_pack(home, pack_name or trained[0], console)
    runs = named or wanted.finished_runs(home, pack.name)
    if not runs:
        raise UserError(f"there is no finished run of {pack.name} under {home.runs}; name the runs to measure on it")
    return runs, pack


@cli.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the tables; default home/results/tables.",
)
@home_option
def tables(out: Path | None, home: Home) -> None:
    """Write Tables 1, 2 and 3 (Markdown, CSV, LaTeX) and contact sheets from the stored rows."""
    from mdebench.figures.contact_sheets import write_sheets
    from mdebench.tables.write import write_tables

    console = new_console()
    displays = displays_of(home)
    written = write_tables(home, out or home.tables, displays)
    sheets = write_sheets(home, out / "sheets" if out else home.sheets)
    for path in [*written, *sheets]:
        console.print(str(path))


@cli.command()
@click.argument("what", type=click.Choice(WHAT))
@click.option("--scale", default="small", show_default=True, help=f"One of {', '.join(SCALES)}.")
@click.option("--pack", "pack_name", help="Pack to train and measure on; by default toyfaces at the scale's size.")
@click.option("--seeds", default="0", show_default=True, help="One run for each, such as 0,1,2.")
@click.option(
    "--jobs",
    type=click.IntRange(min=1),
    help="Tasks at a time, each with its share of the cores; by default one for each core, up to 4, and 1 on a GPU.",
)
@click.option(
    "--on",
    "where",
    metavar="ray[:HOST:PORT]",
    help="Hand the tasks to Ray: one started here, or a cluster this machine is part of, all machines of which must see"
    " --home. By default a task for each GPU, or for each core.",
)
@click.option("--dry-run", is_flag=True, help="Stop after the plan.")
@click.option(
    "--set",
    "sets",
    multiple=True,
    metavar="NAME=VALUE",
    help="Override a setting of every run, or, as protocol.name=value, of a protocol; repeatable.",
)
@home_option
def reproduce(
    what: str,
    scale: str,
    pack_name: str | None,
    seeds: str,
    jobs: int | None,
    where: str | None,
    dry_run: bool,
    sets: tuple[str, ...],
    home: Home,
) -> None:
    """Do what a table or figure of the paper needs and write it: plans first, resumes, keeps what is done."""
    from mdebench.settings import choose

    size, numbers = choose(scale, SCALES, "scale").size, _seeds(seeds)

    from mdebench.errors import Interrupted
    from mdebench.suite import reproduce as suite_of
    from mdebench.suite.places import workers
    from mdebench.suite.plan import Order

    order = Order(home, what, scale, pack_name or f"toyfaces{size}", numbers, parse_overrides(sets))
    try:
        with workers(where, jobs) as those:
            suite_of.reproduce(order, dry_run, new_console(), those)
    except (Interrupted, KeyboardInterrupt) as stop:
        click.echo(f"stopped ({str(stop) or 'Ctrl-C'}); the same command goes on from there")
        sys.exit(130)


def _seeds(text: str) -> tuple[int, ...]:
    try:
        numbers = tuple(dict.fromkeys(int(seed) for seed in text.split(",")))
    except ValueError as error:
        raise UserError(f"--seeds {text}: expected whole numbers with commas, such as 0,1,2") from error
    if min(numbers) < 0:
        raise UserError(f"--seeds {text}: a seed is at least 0")
    return numbers


@cli.command()
@click.argument("what", type=click.Choice(WHAT), default="table1")
@click.option("--scale", default="paper", show_default=True, help=f"One of {', '.join(SCALES)}.")
@click.option("--pack", "pack_name", help="Pack to train and measure on; by default toyfaces at the scale's size.")
@click.option("--seeds", default="0,1,2", show_default=True, help="One run for each.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Default home/results/costs/….md.")
@home_option
def costs(what: str, scale: str, pack_name: str | None, seeds: str, out: Path | None, home: Home) -> None:
    """Say what a table or figure costs on rented machines: a page, from the seconds of `mdebench bench step --save`."""
    from mdebench.settings import choose

    size, numbers = choose(scale, SCALES, "scale").size, _seeds(seeds)

    from mdebench.suite.costs import write_costs
    from mdebench.suite.plan import Order

    console = new_console()
    order = Order(home, what, scale, pack_name or f"toyfaces{size}", numbers)
    out = out or home.costs / f"{what}-{scale}.md"
    console.print(str(write_costs(order, out, console)))


@cli.command()
@click.argument("pack_name", metavar="PACK")
@click.option("--judge", default="own", show_default=True, help="own, a network's name, or NAME:FILE with its weights.")
@home_option
def judge(pack_name: str, judge: str, home: Home) -> None:
    """Train (or take) the classifier that judges completions on PACK, and say how good it is."""
    from mdebench.data import finding
    from mdebench.errors import Interrupted
    from mdebench.evaluation.judges import run_judge

    console = new_console()
    try:
        run_judge(home, finding.find_pack(home, pack_name, console), judge, console)
    except Interrupted as stop:
        click.echo(f"stopped ({stop}); the same command goes on from there")
        sys.exit(130)


@cli.command()
@home_option
def figures(home: Home) -> None:
    """Draw every figure that there is data for, as pictures and as CSV."""
    from mdebench.figures.write import write_figures

    console = new_console()
    displays = displays_of(home)
    for path in write_figures(home, displays, console):
        console.print(str(path))


@cli.command()
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="HTML file; default home/report.html.")
@home_option
def report(out: Path | None, home: Home) -> None:
    """Write one page with all runs, tables, figures and completions, which opens from disk."""
    from mdebench.report.page import write_report

    displays = displays_of(home)
    new_console().print(str(write_report(home, out or home.report, displays)))


@cli.command()
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--run", "run_name", required=True, help="A finished run; see `mdebench runs`.")
@click.option("--preset", help="An occlusion (mouth, both_eyes, …), or a scenario such as 'rec 0.1' drawn at random.")
@click.option("--mask", type=click.Path(path_type=Path), help="A picture: white is seen, black is missing.")
@click.option("--boxes", help="What is seen of red, green and blue; three boxes x1:y1:x2:y2 in [0, 1], with commas.")
@click.option("-n", "count", type=click.IntRange(min=1), default=1, show_default=True, help="Samples of each picture.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), default=".", show_default=True)
@home_option
def complete(
    images: tuple[Path, ...],
    run_name: str,
    preset: str | None,
    mask: Path | None,
    boxes: str | None,
    count: int,
    seed: int,
    out: Path,
    home: Home,
) -> None:
    """Complete your own pictures: a grid of input, completion and composite for each of IMAGES."""
    from mdebench.evaluation.complete import complete_images

    console = new_console()
    written = complete_images(
        home, images, run_name, console, preset=preset, mask=mask, boxes=boxes, count=count, seed=seed, out=out
    )
    for path in written:
        console.print(str(path))


@cli.command()
@click.option("--home", type=click.Path(path_type=Home, file_okay=False), default="demo", show_default=True)
def demo(home: Home) -> None:
    """The whole path in minutes on the embedded faces: pretrain, transfer, occlude, tables, one page to look at."""
    from mdebench.errors import Interrupted
    from mdebench.suite.demo import run_demo

    try:
        run_demo(home, new_console())
    except Interrupted as stop:
        click.echo(f"stopped ({stop}); the same command goes on from there")
        sys.exit(130)


@cli.command()
@home_option
def runs(home: Home) -> None:
    """List the runs and how far they are."""
    from tabulate import tabulate

    lines = [[r.folder.name, r.info["status"], f"{r.info['step']}/{r.info['updates']}"] for r in home.list_runs()]
    click.echo(tabulate(lines, headers=["run", "status", "updates"]) if lines else f"no runs under {home.runs}")


@cli.command("list")
@click.option("--scale", default="small", show_default=True, help="Scale at which parameters and operations count.")
@home_option
def list_(scale: str, home: Home) -> None:
    """List the methods: paper, parameters, operations, what each can do, where it was tried."""
    from mdebench.suite.listing import print_methods

    print_methods(home, scale, new_console())


@cli.command()
def protocols() -> None:
    """List the protocols that can be measured."""
    for name in catalog.protocols():
        click.echo(name)
