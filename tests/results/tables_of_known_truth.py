"""Simulated tables with known truth: methods on shared images of several people, each trained with several seeds."""

from dataclasses import dataclass

import numpy as np

from mdebench.home import Home
from mdebench.results.cells import Block, Cell, Column, Line, cell_from_rows
from mdebench.results.intervals import interval
from mdebench.tables.judging import Verdicts

COLUMN = Column("Error", "landmarks", "probe", "landmark_distance", "px", better="lower")


@dataclass(frozen=True)
class World:
    """How test images, methods and seeds vary, in units of an image's own noise.

    ``person`` and ``image`` are what makes an image hard for everybody; ``own_person`` and ``own`` is how a run does on
    a person and an image beyond that; ``seed`` is how much a run is better than its method.
    """

    people: int = 40
    each: int = 8
    person: float = 1.0
    image: float = 1.0
    own_person: float = 0.2
    own: float = 1.0
    seed: float = 0.1

    def error(self, seeds: int) -> float:
        """The standard error of the difference of two methods with so many seeds each."""
        n = self.people * self.each
        of_a_run = self.own_person**2 / self.people + self.own**2 / n + self.seed**2
        return float(np.sqrt(2 * of_a_run / seeds))


@dataclass(frozen=True)
class Simulated:
    """A table's block, judged, and the truth: of each method, and of the runs that were trained of it."""

    block: Block
    verdicts: Verdicts
    methods: np.ndarray
    runs: np.ndarray


@dataclass(frozen=True)
class Drawn:
    """The true mean and the values image by image of each run, by (line, seed), and who is on each image."""

    truths: np.ndarray
    means: dict[tuple[int, int], float]
    values: dict[tuple[int, int], np.ndarray]
    people: np.ndarray


def draw(world: World, truths, seeds: int, rng: np.random.Generator) -> Drawn:
    """Methods with true means ``truths``, ``seeds`` runs of each, on the same test images."""
    people = np.repeat(np.arange(world.people), world.each)

    def noise(person: float, image: float) -> np.ndarray:
        return rng.normal(0, person, world.people)[people] + rng.normal(0, image, len(people))

    hard, means, values = noise(world.person, world.image), {}, {}
    for place, truth in enumerate(truths):
        for seed in range(seeds):
            means[place, seed] = truth + rng.normal(0, world.seed)
            values[place, seed] = means[place, seed] + hard + noise(world.own_person, world.own)
    return Drawn(np.asarray(truths, float), means, values, people)


def table(drawn: Drawn, seeds, monkeypatch) -> Simulated:
    """The judged table of the first ``seeds`` runs of each line (one number, or one for each); line 0 is the reference.

    Values image by image are handed over in memory.
    """
    monkeypatch.setattr(
        "mdebench.results.paired.stored_values",
        lambda home, row: (drawn.values[row["place"], row["seed"]], drawn.people),
    )
    lines = tuple(Line(f"method {place}", f"method {place}", "rec") for place in range(len(drawn.truths)))
    counts = [seeds] * len(lines) if isinstance(seeds, int) else seeds
    cells = tuple(
        (cell_from_rows([_row(drawn, place, seed) for seed in range(count)], 2),) for place, count in enumerate(counts)
    )
    runs = [np.mean([drawn.means[place, seed] for seed in range(count)]) for place, count in enumerate(counts)]
    block = Block("", (COLUMN,), lines, cells, cells[0], lines[0])
    verdicts = Verdicts(Home("."), [block])
    return Simulated(verdicts.judged(block), verdicts, drawn.truths, np.array(runs))


def false_marks(table: Simulated) -> int:
    """How many marks and members left out of the set of best say what is not so."""
    return sum(_false(table, cell, place) for place, (cell,) in enumerate(table.block.cells))


def _false(table: Simulated, cell: Cell, place: int) -> bool:
    truth = table.methods if cell.scope == "methods" else table.runs
    wrong = cell.verdict == "better" and not truth[place] < truth[0]
    wrong |= cell.verdict == "worse" and not truth[place] > truth[0]
    if not cell.best:  # it was found to be worse than the line with the best number
        best = int(np.argmin([each.value for (each,) in table.block.cells]))
        found = table.verdicts.contrast(table.block.cells[best][0], cell, COLUMN)
        truth = table.methods if found.scope == "methods" else table.runs
        wrong |= not truth[best] < truth[place]
    return bool(wrong)


def _row(drawn: Drawn, place: int, seed: int) -> dict[str, object]:
    value, low, high = interval(drawn.values[place, seed], drawn.people, "")
    return {
        **{"run": f"{place}-{seed}", "key": f"{place}-{seed}", "setting": "probe", "metric": "m", "split": "test"},
        **{"value": value, "low": low, "high": high, "n": len(drawn.people), "people": int(drawn.people.max()) + 1},
        **{"unit": "", "seed": seed, "method": "rec", "dataset": "d", "pack_hash": "h", "protocol_settings": {}},
        "place": place,
    }
