"""The tables beyond the paper's, as each protocol says: a block for each metric, a column for each setting, unless it
says otherwise."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from typing import NamedTuple

import pandas as pd

from mdebench.results.cells import Block, Column, Line, Table, column
from mdebench.results.displays import PIXELS, PROBE, Metric, TableOf, setting_order, spoken
from mdebench.results.lines import TRIVIAL, judges, lines_of, short, with_settings
from mdebench.results.published import elsewhere, numbers, printed_lines
from mdebench.tables.overtaking import meaning, overtaking_block
from mdebench.tables.view import View


class Part(NamedTuple):
    """What one protocol puts into a table."""

    protocol: str
    table: TableOf


def protocol_tables(view: View) -> list[Table]:
    """Every table that a protocol with rows in the view asks for; those of one name together."""
    asked: dict[str, list[Part]] = defaultdict(list)
    for protocol in sorted(set(view.rows["protocol"])):
        for table in view.display(protocol).tables or ():
            asked[table.name].append(Part(protocol, table))
    made = (_build(view, parts) for parts in asked.values())
    return [table for table in made if table is not None]


class Piece(NamedTuple):
    """A block of a table, and the rows it shows."""

    block: Block
    rows: pd.DataFrame


def _build(view: View, parts: Sequence[Part]) -> Table | None:
    pieces = [piece for protocol, table in parts for piece in _pieces(view, protocol, table)]
    if not pieces:
        return None
    what = ["line", "seed", "protocol", "setting", "split", "metric", "judge"]
    rows = pd.concat([piece.rows for piece in pieces]).drop_duplicates(subset=what)
    first = parts[0].table
    blocks = [piece.block for piece in pieces]
    remarks = list[str]()
    for protocol, table in parts:
        paper = elsewhere(table.published)
        blocks += _printed(view, protocol, table, paper)
        remarks += dict.fromkeys(filter(None, paper.get("note", ())))
        if table.crossings and (crossed := overtaking_block(view, protocol, table)):
            blocks.append(crossed)
            remarks += meaning(table)
    return view.table(first.name, first.title, rows, blocks, first.reference, remarks)


def _printed(view: View, protocol: str, table: TableOf, paper: pd.DataFrame) -> Iterator[Block]:
    """A block for each published table of other data: its lines, and a column for each data set and metric."""
    titles = {m.name.partition("/")[0]: m.axis or m.title for m in view.display(protocol).metrics[::-1]}
    for (source, number), part in paper.groupby(["source", "table"], sort=False) if len(paper) else ():
        columns = [
            Column(f"{data}, {titles.get(metric, metric)}", "", data, metric, unit, published=True)
            for data, metric, unit in dict.fromkeys(zip(part["setting"], part["metric"], part["unit"]))
        ]
        lines = [Line(name, name, "", family) for _, name, family in printed_lines(part)]
        title = f"Published, {source}, Table {number}; other data, not measured here"
        yield view.block(title, columns, lines, table.reference, numbers(part))


def _pieces(view: View, protocol: str, table: TableOf) -> Iterator[Piece]:
    """A protocol's blocks: one for each setting, or for each metric, manner and judge."""
    metrics = [view.display(protocol).metric(name) for name in table.metrics]
    if table.by_setting:
        yield from _by_setting(view, protocol, table, metrics)
        return
    for metric in metrics:
        rows = _rows(view, protocol, metric, table)
        if rows.empty:
            continue
        if table.manners:
            yield from _by_manner(view, protocol, table, metric, rows)
            continue
        for judge in judges(rows, metric):
            here = rows[rows["judge"] == judge] if judge else rows
            title = f"{metric.title} ({short(judge)})" if judge else metric.title
            columns = [replace(each, judge=judge) for each in _columns(here, protocol, metric)]
            own = [each for each in columns if each.protocol == protocol] if metric.told else []
            yield _piece(view, title, columns, table, own, here)


