"""What every kind of labels gives a protocol, and what they share in scoring."""

from collections.abc import Sequence
from typing import Protocol, Self

from mdebench.data.pack import Pack
from mdebench.evaluation.passes import Indices
from mdebench.evaluation.readouts import Predictions, Readout, Task
from mdebench.results.rows import Measurement


class Scored(Protocol):
    """Labels of a pack: what a readout is trained on, and the number that it is measured by."""

    @property
    def task(self) -> Task:
        """What to train on."""

    @property
    def rows(self) -> Indices:
        """The images that `headline` is about, ascending; all of them are in `task.evaluate`."""

    @classmethod
    def lacking(cls, pack: Pack) -> str | None:
        """Why this pack has not the labels that it takes, or None."""

    @classmethod
    def of(cls, pack: Pack) -> Self:
        """The labels of a pack that lacks nothing."""

    def headline(self, readout: Readout) -> Measurement:
        """The main metric of predictions (len(rows), k), or of (draws, len(rows), k) its mean over the draws."""


def known(pack: Pack, kinds: Sequence[type[Scored]]) -> list[Scored]:
    """The labels that the pack has, among the kinds."""
    return [kind.of(pack) for kind in kinds if kind.lacking(pack) is None]


def lacking(pack: Pack, kinds: Sequence[type[Scored]]) -> str | None:
    """Why this pack has none of these kinds of labels, or None where it has one."""
    reasons = [kind.lacking(pack) for kind in kinds]
    return None if None in reasons else "; ".join(dict.fromkeys(filter(None, reasons)))


def left_out(count: int, what: str) -> str:
    """That so many test images are left out, and what they lack; "" for none."""
    return f"{count:,} {what} left out" if count else ""


def join(*notes: str) -> str:
    """One note of several, some of which may be empty."""
    return "; ".join(filter(None, notes))


def draws(predictions: Predictions) -> Predictions:
    """(n, k) or (draws, n, k) → (draws, n, k)."""
    return predictions.reshape(-1, *predictions.shape[-2:])
