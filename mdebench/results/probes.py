"""Probes on the way: what a code knew after so many updates of its training, in a file for each run.

A line is one look at one network: who it is, after how many updates, and numbers with the value of each validation
image, so that a figure, and the budget at which a code passes raw pixels, can be made again from them alone.
"""

import base64
import math
import re
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mdebench import files
from mdebench.errors import UserError
from mdebench.home import Home
from mdebench.results.intervals import grouped
from mdebench.results.lines import with_lines

Floats = NDArray[np.float64]
VERSION = 1  # of how a network is looked at; older files are measured otherwise, and a resumed run does not add to them
WAY_ON = "delete it; the probes of that run are gone then"
REFERENCES = ("pixels", "random", "constant")  # looked at once for a pack and scale, in files of their own
RESAMPLES = 1000  # of the people on the validation images
REACH = 1000  # how many times the longest training a budget may be extrapolated to
_TEXTS = ("run", "method", "label", "dataset", "pack_hash", "pack_note", "scale", "losses", "perceptual", "precision")


@dataclass(frozen=True)
class Schedule:
    """After which updates to look: every so many (0: never), and at each of some; always before the first, after the
    last."""

    every: int = 0
    at: tuple[int, ...] = ()

    def due(self, step: int, updates: int) -> bool:
        """Whether to look after ``step`` of so many updates."""
        return step in (0, updates, *self.at) or bool(self.every and step % self.every == 0)


def read_updates(text: str) -> tuple[int, ...]:
    """Updates in words, "300,1k,3k,10k": ascending; UserError for anything else."""
    found = []
    for part in text.split(","):
        if not (told := re.fullmatch(r"([1-9][0-9]{0,8})(k?)", part.strip(), re.ASCII)):
            raise UserError(f"{part.strip()!r} is no number of updates: give them like 300,1k,3k,10k")
        found.append(int(told[1]) * (1000 if told[2] else 1))
    return tuple(sorted(set(found)))


@dataclass(frozen=True)
class Budget:
    """From how many updates on an error is at most a reference's: `value`, with its 95 % interval [low, high].

    `how`: "crossed" between two probes, "from the start" (the first probe was no worse), "extrapolated" beyond the last
    one, or "out of reach": not within `REACH` times the longest training, where the value is infinite. An end of the
    interval is infinite where so many of the resamples never get there.
    """

    value: float
    low: float
    high: float
    how: str


def path_of(home: Home, run: str) -> Path:
    """Where the probes of a run stand."""
    return home.probes / f"{run}.jsonl"


def read(path: Path) -> list[dict[str, Any]]:
    """The looks at a run, by their updates; none where there is no file. Damaged."""
    try:
        lines = [line for _, line in files.read_lines(path, WAY_ON, _checked)]
    except FileNotFoundError:
        return []
    return sorted(lines, key=lambda line: int(line["step"]))


def write(path: Path, lines: Sequence[Mapping[str, Any]]) -> None:
    """Write the looks at a run, whole or not at all; UserError on a full disk."""
    files.write_atomically(path, b"".join(map(files.json_line, lines)))


def packed(values: NDArray[Any], dtype: str = "<f2") -> str:
    """Values (n,) as text, by default in half precision: enough for an interval, and small in a repository."""
    return base64.b64encode(zlib.compress(values.astype(dtype).tobytes(), 9)).decode()


def unpacked(text: str, dtype: str = "<f2") -> NDArray[Any]:
    """(n,) values, as `packed` wrote them; ValueError or zlib.error for any other text."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype)


def table(home: Home) -> pd.DataFrame:
    """A row for each metric of each look, with a column `line` as the tables name it; empty where there are none."""
    rows = []
    for path in sorted(home.probes.glob("*.jsonl")):
        for look in read(path):
            if look["version"] == VERSION:
                facts = {key: value for key, value in look.items() if key != "measured"}
                rows += [{**facts, **measured} for measured in look["measured"]]
    return with_lines(pd.DataFrame(rows)) if rows else pd.DataFrame()


def budget(steps: Sequence[int], errors: Sequence[Floats], reference: Floats, people: NDArray[np.int64]) -> Budget:
    """From how many updates on the mean of `errors` (n,), one of each of `steps`, is at most that of `reference` (n,).
    Errors are not below 0.

    Between two probes the mean is taken to be linear in the logarithm of the updates; beyond the last one it goes on as
    a + b · updates^-c, fitted by least squares to all probes but that of update 0 (three at least; a within [0, the
    least error)). The interval: percentiles over `RESAMPLES` draws of `people` (n,) with replacement, -1 alone.
    """
    every = np.stack([*errors, reference])
    found, how = _budget(steps, every.mean(axis=1))
    group = grouped(people, every.shape[1])
    sums = np.stack([np.bincount(group, values) for values in every])  # of each person
    sizes = np.bincount(group)
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, len(sizes), (RESAMPLES, len(sizes)))
    means = sums[:, drawn].sum(axis=2) / sizes[drawn].sum(axis=1)
    again = np.array([_budget(steps, mean)[0] for mean in means.T])
    low, high = np.quantile(again, [0.025, 0.975], method="nearest")
    return Budget(found, float(low), float(high), how)


def _budget(steps: Sequence[int], means: Floats) -> tuple[float, str]:
    """The budget of mean errors, the last of which is the reference's."""
    *curve, level = means.tolist()
    if curve[0] <= level:
        return float(steps[0]), "from the start"
    for k in range(1, len(curve)):
        if curve[k] <= level:
            share = (curve[k - 1] - level) / (curve[k - 1] - curve[k])
            begin = math.log(max(steps[k - 1], 1))
            return math.exp(begin + share * (math.log(steps[k]) - begin)), "crossed"
    return _extrapolated(np.array(steps, np.float64), np.array(curve), level)


def _extrapolated(steps: Floats, curve: Floats, level: float) -> tuple[float, str]:
    """Where a + b · n^-c, the curve of least squares over a, b > 0 and c > 0, comes down to the level."""
    nowhere = math.inf, "out of reach"
    steps, curve = steps[steps > 0], curve[steps > 0]
    if len(steps) < 3 or curve.min() <= 0:
        return nowhere
    logs = np.log(steps)
    floors = np.linspace(0, curve.min(), 50, endpoint=False)
    heights = np.log(curve - floors[:, None])  # a straight line over the logarithms where the floor is the right one
    beside = logs - logs.mean()
    slopes = heights @ beside / (beside @ beside)
    starts = heights.mean(axis=1) - slopes * logs.mean()
    misfits = np.square(floors[:, None] + np.exp(starts[:, None] + slopes[:, None] * logs) - curve).sum(axis=1)
    floor, start, slope = (float(part[misfits.argmin()]) for part in (floors, starts, slopes))
    if slope >= 0 or floor >= level:
        return nowhere
    log_found = (math.log(level - floor) - start) / slope
    return (math.exp(log_found), "extrapolated") if log_found <= logs[-1] + math.log(REACH) else nowhere


def _checked(look: dict[str, Any]) -> dict[str, Any]:
    """A look; ValueError where it is none."""
    if wrong := [name for name in _TEXTS if not isinstance(look.get(name), str)]:
        raise ValueError(f"{wrong[0]} is {look.get(wrong[0])!r:.40}, not a text")
    if wrong := [name for name in ("version", "step", "seed", "updates") if type(look.get(name)) is not int]:
        raise ValueError(f"{wrong[0]} is {look.get(wrong[0])!r:.40}, not a whole number")
    if not isinstance(look.get("settings"), dict) or not isinstance(look.get("measured"), list):
        raise ValueError("it says no settings or no measurements")
    return look
