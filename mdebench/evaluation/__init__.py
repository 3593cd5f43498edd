"""Measuring: what a protocol is given (``contract``), passes over a pack, readouts, tasks, metrics with their intervals
over test images, the masks of test scenarios, the judge (``judging``), measuring a run, and encoders taken out
(``encoders``).

Others may import what stands in this file, which is what a protocol's file needs, and any of its modules.
"""

from mdebench.evaluation.contract import Cost, Subject
from mdebench.evaluation.metrics import measure_mean
from mdebench.evaluation.passes import Indices, chunks, encode, frozen, load
from mdebench.results.displays import (
    BIHARMONIC,
    CODES,
    CONSTANT,
    FILLS,
    MEAN_COLOUR,
    PIXELS,
    RANDOM,
    ChartOf,
    Display,
    Metric,
    Reference,
    TableOf,
)
from mdebench.results.rows import Measurement

__all__ = ["BIHARMONIC", "CODES", "CONSTANT", "FILLS", "MEAN_COLOUR", "PIXELS", "RANDOM"]
__all__ += ["ChartOf", "Cost", "Display", "Indices", "Measurement", "Metric", "Reference", "Subject", "TableOf"]
__all__ += ["chunks", "encode", "frozen", "load", "measure_mean"]
