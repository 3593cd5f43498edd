"""How a protocol's rows are shown: its metrics, with titles, units and the better way, its tables, charts, references.

A protocol's file says it in ``DISPLAY``; one that says nothing gets a table and a chart of all that it measured.
Everything here is plain data, so that what a stranger's protocol said stands beside its rows, and tables, figures and
report show them without its code.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, is_dataclass, replace
from types import NoneType, UnionType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from mdebench.variants import VARIANTS

Better = Literal["higher", "lower", ""]
Kind = Literal["bars", "dots", "curves", "distribution"]


class Reference(NamedTuple):
    """A line that others are compared with: its method, its name in a sentence, and whether each column compares with
    this line in its own setting, where there is a choice (else in that of `Column.reference`)."""

    method: str
    called: str
    same_setting: bool = False


PROBE = "frozen-probe"  # the readout that serves raw pixels best, and so the one others are compared with
CONTROLS = {"shuffled-labels": "shuffled labels", "shuffled-images": "shuffled images"}  # what must teach nothing
HEAD = ("updates", "batch_size", "learning_rate", "beta1", "annealing_power")  # how a head is trained
PIXELS = Reference("pixels", "raw pixels")
RANDOM = Reference("random", "random weights", same_setting=True)
CONSTANT = Reference("constant", "a constant", same_setting=True)
BIHARMONIC = Reference("biharmonic", "the biharmonic fill")
MEAN_COLOUR = Reference("mean_colour", "the mean colour")
FILLS = (BIHARMONIC, MEAN_COLOUR)  # what a completion is compared with
CODES = (PIXELS._replace(same_setting=True), RANDOM, CONSTANT)  # and what a representation is


@dataclass(frozen=True)
class Metric:
    """One metric of a protocol: a block of its table, a panel of its chart.

    ``title`` heads the block, ``unit`` the columns; ``better`` "" says nothing of a method, and is compared with
    nothing; ``told``: the table's plain words speak of it; ``by_judge``: means nothing beside another judge's;
    ``axis`` and ``axis_unit`` stand at a chart's axis in the place of title and unit; ``home``: the (protocol, setting)
    in which references are read where they have no
    value of their own (of the code, where it reads stages), shown and compared with here too.
    """

    name: str
    title: str = ""
    unit: str = ""
    better: Better = ""
    told: bool = False
    digits: int = 2
    by_judge: bool = False
    axis: str = ""
    axis_unit: str | None = None
    home: tuple[str, str] | None = None

    @property
    def axis_title(self) -> str:
        """What a chart's axis says: name, unit, and which way is better."""
        name, unit = self.axis or self.title or self.name, self.unit if self.axis_unit is None else self.axis_unit
        note = ", ".join(filter(None, (unit, f"{self.better} is better" if self.better else "")))
        return f"{name} ({note})" if note else name


class Crossing(NamedTuple):
    """From which level on a line is better than its table's reference: what the levels are called, their unit, and the
    setting and number of each, ascending."""

    title: str
    unit: str
    levels: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class TableOf:
    """A table: metrics by name, the line that the marks compare with, and all lines that the plain words speak of.

    ``published`` names a file of results/paper whose numbers, of other data, stand in blocks of their own.
    ``settings`` are those shown as columns, () for all; of ``lines_with`` settings a line must have one to be shown.
    A block is of one metric; ``by_setting``: of one setting, its columns the metrics. Where settings are "place,
    manner" ("place" alone: the manner ""), ``manners`` are (manner, called so) and have a block each; the last is the
    one that counts, and in which a reference stands where it was not read in another.
    ``crossings`` have a column each, for each metric, in a block of their own: the level at which a line overtakes the
    reference. Tables of one name from several protocols are one table.
    """

    name: str
    title: str
    metrics: tuple[str, ...]
    reference: Reference
    references: tuple[Reference, ...] = ()
    settings: tuple[str, ...] = ()
    lines_with: tuple[str, ...] = ()
    by_setting: bool = False
    manners: tuple[tuple[str, str], ...] = ()
    crossings: tuple[Crossing, ...] = ()
    published: str = ""


@dataclass(frozen=True)
class ChartOf:
    """A chart: a panel for each metric, a mark for each line and setting.

    ``kind``: "bars" from zero, "dots" with intervals, or "curves" over the settings, which stand in ``order``, others
    after them; "distribution": which share of the images has how much, from the values kept image by image. Lines
    across: fixed ``levels``, the value of a method by a metric's ``home`` (``across``), and the mean of the metric with
    an ending, "chance" for ``{metric}/chance`` (``marks``). ``origin`` is the setting where a line stood before, drawn
    as a tick; ``start`` a first setting at which every line has a value.
    Charts of one name from several protocols are one chart.
    """

    name: str
    title: str
    metrics: tuple[str, ...]
    kind: Kind = "bars"
    note: str = ""
    order: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    lines_with: tuple[str, ...] = ()
    levels: tuple[tuple[str, float], ...] = ()
    across: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    origin: str = ""
    start: tuple[str, float] | None = None
    started: tuple[str, ...] = ()  # the metrics that have a start


