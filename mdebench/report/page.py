"""One HTML page that shows what was run, what came out, and how it looks: the first thing a student sees.

It holds its pictures within itself and asks nothing of any network, so it opens from a disk or an e-mail; it can be
read without scripts, which add sorting, the gallery's choosers and a window that tells where a number is from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader

from mdebench.figures.write import NO_PEOPLE, FigureFile, list_figures
from mdebench.files import Rest, Without, write_atomically
from mdebench.home import Home
from mdebench.report.embedded import Original, Picture, csv_uri, fit
from mdebench.report.gallery import Exhibit, exhibits, run_names
from mdebench.results.cells import MISSING, Block, Cell, Table, cost_cell
from mdebench.results.displays import Displays, used
from mdebench.results.lines import line_of, rank
from mdebench.results.paired import damaged_values
from mdebench.tables.write import build_tables
from mdebench.words import duration, shown

COMPANIONS = ("table1-interocular", "table3-readings")  # folded: for the second look
BUDGETS = {"charts": 2_500_000, "grids": 3_500_000, "curves": 1_200_000, "samples": 1_000_000}  # bytes of data URIs
LARGEST_CSV = 50_000  # bytes of a figure's data within the page; of others the file is named
VERDICTS = {"better": "better than", "overlap": "not distinguishable from", "worse": "worse than"}
RULES = {"paired": "compared image by image", "unpaired": "compared by their intervals alone"}
SCOPES = {"methods": "beyond images and seeds", "runs": "in these runs", "": ""}


@dataclass(frozen=True)
class Wall:
    """Pictures under one heading, and what was done to make them fit."""

    title: str
    pictures: Sequence[Picture]
    note: str
    folded: bool = False


@dataclass
class Origins:
    """The rows that the page's numbers come from, by unit; each has an anchor of its own."""

    units: dict[str, list[Mapping[Any, Any]]] = field(default_factory=dict)
    anchors: dict[tuple[Any, ...], str] = field(default_factory=dict)

    def add(self, tables: Sequence[Table]) -> "Origins":
        """Take in the rows of all cells; returns itself."""
        for table in tables:
            for block in table.blocks:
                for row in (row for line in block.cells for cell in line for row in cell.rows):
                    if self._name(row) not in self.anchors:
                        self.anchors[self._name(row)] = f"r{len(self.anchors)}"
                        self.units.setdefault(row["key"], []).append(row)
        return self

    def of(self, cell: Cell) -> list[str]:
        """The anchors of a cell's rows."""
        return [self.anchor(row) for row in cell.rows]

    def anchor(self, row: Mapping[Any, Any]) -> str:
        """The anchor of a row."""
        return self.anchors[self._name(row)]

    def by_protocol(self) -> list[tuple[str, list[list[Mapping[Any, Any]]]]]:
        """(protocol, its units) in the order of protocols and runs."""
        units = sorted(self.units.values(), key=lambda rows: (rows[0]["protocol"], rows[0]["run"], rows[0]["setting"]))
        return [(name, list(group)) for name, group in groupby(units, key=lambda rows: str(rows[0]["protocol"]))]

    @staticmethod
    def _name(row: Mapping[Any, Any]) -> tuple[Any, ...]:
        return row["run"], row["key"], row["setting"], row["metric"], row["split"]


