"""What a look at something says: what it looked at, what is wrong and what to do, what is worth knowing."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mdebench import files
from mdebench.errors import UserError

Kind = Literal["fact", "looking at", "looked at", "note", "finding", "not looked at"]


@dataclass(frozen=True)
class Told:
    """A sentence and its kind: a finding wants something done, a note does not, a fact is of the machine.

    ``looking at`` says what takes a while now. ``way_on`` is what to do about a finding, where the sentence does not
    say it; ``fix`` does it where that is safe, and may raise a UserError or OSError.
    """

    kind: Kind
    text: str
    way_on: str = ""
    fix: Callable[[], object] | None = None

    def __str__(self) -> str:
        return f"{self.text}; {self.way_on}" if self.way_on else self.text


def wrong(
    path: Path, way_on: str, work: Callable[[], object], fix: Callable[[], object] | None = None
) -> Iterator[Told]:
    """A finding where ``work``, which reads ``path``, raises what a damaged or absent file may make it raise.

    ``way_on`` is told where it is not the reader's own sentence that says what to do.
    """
    try:
        with files.reading(path, way_on):
            work()
    except FileNotFoundError:
        yield Told("finding", f"{path} is missing", way_on, fix)
    except UserError as error:
        yield Told("finding", str(error), fix=fix)


def alone(path: Path, part: Iterator[Told]) -> Iterator[Told]:
    """What a part of a look says; where ``path`` may not even be listed, that instead of the rest of this part."""
    try:
        yield from part
    except OSError as error:
        what = f"{error.filename or path} cannot be looked at ({files.said(error)})"
        yield Told("finding", what, "permit it, or have its owner look")
    except UserError as error:
        yield Told("finding", str(error))
