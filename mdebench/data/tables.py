"""Tables of text as Excel, pandas and editors write them, and which of their cells mean "unknown".

Encoding, separator, empty rows and columns without a name are found out and told; what cannot be found out is refused
in a sentence that says how to save the file.
"""

import codecs
import csv
import io
import math
import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from mdebench.errors import UserError
from mdebench.words import shown

SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
# In any case. What pandas takes for a missing value, and the question mark of the UCI repository.
UNKNOWN = frozenset({"", "na", "n/a", "#n/a", "#na", "<na>", "nan", "-nan", "null", "none", "?"})
_MARKS = {  # the longer first: UTF-32's mark begins with UTF-16's
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]+,[0-9]+")


@dataclass(frozen=True)
class Table:
    """Rows of stripped cells by column, in the file's order, and what was found out about the file, in words."""

    columns: tuple[str, ...]
    rows: list[tuple[str, ...]]  # each as long as `columns`
    longer: list[int]  # the rows that had more cells than columns: the places in `rows`
    notes: list[str] = field(default_factory=list)


def is_unknown(text: str) -> bool:
    """Whether a cell says that nothing is known: empty, NA, nan, null, None, ?, in any case."""
    return text.strip().lower() in UNKNOWN


def number(text: str) -> float:
    """A number as a table writes it, in the digits 0 to 9, with a point or a comma before its decimals; NaN for any
    other text, and for what is too large to be one.
    """
    if not text.isascii() or "_" in text:  # Python takes the digits of every script, and underscores between them
        return math.nan
    try:
        value = float(text)
    except ValueError:
        value = float(text.replace(",", ".")) if _DECIMAL_COMMA.fullmatch(text) else math.nan
    return value if math.isfinite(value) else math.nan


def decoded_text(data: bytes, name: str) -> tuple[str, str]:
    """The text of a file without its byte-order mark, and its encoding: "utf-8", or "utf-16" or "utf-32" by their mark.

    UserError, with the line, where it is in another encoding.
    """
    mark = next((mark for mark in _MARKS if data.startswith(mark)), b"")
    encoding = _MARKS.get(mark, "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        where = (
            f"line {line} holds the byte 0x{data[error.start]:02X}" if encoding.startswith("utf-8") else error.reason
        )
        raise UserError(
            f"{name} is not {encoding.removesuffix('-sig').upper()} text ({where}): save it as UTF-8 "
            "(Excel: 'CSV UTF-8')."
        ) from error
    if "\0" in text:
        raise UserError(
            f"{name} holds zero bytes, as UTF-16 without a byte-order mark does: save it as UTF-8 (Excel: 'CSV UTF-8')."
        )
    return text, encoding.removesuffix("-sig")


def read_table(data: bytes, name: str, needed: str, known: Collection[str]) -> Table:
    """The CSV in the bytes of a file, whose first row names its columns, among them ``needed``; ``known`` names (it is
    one of them) may stand there in any case.

    Separated by commas, semicolons, tabs or bars: whichever makes ``needed`` a column of its own. A first line `sep=;`,
    as Excel writes it, decides. UserError where no separator does, or where a column's name stands twice.
    """
    text, encoding = decoded_text(data, name)
    notes = [] if encoding == "utf-8" else [f"{name} is {encoding.upper()}"]
    said = re.match(r"\s*\"?sep=(.)\"?(\r\n?|\n)", text, re.IGNORECASE)
    text = text[said.end() :] if said else text
    try:
        separators = [said[1]] if said else list(SEPARATORS)
        heads = {each: next(filter(any, _rows(text, each)), []) for each in separators}
        fitting = [each for each, head in heads.items() if needed in (cell.lower() for cell in head)]
        if not fitting:
            raise _without(name, needed, max(heads.values(), key=len))
        separator = max(fitting, key=lambda each: len(heads[each]))
        if len(heads[separator]) == 1:
            separator = "\t"  # one column: commas are part of its cells
        elif separator != ",":
            notes.append(f"{name} is separated by {SEPARATORS.get(separator, repr(separator))}")
        every = list(_rows(text, separator))
    except csv.Error as error:
        why = " (a quote that is never closed?)" if "larger" in str(error) else ""
        raise UserError(f"{name} is not a readable CSV: {error}{why}.") from error
    head, *rows = filter(any, every)
    if blank := len(every) - len(rows) - 1:
        notes.append(f"{name} has {blank:,} empty row{'s' * (blank > 1)}, left out")
    head = [cell.lower() if cell.lower() in known else shown(cell) for cell in head]
    return _tidied(head, rows, name, notes)


def _tidied(head: list[str], rows: list[list[str]], name: str, notes: list[str]) -> Table:
    """Columns with names, rows as long as they are."""
    width = len(head)
    longer = [place for place, row in enumerate(rows) if any(row[width:])]
    full = [row[:width] + [""] * (width - len(row)) for row in rows]
    nameless = [place for place, column in enumerate(head) if not column]
    if any(row[place] for place in nameless for row in full):
        notes.append(f"{name}: columns without a name were not used ({_nth(nameless)})")
    kept = [place for place, column in enumerate(head) if column]
    columns = [head[place] for place in kept]
    if twice := sorted({column for column in columns if columns.count(column) > 1}):
        raise UserError(
            f"{name} has the column {', '.join(twice)} twice: rename or delete the one that does not count."
        )
    rows = full if len(kept) == width else [[row[place] for place in kept] for row in full]
    return Table(tuple(columns), [tuple(row) for row in rows], longer, notes)


def _rows(text: str, separator: str) -> Iterator[list[str]]:
    return ([cell.strip() for cell in row] for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator))


def _without(name: str, needed: str, head: list[str]) -> UserError:
    columns = ", ".join(column for column in head if column) or "nothing"
    return UserError(
        f"{name} needs a column '{needed}', separated from others by commas, semicolons, tabs or bars; its first row "
        f"reads: {columns}. Give the column that names the files this name."
    )


def _nth(places: Iterable[int]) -> str:
    return ", ".join(f"number {place + 1}" for place in places)
