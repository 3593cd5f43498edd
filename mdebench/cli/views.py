"""The commands that write views of rows: `tables`, `figures`, `report`."""

from pathlib import Path

import click

from mdebench.cli.options import existing_home_option
from mdebench.errors import UserError
from mdebench.files import Damaged, Rest
from mdebench.home import Home
from mdebench.words import new_console

AS_THEY_CAN = "all is written, with rows of that protocol shown as they can"


@click.command()
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the tables; default home/results/tables.",
)
@existing_home_option
def tables(out: Path | None, home: Home) -> None:
    """Write Tables 1, 2 and 3 and those of every protocol (Markdown, CSV, LaTeX), and contact sheets."""
    from mdebench.evaluation.displays import displays
    from mdebench.figures.contact_sheets import write_sheets
    from mdebench.tables.write import write_tables

    console = new_console()
    rest = Rest()
    shown = displays(home, rest)
    with rest.without():
        for path in write_tables(home, out or home.tables, shown):
            console.print(str(path))
    with rest.without():
        for path in write_sheets(home, out / "sheets" if out else home.sheets):
            console.print(str(path))
    if rest.damaged:
        raise Damaged("; ".join(rest.damaged))


@click.command()
@click.argument("folder", metavar="[HOME]", required=False, type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--mend", "mends", is_flag=True, help="First add what older rows do not say: families, intervals over people."
)
@existing_home_option
def audit(folder: Path | None, mends: bool, home: Home) -> None:
    """Follow every number to its rows, make tables and figures' data again, check hashes; list what does not hold."""
    from mdebench.suite.inventory.auditing import audit as look
    from mdebench.suite.inventory.auditing import told
    from mdebench.suite.inventory.mending import mend

    if folder and not folder.is_dir():
        raise UserError(f"there is no folder {folder} to audit")
    home, console = Home(folder) if folder else home, new_console()
    if mends:
        for done in mend(home):
            console.print(done, soft_wrap=True)
    found = look(home)
    console.print(told(found), soft_wrap=True)
    if found.finds:
        raise UserError(f"{len(found.finds)} of what the results say does not hold")


@click.command()
@click.argument("what", default="table1", metavar="[table1]")
@existing_home_option
def agree(what: str, home: Home) -> None:
    """Say how far our order of the methods of Table 1 agrees with the published one, by readout and alignment level."""
    if what != "table1":
        told = "the paper prints numbers of Tables 1 to 3, and an order of pretrained codes in Table 1 alone"
        raise UserError(f"there is no published order of {what!r} to compare with: {told}")
    from mdebench.evaluation.displays import displays
    from mdebench.tables.agreement import FEWEST
    from mdebench.tables.formats import markdown
    from mdebench.tables.write import build_tables

    rest = Rest()
    found = [table for table in build_tables(home, displays(home, rest)) if table.stem.startswith("agreement-")]
    for table in found:
        click.echo(markdown(table))
    if not found:
        ways = "`mdebench reproduce table1` trains and measures them"
        raise UserError(f"fewer than {FEWEST} of the methods of Table 1 were measured under {home}; {ways}")
    rest.end(AS_THEY_CAN)


@click.command()
@existing_home_option
def figures(home: Home) -> None:
    """Draw every figure that there is data for, as pictures and as CSV."""
    from mdebench.evaluation.displays import displays
    from mdebench.figures.write import write_figures

    console, rest = new_console(), Rest()
    written = write_figures(home, displays(home, rest), console)
    for path in written:
        console.print(str(path))
    if not written:
        console.print(f"nothing to draw: there are neither rows nor logs of runs under {home}")
    rest.end(AS_THEY_CAN)


@click.command()
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), help="HTML file; default home/report.html.")
@existing_home_option
def report(out: Path | None, home: Home) -> None:
    """Write one page with all runs, tables, figures and completions, which opens from disk."""
    from mdebench.evaluation.displays import displays
    from mdebench.report.page import write_report

    rest = Rest()
    new_console().print(str(write_report(home, out or home.report, displays(home, rest))))
    rest.end(AS_THEY_CAN)
