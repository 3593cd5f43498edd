"""What a training shows on the terminal, and how it is asked to stop."""

import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from mdebench.runs import Recipe


@contextmanager
def _polite_stop() -> Iterator[list[str]]:
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
def _progress(console: Console, recipe: Recipe, step: int, updates: int) -> Iterator[Any]:
    """A progress bar with losses, images/s and time left on a terminal; a line every half minute elsewhere."""
    if console.is_terminal:
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
        with Progress(TextColumn(recipe.name), *columns, TextColumn("{task.fields[losses]}"), console=console) as bar:
            task = bar.add_task("", total=updates, completed=step, losses="")
            yield lambda step, means, speed: bar.update(task, completed=step, losses=_short(means, speed))
    else:
        last = time.monotonic()

        def line(step: int, means: Mapping[str, float], speed: float) -> None:
            nonlocal last
            if time.monotonic() - last > 30 or step == updates:
                left = (updates - step) * recipe.batch / speed
                console.print(
                    f"{recipe.name} {step}/{updates}, {left:.0f} s left, {_short(means, speed)}", soft_wrap=True
                )
                last = time.monotonic()

        yield line


def _short(means: Mapping[str, float], speed: float) -> str:
    return " ".join(f"{key.partition('/')[2]} {value:.3g}" for key, value in means.items()) + f" {speed:.0f} images/s"