def _by_setting(view: View, protocol: str, table: TableOf, metrics: Sequence[Metric]) -> Iterator[Piece]:
    """A block for each setting and split of which several metrics are known, with these as its columns."""
    rows = pd.concat([_rows(view, protocol, metric, table) for metric in metrics])
    found = rows[["setting", "split"]].drop_duplicates().itertuples(index=False, name=None)
    for setting, split in sorted(found, key=lambda place: (place[1] != "test", setting_order(place[0]))):
        here = rows[(rows["setting"] == setting) & (rows["split"] == split)]
        shown = [metric for metric in metrics if (here["metric"] == metric.name).any()]
        columns = [column(metric, metric.axis or metric.title, protocol, setting, split) for metric in shown]
        title = "Converged probe" if setting == PROBE else spoken(setting).capitalize()
        title += "" if split == "test" else f" ({split})"
        told = [each for each, metric in zip(columns, shown) if metric.told]
        if len(shown) > 1:
            yield _piece(view, title, columns, table, told, here)


def _by_manner(view: View, protocol: str, table: TableOf, metric: Metric, rows: pd.DataFrame) -> Iterator[Piece]:
    """A block for each manner of settings "place, manner", and split.

    Told are the last manner, and of the others the places where a trained line does best of all in that manner.
    """
    parts = {setting: setting.partition(", ")[::2] for setting in sorted(set(rows["setting"]), key=setting_order)}
    last, _ = table.manners[-1]
    leading = _leading(rows[[parts[setting][1] != last for setting in rows["setting"]]], metric)
    splits = sorted(set(rows["split"]), key=lambda split: (split != "test", split))
    for (manner, called), split in product(table.manners, splits):
        own = {setting: place for setting, (place, how) in parts.items() if how == manner}
        here = rows[rows["setting"].isin(own) & (rows["split"] == split)]
        read = set(here.loc[here["method"] == table.reference.method, "setting"])
        columns = [
            column(
                metric, spoken(place), protocol, setting, split, against="" if setting in read else f"{place}, {last}"
            )
            for setting, place in own.items()
        ]
        told = [each for each in columns if manner == last or each.setting in read & leading] if metric.told else []
        title = f"{metric.title}, {called}" + ("" if split == "test" else f" ({split})")
        yield _piece(view, title, columns, table, told, here)


def _leading(rows: pd.DataFrame, metric: Metric) -> set[str]:
    """Of each place the setting in which a trained line does best."""
    means = rows[~rows["method"].isin(TRIVIAL)].groupby(["line", "setting"])["value"].mean().dropna()
    found: dict[str, str] = {}
    for _, setting in means.sort_values(ascending=metric.better == "lower", kind="stable").index:
        found.setdefault(setting.partition(", ")[0], setting)
    return set(found.values())


def _piece(
    view: View, title: str, columns: Sequence[Column], table: TableOf, told: Sequence[Column], rows: pd.DataFrame
) -> Piece:
    """A block of the lines that have rows, and what is told of it."""
    rivals = table.references or (table.reference,)
    prefix = f"{title}, "
    return Piece(
        view.block(title, columns, lines_of(rows), table.reference, told=told, rivals=rivals, prefix=prefix), rows
    )


def _rows(view: View, protocol: str, metric: Metric, table: TableOf) -> pd.DataFrame:
    """The rows of a block, with those of the metric's home where it has one."""
    rows = view.of(protocol)
    rows = rows[rows["metric"] == metric.name]
    if table.settings:
        rows = rows[rows["setting"].isin(table.settings)]
    if table.lines_with:
        rows = with_settings(rows, table.lines_with)
    if metric.home and len(rows):
        home, setting = metric.home
        whole = view.of(home)
        whole = whole[(whole["metric"] == metric.name) & (whole["setting"] == setting)]
        whole = whole[whole["line"].isin(rows["line"]) | (whole["method"] == PIXELS.method)]
        rows = pd.concat([whole[whole["split"].isin(rows["split"])], rows])
    return rows


def _columns(rows: pd.DataFrame, protocol: str, metric: Metric) -> list[Column]:
    """A column for each protocol, setting and split of the rows; the code's own reading first."""
    home, setting = metric.home or ("", "")
    found = rows[["protocol", "setting", "split"]].drop_duplicates().itertuples(index=False, name=None)
    places = sorted(found, key=lambda place: (place[2] != "test", place[0] == protocol, setting_order(place[1])))
    columns = []
    for own, name, split in places:
        title = spoken(name) if own == protocol else "code (frozen probe)"
        title += "" if split == "test" else f" ({split})"
        columns.append(column(metric, title, own, name, split, against=setting, beside=home))
    return columns
