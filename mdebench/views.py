"""The layout of Tables 1, 2 and 3: which columns and lines each has, and what each cell is compared with.

Every table carries the trivial rows the paper lacks, and marks what beats them: a representation is worth something
where it beats raw pixels, a completion where it beats a fill without any network.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

import mdebench
from mdebench.cells import Block, Cell, Column, Line, Table, cell_from_rows, compare
from mdebench.lines import lines_of
from mdebench.notes import footnotes, reading

PROBE = "frozen-probe"  # the readout that serves raw pixels best, and so the one others are compared with
PIXELS = "raw pixels read by the ridge probe"
BIHARMONIC = "the biharmonic fill"
FILLS = {"biharmonic": (BIHARMONIC, ""), "mean_colour": ("the mean colour", "")}
READINGS = ("raw/image", "raw/hole", "composite/image", "composite/hole")
COMPLETION = (("psnr", "pSNR", "dB"), ("ssim", "SSIM", ""))
LONG_HEAD = 50_000  # updates of the head of Table 2


def paper_dir() -> Path:
    """The folder of the published numbers: inside the package in a wheel, `results/paper` in a checkout."""
    package = Path(mdebench.__file__).resolve().parent
    return package / "paper" if (package / "paper").is_dir() else package.parent / "results" / "paper"


class View:
    """The current rows of one data set and scale (column `line` added), as tables."""

    def __init__(
        self,
        dataset: str,
        scale: str,
        rows: pd.DataFrame,
        old: pd.DataFrame,
        twins: Sequence[str],
        versions: Mapping[str, int],
    ) -> None:
        self.dataset, self.scale, self.rows = dataset, scale, rows
        self.old, self.twins, self.versions = old, twins, versions
        self.paper = {
            number: pd.read_csv(paper_dir() / f"table{number}.csv", dtype=str).fillna("") for number in (1, 2, 3)
        }
        self.index: dict[tuple[str, ...], list[dict[Any, Any]]] = defaultdict(list)
        for row in rows.to_dict("records"):
            self.index[tuple(row[name] for name in ("line", "protocol", "setting", "metric", "split"))].append(row)

    def tables(self) -> list[Table]:
        """Those of the tables that there are rows for."""
        made = (self.transfer(), self.interocular(), self.attributes(), self.occlusion(), self.readings())
        return [table for table in made if table is not None]

    def transfer(self) -> Table | None:
        """Table 1; fine-tuned encoders, where there are any, in a block of their own."""
        rows = self._of("attributes", "landmarks")
        lines = lines_of(rows, self._published(1))
        blocks: list[Block] = []
        say: list[str] = []
        for title, metric, unit, constant, ours in (
            ("Landmarks", "landmark_distance", "px", "the mean shape", self._landmarks("frozen")),
            ("Attributes", "attribute_error", "% error", "the majority value", self._attributes("frozen")),
        ):
            paper = Column("Paper", "", "head-5000", metric, unit, published=True)
            blocks.append(self._block(f"{title}, frozen encoder", [paper, *ours], lines, 1, "pixels"))
            told = [column for column in ours if column.metric == metric and column.split == "test"]
            references = {"pixels": (PIXELS, PROBE), "random": ("random weights", ""), "constant": (constant, PROBE)}
            say += reading(blocks[-1], told, references)
        if tuned := self._landmarks("finetune") + self._attributes("finetune"):
            lines = lines_of(rows[rows["setting"].str.startswith("finetune")])
            blocks.append(self._block("Fine-tuned encoder", tuned, lines, 1, "pixels"))
        return self._table(1, "", "Table 1: landmarks and attributes", rows, blocks, say, PIXELS)

    def interocular(self) -> Table | None:
        """Beside Table 1: the landmark distance as a share of the distance between the eyes."""
        rows = self._of("landmarks")
        columns = self._landmarks("frozen", "landmark_distance_iod", "% of inter-ocular")
        blocks = [self._block("Frozen encoder", columns, lines_of(rows), 1, "pixels")]
        title = "Table 1, other reading: landmark distance as a share of the inter-ocular distance"
        return self._table(1, "interocular", title, rows, blocks, [], PIXELS)

    def attributes(self) -> Table | None:
        """Table 2: the published list, then ours; a published line of a variant stands on the variant's line."""
        rows = self._of("attributes")
        columns = [
            Column("Paper", "", "", "attribute_error", "% error", published=True),
            *self._attributes("frozen", [LONG_HEAD]),
        ]
        own = [(label, name) for label, name in self._published(2) if label.startswith("rec")]
        theirs = [Line(name, label, "") for label, name in self._published(2) if (label, name) not in own]
        blocks = [self._block("Frozen encoder", columns, theirs + lines_of(rows, own), 2, "pixels")]
        return self._table(2, "", "Table 2: facial attributes", rows, blocks, [], PIXELS)

    def occlusion(self) -> Table | None:
        """Table 3: the raw output over the whole image, for the paper says "without postprocessing"."""
        rows = self._of("occlusion")
        lines = [Line(f"{name}, published", label, "") for label, name in self._published(3)] + lines_of(rows)
        blocks: list[Block] = []
        say: list[str] = []
        for metric, name, unit in COMPLETION:
            columns = [Column(_spoken(p), "occlusion", p, f"{metric}/raw/image", unit) for p in self._presets()]
            blocks.append(self._block(name, columns, lines, 3, "biharmonic"))
            say += [f"{name}, {text}" for text in reading(blocks[-1], columns, FILLS)]
        title = "Table 3: face completion under occlusions (raw output, whole image)"
        return self._table(3, "", title, rows, blocks, say, BIHARMONIC)

    def readings(self) -> Table | None:
        """Beside Table 3: all four readings of pSNR and of SSIM."""
        rows = self._of("occlusion")
        blocks = []
        for preset in self._presets():
            columns = [
                Column(f"{name} {which.replace('/', ', ')}", "occlusion", preset, f"{metric}/{which}", unit)
                for metric, name, unit in COMPLETION
                for which in READINGS
            ]
            blocks.append(self._block(_spoken(preset).capitalize(), columns, lines_of(rows), 3, "biharmonic"))
        title = "Table 3, all readings: raw output or composite (seen pixels pasted back), whole image or hole alone"
        return self._table(3, "readings", title, rows, blocks, [], BIHARMONIC)

    def _of(self, *protocols: str) -> pd.DataFrame:
        return self.rows[self.rows["protocol"].isin(protocols)]

    def _published(self, number: int) -> list[tuple[str, str]]:
        """(label, name) of each line of a published table, in the paper's order."""
        return list(dict.fromkeys(zip(self.paper[number]["label"], self.paper[number]["name"])))

    def _presets(self) -> list[str]:
        return list(dict.fromkeys(self.paper[3]["setting"]))

    def _landmarks(self, kind: str, metric: str = "landmark_distance", unit: str = "px of 96") -> list[Column]:
        rows = self._of("landmarks")
        rows = rows[rows["metric"] == metric]
        return [
            Column(f"Landmarks{also}, {called}", "landmarks", setting, metric, unit, split, against=PROBE)
            for split, also in (("test", ""), ("annotated", " (annotated)"))
            for setting, called in _settings(rows.loc[rows["split"] == split, "setting"], kind)
        ]

    def _attributes(self, kind: str, heads: Sequence[int] = ()) -> list[Column]:
        found = self._of("attributes")["setting"]
        metrics = (("Attributes", "attribute_error", "% error"), ("Balanced accuracy", "balanced_accuracy", "%"))
        return [
            Column(f"{title}, {called}", "attributes", setting, metric, unit, against=PROBE)
            for title, metric, unit in metrics
            for setting, called in _settings(found, kind, heads)
        ]

    def _block(
        self, title: str, columns: Sequence[Column], lines: Sequence[Line], number: int, reference: str
    ) -> Block:
        """Fill in the cells, and compare each of ours with the line of the method `reference`."""
        base = next((line for line in lines_of(self.rows) if line.method == reference), None)
        cells = []
        for line in lines:
            filled = []
            for column in columns:
                cell = self._cell(line, column, number)
                if base and line != base and cell.source == "rows":
                    other = self._cell(base, replace(column, setting=column.against or column.setting), number)
                    cell = replace(cell, verdict=compare(cell, other, column.higher_is_better))
                filled.append(cell)
            cells.append(tuple(filled))
        return Block(title, tuple(columns), tuple(lines), tuple(cells))

    def _cell(self, line: Line, column: Column, number: int) -> Cell:
        """The published number where column or line is a paper's, else the one from our rows."""
        if column.published or not line.method:
            paper = self.paper[number]
            metric = column.metric.partition("/")[0]
            hit = paper[
                (paper["label"] == line.label) & (paper["metric"] == metric) & (paper["setting"] == column.setting)
            ]
            if hit.empty:
                return Cell()
            value, source = hit.iloc[0][["value", "source"]]
            return Cell(text=value, value=float(value), source=f"{source}, Table {number}")
        rows = self.index.get((line.name, column.protocol, column.setting, column.metric, column.split))
        return cell_from_rows(rows, column.digits) if rows else Cell()

    def _table(
        self,
        number: int,
        also: str,
        title: str,
        rows: pd.DataFrame,
        blocks: list[Block],
        say: list[str],
        reference: str,
    ) -> Table | None:
        """The table with its footnotes, without blocks in which our rows fill no cell; None where none is left."""
        blocks = [block for block in blocks if any(cell.source == "rows" for line in block.cells for cell in line)]
        if not blocks:
            return None
        notes = footnotes(
            rows, self.old[self.old["protocol"].isin(rows["protocol"])], self.twins, self.versions, reference
        )
        remarks = self.paper[number].query("note != ''").drop_duplicates("name")
        if len(remarks) and not also:
            told = "; ".join(f"{name}: {note}" for name, note in zip(remarks["name"], remarks["note"]))
            notes.append(f"Of the published numbers: {told}.")
        place = "-".join(part for part in (f"table{number}", also, self.dataset, self.scale) if part)
        title = " · ".join(part for part in (title, self.dataset, self.scale) if part)
        return Table(place, title, self.dataset, self.scale, tuple(blocks), tuple(say), tuple(notes))


def _spoken(preset: str) -> str:
    return preset.replace("_", " ")


def _settings(found: Iterable[str], kind: str, heads: Sequence[int] = ()) -> list[tuple[str, str]]:
    """(setting, its name in words) of the heads, then the probe; without `heads` all but Table 2's long one."""
    names = set(found)
    trained = sorted(int(match[1]) for name in names if (match := re.fullmatch(rf"{kind}-head-(\d+)", name)))
    wanted = heads or [updates for updates in trained if updates != LONG_HEAD]
    settings = [(f"{kind}-head-{updates}", f"head {updates:,}") for updates in wanted]
    return settings + ([(f"{kind}-probe", "probe")] if f"{kind}-probe" in names else [])
