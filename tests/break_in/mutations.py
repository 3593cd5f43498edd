"""Every kind of file that is written or read, damaged, and read by a command that uses it.

It may say so and refuse, or say so and mend it, or give the same result as ever. A result that is another one without
a word is a failure where the file or its format has a checksum; where it has none (a CSV, a plain JPEG) nobody could
know, but pictures that are not there have to be told of in any case.
"""

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import damage
import numpy as np
from children import Limits, Outcome
from ledger import Verdict
from scene import BROKEN_OFF, CLOCK, FINISHED, JOBS, Job, Stage, differences

SECONDS = 10.0  # beyond twice what a command usually takes
MEMORY = 2 * 2**30  # bytes beyond what the warm process has
WORDS = re.compile(
    r"damaged|altered|not what|does not hold|cannot be|is no |not a |left out|unlisted|missing|no readable|zero bytes"
    r"|ends before|truncated|unknown|in doubt|says that it has|failed|again|repaired|cleared|another|other |gone"
    r"|ignored|not used|note |warning|cut short|no row|no identity|no class|out of|converted|outside|has no|not there"
    r"|occurred before|two |enlarged|does not",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Kind:
    """A kind of file: globs below the scene, the commands that read it, whether it has a checksum, and whether it grows
    line by line, so that its beginning alone is what it was once, and what notes the hash of its bytes, changed or not.
    ``refused``: views are made of all of them or not at all, as each comparison counts all others of its table.
    """

    name: str
    files: Sequence[str]
    jobs: Sequence[str]
    checked: bool = True
    grows: bool = False
    refused: bool = False
    noted_in: str = ""


RUN_VIEWS = ("runs", "show", "compare", "tables", "figures", "report", "audit", "prune --dry-run", "costs")
PACK_VIEWS = ("data list", "data verify", "data show", "audit", "measure anew", "pretrain on a pack")
FOLDER = "sources/folder"
R = f"home/runs/{FINISHED}"

KINDS = [
    Kind("run.json", (f"{R}/run.json",), (*RUN_VIEWS, "pretrain, finished", "measure anew", "occlusion", "export")),
    Kind("run.json, half way", (f"home/runs/{BROKEN_OFF}/run.json",), ("pretrain, resumed", "runs", "report")),
    Kind("run.json of a judge", ("home/judges/*/run.json",), ("judge, finished",)),
    Kind(
        "state.pt", (f"{R}/state.pt",), ("measure anew", "occlusion", "export", "embed", "complete", "prune --dry-run")
    ),
    Kind("state.pt, half way", (f"home/runs/{BROKEN_OFF}/state.pt",), ("pretrain, resumed",)),
    Kind("state.pt of a judge", ("home/judges/*/state.pt",), ("judge, finished",)),
    Kind("log.jsonl", (f"{R}/log.jsonl",), ("runs", "figures", "report"), grows=True),
    Kind("log.jsonl, half way", (f"home/runs/{BROKEN_OFF}/log.jsonl",), ("pretrain, resumed", "runs"), grows=True),
    Kind("trained_on.npy", (f"{R}/trained_on.npy",), ("measure anew", "measure again")),
    Kind("features", (f"{R}/features/*.npy",), ("measure again",)),
    Kind("pack.json", ("home/packs/toyfaces16/pack.json",), (*PACK_VIEWS, "tables")),
    Kind("images.npy", ("home/packs/toyfaces16/images.npy",), PACK_VIEWS),
    Kind("labels of a pack", ("home/packs/toyfaces16/[!i]*.npy", "home/packs/toyfaces16/id*.npy"), PACK_VIEWS),
    Kind("names.json", ("home/packs/toyfaces16/names.json",), ("data verify", "data show")),
    Kind(
        "rows",
        ("home/results/rows/*/*.jsonl",),
        ("tables", "audit", "report", "figures", "compare", "measure what is there"),
        grows=True,
        refused=True,
    ),
    Kind("values", ("home/results/values/*.npz",), ("tables", "audit", "compare", "figures")),
    Kind("gallery", ("home/runs/*/gallery/*/*.npz",), ("figures", "report", "tables")),
    Kind("display.json", ("home/results/rows/upturned/display.json",), ("tables", "figures", "report")),
    Kind("rows of speed", ("home/results/speed/*.jsonl",), ("bench table", "costs"), grows=True),
    Kind("exported .safetensors", ("e.safetensors",), ("embed an export",)),
    Kind("exported .json", ("e.safetensors.json",), ("embed an export",)),
    Kind("figures' pictures", ("home/results/figures/*.png", "home/results/sheets/*.png"), ("report",), checked=False),
    Kind("weights .pth", ("weights/w.pth",), ("pretrain .pth",), noted_in="run.json"),
    Kind(
        "weights .safetensors",
        ("weights/w.safetensors",),
        ("pretrain .safetensors",),
        checked=False,
        noted_in="run.json",
    ),
    Kind("mask", ("mask.png",), ("complete",)),
    Kind("own pictures", ("pictures/*",), ("embed", "complete"), checked=False),
    *(
        Kind(f".{end}", (f"{FOLDER}/*.{end}",), ("data prepare folder",), checked=end == "png")
        for end in ("jpeg", "png", "bmp", "gif", "tiff", "webp", "ppm", "csv")
    ),
    Kind("zip", (f"{FOLDER}.zip",), ("data prepare folder.zip",)),
    Kind("tar", (f"{FOLDER}.tar",), ("data prepare folder.tar",), checked=False),
    Kind("tgz", (f"{FOLDER}.tgz",), ("data prepare folder.tgz",)),
    Kind("CelebA's lists", ("sources/celeba/*.txt",), ("data prepare celeba",), checked=False),
    Kind(".mat", ("sources/flowers/*.mat",), ("data prepare flowers",), checked=False),
    Kind("idx", ("sources/mnist/*",), ("data prepare mnist",), checked=False),
    Kind("idx.gz", ("sources/mnistgz/*",), ("data prepare mnistgz",)),
]


# Commands that take more than half a second: as many tries go to the others as time allows.
SLOW = {"tables", "figures", "report", "audit", "export", "measure again", "measure anew", "occlusion", "costs"}
OFTEN = 0.85
TURNS = [kind for kind in KINDS for _ in range(1 if set(kind.jobs) <= SLOW else 2)]

Usual = Callable[[str], tuple[Outcome, dict[str, str]]]


def missing(scene: Path) -> list[str]:
    """The kinds of which there is no file in a scene; there should be none."""
    return [kind.name for kind in KINDS if not any(path for glob in kind.files for path in scene.glob(glob))]


def mutate(number: int, seed: int, scene: Path, room: Path, usual: Usual) -> Verdict:
    """Damage a file as drawn, give a command that reads it, and judge what becomes of it."""
    kind = (KINDS + TURNS)[number % (len(KINDS) + len(TURNS))]
    rng = np.random.default_rng([seed, 1, number])
    stage = Stage(scene, room)
    files = sorted(path for pattern in kind.files for path in stage.folder.glob(pattern))
    file = files[int(rng.integers(len(files)))]
    fast = [name for name in kind.jobs if name not in SLOW]
    names = fast if fast and rng.random() < OFTEN else kind.jobs
    job = JOBS[f"r {names[int(rng.integers(len(names)))]}"]
    stage.clear(job)
    whole = file.read_bytes()
    how, changed = damage.harm(whole, file.suffix, rng)
    times = file.stat()
    file.write_bytes(changed)
    os.utime(file, ns=(times.st_atime_ns, times.st_mtime_ns))
    before, expected = usual(f"r {job.name}")
    outcome = stage.give(job, Limits(SECONDS + 2 * before.seconds, memory=MEMORY))
    found = stage.result(job, outcome)
    if stage.home in file.parents and file.is_file() and file.read_bytes() == changed:
        place = file.relative_to(stage.home).as_posix()
        found[place] = expected.get(place, "")  # it is as it was damaged: no result
    differing = differences(expected, found)
    if kind.noted_in:
        differing = [path for path in differing if not path.endswith(kind.noted_in)]
    what, detail = judge(kind, job, before, outcome, differing, stage)
    if what == "silent" and kind.grows and whole.startswith(changed):
        what = "unknowable"
    if what in ("same", "told", "repaired") and not stage.untouched():
        what = "escaped"
    place = file.relative_to(stage.folder).as_posix().replace(FINISHED, "RUN").replace(BROKEN_OFF, "RUN")
    return Verdict("mutations", kind.name, what, f"{place}: {how}; mdebench {job.name}", number, detail)


def judge(
    kind: Kind, job: Job, before: Outcome, outcome: Outcome, changed: Sequence[str], stage: Stage
) -> tuple[str, str]:
    """What became of it, in a word of the ledger, and what shows it."""
    if failure := mishap(outcome):
        return failure
    known = set(CLOCK.sub("#", before.said).splitlines())
    news = [line for line in CLOCK.sub("#", outcome.said).splitlines() if line not in known and WORDS.search(line)]
    if outcome.status in (1, 2) and outcome.status != before.status:
        if "rror: " not in outcome.said:
            return "unsaid", outcome.said[-300:]
        if job.makes and not kind.refused and not any(stage.home.glob(job.makes)):
            return "hides", last(outcome)
        return ("told", "") if job.told in outcome.said else ("hides", last(outcome))
    if outcome.status != before.status:
        return "unsaid", f"status {outcome.status}: {outcome.said[-300:]}"
    if job.told not in outcome.said:
        return "hides", last(outcome)
    if not changed:
        return ("repaired" if news else "same"), ""
    if news:
        return "told", ""
    names = any(path.endswith("names.json") for path in changed)  # pictures have come or gone
    return ("silent" if kind.checked or names else "unknowable"), ", ".join(changed[:4])


def mishap(outcome: Outcome) -> tuple[str, str] | None:
    """How a command must never end, whatever it was given."""
    if outcome.hung:
        return "hang", f"{outcome.seconds:.1f} s"
    if outcome.status < 0:
        return "signal", f"signal {-outcome.status}"
    if "enough memory" in outcome.said or "MemoryError" in outcome.said or "bad_alloc" in outcome.said:
        return "memory", last(outcome)
    if "Traceback (most recent call last)" in outcome.said:
        return "traceback", f"{last(outcome)} ({where(outcome)})"
    return None


def last(outcome: Outcome) -> str:
    """The last line of what was said."""
    return (outcome.said.strip().splitlines() or ["nothing was said"])[-1][:300]


def where(outcome: Outcome) -> str:
    """The innermost of our own lines in a traceback."""
    ours = re.findall(r'File "[^"]*?/((?:mdebench|baselines|protocols)/[^"]+)", line (\d+)', outcome.said)
    return ":".join(ours[-1]) if ours else "not ours"
