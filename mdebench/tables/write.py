"""Tables 1, 2 and 3 of the paper with our rows beside its numbers, and one per further experiment: views of rows.

One set per data set and scale, each as Markdown, CSV (one line per cell, with the keys of its rows) and LaTeX.
"""

from pathlib import Path

from mdebench.errors import UserError
from mdebench.files import Rest, write_atomically
from mdebench.home import Home
from mdebench.results.cells import Table
from mdebench.results.displays import Displays
from mdebench.results.lines import newest_per_seed, with_lines
from mdebench.results.paired import damaged_values
from mdebench.results.rows import read_rows, superseded
from mdebench.tables.agreement import agreement_table
from mdebench.tables.formats import csv_text, latex, markdown
from mdebench.tables.paper import paper_tables
from mdebench.tables.protocols import protocol_tables
from mdebench.tables.readouts import readouts_table
from mdebench.tables.says import page, renewed
from mdebench.tables.view import View


def write_tables(home: Home, out: Path, displays: Displays) -> list[Path]:
    """Write every table as .md, .csv and .tex into `out`; returns the paths. Into the home's own folder also what they
    say: `results/README.md`, and the block of the home's README where that has its marks (`says.BEGIN`).

    Each file is written whole or not at all. `displays` say how each protocol's rows are shown. UserError when there
    are no rows, or no room to write; Damaged for rows that are, and, once all is written, for values image by image
    that are: comparisons do without these, and the tables' notes say so.
    """
    tables = build_tables(home, displays)
    if not tables:
        raise UserError(
            f"There are no rows under {home.rows} to make tables from: "
            "give `mdebench transfer attributes`, `mdebench transfer landmarks` or `mdebench occlusion` first."
        )
    texts = {out / name: text for table in tables for name, text in rendered(table).items()}
    if out == home.tables:
        texts |= _says(home, tables)
    for path, text in texts.items():
        write_atomically(path, text.encode())
    rest = Rest()
    rest.damaged += damaged_values(home, (row for table in tables for row in table.rows)).values()
    rest.end("the tables are written, and say that they do without these values")
    return list(texts)


def _says(home: Home, tables: list[Table]) -> dict[Path, str]:
    """The page of all that the tables say, and the home's README where its marked block changes."""
    texts = {home.results / "README.md": page(tables)}
    readme = home.folder / "README.md"
    if readme.is_file() and (text := readme.read_text("utf-8")) != (new := renewed(text, tables)):
        texts[readme] = new
    return texts


def rendered(table: Table) -> dict[str, str]:
    """File name → text of a table in each of its formats."""
    texts = {".md": markdown(table), ".csv": csv_text(table), ".tex": latex(table)}
    return {f"{table.stem}{ending}": text for ending, text in texts.items()}


def build_tables(home: Home, displays: Displays) -> list[Table]:
    """All tables that the rows of `home` have something for, by data set and scale."""
    rows = read_rows(home)
    old = superseded(rows)
    tables: list[Table] = []
    for (dataset, scale), here in rows[~old].groupby(["dataset", "scale"]):
        part, twins = newest_per_seed(with_lines(here), displays)
        lost = rows[old & (rows["dataset"] == dataset) & (rows["scale"] == scale)]
        view = View(home, str(dataset), str(scale), part, lost, twins, displays)
        tables += [*paper_tables(view), *protocol_tables(view)]
        tables += [made for made in (readouts_table(view), agreement_table(view)) if made]
    return tables
