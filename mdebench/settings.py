"""Settings are frozen dataclasses; overrides and scales are checked against them; a wrong key is told the nearest.

A *scale* is a named set of values in one place: how large the networks and how long the training; each value can be
overridden by ``--set name=value``.
"""

import math
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

from mdebench.errors import UserError

T = TypeVar("T")


@dataclass(frozen=True)
class Range:
    """Which numbers a setting may be, in words and as a test; it stands in the setting's type, as `Count` has it."""

    told: str
    holds: Callable[[float], bool]


Count = Annotated[int, Range("at least 1", lambda value: value >= 1)]
Depth = Annotated[int, Range("from 1 to 1,000", lambda value: 1 <= value <= 1000)]  # layers, made one by one
Rate = Annotated[float, Range("above 0", lambda value: value > 0)]
Weight = Annotated[float, Range("at least 0", lambda value: value >= 0)]
Share = Annotated[float, Range("at least 0 and below 1", lambda value: 0 <= value < 1)]

LARGEST = 2**31 - 1  # of the whole numbers that settings may be
SEEDS = 2**63  # seeds are below: what torch draws from, and rows keep


@dataclass(frozen=True)
class Scale:
    """Values that a scale sets, in a recipe and in a method's settings where it has a field of that name.

    ``size`` pixels, base ``width`` in channels, ``code`` in numbers, ``batch`` in images, ``updates`` in steps. What an
    experiment takes where it is not told otherwise: test ``images`` to complete, and ``faces`` of the embedded data.
    """

    size: int
    width: int
    code: int
    losses: str
    perceptual: str
    batch: int
    updates: int
    images: int = 1000
    faces: int = 20_000


SCALES = {
    # Section 2.5: 96×96, width 64, code 4000, the full loss, 300,000 updates at batch 24.
    "paper": Scale(96, 64, 4000, "vgg+adv+hns_coord", "imagenet", 24, 300_000),
    "medium": Scale(64, 32, 2000, "vgg+adv+hns_coord", "imagenet", 24, 30_000),
    # Minutes on two CPU cores, so no perceptual network: its weights are seldom at hand, and it outweighs G and D.
    "small": Scale(64, 16, 1000, "compl+adv+hns_coord", "none", 24, 3_000),
    # Seconds: for the demo and the tests.
    "tiny": Scale(64, 8, 256, "compl+adv+hns_coord", "none", 24, 200, images=100, faces=6_000),
}


def suggest(word: str, options: Iterable[str]) -> str:
    """`` Did you mean 'x'?`` for the nearest of ``options``, or an empty string."""
    from difflib import get_close_matches  # not on the way to --help

    near = get_close_matches(word, list(options), n=1, cutoff=0.5)
    return f" Did you mean {near[0]!r}?" if near else ""


def choose(word: str, options: Mapping[str, T], what: str) -> T:
    """``options[word]``; UserError with the list and a suggestion when there is none."""
    if word not in options:
        raise UserError(f"there is no {what} {word!r}.{suggest(word, options)} Choose among: {', '.join(options)}.")
    return options[word]


def check_phases(phases: tuple[int, ...], such_as: str) -> None:
    """UserError unless ``phases`` are shares of a run, as many as in the example ``such_as``, and not all of them 0."""
    many = such_as.count(",") + 1
    if len(phases) != many or min(phases) < 0 or not any(phases):
        raise UserError(f"phases={phases}: expected {many} shares of the run, none negative, such as {such_as}")


def build(cls: type[T], overrides: Mapping[str, Any]) -> T:
    """An instance of the frozen dataclass ``cls``; values may be strings, as they come from a command line.

    UserError for an unknown key or a value of the wrong type, with the nearest right key.
    """
    hints = get_type_hints(cls, include_extras=True)
    names = [f.name for f in fields(cls)]  # type: ignore[arg-type]  # every Settings is a dataclass
    values = {}
    for key, value in overrides.items():
        if key not in names:
            raise UserError(f"there is no setting {key!r}.{suggest(key, names)} Settings: {', '.join(names)}.")
        values[key] = _convert(value, hints[key], key)
    return cls(**values)


def _convert(value: Any, hint: Any, key: str) -> Any:
    """``value`` as the type ``hint``: int, float, str, bool, tuple[X, ...] or a union of these with None.

    Numbers may have a `Range`; they are finite, and written in ASCII.
    """
    if get_origin(hint) in (Union, types.UnionType):
        if value is None or value == "none":
            return None
        hint = next(h for h in get_args(hint) if h is not types.NoneType)
    if get_origin(hint) is Annotated:
        plain, allowed = get_args(hint)
        number = _convert(value, plain, key)
        if not allowed.holds(number):
            raise UserError(f"setting {key}={value} is to be {allowed.told}")
        return number
    if get_origin(hint) is tuple:
        parts = value.split(",") if isinstance(value, str) else list(value)
        return tuple(_convert(part, get_args(hint)[0], key) for part in parts if part != "")
    wrong = UserError(f"setting {key}={value!r} is not {_NAMES[hint]}")
    if hint is bool:
        answers = {"true": True, "false": False, "1": True, "0": False}
        if str(value).lower() not in answers:
            raise wrong
        return answers[str(value).lower()]
    if isinstance(value, bool) or (hint is int and isinstance(value, float)):
        raise wrong
    if hint is not str and isinstance(value, str) and not value.isascii():
        raise wrong  # Python reads the digits of every script; names of runs and rows would have them
    try:
        found = hint(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise wrong from error
    if hint is float and not math.isfinite(found):
        raise UserError(f"setting {key}={value} is no finite number")
    if hint is int and abs(found) > LARGEST:
        raise UserError(f"setting {key}={value} is too large: whole numbers end at {LARGEST:,}")
    return found


def whole(text: object, what: str, least: int = 1, most: int = LARGEST) -> int:
    """A whole number of a recipe, which may be a text; UserError for anything else, or one out of its range."""
    wrong = UserError(f"{what}={text} is not a whole number from {least:,} to {most:,}")
    if isinstance(text, bool | float) or not str(text).isascii():
        raise wrong
    try:
        value = int(str(text))
    except ValueError as error:  # also for one of more digits than Python reads
        raise wrong from error
    if not least <= value <= most:
        raise wrong
    return value


_NAMES = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}


def parse_overrides(pairs: Iterable[str]) -> dict[str, str]:
    """``["adv_weight=0.02"]`` → ``{"adv_weight": "0.02"}``; UserError for an entry without ``=``."""
    values = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals or not key:
            raise UserError(f"--set {pair}: expected name=value, such as --set adv_weight=0.02")
        values[key] = value
    return values
