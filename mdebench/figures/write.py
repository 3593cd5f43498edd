"""Every figure of the paper, and one for each further protocol, as PNG and as data: views of rows, logs and galleries.

`<figure>-<pack>-<scale>.png` with a CSV of the same stem. The PNG's own text says title and alternative text, so that
whoever shows the file can say what it shows. Figures with people go to `results/sheets/`, which git ignores.
"""

import hashlib
import struct
import zlib
from collections.abc import Callable, Collection, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import matplotlib
import numpy as np
import PIL
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from rich.console import Console
from rich.progress import track

from mdebench.errors import UserError
from mdebench.figures import bars, curves, distributions, image_grids, paper_charts, representation
from mdebench.figures.chart import Chart, Part, parts
from mdebench.figures.csv_data import chart_csv, grid_csv
from mdebench.figures.gallery_grids import grids
from mdebench.figures.image_grids import Grid
from mdebench.figures.learning_curves import learning
from mdebench.figures.protocol_charts import asked_for, protocol_chart
from mdebench.files import Damaged, Rest, Without, write_atomically
from mdebench.home import Home
from mdebench.pictures import read_png
from mdebench.results.displays import Displays
from mdebench.results.galleries import gallery_bytes
from mdebench.settings import choose
from mdebench.words import shown, tell

NO_PEOPLE = ("toyfaces", "flowers", "mnist")  # sources of packs whose pictures anybody may see

Make = Callable[[Part], Chart | None]
Draw = Callable[[Chart], Figure]
PAPER: dict[str, tuple[Make, Draw]] = {
    "figure8": (paper_charts.matrix, curves.heat),
    "figure8-bars": (paper_charts.matrix_bars, bars.bars),
    "figure9": (paper_charts.losses, bars.bars),
    "rank": (paper_charts.ranking, bars.ranks),
    "families": (paper_charts.families, bars.dots),
    "occlusion": (paper_charts.occlusion, bars.bars),
}
KINDS: dict[str, Draw] = {
    "bars": bars.bars,
    "dots": bars.dots,
    "curves": curves.curves,
    "distribution": distributions.curves,
}
GRIDS = ("figure1", "figure5", "figure6", "figure7")
SOURCES = {  # figure → what it is made from, and the command that makes that
    "figure1": ("galleries of one variant trained with several loss sets", "mdebench reproduce figure1"),
    "figure5": ("galleries of completions", "mdebench measure completion"),
    "figure6": ("galleries of completions", "mdebench measure completion"),
    "figure7": ("galleries of successive completions", "mdebench measure resampling"),
    "figure8": ("rows of completion", "mdebench measure completion"),
    "figure8-bars": ("rows of completion", "mdebench measure completion"),
    "figure9": ("rows of completion by one variant trained with several loss sets", "mdebench reproduce figure9"),
    "rank": ("rows of the converged probe", "mdebench measure attributes"),
    "families": ("rows of the converged probe that tell their families", "mdebench measure attributes"),
    "few_labels": ("rows of few labels", "mdebench measure attributes --set setting=few-labels"),
    "landmark_errors": ("values of the converged probe, image by image,", "mdebench measure landmarks"),
    "representation": ("probes of runs on their way", "mdebench pretrain … --probe-every 500"),
    "learning": ("logs of runs", "mdebench pretrain"),
}
ORDER = (*GRIDS, *PAPER, "representation", "learning")  # the charts of protocols stand before the last


HEAD = 33  # bytes of a PNG's signature and first chunk; text that stands behind the pixels is not read with the others
VOUCHES = "Table"  # the text of a PNG that says which CSV shows the same: its SHA-256


@dataclass(frozen=True)
class FigureFile:
    """A figure on disk: the PNG, its CSV where there is one, its title and alternative text, "chart" or "images"."""

    path: Path
    csv: Path | None
    title: str
    alt: str
    kind: str


