"""Which pack a name means; the embedded ones are drawn when they are not there yet."""

import re
from typing import Any

from rich.console import Console
from rich.progress import Progress

from mdebench.data import prepare
from mdebench.data.pack import Pack, open_pack
from mdebench.home import Home


def embedded_size(name: str) -> int | None:
    """The size in the name of an embedded pack (``toyfaces64`` → 64), None for any other."""
    match = re.fullmatch(r"toyfaces([1-9][0-9]{0,3})", name)
    return int(match[1]) if match else None


def find_pack(home: Home, name: str, console: Console) -> Pack:
    """The pack called ``name`` in ``home/packs``, or at a path; toyfaces packs are drawn when not there yet."""
    path, size = home.pack(name), embedded_size(name)
    if not path.exists() and size is not None:
        console.print(f"drawing the embedded data set {name} into {path} (once)")
        draw_faces(home, size, console)
    return open_pack(path)


def draw_faces(home: Home, size: int, console: Console, **options: Any) -> None:
    """Make the embedded pack of a size, with a progress bar; ``options`` as in ``mdebench data prepare toyfaces``."""
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("drawing toyfaces", total=None)
        prepare(
            "toyfaces",
            root=None,
            size=size,
            packs_dir=home.packs,
            tell=lambda said: console.print(f"note: {said}"),
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            **options,
        )
