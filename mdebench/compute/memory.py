"""Memory: what one update frees is kept for the next, how much is free, and a sentence where there is not enough.

The C library of Linux gives large blocks back to the system when they are freed, and the system clears every page of
them before it hands them out again. An update frees and takes the same blocks over and over: at paper scale that was
120,000 page faults an update, a fifth of its time.
"""

import ctypes
import re
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from mdebench.errors import UserError
from mdebench.files import wants_memory
from mdebench.words import size

if TYPE_CHECKING:
    import torch

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD and M_MMAP_THRESHOLD of <malloc.h>
_NEVER = 2**31 - 1  # bytes: the largest that mallopt takes


@cache
def keep_freed_memory() -> None:
    """From now on this process keeps what it frees, up to its own peak. Nothing happens where there is no mallopt."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # not glibc: macOS, Windows, musl
        return
    mallopt(_TRIM_THRESHOLD, _NEVER)
    mallopt(_MMAP_THRESHOLD, _NEVER)


def free_memory(gpu: "torch.device | None" = None) -> float:
    """Bytes that this process can still get, of the machine's memory or of a GPU's: what is available, swap included,
    within the limits that are set for it (control group, address space); infinite where nobody says."""
    if gpu is not None:
        import torch  # `doctor` looks at machines where it cannot be imported

        return float(torch.cuda.mem_get_info(gpu)[0])
    limits = []
    with suppress(OSError, ValueError):
        kilobytes = dict(re.findall(r"(\w+): *(\d+) kB", Path("/proc/meminfo").read_text()))
        limits.append(1024.0 * (int(kilobytes["MemAvailable"]) + int(kilobytes["SwapFree"])))
    with suppress(OSError, ValueError):  # "max" where there is no limit
        group = Path("/sys/fs/cgroup")
        limits.append(float((group / "memory.max").read_text()) - float((group / "memory.current").read_text()))
    with suppress(OSError, ValueError):
        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        if most != resource.RLIM_INFINITY:
            limits.append(float(most) - resource.getpagesize() * int(Path("/proc/self/statm").read_text().split()[0]))
    return min(limits, default=float("inf"))


@contextmanager
def enough_memory(what: str, way_on: str) -> Iterator[None]:
    """UserError where there is not enough memory for what is done in here: how much was asked for, and ``way_on``."""
    try:
        yield
    except Exception as error:
        if not wants_memory(error):
            raise
        asked = re.search(r"(?:tried|unable) to allocate ([\d.]+) ?(bytes|[KMGTPE]iB)", str(error), re.IGNORECASE)
        told = f" ({size(float(asked[1]) * _UNITS[asked[2].lower()])} more were asked for)" if asked else ""
        raise UserError(f"there is not enough memory for {what}{told}; {way_on}") from error


_UNITS = {"bytes": 1.0, "kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30, "tib": 2.0**40, "pib": 2.0**50, "eib": 2.0**60}
