"""The commands that do many things at once: `reproduce`, `demo`, and what says what there is and what it costs."""

from pathlib import Path

import click

from mdebench import catalog
from mdebench.cli.options import (
    METHODS,
    PROTOCOLS,
    SEED,
    check_pack,
    completing,
    home_option,
    jobs_option,
    on_option,
    pack_option,
    probe_options,
    probes_asked,
    scale_option,
)
from mdebench.errors import UserError
from mdebench.home import Home
from mdebench.settings import SCALES, choose, parse_overrides
from mdebench.suite import WHAT
from mdebench.words import new_console

TRAINED_ON = "Pack to train and measure on; by default toyfaces at the scale's size."


@click.command()
@click.argument("what", type=click.Choice(WHAT))
@scale_option
@pack_option(TRAINED_ON)
@click.option("--seeds", help="One run for each, such as 0,1,2; by default 0, with --budget 0,1,2.")
@click.option(
    "--budget",
    metavar="TIME",
    help="Have it all done in a time such as 8h or 30m: seeds and updates are chosen for it, with equal operations in"
    " every run, and what is given up is said.",
)
@probe_options
@click.option(
    "--method", "methods", multiple=True, shell_complete=METHODS, help="Also this method, by name or path; repeatable."
)
@click.option(
    "--protocol",
    "protocols",
    multiple=True,
    shell_complete=PROTOCOLS,
    help="Also measure by this protocol, by name or path; repeatable.",
)
@jobs_option
@on_option
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
    seeds: str | None,
    budget: str | None,
    probe_every: int | None,
    probe_at: str | None,
    methods: tuple[str, ...],
    protocols: tuple[str, ...],
    jobs: int | None,
    where: str | None,
    dry_run: bool,
    sets: tuple[str, ...],
    home: Home,
) -> None:
    """Do what a table or figure of the paper needs and write it: plans first, resumes, keeps what is done.

    `families`: every method there is, by both transfers, in Tables 1 and 2 and a chart by what is learned from.
    """
    size, numbers = choose(scale, SCALES, "scale").size, _seeds(seeds or ("0,1,2" if budget else "0"))
    probes, changed = probes_asked(probe_every, probe_at), parse_overrides(sets)
    if budget and "updates" in changed:
        raise UserError("--budget chooses the updates: leave --set updates out, or the budget")
    also = tuple(catalog.method(word).word for word in methods), tuple(catalog.find_protocol(w).word for w in protocols)
    check_pack(home, pack_name)

    from mdebench.suite import reproduce as suite_of
    from mdebench.suite.budget import read_budget
    from mdebench.suite.places import workers
    from mdebench.suite.plan import Order

    seconds = read_budget(budget) if budget else None
    order = Order(home, what, scale, pack_name or f"toyfaces{size}", numbers, changed, *also, probes=probes)
    with workers(where, jobs) as those:
        suite_of.reproduce(order, dry_run, new_console(), those, seconds)


def _seeds(text: str) -> tuple[int, ...]:
    try:
        return tuple(dict.fromkeys(SEED.convert(seed.strip(), None, None) for seed in text.split(",")))
    except click.BadParameter as error:
        raise UserError(
            f"--seeds {text}: expected whole numbers with commas, such as 0,1,2 ({error.message})"
        ) from error


@click.command()
@click.argument("what", type=click.Choice(WHAT), default="table1")
@click.option(
    "--scale",
    default="paper",
    show_default=True,
    shell_complete=completing(lambda home: SCALES),
    help=f"One of {', '.join(SCALES)}.",
)
@pack_option(TRAINED_ON)
@click.option("--seeds", default="0,1,2", show_default=True, help="One run for each.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="Default home/results/costs/….md.")
@home_option
def costs(what: str, scale: str, pack_name: str | None, seeds: str, out: Path | None, home: Home) -> None:
    """Say what a table or figure costs on rented machines: a page, from the seconds of `mdebench bench step --save`."""
    size, numbers = choose(scale, SCALES, "scale").size, _seeds(seeds)
    check_pack(home, pack_name)

    from mdebench.suite.costs import write_costs
    from mdebench.suite.plan import Order

    console = new_console()
    order = Order(home, what, scale, pack_name or f"toyfaces{size}", numbers)
    console.print(str(write_costs(order, out or home.costs / f"{what}-{scale}.md", console)))


@click.command()
@click.option("--home", type=click.Path(path_type=Home, file_okay=False), default="demo", show_default=True)
def demo(home: Home) -> None:
    """The whole path in minutes on the embedded faces: pretrain, transfer, occlude, tables, one page to look at."""
    from mdebench.suite.demo import run_demo

    run_demo(home, new_console())


@click.command("list")
@scale_option
@home_option
def list_(scale: str, home: Home) -> None:
    """List the methods: paper, parameters, operations, what each can do, where it was tried."""
    choose(scale, SCALES, "scale")
    from mdebench.suite.inventory.listing import print_methods

    print_methods(home, scale, new_console())
