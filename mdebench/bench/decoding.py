"""Decoding alone, which no way of packing can beat.

Every picture of an archive is read, decoded, cropped and shrunk by as many workers as a pack is made with, and nothing
is labelled, hashed, written or even handed back. In a file of its own, for its workers load it, and nothing heavy.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from mdebench.data.decode import Crop
from mdebench.data.report import Report
from mdebench.data.store import Read, open_store
from mdebench.data.workers import decode_group, in_order


def decode_alone(archive: Path, crop: Crop, size: int, in_threads: bool = False) -> int:
    """Decode every picture of an archive to (3, size, size), keep none; returns how many there were.

    in_threads: even if there are so many that a pack of them is made with processes.
    """
    store = open_store(archive, Report())
    store = store.holding(store.members)
    job = partial(_decode_only, store.read, crop, size)
    with in_order(job, store, list(store.members), size, in_threads) as counts:
        return sum(counts)


def _decode_only(read: Read, crop: Crop, size: int, members: Sequence[Any]) -> int:
    return len(decode_group(read, crop, size, members)[1])
