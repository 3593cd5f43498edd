"""The commands that measure: `transfer`, `occlusion`, `measure`, and what says what can be measured."""

import click

from mdebench import catalog
from mdebench.cli.options import (
    PROTOCOLS,
    RUNS,
    check_pack,
    completing,
    existing_home_option,
    find_runs,
    home_option,
    jobs_option,
    on_option,
    pack_option,
    set_option,
)
from mdebench.home import Home
from mdebench.settings import parse_overrides
from mdebench.words import new_console, shown

MEASURED_ON = "Pack to measure on; by default the one the finished runs were trained on."
TARGETS = completing(lambda home: ("attributes", "landmarks"))


@click.command()
@click.argument("target", shell_complete=TARGETS)
@click.argument("runs", nargs=-1, shell_complete=RUNS)
@click.option("--setting", type=click.Choice(["frozen", "finetune", "few-labels"]), default="frozen", show_default=True)
@pack_option(MEASURED_ON)
@set_option
@jobs_option
@on_option
@existing_home_option
def transfer(
    target: str,
    runs: tuple[str, ...],
    setting: str,
    pack_name: str | None,
    sets: tuple[str, ...],
    jobs: int | None,
    where: str | None,
    home: Home,
) -> None:
    """Transfer RUNS (all finished ones by default) to TARGET: attributes or landmarks."""
    _measure(target, runs, pack_name, {"setting": setting, **parse_overrides(sets)}, jobs, where, home)


@click.command()
@click.argument("runs", nargs=-1, shell_complete=RUNS)
@click.option("--preset", default="all", show_default=True, help="One of the six occlusions, or all.")
@pack_option(MEASURED_ON)
@jobs_option
@on_option
@existing_home_option
def occlusion(
    runs: tuple[str, ...], preset: str, pack_name: str | None, jobs: int | None, where: str | None, home: Home
) -> None:
    """Complete occluded faces with RUNS (all finished ones that can, by default)."""
    _measure("occlusion", runs, pack_name, {"preset": preset}, jobs, where, home)


@click.command()
@click.argument("protocol", shell_complete=PROTOCOLS)
@click.argument("runs", nargs=-1, shell_complete=RUNS)
@pack_option(MEASURED_ON)
@set_option
@jobs_option
@on_option
@existing_home_option
def measure(
    protocol: str,
    runs: tuple[str, ...],
    pack_name: str | None,
    sets: tuple[str, ...],
    jobs: int | None,
    where: str | None,
    home: Home,
) -> None:
    """Measure RUNS by any PROTOCOL (see `mdebench protocols`, or the path of a file)."""
    _measure(protocol, runs, pack_name, parse_overrides(sets), jobs, where, home)


def _measure(
    protocol: str,
    names: tuple[str, ...],
    pack_name: str | None,
    overrides: dict[str, str],
    jobs: int | None,
    where: str | None,
    home: Home,
) -> None:
    code = catalog.find_protocol(protocol)  # what is misspelt is answered before anything is loaded
    runs = find_runs(home, names)
    check_pack(home, pack_name)
    from mdebench.suite.wanted import measure_all

    console = new_console()
    new = measure_all(home, code.word, runs, pack_name, overrides, jobs, where, console)
    console.print(f"{new} new rows in {home.rows / code.name}; `mdebench tables` writes the tables")


@click.command()
@home_option
def protocols(home: Home) -> None:
    """List the protocols that can be measured, and where those are from that are not the suite's own."""
    for code in catalog.protocols().values():
        click.echo(shown(f"{code.name} ({code.place})" if code.place else code.name))


@click.command()
@click.argument("file", shell_complete=completing(lambda home: (), files=True))
def check(file: str) -> None:
    """Hold a method's or a protocol's FILE (a name will do) to the contract, and explain what fails."""
    from mdebench.suite.inventory.checking import check_file

    check_file(file, new_console())
