"""The same command twice at once: one does it, the other waits, or says that it is being done. No row is lost."""

import time
from pathlib import Path

import children
import numpy as np
from children import Limits
from ledger import Verdict
from mutations import Usual, last, mishap
from scene import JOBS, WRITING, Stage, differences

SECONDS = 20.0  # two at once, on cores that others use as well
BUSY = ("another process", "Another process")


def race(number: int, seed: int, scene: Path, room: Path, usual: Usual) -> Verdict:
    """Two of a command, the second a little later; then what they made together."""
    rng = np.random.default_rng([seed, 5, number])
    job = JOBS[f"w {WRITING[number % len(WRITING)].name}"]
    before, expected = usual(f"w {job.name}")
    stage = Stage(scene, room)
    stage.clear(job)
    later = float(rng.uniform(0, before.seconds)) * float(rng.random() < 0.7)
    limits, call = Limits(SECONDS + 4 * before.seconds), children.mdebench(job.words.split())
    first = children.begin(call, stage.home, limits)
    time.sleep(later)
    second = children.begin(call, stage.home, limits)
    ends = first.wait(), second.wait()

    def verdict(what: str, detail: str = "") -> Verdict:
        return Verdict("races", job.name, what, f"the second {later:.2f} s later", number, detail)

    for end in ends:
        if failure := mishap(end):
            return verdict(*failure)
        if end.status != before.status and not any(word in end.said for word in BUSY):
            return verdict("unsaid", f"status {end.status}: {last(end)}")
    if all(end.status != before.status for end in ends):
        return verdict("lost", f"neither did it: {last(ends[0])}")
    changed = differences(expected, stage.result(job))
    if changed:
        return verdict("stray" if all(path.startswith("+") for path in changed) else "lost", ", ".join(changed[:4]))
    return verdict("told" if any(end.status != before.status for end in ends) else "same")
