"""One HTML page that shows what was run, what came out, and how it looks: the first thing a student sees.

It holds its pictures within itself and asks nothing of any network, so it opens from a disk or an e-mail.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from PIL import Image, UnidentifiedImageError

from mdebench.cells import MISSING, Table
from mdebench.errors import UserError
from mdebench.lines import line_of, rank
from mdebench.runs import list_runs, write_atomically
from mdebench.tables import build_tables

COMPANIONS = ("table1-interocular", "table3-readings")  # folded: for the second look
QUALITY = 85  # WebP: a sheet in a tenth of the bytes of PNG, no difference to the eye


@dataclass(frozen=True)
class Picture:
    """A picture within the page: `source` is a data URI; width and height in pixels."""

    source: str
    caption: str
    alt: str
    width: int
    height: int


def write_page(home: Path, out: Path, versions: Mapping[str, int], title: str = "mdebench") -> Path:
    """Write the page of all runs, rows, contact sheets and samples of `home` to the file `out`; returns it.

    `versions` is each protocol's current version. UserError for damaged rows, runs or pictures, or a full disk.
    """
    tables = build_tables(home, versions)
    runs = sorted((run.info for run in list_runs(Path(home))), key=_run_order)
    environment = Environment(
        loader=PackageLoader("mdebench", "."), autoescape=True, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"duration": duration, "name": lambda info: line_of(info).name}
    text = environment.get_template("page.html.j2").render(
        title=title,
        runs=runs,
        missing=MISSING,
        main=[table for table in tables if not _folded(table)],
        folded=[table for table in tables if _folded(table)],
        sheets=[_sheet(path) for path in sorted((Path(home) / "results" / "sheets").glob("*.png"))],
        samples=_samples(Path(home), runs),
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(out, text.encode())
    return out


def duration(seconds: float) -> str:
    """ "48 s", "3 min 05 s" or "2 h 10 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def _folded(table: Table) -> bool:
    return table.stem.startswith(COMPANIONS)


def _run_order(info: Mapping[str, Any]) -> tuple[Any, ...]:
    return info["pack"], info["scale"], rank(line_of(info)), info["seed"]


def _sheet(path: Path) -> Picture:
    caption = path.stem.replace("_", " ").replace("-", ": ", 1)
    alt = f"Completions of eight test images, {caption}: what each method saw, its output, and the originals."
    return _picture(path, caption, alt)


def _samples(home: Path, runs: Sequence[Mapping[str, Any]]) -> list[Picture]:
    """The last sample sheet of every run that has one."""
    found = []
    for info in runs:
        paths = sorted((home / "runs" / info["name"] / "samples").glob("*.png"))
        if paths:
            alt = f"Training samples of {line_of(info).name}: what the network saw, its completion, and the originals."
            found.append(_picture(paths[-1], f"{line_of(info).name}, seed {info['seed']}", alt))
    return found


def _picture(path: Path, caption: str, alt: str) -> Picture:
    try:
        with Image.open(path) as image:
            data = io.BytesIO()
            image.convert("RGB").save(data, "WEBP", quality=QUALITY)
            width, height = image.size
    except (OSError, UnidentifiedImageError) as error:
        raise UserError(f"{path} is damaged ({error}); delete it, and measure or train again") from error
    source = f"data:image/webp;base64,{base64.b64encode(data.getvalue()).decode()}"
    return Picture(source, caption, alt, width, height)
