"""What is counted: of every kind of thing how often it was tried, and what became of it; the runner writes it."""

import os
import platform
import subprocess
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

GOOD = {
    "same": "the same result, bit for bit",
    "told": "told in words, and refused or left out",
    "repaired": "told, and mended or cleared (a kill: by `prune`): the same result",
    "unknowable": "another result; the file's format has no checksum that could tell",
    "too late": "it had ended before the signal came",
    "skipped": "could not be tried on this machine",
}
BAD = {
    "traceback": "a traceback",
    "silent": "another result without a word",
    "hang": "more than 10 seconds beyond the usual",
    "memory": "more than 2 GB beyond the usual",
    "signal": "ended by a signal that nobody sent",
    "unsaid": "ended badly, without a sentence",
    "hides": "one damaged thing hid those that are whole",
    "lost": "what was there before, or is made by the same command again, is not what it should be",
    "stray": "something is left behind",
    "escaped": "something outside the home was read, run or written",
    "raw": "control characters or markup of others came through",
}
PARTS = {
    "kills": "Kills",
    "mutations": "Mutations",
    "full": "A full disk",
    "scarce": "Few descriptors, little memory",
    "races": "Races: the same command twice at once",
    "hostile": "Hostile names and archives",
}


COUNTED = {
    "kills": "kills",
    "mutations": "mutations",
    "full": "points of a full disk",
    "scarce": "with few descriptors or little memory",
    "races": "races",
    "hostile": "hostile things",
}


@dataclass(frozen=True)
class Verdict:
    """What became of one try. ``part`` of PARTS, ``kind`` of thing, ``what`` of GOOD or BAD; how to do it again."""

    part: str
    kind: str
    what: str
    how: str
    number: int
    detail: str = ""

    @property
    def bad(self) -> bool:
        """Whether it is a failure."""
        return self.what in BAD

    def told(self, seed: int) -> str:
        """A failure's smallest description."""
        again = f"--seed {seed} --only {self.part}:{self.number}"
        return f"{self.what}: {self.part}, {self.kind}: {self.how}\n    {self.detail}\n    {again}"


class Ledger:
    """All verdicts so far."""

    def __init__(self) -> None:
        self.counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
        self.failures: list[Verdict] = []

    def add(self, verdict: Verdict) -> None:
        """Count one."""
        self.counts[verdict.part, verdict.kind][verdict.what] += 1
        if verdict.bad:
            self.failures.append(verdict)

    def tried(self, part: str) -> int:
        """How many of a part were tried: not those too late or skipped."""
        return sum(self._tried(counts) for (name, _), counts in self.counts.items() if name == part)

    @staticmethod
    def _tried(counts: "Counter[str]") -> int:
        return counts.total() - counts["too late"] - counts["skipped"]

    def line(self) -> str:
        """Counts in a line."""
        parts = ", ".join(f"{self.tried(part):,} {what}" for part, what in COUNTED.items())
        bad = Counter(verdict.what for verdict in self.failures)
        return f"{parts}; failures: {', '.join(f'{n} {what}' for what, n in bad.most_common()) or 'none'}"

    def page(self, seed: int, minutes: float, workers: int) -> str:
        """The page of all counts."""
        tried = {part: self.tried(part) for part in PARTS}
        lines = [
            "# What was broken on purpose, and what became of it",
            "",
            f"Written by `make break`, seed {seed}: {minutes:.0f} minutes, {workers} at a time, on {machine()}.",
            f"Revision {revision()}.",
            "",
            ", ".join(f"{count:,} {COUNTED[part]}" for part, count in tried.items()) + ".",
            f"**{len(self.failures):,} failures.**",
            "",
            *(f"- *{what}*: {meaning}" for what, meaning in {**GOOD, **BAD}.items() if self._any(what)),
        ]
        for part, title in PARTS.items():
            kinds = {kind: counts for (name, kind), counts in self.counts.items() if name == part}
            if kinds:
                used = [what for what in (*GOOD, *BAD) if any(counts[what] for counts in kinds.values())]
                lines += ["", f"## {title}", ""]
                lines.append(f"| | tried | {' | '.join(used)} |")
                lines.append(f"|---|--:|{'--:|' * len(used)}")
                for kind, counts in sorted(kinds.items()):
                    cells = " | ".join(f"{counts[what]:,}" if counts[what] else "" for what in used)
                    lines.append(f"| {kind} | {self._tried(counts):,} | {cells} |")
        return "\n".join(lines) + "\n"

    def _any(self, what: str) -> bool:
        return any(counts[what] for counts in self.counts.values())


def findings(failures: Sequence[Verdict], seed: int) -> str:
    """Failures by what they are: of each kind a few, and how to do them again."""
    groups: dict[tuple[str, str, str, str], list[Verdict]] = defaultdict(list)
    for verdict in failures:
        groups[verdict.part, verdict.what, verdict.kind, verdict.detail[-60:]].append(verdict)
    blocks = []
    for (part, what, kind, _), alike in sorted(groups.items(), key=lambda item: (item[0][:3], -len(item[1]))):
        first = alike[0]
        blocks.append(
            f"- {part}, {what}, {kind} ({len(alike)}×): {first.how}\n  {first.detail}\n"
            f"  --seed {seed} --only {part}:{first.number}"
        )
    return "\n".join(blocks)


def revision() -> str:
    """Of the checkout, with a word where it differs from it."""
    root = Path(__file__).resolve().parents[2]

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=False).stdout

    dirty = git("status", "--porcelain", "--", "mdebench", "baselines", "protocols", "tests").strip()
    return (git("rev-parse", "HEAD").strip()[:12] or "unknown") + (" and changes" if dirty else "")


def machine() -> str:
    """In words: processor, cores, system, Python."""
    cores = len(os.sched_getaffinity(0))
    names = [
        line.partition(":")[2].strip()
        for line in Path("/proc/cpuinfo").read_text().splitlines()
        if "model name" in line
    ]
    return f"{names[0] if names else platform.machine()}, {cores} cores, Python {platform.python_version()}"
