"""Many images decoded by workers, in order and a little ahead of whoever takes them.

Few images are decoded in threads, many in processes; what comes of it is the same.
"""

import os
import signal
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, Executor, Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any, TypeVar

import loky
import numpy as np
from loky.backend.synchronize import RLock
from numpy.typing import NDArray

from mdebench.data import decode as decoder
from mdebench.data.decode import Crop, decode
from mdebench.data.report import Report
from mdebench.data.store import BadImage, ImageStore, Read, read_member
from mdebench.data.writer import Progress
from mdebench.errors import UserError

GROUP = 128  # images that a worker takes at a time, at most
GROUP_BYTES = 2**22  # of their pixels, at most
AHEAD = 32  # groups under way or waiting: what is decoded while CelebA's labels are read
MANY = 4_000  # images that are worth the half second in which processes start

T = TypeVar("T")
# Of an image: the kind for which it is left out with what more is to be said, or the kinds of what had to be converted.
Outcome = tuple[str, str] | set[str]


@dataclass(frozen=True)
class Cut:
    """A member of a store with a crop of its own, as of one of the faces of a picture."""

    member: Any
    crop: Crop


@dataclass(frozen=True)
class Decoded:
    """Some images of a list: their rows in it, ascending, and for each the pixels, the box they were cut from, and the
    kinds of what had to be done to it.
    """

    rows: NDArray[np.int64]  # (n,)
    images: NDArray[np.uint8]  # (n, 3, size, size)
    boxes: NDArray[np.float64]  # (n, 4)
    kinds: list[set[str]]


@contextmanager
def decoding(
    store: ImageStore,
    keys: Sequence[str],
    crop: Crop | Mapping[str, Crop],
    size: int,
    report: Report,
    progress: Progress,
) -> Iterator[Iterator[Decoded]]:
    """The images of `keys` in order, in groups; those left out are missing from `rows`.

    ``crop`` is that of all, or of each key its own; crops may be handed to another process.
    Workers begin when the block is entered: labels are read, and images hashed and written, beside them. UserError when
    a worker dies.
    """

    def decoded() -> Iterator[Decoded]:
        done = 0
        for outcomes, images, boxes in groups:
            rows, kept = [], []
            for row, outcome in enumerate(outcomes, done):
                if isinstance(outcome, tuple):
                    kind, detail = outcome
                    report.add(kind, f"{keys[row]} ({detail})" if detail else keys[row])
                    continue
                rows.append(row)
                kept.append(outcome)
                for kind in sorted(outcome):
                    report.add(kind, keys[row])
            if rows:
                yield Decoded(np.array(rows), images, boxes, kept)
            done += len(outcomes)
            progress(done, len(keys))

    held = store.holding(keys)
    if isinstance(crop, Mapping):
        held = replace(held, members={key: Cut(held.member(key), crop[key]) for key in keys})
    common = decoder.centre_square if isinstance(crop, Mapping) else crop
    with in_order(partial(decode_group, held.read, common, size), held, keys, size) as groups:
        yield decoded()


@contextmanager
def in_order(
    job: Callable[[list[Any]], T], store: ImageStore, keys: Sequence[str], size: int, in_threads: bool = False
) -> Iterator[Iterator[T]]:
    """What workers make of the members of `keys`, group by group, `AHEAD` of them under way from the first moment on.

    in_threads: even if there are many keys. UserError when a worker dies.
    """

    def submit(count: int) -> None:
        under_way.extend(pool.submit(job, members) for members in islice(groups, count))

    def done() -> Iterator[T]:
        while under_way:
            result = under_way.popleft().result()
            submit(1)
            yield result

    groups = in_groups(store, keys, size)
    under_way: deque[Future[T]] = deque()
    with workers(0 if in_threads else len(keys)) as pool:
        try:
            submit(AHEAD)
            yield done()
        except BrokenExecutor as error:
            raise UserError(
                "A process that decoded images died, for want of memory or of an image that crashes the decoder; "
                "nothing was made. Free some memory and try again."
            ) from error
        except RuntimeError as error:
            if "thread" not in str(error):
                raise
            raise UserError(f"Images cannot be decoded here ({error}): end what else runs, and try again.") from error
        finally:
            for future in under_way:
                future.cancel()


def workers(images: int) -> Executor:
    """Who decodes so many images: threads, or from `MANY` on processes.

    Decoding a small image leaves Python's lock a few times for some 50 µs each, and handing it over takes as long: two
    threads were hardly faster than one, two processes twice as fast.
    """
    count = min(16, loky.cpu_count())
    if images < MANY:
        return ThreadPoolExecutor(count)
    shared = (os.getpid(), RLock())
    executor: Executor = loky.ProcessPoolExecutor(count, initializer=_start_worker, initargs=shared)
    return executor


def _start_worker(parent: int, one_at_a_time: AbstractContextManager[object]) -> None:
    """Leave warnings and Ctrl-C to the parent, end when it does, however it ends, and take turns at large images."""
    decoder.one_at_a_time = one_at_a_time
    warnings.simplefilter("ignore")
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def in_groups(store: ImageStore, keys: Sequence[str], size: int) -> Iterator[list[Any]]:
    """The members of `keys` in groups for workers: of `GROUP`, of `GROUP_BYTES` of pixels, or a sixty-fourth of all."""
    most = max(1, min(GROUP, GROUP_BYTES // (3 * size**2), len(keys) // 64))
    for start in range(0, len(keys), most):
        yield [store.member(key) for key in keys[start : start + most]]


def decode_group(
    read: Read, crop: Crop, size: int, members: Sequence[Any]
) -> tuple[list[Outcome], NDArray[np.uint8], NDArray[np.float64]]:
    """What becomes of each member, and the pixels (n, 3, size, size) and boxes (n, 4) of those that are kept.

    A `Cut` has its own crop in the place of ``crop``.
    """
    outcomes: list[Outcome] = []
    images, boxes = [], []
    for member in members:
        cut = member if isinstance(member, Cut) else Cut(member, crop)
        try:
            pixels, box, kinds = decode(read_member(read, cut.member), cut.crop, size)
        except BadImage as verdict:
            outcomes.append((str(verdict), verdict.detail))
        else:
            outcomes.append(kinds)
            images.append(pixels)
            boxes.append(box)
    return outcomes, np.array(images, np.uint8).reshape(-1, 3, size, size), np.array(boxes).reshape(-1, 4)
