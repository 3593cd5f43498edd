"""Which pack a name means (the embedded ones are drawn when they are not there yet), and which partitions it lacks."""

import re
from typing import Any

from rich.console import Console

from mdebench.data import prepare
from mdebench.data.pack import SPLITS, Pack, open_pack
from mdebench.home import Home
from mdebench.words import new_progress, words

# Source → how its pack gets the images of a partition.
PARTED = {
    "folder": "say in a column `split` of its CSV which rows are train, val and test",
    "toyfaces": "draw more faces (--count)",
}


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


def no_images(pack: Pack, *splits: str) -> str | None:
    """That a pack has no image in some of these partitions, and what to do; None where each has one."""
    missing = [split for split in splits if not len(pack.indices(split))]
    if not missing:
        return None
    there = ", ".join(f"{len(pack.indices(split)):,} {split}" for split in SPLITS)
    source = str(pack.info.get("source", ""))
    way = PARTED.get(source, "take all files of its source")
    again = f"and make it again, `mdebench data prepare {source or 'SOURCE'} … --replace`"
    return f"{pack.name} has no {words(missing)} images ({there}): {way}, {again}"


def draw_faces(home: Home, size: int, console: Console, **options: Any) -> None:
    """Make the embedded pack of a size, with a progress bar; ``options`` as in ``mdebench data prepare toyfaces``."""
    with new_progress(console) as bar:
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
