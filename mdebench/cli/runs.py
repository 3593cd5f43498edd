"""The commands about what is there: `runs`, `show`, `compare`, `prune`, `doctor`."""

import click

from mdebench.cli.options import ANYTHING, RUNS, existing_home_option, find_runs, home_option
from mdebench.errors import UserError
from mdebench.home import Home
from mdebench.words import new_console


@click.command()
@click.argument("names", nargs=-1, shell_complete=RUNS, metavar="[RUNS]…")
@click.option("--remove", is_flag=True, help="Delete the runs named, with all that is in their folders; rows are kept.")
@existing_home_option
def runs(names: tuple[str, ...], remove: bool, home: Home) -> None:
    """List the runs (or those named): how far they are, when they were last at work, their size on disk, last loss."""
    from mdebench.suite.inventory.upkeep import list_text, remove_runs, size_of

    console = new_console()
    if not remove:
        console.print(list_text(home, find_runs(home, names) or home.list_runs()))
        return
    if not names:
        raise UserError("--remove: name the runs to delete, as in `mdebench runs NAME --remove`")
    folders = [home.run_folder(name) for name in names]
    for folder in folders:
        console.print(f"{folder} ({size_of(folder)})")
    console.print(f"{remove_runs(folders)} freed")


@click.command()
@click.option("--dry-run", is_flag=True, help="Say what would be freed, and free nothing.")
@existing_home_option
def prune(dry_run: bool, home: Home) -> None:
    """Free what can be made again: cached features, checkpoints of finished runs that only training goes on from, and
    what kills have left.
    """
    from mdebench.suite.inventory.strays import strays
    from mdebench.suite.inventory.upkeep import free, freeable

    console = new_console()
    found = [*strays(home), *freeable(home)]
    for each in found:
        console.print(each.text)
    if not found:
        console.print(f"nothing to free under {home}")
    elif not dry_run:
        console.print(f"{free(found)} freed")


@click.command()
@click.option("--fix", is_flag=True, help="Do what is safe: clear what kills left and features that cannot be used.")
@existing_home_option
def doctor(fix: bool, home: Home) -> None:
    """Look over this machine and all of a home: versions, room, checksums, what is missing; say what to do about it.

    Exit status 0 where all is well, 1 where something is to be done.
    """
    from mdebench.suite.inventory.doctor import doctor as look

    look(home, fix, new_console())


@click.command()
@click.argument("name", metavar="METHOD|PROTOCOL|RUN", shell_complete=ANYTHING)
@home_option
def show(name: str, home: Home) -> None:
    """Say what a METHOD, PROTOCOL or RUN is: its settings, their defaults, and where these come from."""
    from mdebench.suite.inventory.showing import show_text

    new_console().print(show_text(home, name))


@click.command()
@click.argument("first", metavar="RUN", shell_complete=RUNS)
@click.argument("second", metavar="RUN", shell_complete=RUNS)
@existing_home_option
def compare(first: str, second: str, home: Home) -> None:
    """Compare two runs: the settings in which they differ, and their rows, image by image where values were kept."""
    one, other = find_runs(home, (first, second))
    from mdebench.suite.inventory.comparing import compare_text

    new_console().print(compare_text(home, one, other))
