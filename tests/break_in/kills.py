"""Every command that writes, stopped at a random moment and given again: it ends as if nothing had been.

The moment is drawn over the command's own duration, or over what it does to folders; the signal is mostly SIGKILL.
"""

import signal
from pathlib import Path

import numpy as np
from children import Limits, Stop
from ledger import Verdict
from mutations import Usual, last, mishap
from scene import JOBS, WRITING, Stage, differences

SECONDS = 10.0
TIMED = 0.3  # of the kills come after a time, the others before a change of a folder
SIGNALS = (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGINT, signal.SIGTERM)


def kill(number: int, seed: int, scene: Path, room: Path, usual: Usual) -> Verdict:
    """Stop a command as drawn, give it again, and hold what is left against the unbroken one's."""
    rng = np.random.default_rng([seed, 2, number])
    job = JOBS[f"w {WRITING[number % len(WRITING)].name}"]
    before, expected = usual(f"w {job.name}")
    chosen = SIGNALS[int(rng.integers(len(SIGNALS)))]
    timed = rng.random() < TIMED
    stop = Stop(
        chosen,
        seconds=float(rng.uniform(0, before.seconds)) if timed else None,
        event=None if timed else int(rng.integers(before.changes)),
    )
    stage, limits = Stage(scene, room), Limits(SECONDS + 3 * before.seconds)
    stage.clear(job)
    stopped = stage.give(job, limits, stop)

    def verdict(what: str, detail: str = "") -> Verdict:
        return Verdict("kills", job.name, what, str(stop), number, detail)

    if stopped.hung:
        return verdict("hang", "after the signal")
    if "Traceback (most recent call last)" in stopped.said:
        return verdict("traceback", f"when stopped: {last(stopped)}")
    if stopped.status not in (before.status, 130, -chosen):
        return verdict("unsaid", f"status {stopped.status} when stopped: {last(stopped)}")
    again = stage.give(job, limits)
    if failure := mishap(again):
        return verdict(failure[0], f"when given again: {failure[1]}")
    if again.status != before.status:
        return verdict("lost", f"when given again: {last(again)}")
    changed = differences(expected, stage.result(job))
    others = [path for path in changed if not path.startswith("+")]
    if others:
        return verdict("lost", ", ".join(others[:4]))
    if changed:  # what another command owns is the prune's
        pruned = stage.give(JOBS["w prune"], limits)
        if failure := mishap(pruned):
            return verdict(failure[0], f"when pruned: {failure[1]}")
        left = [path for path in changed if (stage.home / path[1:]).exists()]
        if left:
            return verdict("stray", ", ".join(left[:4]))
        return verdict("repaired")
    return verdict("too late" if stopped.status == before.status and timed else "same")
