"""Twins: images of a pack with the same pixels. One that is tested on must not have been learned from.

Partitions stand in the order in which they are used: train learns, val chooses, test judges. An image whose twin stands
in an earlier partition is a leak; twins within one partition are only told.
"""

import numpy as np
from numpy.typing import NDArray

from mdebench.data.pack import SPLITS
from mdebench.data.report import Report


def find_twins(
    digests: NDArray[np.uint64], split: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Of each image (N,): the first of its twins in the earliest partition (itself where it is that), whether it leaks
    (that one stands in an earlier partition), and whether it repeats one of its own partition."""
    order = np.lexsort((np.arange(len(split)), split, digests))  # equal digests together, the earliest first
    begins = np.r_[True, digests[order][1:] != digests[order][:-1]][: len(order)]
    earliest = np.empty(len(order), np.int64)
    earliest[order] = order[begins][np.cumsum(begins) - 1]
    leaks = split[earliest] < split
    return earliest, leaks, ~leaks & (earliest != np.arange(len(split)))


def tell_twins(
    digests: NDArray[np.uint64], split: NDArray[np.integer], names: list[str], keep: bool, report: Report
) -> NDArray[np.bool_]:
    """Which images leak (N,); they and the other twins are told, the former as left out or, with ``keep``, as kept."""
    earliest, leaks, repeats = find_twins(digests, split)
    for row in np.flatnonzero(leaks):
        own, other = SPLITS[split[row]], SPLITS[split[earliest[row]]]
        report.add("kept_twin" if keep else "twin", f"{names[row]} of {own} = {names[earliest[row]]} of {other}")
    for row in np.flatnonzero(repeats):
        report.add("repeated", f"{names[row]} = {names[earliest[row]]}")
    return leaks
