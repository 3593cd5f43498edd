"""The folder that everything lies in: packs, runs, judges, results. Where something lies in it is known here alone."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from mdebench.errors import UserError
from mdebench.settings import suggest

if TYPE_CHECKING:
    from mdebench.runs import Run


class Home:
    """``Home("work")``: the folder ``work``; ``Path(home)`` is that folder again. Nothing is made before it is used."""

    def __init__(self, folder: str | os.PathLike[str] = "."):
        self.folder = Path(folder)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Home) and self.folder == other.folder

    def __hash__(self) -> int:
        return hash(self.folder)

    def __repr__(self) -> str:
        return f"Home({str(self.folder)!r})"

    def __fspath__(self) -> str:
        return str(self.folder)

    def __str__(self) -> str:
        return str(self.folder)

    @property
    def packs(self) -> Path:
        """A folder for each pack."""
        return self.folder / "packs"

    @property
    def runs(self) -> Path:
        """A folder for each run."""
        return self.folder / "runs"

    @property
    def judges(self) -> Path:
        """A run for each pack on which a judge was trained."""
        return self.folder / "judges"

    @property
    def results(self) -> Path:
        """Rows, and what is made of them."""
        return self.folder / "results"

    @property
    def rows(self) -> Path:
        """``<protocol>/<run>.jsonl``."""
        return self.results / "rows"

    @property
    def values(self) -> Path:
        """Per-image values, a file for each unit of rows."""
        return self.results / "values"

    @property
    def probes(self) -> Path:
        """What codes knew on the way: ``<run>.jsonl``."""
        return self.results / "probes"

    @property
    def speed(self) -> Path:
        """Rows of speed."""
        return self.results / "speed"

    @property
    def tables(self) -> Path:
        """Where tables are written."""
        return self.results / "tables"

    @property
    def figures(self) -> Path:
        """Where figures are written that anybody may see."""
        return self.results / "figures"

    @property
    def sheets(self) -> Path:
        """Where pictures are written that may show people."""
        return self.results / "sheets"

    @property
    def costs(self) -> Path:
        """Where pages of costs are written."""
        return self.results / "costs"

    @property
    def report(self) -> Path:
        """Where the page is written."""
        return self.folder / "report.html"

    def pack(self, name: str) -> Path:
        """Where the pack called ``name`` is: among the packs, or at the path that the name is."""
        return Path(name) if "/" in name else self.packs / name

    def source_of(self, pack: str) -> str:
        """What the pack was made from, "" where that is not known."""
        from mdebench.files import read_json  # this module is on the way to --help

        try:
            return str(read_json(self.pack(pack) / "pack.json", "").get("source", ""))
        except (FileNotFoundError, NotADirectoryError, UserError):
            return ""

    def run(self, name: str) -> "Run":
        """The run of that name, whether it exists or not."""
        from mdebench.runs import Run

        return Run(self.runs / name)

    def list_runs(self) -> "list[Run]":
        """Every run, by name; one that is damaged is left out and told."""
        from mdebench.runs import runs_in

        return runs_in(self.runs)

    def find_run(self, name: str) -> "Run":
        """The run called ``name`` (its folder's path will do); UserError that says what is there instead of one."""
        path, run = Path(name), self.run(Path(name).name)
        if "/" in name or (path.suffix in (".safetensors", ".onnx", ".pt", ".pth") and not run.info):
            runs = "`mdebench runs` lists the runs of a home"
            if not path.exists():
                raise UserError(f"there is no file or folder {name}; {runs}")
            if path.is_file():
                raise UserError(f"{name} is a file, where a run is asked for; {runs}")
            if not (path / "run.json").is_file():
                raise UserError(f"{name} is no run: it has no run.json; {runs}")
            if path.resolve() != run.folder.resolve():
                raise UserError(f"{name} is not under {self.runs}: give --home {path.resolve().parent.parent} with it")
        if not run.info:
            names = [path.parent.name for path in sorted(self.runs.glob("*/run.json"))]
            where = f"under {self.runs}" if self.folder.is_dir() else f"as there is no folder {self.folder}"
            raise UserError(f"there is no run {name!r} {where}.{suggest(name, names)}")
        return run

    def run_folder(self, name: str) -> Path:
        """Where the run called ``name`` is, though it be damaged; UserError as `find_run` has it."""
        from mdebench.files import Damaged

        try:
            return self.find_run(name).folder
        except Damaged:
            folder = self.runs / Path(name).name
            if "/" in name and Path(name).resolve() != folder.resolve():
                raise
            return folder

    def judge(self, pack: str) -> "Run":
        """The run that trains the judge of a pack, begun or not."""
        from mdebench.runs import Run

        return Run(self.judges / pack)
