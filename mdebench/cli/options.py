"""What the commands share: options of one meaning, what a shell completes, a group that answers misspelt names."""

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mdebench import catalog
from mdebench.errors import UserError
from mdebench.home import Home
from mdebench.settings import SCALES, SEEDS, suggest
from mdebench.variants import ALIASES

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from mdebench.results.probes import Schedule
    from mdebench.runs import Run

Completer = Callable[[click.Context, click.Parameter, str], "list[CompletionItem]"]


class Whole(click.IntRange):
    """A whole number in a range, in ASCII: Python would read the digits of every script."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number; a wrong use of the command line is said."""
        if isinstance(value, str) and not value.isascii():
            self.fail(f"{value!r} is not a whole number.", param, ctx)
        return super().convert(value, param, ctx)


SEED = Whole(0, SEEDS - 1)


def _existing(ctx: click.Context, param: click.Parameter, home: Home) -> Home:
    if not home.folder.is_dir():
        ways = "name the one that holds runs/ and results/, or begin it with `mdebench pretrain`"
        raise UserError(f"there is no folder {home} (--home); {ways}")
    return home


# The folder that holds packs/, runs/ and results/; the second for commands that only look at what is there.
home_option, existing_home_option = (
    click.option(
        "--home",
        type=click.Path(path_type=Home, file_okay=False),
        default=".",
        envvar="MDEBENCH_HOME",
        show_default=True,
        callback=check,
        help="Folder that holds packs/, runs/ and results/.",
    )
    for check in (None, _existing)
)
set_option = click.option("--set", "sets", multiple=True, metavar="NAME=VALUE", help="Override a setting; repeatable.")
_probe_every = click.option(
    "--probe-every",
    type=Whole(1),
    help="On the way, see what the code knows after every so many updates: a converged probe on validation images.",
)
_probe_at = click.option("--probe-at", metavar="LIST", help="The same after some updates, such as 300,1k,3k,10k.")
jobs_option = click.option(
    "--jobs",
    type=Whole(1),
    help="Tasks at a time, each with its share of the cores; by default one for each core, up to 4, and 1 on a GPU.",
)
on_option = click.option(
    "--on",
    "where",
    metavar="ray[:HOST:PORT]",
    help="Hand the tasks to Ray: one started here, or a cluster this machine is part of, all machines of which must see"
    " --home. By default a task for each GPU, or for each core.",
)


def probe_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--probe-every`` and ``--probe-at``, which `probes_asked` understands."""
    return _probe_every(_probe_at(command))


def probes_asked(every: int | None, at: str | None) -> "Schedule | None":
    """When to look at a run on its way; None where nobody asked for it. UserError for what are no updates."""
    if every is None and at is None:
        return None
    from mdebench.results.probes import Schedule, read_updates

    return Schedule(every or 0, read_updates(at) if at is not None else ())


def completing(names: Callable[[Home], Iterable[str]], files: bool = False) -> Completer:
    """Completes a word to one of ``names``, or to a Python file where ``files`` may be named."""

    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> "list[CompletionItem]":
        from click.shell_completion import CompletionItem

        home = Home(ctx.params.get("home") or os.environ.get("MDEBENCH_HOME", "."))
        found = [CompletionItem(name) for name in names(home) if name.startswith(incomplete)]
        if files and (incomplete.startswith((".", "/", "~")) or not found):
            found.append(CompletionItem(incomplete, type="file"))
        return found

    return complete


def _folders(folder: Path, mark: str) -> list[str]:
    return sorted(path.parent.name for path in folder.glob(f"*/{mark}"))


METHODS = completing(lambda home: [*catalog.methods(), *ALIASES], files=True)
PROTOCOLS = completing(lambda home: catalog.protocols(), files=True)
RUNS = completing(lambda home: _folders(home.runs, "run.json"))
PACKS = completing(lambda home: _folders(home.packs, "pack.json"))
ANYTHING = completing(
    lambda home: [*catalog.methods(), *catalog.protocols(), *_folders(home.runs, "run.json")], files=True
)

scale_option = click.option(
    "--scale",
    default="small",
    show_default=True,
    shell_complete=completing(lambda home: SCALES),
    help=f"One of {', '.join(SCALES)}.",
)


def pack_option(text: str) -> Callable[[Any], Any]:
    """``--pack``, with what it is for and what it is by default."""
    return click.option("--pack", "pack_name", shell_complete=PACKS, help=text)


class Commands(click.Group):
    """A group that answers an unknown command with the nearest one and a user's mistake with one sentence."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the command, or say which is nearest."""
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            names = self.list_commands(ctx)
            raise click.UsageError(f"there is no command {name!r}.{suggest(name, names)} Commands: {', '.join(names)}.")
        return super().resolve_command(ctx, args)


def find_runs(home: Home, names: Iterable[str]) -> list["Run"]:
    """The runs named; UserError with near names for the first that is not there."""
    return [home.find_run(name) for name in names]


def check_pack(home: Home, name: str | None) -> None:
    """UserError for a pack that is not there and cannot be drawn, before anything is loaded."""
    from mdebench.data.finding import embedded_size
    from mdebench.data.pack import open_pack

    if name is not None and (home.pack(name).exists() or embedded_size(name) is None):
        open_pack(home.pack(name))