@dataclass(frozen=True)
class Display:
    """All that is said about a protocol's rows. ``tables`` and ``charts`` None: one each of all ``metrics``.

    ``version``, ``needs`` and ``source`` are the protocol's own, filled in where it is loaded; without ``metrics`` the
    rows tell which there are.
    """

    title: str = ""
    metrics: tuple[Metric, ...] = ()
    reference: Reference | None = None
    references: tuple[Reference, ...] = ()
    tables: tuple[TableOf, ...] | None = None
    charts: tuple[ChartOf, ...] | None = None
    version: int = 0
    needs: str = ""
    source: str = ""

    def metric(self, name: str) -> Metric:
        """The metric of that name; one that is only known by name where the protocol does not speak of it."""
        return next((m for m in self.metrics if m.name == name), Metric(name, name, by_judge=True))

    def shown_for(self, protocol: str, metrics: Iterable[tuple[str, str]]) -> "Display":
        """The same with all defaults filled in, given the (name, unit) of the metrics that there are rows of.

        Where it speaks of none of these, they are shown as if it had said nothing: no protocol's rows are forgotten.
        """
        found = tuple(Metric(name, name, unit, by_judge=True) for name, unit in metrics)
        spoken_of = {metric.name for metric in self.metrics} & {metric.name for metric in found}
        known = self.metrics if spoken_of or self.tables is not None or not found else found
        known = known or found
        completes = self.needs == "complete"
        reference = self.reference or (BIHARMONIC if completes else CODES[0])
        references = self.references or (FILLS if completes else CODES)
        title = self.title or protocol.replace("_", " ").capitalize()
        names = tuple(metric.name for metric in known)
        told = tuple(metric.name for metric in known if metric.told) or names
        tables = (TableOf(protocol, title, names, reference, references),) if self.tables is None else self.tables
        charts = (ChartOf(protocol, title, told),) if self.charts is None else self.charts
        return replace(self, title=title, metrics=known, reference=reference, tables=tables, charts=charts)


Displays = Mapping[str, Display]  # protocol → what it says
SILENT = Display()


def versions(displays: Displays) -> dict[str, int]:
    """Protocol → its version now."""
    return {name: display.version for name, display in displays.items()}


def from_plain(plain: Any, kind: Any = Display) -> Any:
    """The display whose ``asdict`` was written as JSON; ValueError, KeyError, TypeError, AttributeError else."""
    if get_origin(kind) in (Union, UnionType):
        return None if plain is None else from_plain(plain, next(k for k in get_args(kind) if k is not NoneType))
    if get_origin(kind) is Literal:
        return get_args(kind)[get_args(kind).index(plain)]
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{name: from_plain(value, hints[name]) for name, value in plain.items()})
    if kind in (str, int, float, bool):
        if not isinstance(plain, (int, float) if kind is float else kind) or isinstance(plain, bool) is not (
            kind is bool
        ):
            raise ValueError(f"{plain!r} is no {kind.__name__}")
        return plain
    if not isinstance(plain, list | tuple):
        raise ValueError(f"{plain!r} is no list")
    if hasattr(kind, "_fields"):
        return kind(*(from_plain(value, own) for value, own in zip(plain, get_type_hints(kind).values(), strict=True)))
    each, *more = get_args(kind)
    kinds = [each] * len(plain) if more == [...] else [each, *more]
    return tuple(from_plain(value, own) for value, own in zip(plain, kinds, strict=True))


ORDER = ("clean", "probe", "knn", *VARIANTS, "step", "stage", "code")  # of settings, by their first word


def setting_order(setting: str) -> tuple[int, float, str]:
    """Sorts settings: by their first word as in `ORDER`, then by their number ("rec 0.1" before "rec 0.5")."""
    word = next((word for word in sorted(ORDER, key=len, reverse=True) if setting.startswith(word)), "")
    number = re.search(r"\d*\.?\d+", setting.removeprefix(word))
    return ORDER.index(word) if word else len(ORDER), float(number[0]) if number else 0.0, setting


def used(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a protocol's settings that a unit was measured with: a probe is solved, and none of a head's are its."""
    solved = str(settings.get("setting", "")).startswith((PROBE, "controls"))
    return {name: value for name, value in settings.items() if not (solved and name in HEAD)}


def spoken(setting: str) -> str:
    """A setting in words: "frozen-probe-1%" → "1 % of the labels", "left_half" → "left half"."""
    if head := re.fullmatch(r"frozen-head-(\d+)", setting):
        return f"head of {int(head[1]):,} updates"
    if few := re.fullmatch(r".*probe-(\d+)%", setting):
        return f"{few[1]} % of the labels"
    return "all labels" if setting == PROBE else setting.replace("_", " ")