def write_figures(home: Home, displays: Displays, console: Console, only: Collection[str] | None = None) -> list[Path]:
    """Write every figure that there is data for (of those in `only`); returns the paths of the PNG and CSV files.

    `displays` say how each protocol's rows are shown. UserError for a name in `only` that is no figure, and when there
    is nothing for any of them; what else is left out is printed. Damaged, once all others are drawn, for what some are
    made from: these stay as they were.
    """
    *first, last = ORDER
    known = [*first, *asked_for({name: display.shown_for(name, ()) for name, display in displays.items()}), last]
    for name in only or ():
        choose(name, dict.fromkeys(known), "figure")
    wanted = [name for name in known if only is None or {name, name.partition("-")[0]} & set(only)]
    paths, missing = list[Path](), set(wanted)
    rest = Rest()
    drafts = list(_drafts(home, displays, None if only is None else wanted, console, rest.without))
    quiet = not console.is_terminal
    for name, folder, stem, stamp, draw in track(drafts, "drawing", console=console, transient=True, disable=quiet):
        missing.discard(name)
        png, table = (home.results / folder / f"{stem}{ending}" for ending in (".png", ".csv"))
        if not _drawn(png, table, stamp):
            with rest.without():
                picture, text = draw()
                write_atomically(table, text.encode())
                write_atomically(png, vouched(picture, text))
        paths += [path for path in (png, table) if path.exists()]
    reasons = [_reason(name, home) for name in wanted if name in missing] if only is not None else []
    rest.end("all other figures are drawn")
    if reasons and not paths:
        raise UserError("; ".join(reasons))
    for reason in reasons:
        tell(console, "left out", f"{reason}")
    return paths


def _drawn(png: Path, table: Path, stamp: str) -> bool:
    """Whether a figure stands there whole, drawn from the same data by the same code."""
    try:
        return table.exists() and _text(png).get(image_grids.STAMP) == stamp and vouches(png, table)
    except Damaged:  # a view of what is there: it is drawn again
        return False


def list_figures(home: Home, without: Without = nullcontext) -> list[FigureFile]:
    """The figures under `home`, in the paper's order, then contact sheets, `without` those that are Damaged."""
    found = []
    for folder in ("figures", "sheets"):
        for path in sorted((home.results / folder).glob("*.png")):
            with without():
                told = _text(path)
                title = told.get("Title", path.stem.replace("_", " ").replace("-", ": ", 1))
                table = path.with_suffix(".csv")
                kind = "images" if folder == "sheets" or path.stem.startswith(GRIDS) else "chart"
                alt = told.get("Description", f"Completions of test images, {title}.")
                found.append(FigureFile(path, table if table.exists() else None, title, alt, kind))
    return sorted(found, key=lambda figure: (_place(figure.path), figure.path.stem))


def _place(path: Path) -> float:
    """Where in ORDER a file's figure is: a protocol's chart before the learning curves, a contact sheet last."""
    fits = [name for name in ORDER if path.stem.startswith(f"{name}-")]
    if fits:
        return ORDER.index(max(fits, key=len))
    return len(ORDER) - 1.5 if path.parent.name == "figures" else len(ORDER)


def _text(path: Path) -> dict[str, str]:
    """What a PNG says of itself, nothing where there is none; Damaged."""
    if not path.exists():
        return {}
    info = read_png(path, "delete it and write the figures again", pixels=False).info
    return {str(name): str(text) for name, text in info.items()}


def _drafts(
    home: Home, displays: Displays, only: Collection[str] | None, console: Console, without: Without
) -> Iterator[tuple[str, str, str, str, Callable[[], tuple[bytes, str]]]]:
    """Of all that is wanted and can be made: figure, folder, stem, stamp, and what draws its PNG and CSV."""

    def wanted(name: str) -> bool:
        return only is None or name in only

    for grid in grids(home, without) if any(map(wanted, GRIDS)) else ():
        if wanted(grid.name):
            public = home.source_of(grid.dataset) in NO_PEOPLE
            if not public:
                console.print(f"{grid.stem} may show people: it lies in results/sheets/, which git ignores")
            facts = (grid.title, grid.caption, grid.alt, grid.columns)
            with without():
                stamp = _stamp(facts, *map(gallery_bytes, grid.files))
                yield grid.name, "figures" if public else "sheets", grid.stem, stamp, partial(_draw_grid, grid, stamp)
    here: list[Part] = []
    with without():
        here = parts(home, displays)
    for part in here:
        for chart, draw in charts_of(part, wanted, without):
            yield chart.name, "figures", chart.stem, _stamp(chart), partial(_draw_chart, chart, draw)
    with without():
        for chart in representation.charts(home) if wanted("representation") else ():
            yield chart.name, "figures", chart.stem, _stamp(chart), partial(_draw_chart, chart, representation.draw)
    for run in home.list_runs() if wanted("learning") else ():
        curve = None
        with without():
            curve = learning(run)
        if curve:
            yield "learning", "figures", curve.stem, _stamp(curve), partial(_draw_chart, curve, curves.learning)


