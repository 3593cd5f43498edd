"""Decoding alone, which no way of packing can beat.

Every picture of an archive is read, decoded, cropped and shrunk by as many workers as a pack is made with, and nothing
is labelled, hashed, written or even handed back. In a file of its own, for its workers load it, and nothing heavy.
"""

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from itertools import islice
from pathlib import Path
from typing import Any

from mdebench.data.decode import Crop
from mdebench.data.report import Report
from mdebench.data.store import Read, open_store
from mdebench.data.workers import AHEAD, decode_group, in_groups, workers


def decode_alone(archive: Path, crop: Crop, size: int, in_threads: bool = False) -> int:
    """Decode every picture of an archive, keep none; returns how many there were.

    in_threads: even if there are so many that a pack of them is made with processes.
    """
    store = open_store(archive, Report())
    keys = list(store.members)
    with workers(0 if in_threads else len(keys)) as pool:

        def submit(count: int) -> None:
            for members in islice(groups, count):
                under_way.append(pool.submit(_decode_only, store.read, members, crop, size))

        groups, under_way, done = in_groups(store, keys, size), deque[Future[int]](), 0
        submit(AHEAD)
        while under_way:
            done += under_way.popleft().result()
            submit(1)
    return done


def _decode_only(read: Read, members: Sequence[Any], crop: Crop, size: int) -> int:
    return len(decode_group(read, members, crop, size)[1])
