"""Official files of a data set below the folder that was given: found in any case of letters, told where they lie."""

import os
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from mdebench.data.store import PICTURES, ImageStore
from mdebench.data.store.members import is_litter

SHOWN = 6  # names of what a folder holds


def find(root: Path, names: Sequence[str], folders: Sequence[str] = ("",)) -> Path | None:
    """The first of `names` that is in one of `folders` below `root`, whichever way its letters are capitalised."""
    places = [place for folder in folders if (place := _below(root, folder)) is not None]
    return next((path for name in names for place in places if (path := _below(place, name)) is not None), None)


def _below(folder: Path, path: str) -> Path | None:
    for part in filter(None, path.split("/")):
        if not (folder / part).exists():
            entries = sorted(folder.iterdir()) if folder.is_dir() else []
            part = next((entry.name for entry in entries if entry.name.lower() == part.lower()), part)
        folder /= part
    return folder if folder.exists() else None


def holds(root: Path) -> str:
    """What there is instead, for a sentence: '(it holds a.csv and b/)'."""
    if not root.is_dir():
        return "(it is a file: unpack it, and give the folder)"
    names = sorted(f"{path.name}/" if path.is_dir() else path.name for path in root.iterdir())
    shown = [name for name in names if not is_litter(name.rstrip("/"))]
    more = ", …" if len(shown) > SHOWN else ""
    return f"(it holds: {', '.join(shown[:SHOWN])}{more})" if shown else "(it is empty)"


def tell_link(root: Path, place: Path, notes: list[str]) -> None:
    """Add to the notes when what a source reads below `root` is a link that leads elsewhere."""
    real = os.path.realpath(place)
    if not Path(real).is_relative_to(os.path.realpath(root)):
        notes.append(f"{place.name} is a link that leads out of {root}, and was read at {real}")


def as_listed(store: ImageStore, names: Collection[str], notes: list[str]) -> ImageStore:
    """The store under the names of a list: pictures of another ending (.JPG, .png) meet it by what stands before."""
    strays = sorted(key for key in store.members if key not in names and key.lower().endswith(PICTURES))
    absent = {_stem(name): name for name in names if name not in store.members} if strays else {}
    renamed = {key: name for key in strays if (name := absent.pop(_stem(key), None)) is not None}
    if not renamed:
        return store
    first, name = next(iter(renamed.items()))
    notes.append(
        f"{len(renamed):,} pictures have another ending than their list says ({first} for {name}), and were taken by "
        "the name before it"
    )
    return replace(store, members={renamed.get(key, key): member for key, member in store.members.items()})


def _stem(name: str) -> str:
    return name.rpartition(".")[0].lower()
