"""A table as Markdown, CSV or LaTeX; what others named is spelled out where the format would take it for its own."""

import csv
import io
import math
from collections.abc import Callable, Iterable

from tabulate import tabulate

from mdebench.results import spelled
from mdebench.results.cells import MISSING, Block, Cell, Column, Table
from mdebench.words import shown

_LATEX = {
    "\\": r"\textbackslash{}",
    **{sign: f"\\{sign}" for sign in "&%$#_{}"},
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    **{"<": "$<$", ">": "$>$", "×": r"$\times$", "±": r"$\pm$", "≈": r"$\approx$", "†": r"$\dagger$", "→": r"$\to$"},
    **{"–": "--", "—": "---", "·": r"$\cdot$", "\N{NO-BREAK SPACE}": "~"},
}
CSV_COLUMNS = (
    *("table", "dataset", "scale", "block", "line", "family", "column", "unit"),
    *("value", "low", "high", "sd", "n", "seeds"),
    *("against_reference", "of", "compared", "best", "source"),
    *("protocol", "setting", "split", "metric", "runs", "keys", "notes"),
)


def markdown(table: Table) -> str:
    """A Markdown file: the blocks, what they say, and the notes."""
    parts = [f"# {spelled.markdown(table.title)}"]
    for block in table.blocks:
        parts += [
            f"## {spelled.markdown(block.title)}",
            tabulate(
                _texts(block, spelled.markdown, "**{}**"), headers="firstrow", tablefmt="pipe", disable_numparse=True
            ),
        ]
    if table.reading:
        parts += ["## What it says", _bullets(table.reading)]
    return "\n\n".join([*parts, "## Notes", _bullets(table.footnotes)]) + "\n"


def latex(table: Table) -> str:
    """A LaTeX fragment that needs no package: a tabular per block, then what it says and the notes."""
    parts = [f"% {tex(table.title)}\n\\begin{{table}}\n\\centering\\scriptsize\n\\caption{{{tex(table.title)}}}"]
    for block in table.blocks:
        texts = [[_first(line), *rest] for line, *rest in _texts(block, tex, r"\textbf{{{}}}")]
        body = tabulate(texts, headers="firstrow", tablefmt="latex_raw", disable_numparse=True)
        parts.append(f"\\medskip\n{tex(block.title)}\\\\\n{body}\n")
    parts.append("\\end{table}")
    notes = "\n".join(f"\\item {tex(text)}" for text in (*table.reading, *table.footnotes))
    return "\n".join([*parts, f"\\begin{{itemize}}\\footnotesize\n{notes}\n\\end{{itemize}}"]) + "\n"


def tex(text: str) -> str:
    """`text` with every character that LaTeX reads as a command, or may not have, spelled out."""
    return "".join(_LATEX.get(sign, sign) for sign in shown(text))


def _first(text: str) -> str:
    """The first cell of a line, which must not be taken for an option of the end of the line before it."""
    return f"{{}}{text}" if text.startswith(("[", "*")) else text


def csv_text(table: Table) -> str:
    """One line per cell; a missing value is empty. Several seeds, runs or keys are separated by spaces.

    A text that a spreadsheet would run as a formula begins with an apostrophe (`spelled.csv_cell`).

    Of how a line was made, the source names the field of its rows; only what was measured has notes.
    """
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(CSV_COLUMNS)
    for block in table.blocks:
        for line, cells in zip(block.lines, block.cells):
            for column, cell in zip(block.columns, cells):
                where = (table.stem, table.dataset, table.scale, block.title, line.name, line.family)
                origin = (" ".join(cell.runs), " ".join(cell.keys), _notes(cell) if column.protocol else "")
                verdict = (cell.verdict, cell.scope, cell.rule, "yes" if cell.best else "")
                texts = (
                    *where,
                    column.title,
                    column.unit,
                    *_numbers(cell, column),
                    *verdict,
                    *_source(cell, column),
                    *origin,
                )
                writer.writerow(map(spelled.csv_cell, texts))
    return out.getvalue()


def _numbers(cell: Cell, column: Column) -> tuple[str, ...]:
    spread = (_plain(x) for x in (cell.low, cell.high, cell.sd))
    as_said = bool(cell.source) and not column.protocol and math.isnan(cell.value)  # how a line was made, in words
    as_printed = bool(cell.source) and cell.source != "rows"  # published
    value = cell.text if as_said or as_printed else _plain(cell.value)
    return value, *spread, str(cell.n or ""), " ".join(map(str, cell.seeds))


def _source(cell: Cell, column: Column) -> tuple[str, ...]:
    """Source, protocol, setting, split and metric."""
    if not column.protocol and not column.published:
        return f"rows, field {column.metric}" if cell.source else "", "", "", "", ""
    return cell.source, column.protocol, column.setting, column.split, column.metric


def _notes(cell: Cell) -> str:
    return "; ".join(dict.fromkeys(row["note"] for row in cell.rows if row["note"]))


def _plain(number: float) -> str:
    return "" if math.isnan(number) else repr(number)


def _texts(block: Block, escape: Callable[[str], str], bold: str) -> list[list[str]]:
    """Header and lines as text; `bold` is the format of what is in the set of best."""

    def text(cell: Cell) -> str:
        mark = escape(cell.marked.removeprefix(cell.text))
        return (bold.format(escape(cell.text)) if cell.best else escape(cell.text)) + mark

    header = ["", "Family", *(escape(column.header) for column in block.columns)]
    lines = zip(block.lines, block.cells)
    return [header, *([escape(line.name), escape(line.family or MISSING), *map(text, row)] for line, row in lines)]


def _bullets(texts: Iterable[str]) -> str:
    return "\n".join(f"- {spelled.markdown(text.strip())}" for text in texts)
