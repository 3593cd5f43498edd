"""The break-in: everything is broken on purpose, and what becomes of it is counted.

``python tests/break_in/run.py --minutes 20 --seed 0`` goes through rounds until the time is over: kills, mutations, a
full disk, too few descriptors, too little memory, races, hostile names and archives, in fixed numbers a round, so that
a seed and a number of rounds say all that was tried. ``--only PART:NUMBER`` does a single one again. The counts are
printed as they come and kept in ``results/reliability.md``; exit status 1 where anything failed.
"""

import argparse
import json
import multiprocessing
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from itertools import count
from multiprocessing.connection import Connection, wait
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # for elsewhere.py

import children
import hostile
import kills
import mutations
import races
import scarcity
import scene
from children import Limits, Outcome
from ledger import Ledger, Verdict, findings
from scene import JOBS, Stage

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "results" / "reliability.md"
PARTS: dict[str, Callable[..., Verdict]] = {
    "mutations": mutations.mutate,
    "kills": kills.kill,
    "full": scarcity.full_disk,
    "scarce": scarcity.scarce,
    "races": races.race,
    "hostile": hostile.attack,
}
A_ROUND = {"mutations": 100, "kills": 10, "scarce": 2, "hostile": 2, "races": 1, "full": 1}
USUALLY = 120.0  # seconds at most for a command that nobody disturbs
BRIEF = 0.5  # seconds
TOLD_EVERY = 10.0
ROOM = 2**30  # bytes that a file system in memory must have free to be taken

Try = tuple[str, int]  # part, number


def tries(rounds: int, a_round: Mapping[str, int]) -> Iterator[Try]:
    """What is tried, in order, the parts evenly mixed; of a full disk there are so many points and no more."""
    places = {part: count() for part in a_round}
    evenly = sorted(((place + 0.5) / many, part) for part, many in a_round.items() for place in range(many))
    for _ in range(rounds):
        for _, part in evenly:
            number = next(places[part])
            if part != "full" or number < scarcity.POINTS:
                yield part, number


def tell(line: str) -> None:
    """A line, at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Undisturbed(Exception):
    """A command that ends badly though nobody disturbs it: nothing can be learnt from disturbing it."""


class Usual:
    """What each command does when nobody disturbs it, found out when it is first asked for."""

    def __init__(self, base: Path, room: Path):
        self.base, self.room = base, room
        self.known: dict[str, tuple[Outcome, dict[str, str]]] = {}

    def __call__(self, name: str) -> tuple[Outcome, dict[str, str]]:
        """How it ends, and what it leaves."""
        if name not in self.known:
            stage, job = Stage(self.base, self.room), JOBS[name]
            stage.clear(job)
            outcome = stage.give(job, Limits(USUALLY))
            if outcome.seconds < BRIEF:  # most of which may be that a first child touches what others then share
                stage = Stage(self.base, self.room)
                stage.clear(job)
                outcome = stage.give(job, Limits(USUALLY))
            self.known[name] = outcome, stage.result(job, outcome)
        if failure := mutations.mishap(self.known[name][0]):
            raise Undisturbed(f"{name[2:]}: {': '.join(failure)}")
        return self.known[name]


def attempt(each: Try, seed: int, base: Path, room: Path, usual: Usual) -> Verdict:
    """One try; a mistake of the suite itself is told as one."""
    part, number = each
    if part == "full" and (reason := scarcity.cannot_mount()):
        return Verdict("full", "any", "skipped", reason, number)
    try:
        return PARTS[part](number, seed, base, room, usual)
    except Undisturbed as error:
        return Verdict(part, "undisturbed", "traceback", str(error), number)


def work(pipe: Connection, base: Path, room: Path, seed: int) -> None:
    """What a worker does: tries that come through a pipe, until None does."""
    usual = Usual(base, room.with_name(f"{room.name}-usual"))
    while (each := pipe.recv()) is not None:
        pipe.send(attempt(each, seed, base, room, usual))


def main() -> int:
    """Break in; 1 where anything failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=float, default=20.0, help="stop after so many")
    parser.add_argument("--rounds", type=int, default=10**6, help="stop after so many")
    parser.add_argument("--a-round", type=_a_round, default=A_ROUND, help="PART=COUNT,… of each round")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=min(2, len(os.sched_getaffinity(0))))
    parser.add_argument("--only", metavar="PART:NUMBER", help="this one alone, with all that it said")
    parser.add_argument("--page", type=Path, default=PAGE, help="where the counts are kept")
    parser.add_argument("--json", type=Path, help="also keep every failure here, and the counts")
    given = parser.parse_args()
    begun = time.monotonic()
    children.warm()
    shared = Path("/dev/shm")  # many small files, synced often
    roomy = shared.is_dir() and children.free_bytes(shared) > ROOM
    folder = Path(tempfile.mkdtemp(prefix="break-in-", dir=shared if roomy else None))
    try:
        scene.build(folder / "scene")
        if missing := mutations.missing(folder / "scene"):
            raise RuntimeError(f"the scene lacks {', '.join(missing)}")
        tell(f"the scene is built, {time.monotonic() - begun:.0f} s")
        if given.only:
            return alone(given.only, given.seed, folder)
        ledger = rounds(
            folder, given.seed, given.workers, tries(given.rounds, given.a_round), begun + 60 * given.minutes
        )
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    minutes = (time.monotonic() - begun) / 60
    given.page.parent.mkdir(parents=True, exist_ok=True)
    given.page.write_text(ledger.page(given.seed, minutes, given.workers), encoding="utf-8")
    if given.json:
        kept = {
            "failures": [asdict(each) for each in ledger.failures],
            "tried": {part: ledger.tried(part) for part in PARTS},
        }
        kept["findings"] = findings(ledger.failures, given.seed)
        given.json.write_text(json.dumps(kept, indent=1), encoding="utf-8")
    tell(f"{ledger.line()}\nkept in {given.page}")
    return int(bool(ledger.failures))


