"""Not enough of a disk, of descriptors, of memory: a sentence, nothing lost, and it goes on when there is enough."""

import os
import shutil
import subprocess
from pathlib import Path

import children
import numpy as np
from children import Limits
from ledger import Verdict
from mutations import Usual, last, mishap
from scene import JOBS, WRITING, Stage, differences

POINTS = 18  # of a full disk
SECONDS = 10.0
MARGIN = 32 * 2**20  # what a disk has beyond the scene when it is not full: a judge is written beside itself


def cannot_mount() -> str:
    """Why no small file system can be mounted here, "" where one can."""
    return "" if os.geteuid() == 0 and shutil.which("mount") else "machine: only root may mount a file system"


def full_disk(number: int, seed: int, scene: Path, room: Path, usual: Usual) -> Verdict:
    """A command on a file system that is nearly full; then again, with room."""
    rng = np.random.default_rng([seed, 3, number])
    job = JOBS[f"w {WRITING[(number * 7) % len(WRITING)].name}"]
    before, _ = usual(f"w {job.name}")
    disk = room.with_name(f"{room.name}-disk")
    disk.mkdir(exist_ok=True)
    size = _bytes(scene) + MARGIN
    options = ["-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(disk)]
    mounted = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    if mounted.returncode:
        return Verdict("full", job.name, "skipped", mounted.stderr.strip(), number)
    try:
        stage = Stage(scene, disk / "scene")
        stage.clear(job)
        leave = int(rng.choice((0, 4096, 16384, 65536, 262144)))
        children.fill(disk / "filler", leave)
        verdict = _starved(
            Verdict("full", job.name, "same", f"{leave:,} bytes free", number),
            stage,
            job.name,
            usual,
            Limits(SECONDS + 3 * before.seconds),
        )
        if verdict.bad:
            return verdict
        (disk / "filler").unlink()
        return _with_enough(verdict, stage, job.name, usual)
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=False)


def scarce(number: int, seed: int, scene: Path, room: Path, usual: Usual) -> Verdict:
    """A command with few descriptors or little memory; then again, with enough."""
    rng = np.random.default_rng([seed, 4, number])
    job = JOBS[f"w {WRITING[(number // 2) % len(WRITING)].name}"]
    before, _ = usual(f"w {job.name}")
    limits = Limits(SECONDS + 3 * before.seconds)
    if number % 2:
        few = int(rng.integers(6, 24))
        how, limits = f"{few} descriptors", Limits(limits.seconds, descriptors=few)
    else:
        memory = int(2 ** rng.uniform(24, 29))
        how, limits = f"{memory / 2**20:.1f} MB more memory", Limits(limits.seconds, memory=memory)
    stage = Stage(scene, room)
    stage.clear(job)
    verdict = _starved(Verdict("scarce", job.name, "same", how, number), stage, job.name, usual, limits)
    return verdict if verdict.bad else _with_enough(verdict, stage, job.name, usual)


def _starved(verdict: Verdict, stage: Stage, name: str, usual: Usual, limits: Limits) -> Verdict:
    """Give the command where there is too little: it says so, or ends with the same result as ever."""
    job = JOBS[f"w {name}"]
    before, expected = usual(f"w {name}")
    old = stage.result(job)
    outcome = stage.give(job, limits)
    failure = mishap(outcome)
    if failure and not (failure[0] == "memory" and "Traceback" not in outcome.said):
        return _with(verdict, *failure)
    found = stage.result(job)
    if outcome.status == before.status and (before.status == 0 or last(outcome) == last(before)):
        changed = differences(expected, found)
        return _with(verdict, "silent", ", ".join(changed[:4])) if changed else verdict
    if "rror: " not in outcome.said or "None" in last(outcome):
        return _with(verdict, "unsaid", f"status {outcome.status}: {last(outcome)}")
    half = [path for path in found if found[path] not in (old.get(path), expected.get(path)) and not _may_differ(path)]
    if half:
        return _with(verdict, "lost", f"half written: {', '.join(half[:4])}")
    return _with(verdict, "told", last(outcome))


def _may_differ(path: str) -> bool:
    """Whether a file may be between what it was and what it will be, or is a stray that the next command clears."""
    if any(part.startswith((".", "tmp")) for part in path.split("/")):
        return True
    return path.startswith(("runs/", "judges/", "results/rows/")) and path.endswith((".json", ".jsonl", ".pt", ".png"))


def _with_enough(verdict: Verdict, stage: Stage, name: str, usual: Usual) -> Verdict:
    job = JOBS[f"w {name}"]
    before, expected = usual(f"w {name}")
    again = stage.give(job, Limits(SECONDS + 3 * before.seconds))
    if failure := mishap(again):
        return _with(verdict, failure[0], f"when given again: {failure[1]}")
    if again.status != before.status:
        return _with(verdict, "lost", f"when given again: {last(again)}")
    changed = differences(expected, stage.result(job))
    if not changed:
        return verdict
    return _with(verdict, "stray" if all(path.startswith("+") for path in changed) else "lost", ", ".join(changed[:4]))


def _with(verdict: Verdict, what: str, detail: str = "") -> Verdict:
    return Verdict(verdict.part, verdict.kind, what, verdict.how, verdict.number, detail)


def _bytes(folder: Path) -> int:
    """What a folder takes in whole pages."""
    return sum(-(-path.lstat().st_size // 4096) * 4096 + 4096 for path in folder.rglob("*"))
