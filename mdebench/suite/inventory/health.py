"""The health of a home as `mdebench doctor` sees it: every checksum, what is missing, who works where.

Each thing is looked at by its own reader, and alone: what is wrong with one hides nothing of the others.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from mdebench import files
from mdebench.data.finding import embedded_size
from mdebench.data.pack import open_pack, verify_pack
from mdebench.errors import UserError
from mdebench.home import Home
from mdebench.results.galleries import list_galleries, open_gallery
from mdebench.results.rows import stored_rows, values_path
from mdebench.runs import Run
from mdebench.suite.inventory.findings import Told, alone, wrong
from mdebench.suite.inventory.strays import replaced_by, strays
from mdebench.suite.inventory.upkeep import bytes_of, is_held
from mdebench.words import size

SHOWN = 3  # names of many in full
Packs = dict[str, str | None]  # name → hash; None: damaged


def health(home: Home) -> Iterator[Told]:
    """All that can be looked at without measuring or training."""
    packs: Packs = {}
    runs: dict[str, Run] = {}
    yield from alone(home.packs, _packs(home, packs))
    yield from alone(home.runs, _runs(home, runs))
    yield from alone(home.packs, _of_packs(home, packs, runs))
    yield from alone(home.judges, _judges(home, packs))
    yield from alone(home.rows, _rows(home))
    yield from alone(home.results, _views(home))
    yield from alone(home.folder, _strays(home))
    yield from alone(home.folder, _locks(home))
    yield Told("not looked at", "samples and sheets (pictures for people), and what stands outside of the home")
    yield Told("not looked at", "whether tables and figures say what the rows say: `mdebench audit` does")


# --- packs


def _packs(home: Home, found: Packs) -> Iterator[Told]:
    folders = [path for path in _folders(home.packs) if not path.name.startswith(".")]
    for path in folders:
        yield Told("looking at", f"pack {path.name} ({size(bytes_of(path))})")
        if not (path / "pack.json").exists():
            yield Told("finding", f"{path} is no pack: it has no pack.json", "move it away, or prepare a pack there")
            continue
        problems: list[str] = []
        yield from wrong(path, "prepare it again with --replace", partial(_read_into, problems, verify_pack, path))
        yield from (Told("finding", problem) for problem in problems)
        try:
            found[path.name] = open_pack(path).hash
        except (UserError, OSError, ValueError):  # told above
            found[path.name] = None
    for old in sorted(home.packs.glob(".*.old")):
        if not (pack := replaced_by(old)).exists() and not is_held(old.with_suffix(".lock")):
            way_on = f"rename what it was to replace, {old.name}, back to {pack.name}, or prepare the new one again"
            yield Told("finding", f"making {pack} anew was cut short", way_on, partial(old.rename, pack))
    yield Told("looked at", f"{len(folders)} packs, every array against its SHA-256")


# --- runs


def _runs(home: Home, found: dict[str, Run]) -> Iterator[Told]:
    folders = [path for place in (home.runs, home.judges) for path in _folders(place)]
    for path in folders:
        yield Told("looking at", f"run {path.name}")
        yield from alone(path, _folder_of_run(path, found))
    told = "run.json, state.pt part by part, images trained on, log, features"
    yield Told("looked at", f"{len(folders)} runs and judges: {told}")
    galleries = list_galleries(home)
    for gallery in galleries:
        way_on = "delete it and measure its run again"
        yield from wrong(gallery.path, way_on, partial(open_gallery, gallery.path))
    yield Told("looked at", f"{len(galleries)} galleries")


def _folder_of_run(path: Path, found: dict[str, Run]) -> Iterator[Told]:
    if {each.name for each in path.iterdir()} <= {".lock"}:
        return  # a stray
    if not (path / "run.json").exists():
        if not is_held(path / ".lock"):
            yield Told("finding", f"{path} has no run.json, so nothing can be made of it", "delete it")
        return
    read: list[Run] = []
    yield from wrong(path / "run.json", f"delete {path} to train this run again", lambda: read.append(Run(path)))
    for run in read:
        found[str(path)] = run
        yield from _run(run)
        yield from _features(run)


def _run(run: Run) -> Iterator[Told]:
    way_on = f"delete {run.folder} to train this run again"
    status, step = run.info.get("status"), run.info.get("step", 0)
    if run.state_path.exists():
        yield from wrong(run.state_path, way_on, lambda: files.check_archive(run.state_path, way_on))
    elif status == "finished":
        yield Told("finding", f"{run.folder} is said to be finished, but has no state.pt", way_on)
    yield from wrong(run.trained_on_path, "delete it, and they are looked up in the pack", run.trained_on)
    yield from wrong(run.log_path, "delete it: curves are drawn without it", run.log)
    if status != "finished" and not is_held(run.folder / ".lock"):
        last = f"{datetime.fromtimestamp(run.info_path.stat().st_mtime):%Y-%m-%d %H:%M}"
        how_far = f"stopped at {step:,} of {run.info.get('updates', 0):,} updates ({status}), last at work {last}"
        ways = f"the command that began it goes on, `mdebench runs {run.folder.name} --remove` gives it up"
        yield Told("note", f"{run.folder.name} {how_far}: {ways}")


def _features(run: Run) -> Iterator[Told]:
    weights, way_on = str(run.info.get("weights_hash", ""))[:12], "delete it: features are computed again"
    for path in sorted(path for path in (run.folder / "features").glob("[!.]*") if path.is_file()):
        if path.stem.partition("-")[2] != weights:
            yield Told("finding", f"{path} is of other weights than the run has", way_on, path.unlink)
        else:
            yield from wrong(path, way_on, partial(_check_features, path), path.unlink)


def _check_features(path: Path) -> None:
    """Hold features to their checksum, whatever their shape; only torch could say which that is."""
    import numpy as np

    from mdebench.evaluation import features

    features.kept(path, np.load(path, mmap_mode="r", allow_pickle=False).shape)


def _of_packs(home: Home, packs: Packs, runs: dict[str, Run]) -> Iterator[Told]:
    """Runs whose pack is gone, or is another now."""
    trained = defaultdict[tuple[str, str], list[str]](list)
    for folder, run in runs.items():
        if run.info.get("updates") and Path(folder).parent == home.runs:  # what is not trained is of no pack
            trained[run.info["pack"], run.info["pack_hash"]].append(run.folder.name)
    for (pack, trained_on), names in trained.items():
        here = packs[pack] if pack in packs else _hash_at(home.pack(pack))
        told = f"the pack {pack} ({trained_on[:8]}) of {_some(names, 'run')}"
        if here == "" and embedded_size(pack) is not None:
            yield Told("note", f"{told} is not here", "it is drawn again when it is needed")
        elif here == "":
            ways = "prepare it again to measure them, or give them up with `mdebench runs … --remove`"
            yield Told("finding", f"{told} is not here", ways)
        elif here is not None and here != trained_on:
            ways = "prepare the one that they were trained on again, under another name, or train them anew"
            yield Told("finding", f"{told} is another now ({here[:8]})", ways)


def _hash_at(path: Path) -> str | None:
    """The hash of a pack; "" where there is none, None where it is damaged."""
    if not path.exists():
        return ""
    try:
        return open_pack(path).hash
    except UserError:
        return None


def _judges(home: Home, packs: Packs) -> Iterator[Told]:
    for path in _folders(home.judges):
        try:
            trained_on = Run(path).info.get("pack_hash")
        except UserError:  # told among the runs
            continue
        if trained_on and packs.get(path.name) not in (None, trained_on):
            yield Told(
                "finding", f"{path} is the judge of another version of {path.name}; delete it to train a new one"
            )


# --- results


def _rows(home: Home) -> Iterator[Told]:
    paths = sorted(home.rows.glob("*/*.jsonl"))
    count, keys = 0, set[Path]()
    without: dict[str, None] = {}
    for path in paths:
        yield Told("looking at", f"rows {path.parent.name} of {path.stem}")
        rows: list[dict[str, Any]] = []
        way_on = "restore it from git, or delete it and measure its run again"
        yield from wrong(path, way_on, partial(_read_into, rows, stored_rows, home, path.parent.name, path.stem))
        count += len(rows)
        keys |= {values_path(home, row["key"]) for row in rows}
        if not (home.runs / path.stem).is_dir():
            without[path.stem] = None
    values = sorted(home.values.glob("*.npz"))
    for path in values:
        way_on = f"restore it from git, or delete it and, of {home.rows}, the lines of its key, and measure again"
        yield from wrong(path, way_on, partial(files.read_arrays, path, way_on))
    yield Told("looked at", f"{count:,} rows in {len(paths)} files, and {len(values):,} files of values to their ends")
    if without:
        told = f"rows of {_some(list(without), 'run')}, which are not here"
        yield Told("note", told, "tables show them; to measure anew, or show what they complete, takes the runs")
    if spare := len(set(values) - keys):
        yield Told("note", f"{spare:,} files in {home.values} belong to no whole row here")


def _views(home: Home) -> Iterator[Told]:
    """What else commands read back under ``results/``."""
    try:
        from mdebench.bench.record import speed_rows
        from mdebench.evaluation.displays import displays
    except (ImportError, OSError, RuntimeError) as error:  # of torch, which is told as such
        yield Told("not looked at", f"rows of speed, and how protocols show their rows ({error})")
        return
    yield from wrong(home.speed, "delete the damaged line and measure the speed again", partial(speed_rows, home))
    yield from wrong(home.rows, "measure by that protocol again", partial(displays, home))
    yield Told("looked at", "rows of speed, and how protocols show their rows")


# --- what kills left, who is at work


def _strays(home: Home) -> Iterator[Told]:
    yield Told("looking at", "what kills have left")
    for stray in strays(home):
        yield Told("finding", stray.text, "`mdebench prune` frees it", stray.free)
    yield Told("looked at", "what kills may have left here and among temporary files")


def _locks(home: Home) -> Iterator[Told]:
    locks = [path for place in (home.runs, home.judges) for path in place.glob("*/.lock")]
    for lock in sorted([*locks, *home.packs.glob(".*.lock"), *home.results.glob("*/.lock")]):
        if is_held(lock):
            who = files.holder(lock) or "a process that left no name"
            yield Told("note", f"{lock} is held by {who}, which is at work there")
    yield Told("looked at", "locks")


def _read_into(found: list[Any], read: Callable[..., Iterable[Any]], *args: Any) -> None:
    found.extend(read(*args))


def _folders(place: Path) -> list[Path]:
    return sorted(path for path in place.iterdir() if path.is_dir()) if place.is_dir() else []


def _some(names: list[str], what: str) -> str:
    told = ", ".join(sorted(names)[:SHOWN]) + (" …" if len(names) > SHOWN else "")
    return f"{len(names)} {what}{'s' * (len(names) != 1)} ({told})"
