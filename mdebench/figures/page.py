"""The page that a chart is drawn on: one column wide, title above, what a reader must know below; colours and marks.

Everything is placed in inches by the width of the text it holds, so that nothing overlaps and nothing is slow. Text has
at least nine points: a phone shows the page legibly. Colours are Okabe and Ito's, which the colour-blind tell apart;
shade, mark and dash differ as well. No global state of matplotlib is touched.
"""

import re
from collections.abc import Iterable
from functools import cache
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure

from mdebench.figures.chart import Chart
from mdebench.figures.image_grids import font, wrapped
from mdebench.results.cells import Line
from mdebench.results.displays import spoken
from mdebench.results.lines import TRIVIAL

WIDTH, DPI, EDGE = 5.2, 160, 0.08  # inches, pixels an inch, inches
SMALL, TEXT, TITLE = 9, 10, 12  # points
LEADING = 1.25 / 72  # inches from line to line, for each point
INK, FAINT, RULE, GREY = "#222222", "#5a5a5a", "#d9d9d9", "#6e6e6e"
PUBLISHED = "#D55E00"
COLOURS = {
    "rec": "#0072B2",
    "re": "#009E73",
    "reverse_inpainting": "#E69F00",
    "inpainting": "#D55E00",
    "colorization1": "#CC79A7",
    "colorization2": "#882255",
}
OTHERS = ("#56B4E9", "#000000", "#B8A800", "#7A5195")  # for methods of other papers
MARKS, DASHES = "osD^vP", ("-", (0, (5, 2)), (0, (2, 1.5)), (0, (6, 2, 1, 2)))


class Style(NamedTuple):
    """How a line of a chart looks."""

    colour: str
    mark: str
    dash: Any


class Page:
    """A figure with title and caption, and room of `body` inches between them for axes."""

    def __init__(self, chart: Chart, body: float, *notes: str) -> None:
        title = fold(chart.title, TITLE, WIDTH - 2 * EDGE, bold=True)
        note = fold(" · ".join(filter(None, (*notes, chart.caption))), SMALL, WIDTH - 2 * EDGE)
        self.top = EDGE + (title.count("\n") + 1) * TITLE * LEADING + EDGE
        foot = (note.count("\n") + 1) * SMALL * LEADING + 2 * EDGE
        self.height = self.top + body + foot
        self.figure = Figure(figsize=(WIDTH, self.height), dpi=DPI, facecolor="white")
        x = EDGE / WIDTH
        self.figure.text(x, 1 - EDGE / self.height, title, va="top", fontsize=TITLE, weight="bold", color=INK)
        self.figure.text(x, EDGE / self.height, note, va="bottom", fontsize=SMALL, color=FAINT, linespacing=1.25)
        for text in self.figure.texts:
            text.set_parse_math(False)  # names of packs stand in them: a dollar is a dollar

    def axes(self, left: float, top: float, width: float, height: float, title: str = "") -> Axes:
        """Axes at so many inches from the left and below the title, with a title of their own above them."""
        bottom = self.height - self.top - top - height
        axes = self.figure.add_axes((left / WIDTH, bottom / self.height, width / WIDTH, height / self.height))
        axes.set_title(title, fontsize=TEXT, loc="left", color=INK)
        axes.tick_params(labelsize=SMALL, length=0, colors=INK)
        axes.set_axisbelow(True)
        axes.patch.set_visible(False)  # the page is the ground: what runs over from other axes stays
        for spine in axes.spines.values():
            spine.set_visible(False)
        return axes


def styles(lines: Iterable[Line]) -> dict[str, Style]:
    """Line → its method's colour, lighter and with another mark and dash for each further line; trivial ones grey."""
    found: dict[str, Style] = {}
    seen: dict[str, int] = {}
    others: dict[str, str] = {}
    for line in lines:
        k = seen[line.method] = seen.get(line.method, -1) + 1
        if not line.method:
            colour = PUBLISHED
        elif line.method in TRIVIAL:
            colour = GREY
        else:
            colour = COLOURS.get(line.method) or others.setdefault(line.method, OTHERS[len(others) % len(OTHERS)])
        mark = "osD^hpPv"[TRIVIAL.index(line.method)] if line.method in TRIVIAL else MARKS[k % len(MARKS)]
        found[line.name] = Style(tint(colour, min(0.15 * k, 0.45)), mark, DASHES[k % len(DASHES)])
    return found


def tint(colour: str, share: float) -> str:
    """The colour mixed with so much white."""
    red, green, blue = (1 - (1 - part) * (1 - share) for part in to_rgb(colour))
    return to_hex((red, green, blue))


@cache
def inches(text: str, points: float, bold: bool = False) -> float:
    """How wide the widest line of a text is."""
    return max(float(font(10 * points, bold).getlength(line)) for line in text.split("\n")) / 720


def fold(text: str, points: float, width: float, bold: bool = False) -> str:
    """The text in lines of at most `width` inches."""
    return "\n".join(wrapped(text, font(10 * points, bold), round(720 * width)))


def short(name: str, width: float = 2.15) -> str:
    """A line's name in words, its settings by their values alone where that is too wide, and cut where even they are.

    The CSV has it whole.
    """
    text = spoken(name).replace("losses=", "")
    if inches(text, SMALL) > width:
        text = re.sub(r"\w+=", "", text)
    if inches(text, SMALL) <= width:
        return text
    while inches(f"{text}…", SMALL) > width:
        text = text[:-1]
    return f"{text}…"
