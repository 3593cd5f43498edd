"""`mdebench doctor`: what is wrong with this machine and this home, and what to do; ``--fix`` does what is safe.

Safe is what nobody misses: what kills left, empty run folders, features, which are computed again.
"""

from collections.abc import Iterator

from rich.console import Console
from rich.text import Text

from mdebench.errors import UserError
from mdebench.files import said
from mdebench.home import Home
from mdebench.suite.inventory.findings import Told
from mdebench.suite.inventory.health import health
from mdebench.suite.inventory.machine import machine
from mdebench.words import tell


def doctor(home: Home, fix: bool, console: Console) -> None:
    """Look, say, and fix what is safe; UserError where findings are left."""
    found = list(_told(home, console))
    mended = [told for told in found if fix and _is_mended(told, console)]
    left = len(found) - len(mended)
    if not left:
        console.print(f"{len(mended)} findings, all put right" if mended else "all is well")
        return
    safe = 0 if fix else sum(told.fix is not None for told in found)
    more = f"; `mdebench doctor --fix` puts {safe} of them right" if safe else ""
    raise UserError(f"{left} finding{'s' * (left != 1)}{' left' * bool(mended)}{more}")


def _told(home: Home, console: Console) -> Iterator[Told]:
    """The findings, when all has been said as it was found."""
    with console.status("") as status:
        for part in (machine, health):
            for told in part(home):
                if told.kind == "looking at":
                    status.update(Text(f"looking at {told.text}"))  # a name is no markup
                elif told.kind == "fact":
                    console.print(str(told))
                else:
                    tell(console, told.kind, str(told))
                if told.kind == "finding":
                    yield told


def _is_mended(told: Told, console: Console) -> bool:
    if told.fix is None:
        return False
    try:
        told.fix()
    except (UserError, OSError) as error:
        tell(console, "left", f"{told.text}: {said(error) if isinstance(error, OSError) else error}")
        return False
    tell(console, "put right", told.text)
    return True
