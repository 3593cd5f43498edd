"""What a training shows on the terminal, and how it is asked to stop."""

import signal
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Column

from mdebench.runs import Recipe
from mdebench.words import duration

Show = Callable[[int, Mapping[str, float], float], None]  # step, means of the losses, images a second
EVERY = 30  # seconds between lines where nobody watches


@contextmanager
def polite_stop() -> Iterator[list[str]]:
    """A list that receives the name of a signal that asks us to stop; the loop looks at it between updates."""
    received: list[str] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(signal.Signals(number).name)

    old = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


@contextmanager
def progress_line(console: Console, recipe: Recipe, step: int, updates: int) -> Iterator[Show]:
    """A progress line on a terminal; elsewhere a line of text every half minute.

    However narrow the terminal, the step, the time left and the speed are shown; the losses take the room that is left.
    """
    if console.is_terminal:
        if updates:
            console.print(f"training {recipe.name}")
        with Progress(*_columns(), console=console, expand=True) as bar:
            task = bar.add_task("", total=updates, completed=step, losses="", speed="")

            def show(step: int, means: Mapping[str, float], speed: float) -> None:
                bar.update(task, completed=step, losses=_losses(means), speed=f"{speed:.0f} images/s")

            yield show
    else:
        last = time.monotonic()

        def line(step: int, means: Mapping[str, float], speed: float) -> None:
            nonlocal last
            if time.monotonic() - last > EVERY or step == updates:
                left = duration((updates - step) * recipe.batch / speed)
                console.print(
                    f"{recipe.name} {step}/{updates}, {left} left, {speed:.0f} images/s, {_losses(means)}",
                    soft_wrap=True,
                )
                last = time.monotonic()

        yield line


def _columns() -> list[BarColumn | MofNCompleteColumn | TimeRemainingColumn | TextColumn]:
    def kept() -> Column:
        return Column(no_wrap=True)

    losses = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    return [
        BarColumn(bar_width=8, table_column=kept()),
        MofNCompleteColumn(table_column=kept()),
        TimeRemainingColumn(table_column=kept()),
        TextColumn("left", table_column=kept()),
        TextColumn("{task.fields[speed]}", markup=False, table_column=kept()),
        TextColumn("{task.fields[losses]}", markup=False, table_column=losses),
    ]


def _losses(means: Mapping[str, float]) -> str:
    return " ".join(f"{key.partition('/')[2]} {value:.3g}" for key, value in means.items())