def _a_round(text: str) -> dict[str, int]:
    counts = {part: int(count) for part, _, count in (each.partition("=") for each in text.split(","))}
    if not counts.keys() <= PARTS.keys():
        raise ValueError(text)
    return counts


def alone(only: str, seed: int, folder: Path) -> int:
    """One try, with all that was said; what was damaged is left in words alone."""
    part, _, number = only.partition(":")
    begin = children.Child.wait

    def wait_aloud(child: children.Child) -> Outcome:
        outcome = begin(child)
        tell(f"--- status {outcome.status}, {outcome.seconds:.2f} s\n{outcome.said}")
        return outcome

    usual = Usual(folder / "scene", folder / "usual")
    children.Child.wait = wait_aloud  # type: ignore[method-assign]
    verdict = attempt((part, int(number)), seed, folder / "scene", folder / "room", usual)
    tell(verdict.told(seed))
    return int(verdict.bad)


def rounds(folder: Path, seed: int, workers: int, waiting: Iterator[Try], until: float) -> Ledger:
    """Tries, shared among worker processes, until they are done or the time is over."""
    ledger, fork, pipes = Ledger(), multiprocessing.get_context("fork"), {}
    for number in range(workers):
        ours, theirs = fork.Pipe()
        worker = fork.Process(target=work, args=(theirs, folder / "scene", folder / f"room{number}", seed))
        worker.start()
        theirs.close()
        pipes[ours] = worker
    for pipe in pipes:
        pipe.send(next(waiting, None))
    begun = told = time.monotonic()
    open_pipes = list(pipes)
    while open_pipes:
        for pipe in wait(open_pipes):
            assert isinstance(pipe, Connection)
            try:
                verdict = pipe.recv()
            except EOFError:  # it ended: it was told to, or its own mistake stands above
                open_pipes.remove(pipe)
                continue
            ledger.add(verdict)
            if verdict.bad:
                tell(verdict.told(seed))
            now = time.monotonic()
            pipe.send(next(waiting, None) if now < until else None)
            if now - told > TOLD_EVERY:
                told = now
                tell(f"[{now - begun:.0f} s, at most {max(0, until - now):.0f} s left] {ledger.line()}")
    for worker in pipes.values():
        worker.join()
    if broken := [worker.exitcode for worker in pipes.values() if worker.exitcode]:
        raise RuntimeError(f"the break-in itself failed: workers ended with {broken}")
    return ledger


if __name__ == "__main__":
    sys.exit(main())
