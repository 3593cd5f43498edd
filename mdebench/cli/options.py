"""What the commands share: options of one meaning, a group that answers misspelt names, the console."""

from typing import Any

import click

from mdebench.home import Home
from mdebench.settings import suggest

# The folder that holds packs/, runs/ and results/.
home_option = click.option(
    "--home",
    type=click.Path(path_type=Home, file_okay=False),
    default=".",
    envvar="MDEBENCH_HOME",
    show_default=True,
    help="Folder that holds packs/, runs/ and results/.",
)
set_option = click.option("--set", "sets", multiple=True, metavar="NAME=VALUE", help="Override a setting; repeatable.")


class Commands(click.Group):
    """A group that answers an unknown command with the nearest one and a user's mistake with one sentence."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the command, or say which is nearest."""
        name = args[0]
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            names = self.list_commands(ctx)
            raise click.UsageError(f"there is no command {name!r}.{suggest(name, names)} Commands: {', '.join(names)}.")
        return super().resolve_command(ctx, args)