def charts_of(
    part: Part, wanted: Callable[[str], bool] = lambda name: True, without: Without = nullcontext
) -> Iterator[tuple[Chart, Draw]]:
    """The charts that a part has rows for, of the paper and then of the protocols, and what draws each, `without`
    those whose values are Damaged."""
    for name, (make, draw) in PAPER.items():
        if wanted(name) and (found := make(part)):
            yield found, draw
    asked = asked_for({name: part.display(name) for name in set(part.rows["protocol"])})
    for name, shares in asked.items():
        make_chart = distributions.distribution if shares[0].chart.kind == "distribution" else protocol_chart
        chart = None
        with without():
            chart = make_chart(part, shares) if wanted(name) else None
        if chart:
            yield chart, KINDS[shares[0].chart.kind]


def _stamp(*data: object) -> str:
    """A hash of what a figure is drawn from and of the code that draws it."""
    digest = hashlib.sha256(f"{matplotlib.__version__} {PIL.__version__}".encode())
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    for item in data:
        digest.update(item if isinstance(item, bytes) else repr(item).encode())
    return digest.hexdigest()


def _draw_grid(grid: Grid, stamp: str) -> tuple[bytes, str]:
    png, strips = image_grids.png(grid, stamp)
    return png, grid_csv(grid, strips)


def _draw_chart(chart: Chart, draw: Draw) -> tuple[bytes, str]:
    """In 256 colours, which are as many as a chart needs."""
    figure = draw(chart)
    for text in figure.findobj(Text):
        text.set_parse_math(False)  # a name with two dollars is no formula
        text.set_text(shown(text.get_text(), "\n"))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    picture = Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())  # type: ignore[no-untyped-call]
    quantized = picture.quantize(256, dither=Image.Dither.NONE)
    return image_grids.encode(quantized, chart.title, chart.alt, _stamp(chart)), chart_csv(chart)


def chart_data(home: Home, displays: Displays, without: Without = nullcontext) -> dict[str, str]:
    """The CSV of every chart that the rows and probes of `home` give, by its file name, `without` the Damaged."""
    charts = [chart for part in parts(home, displays) for chart, _ in charts_of(part, without=without)]
    with without():
        charts += representation.charts(home)
    return {f"{chart.stem}.csv": chart_csv(chart) for chart in charts}


def vouched(png: bytes, table: str) -> bytes:
    """The PNG with one more text in it, before its pixels: the SHA-256 of the CSV that holds its numbers."""
    text = VOUCHES.encode() + b"\0" + _digest(table.encode()).encode()
    chunk = b"tEXt" + text
    more = struct.pack(">I", len(text)) + chunk + struct.pack(">I", zlib.crc32(chunk))
    return png[:HEAD] + more + png[HEAD:]


def vouches(png: Path, table: Path) -> bool:
    """Whether a PNG says that it shows what a CSV holds; Damaged."""
    return _text(png).get(VOUCHES) == _digest(table.read_bytes())


def _digest(table: bytes) -> str:
    return hashlib.sha256(table).hexdigest()


def _reason(name: str, home: Home) -> str:
    """Why a figure cannot be drawn, and what to do."""
    protocol = name.partition("-")[0]
    data, command = SOURCES.get(name, (f"rows of {protocol}", f"mdebench measure {protocol}"))
    return f"{name}: there are no {data} under {home}; give `{command}` first"