def write_report(home: Home, out: Path, displays: Displays, title: str = "mdebench") -> Path:
    """Write the page of all runs, rows, figures, galleries and samples of `home` to the file `out`; returns it.

    `displays` say how each protocol's rows are shown. UserError for damaged rows, or a full disk. Damaged, once the
    page is written without them, for pictures and values image by image that are.
    """
    rest = Rest()
    tables = build_tables(home, displays)
    infos = sorted((run.info for run in home.list_runs()), key=_run_order)
    rest.damaged += damaged_values(home, (row for table in tables for row in table.rows)).values()
    figures = list_figures(home, rest.without)
    exhibited, note = exhibits(home, infos, rest.without)
    environment = Environment(
        loader=PackageLoader("mdebench.report", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.finalize = lambda value: shown(value, "\n\t") if type(value) is str else value
    environment.filters |= {"duration": duration, "name": lambda info: line_of(info).name, "spoken": _spoken}
    environment.filters |= {"used": used, "numeric": _numeric, "tflop": lambda row: cost_cell([row], "gflop").text}
    text = environment.get_template("report.html.j2").render(
        title=title,
        runs=infos,
        missing=MISSING,
        verdicts=VERDICTS,
        rules=RULES,
        scopes=SCOPES,
        parts=[
            (where, list(group)) for where, group in groupby(tables, key=lambda table: (table.dataset, table.scale))
        ],
        companions=COMPANIONS,
        origins=Origins().add(tables),
        exhibits=exhibited,
        exhibits_note=note,
        walls=[wall for wall in _walls(home, figures, infos, rest.without) if wall.pictures or wall.note],
        people=_people(home, infos, figures, exhibited),
    )
    write_atomically(out, text.encode())
    rest.end(f"{out} is written without these")
    return out


def _run_order(info: Mapping[str, Any]) -> tuple[Any, ...]:
    return info["pack"], info["scale"], rank(line_of(info)), info["seed"]


def _numeric(block: Block, place: int) -> bool:
    """Whether a column has numbers, to be sorted by; how lines were made is in words, too."""
    return any(cells[place].value == cells[place].value for cells in block.cells)


def _spoken(text: str) -> str:
    return text.replace("_", " ")


def _walls(
    home: Home, figures: Sequence[FigureFile], infos: Sequence[Mapping[str, Any]], without: Without
) -> list[Wall]:
    """The figures, then the learning curves and the last samples of every run."""
    curves = [figure for figure in figures if figure.path.stem.startswith("learning")]
    grids = [figure for figure in figures if figure.kind == "images"]
    charts = [figure for figure in figures if figure not in curves and figure not in grids]

    paths = (path for folder in (home.figures, home.sheets) for path in sorted(folder.glob("*.png")))
    lost = [path.name for path in paths if path not in {figure.path for figure in figures}]

    def hung(title: str, what: str, originals: Sequence[Original], folded: bool = False) -> Wall:
        return Wall(title, *fit(originals, BUDGETS[what], title.lower(), without), folded)

    return [
        *([Wall("Figures left out", (), f"Their files are damaged: {'; '.join(lost)}.")] if lost else []),
        hung("Charts", "charts", [_figure(figure) for figure in charts]),
        hung("Completions side by side", "grids", [_figure(figure) for figure in grids]),
        hung("Learning curves", "curves", [_figure(figure) for figure in curves], folded=True),
        hung("Samples from training", "samples", _samples(home, infos), folded=True),
    ]


def _figure(figure: FigureFile) -> Original:
    within = figure.csv and figure.csv.stat().st_size <= LARGEST_CSV
    table = csv_uri(figure.csv) if figure.csv and within else ""
    named = f" (data: results/{figure.csv.parent.name}/{figure.csv.name})" if figure.csv and not within else ""
    return Original(figure.path, figure.title + named, figure.alt, table, drawn=figure.kind == "chart")


def _samples(home: Home, infos: Sequence[Mapping[str, Any]]) -> list[Original]:
    """The last sample sheet of every run that has one."""
    found, names = [], run_names(infos)
    for info in infos:
        paths = sorted((home.runs / info["name"] / "samples").glob("*.png"))
        if paths:
            name = names[info["name"]]
            alt = f"Training samples of {name}: what the network saw, its completion, and the originals."
            found.append(Original(paths[-1], f"{name}, on {info['pack']}", alt))
    return found


def _people(
    home: Home, infos: Sequence[Mapping[str, Any]], figures: Sequence[FigureFile], shown: Sequence[Exhibit]
) -> list[str]:
    """The packs of which the page shows pictures that may be of people: all but those known to have none."""
    names = {info["pack"] for info in infos} | {exhibit.pack for exhibit in shown}
    pictures = [figure.path.stem for figure in figures if figure.kind == "images"]
    seen = {exhibit.pack for exhibit in shown}
    seen |= {info["pack"] for info in infos if any((home.runs / info["name"] / "samples").glob("*.png"))}
    seen |= {name for name in names if any(name in stem for stem in pictures)}
    unknown = ["a pack that is not here"] if any(not any(name in stem for name in names) for stem in pictures) else []
    return sorted(name for name in seen if home.source_of(name) not in NO_PEOPLE) + unknown
