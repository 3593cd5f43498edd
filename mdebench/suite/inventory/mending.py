"""`mdebench audit --mend`: what older rows do not say: the family of their method, and intervals over the people.

No number is measured: values stay as they are, and intervals are made anew from them. Who is on which image comes from
the pack of the rows' hash where that is here; without it intervals are over images, as they were, by the same formula
as all others.
"""

from collections.abc import Iterator, Mapping
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdebench import catalog
from mdebench.data.pack import SPLITS, Pack, open_pack
from mdebench.errors import UserError
from mdebench.evaluation.scenarios import test_images
from mdebench.evaluation.tasks import Classes, Landmarks
from mdebench.files import Damaged
from mdebench.home import Home
from mdebench.results.intervals import interval, known_people
from mdebench.results.paired import stored_arrays, stored_values
from mdebench.results.rows import change_rows, write_values


def mend(home: Home) -> Iterator[str]:
    """Make intervals anew, run by run; yields what was done in words."""
    packs = _packs(home)
    for path in sorted(home.rows.glob("*/*.jsonl")):
        try:
            changed = change_rows(
                home, path.parent.name, path.stem, lambda row: _with_family(_with_interval(home, packs, row))
            )
        except Damaged as problem:
            yield f"left as it is: {problem}"
            continue
        if changed:
            people = sorted({row["people"] for row in changed})
            told = " and ".join(f"{count} people" if count else "images" for count in people)
            yield f"{path}: {len(changed)} rows mended; their intervals are over {told}"


def _with_family(row: dict[str, Any]) -> dict[str, Any]:
    """The row with the family of its method, where it says none; as it is where the method is another's, or gone."""
    if row["family"] or row["method_source"]:
        return row
    try:
        method = catalog.method(row["method"]).load().Method
        return row | {"family": method.family(SimpleNamespace(**row["settings"]))}
    except (UserError, AttributeError):  # or it had other settings then
        return row


def _packs(home: Home) -> dict[str, Pack]:
    found = {}
    for path in sorted(home.packs.glob("*/pack.json")):
        try:
            pack = open_pack(path.parent)
        except UserError:  # another matter than its rows: `mdebench audit` says what is wrong with it
            continue
        if (pack.identity >= 0).any():
            found[pack.hash] = pack
    return found


def _with_interval(home: Home, packs: Mapping[str, Pack], row: dict[str, Any]) -> dict[str, Any]:
    kept = stored_values(home, row)
    if kept is None:
        return row
    values, people = kept
    if people is None and row["pack_hash"] in packs:
        people = _people(packs[row["pack_hash"]], row, len(values))
        if people is not None:
            arrays, of_split = stored_arrays(home, row["key"]), f"people|{row['split']}"
            name = f"people|{row['setting']}|{row['metric']}|{row['split']}" if of_split in arrays else of_split
            write_values(home, row["key"], arrays | {name: people})
    _, low, high = interval(values, people, row["unit"])
    known = known_people(people)
    if row["people"] == known and np.allclose(
        [low, high], [row["low"], row["high"]], rtol=1e-6, atol=0, equal_nan=True
    ):
        return row  # which was made from more digits than are stored
    return row | {"low": low, "high": high, "people": known}


def _people(pack: Pack, row: Mapping[str, Any], count: int) -> NDArray[np.int64] | None:
    """Who is on the images that a row was measured on; None where it cannot be told which these are, or nobody is."""
    split, settings = row["split"], row["protocol_settings"]
    if split in SPLITS:
        rows = pack.indices(split)
        if len(rows) != count and {"images", "mask_seed"} <= settings.keys():
            rows = test_images(pack, settings["images"], settings["mask_seed"])
    elif split == "annotated" and Landmarks.lacking(pack) is None:
        rows = Landmarks.of(pack).parts.get(split, np.empty(0, np.int64))
    elif split == "held-out" and Classes.lacking(pack) is None:
        rows = Classes.of(pack).rows
    else:
        return None
    people = pack.identity[rows].astype(np.int64) if len(rows) == count else None
    return people if people is not None and (people >= 0).any() else None
