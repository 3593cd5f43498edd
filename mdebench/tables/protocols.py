"""The tables beyond the paper's, as each protocol says: a block for each metric, a column for each setting."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import pandas as pd

from mdebench.results.cells import Column, Table, column
from mdebench.results.displays import PIXELS, Metric, TableOf, setting_order, spoken
from mdebench.results.lines import judges, lines_of, short, with_settings
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


def _build(view: View, parts: Sequence[Part]) -> Table | None:
    blocks, used = [], []
    for protocol, table in parts:
        for metric in map(view.display(protocol).metric, table.metrics):
            rows = _rows(view, protocol, metric, table)
            if rows.empty:
                continue
            for judge in judges(rows, metric):
                here = rows[rows["judge"] == judge] if judge else rows
                title = f"{metric.title} ({short(judge)})" if judge else metric.title
                columns = [replace(each, judge=judge) for each in _columns(here, protocol, metric)]
                own = [each for each in columns if each.protocol == protocol] if metric.told else []
                rivals = table.references or (table.reference,)
                lines = lines_of(here)
                blocks.append(
                    view.block(title, columns, lines, table.reference, told=own, rivals=rivals, prefix=f"{title}, ")
                )
                used.append(here)
    if not used:
        return None
    rows = pd.concat(used).drop_duplicates(subset=["line", "seed", "protocol", "setting", "split", "metric", "judge"])
    first = parts[0].table
    return view.table(first.name, first.title, rows, blocks, first.reference)


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
