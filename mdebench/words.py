"""Words for people that several rooms say: lists, durations, sizes, and lines on the terminal as they are meant.

Names, labels and notes may be anybody's: what would act on a terminal or in a file instead of being read there is
spelled out (`shown`).
"""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress

STYLES = {
    **dict.fromkeys(("note", "left out", "no judge:"), "yellow"),
    **dict.fromkeys(("done", "finished"), "green"),
    **dict.fromkeys(("failed", "damaged"), "red"),
    "kept": "dim",
}


# Control characters, line separators, marks that turn the direction of writing, halves of characters.
_ACTING = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")


def shown(text: str, keep: str = "") -> str:
    """The text with what acts instead of being read (and is not in ``keep``) as \\x1b or \\u202e, line ends as well."""

    def spelled(found: re.Match[str]) -> str:
        code = ord(found[0])
        return found[0] if found[0] in keep else f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"

    return _ACTING.sub(spelled, text)


def new_console() -> "Console":
    """Where commands speak: no markup, so that brackets in a name stay; no colours for numbers; paths never broken.

    Escape sequences in what is said are shown, not sent to the terminal.
    """
    from rich.console import Console  # slow to import

    class Plain(Console):
        def print(self, *objects: Any, **options: Any) -> None:
            super().print(*(shown(each, "\n\t") if isinstance(each, str) else each for each in objects), **options)

    return Plain(highlight=False, soft_wrap=True, markup=False, emoji=False)


def tell(console: "Console", word: str, text: str) -> None:
    """Say a line whose first word tells its kind, in that kind's colour; the text stands as it is."""
    from rich.text import Text

    console.print(Text.assemble((word, STYLES.get(word, "bold")), " ", shown(text, "\n\t")), soft_wrap=True)


def new_progress(console: "Console") -> "Progress":
    """How far something is, on a terminal, and gone when it is done; what it is called stands as it is."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    # Not into the column's own text, which is a template with a syntax of its own.
    called = TextColumn("{task.description}", markup=False)
    columns = (called, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


def duration(seconds: float) -> str:
    """ "48 s", "3 min 05 s" or "2 h 10 min"."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes} min {rest:02} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"


def words(items: Iterable[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    *most, last = items
    return f"{', '.join(most)} and {last}" if most else last


def size(count: float) -> str:
    """Bytes: "512 B", "3.4 MB"."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000 or unit == "GB":
            break
        count /= 1000
    return f"{count:.0f} {unit}" if unit in ("B", "kB") else f"{count:.1f} {unit}"
