"""Which runs and rows are wanted, which exist, and doing what is missing: recipes → runs, runs × protocol → rows.

Every table needs the rows of the untrained methods (majority, raw pixels, random weights, …): they are runs like all
others, made here without anybody asking, and said aloud.
"""

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress

from mdebench import catalog
from mdebench.batchnorm import KINDS
from mdebench.data import prepare
from mdebench.data.pack import Pack, open_pack
from mdebench.errors import UserError
from mdebench.judge import Judge, find_judge
from mdebench.lpips import load_lpips
from mdebench.protocol import Subject
from mdebench.results import Measurement, Row, append_rows, has_unit, keep_values, provenance, unit_key
from mdebench.runs import Recipe, Run, list_runs
from mdebench.settings import SCALES, build, choose
from mdebench.train import build_method, default_device, default_precision, pretrain, weights_hash

_RECIPE_KEYS = ("updates", "batch", "precision", "batch_norm")


def pack_path(home: Path, name: str) -> Path:
    """Where the pack called ``name`` is: in ``home/packs``, or at the path that the name is."""
    return Path(name) if "/" in name else home / "packs" / name


def embedded_size(name: str) -> int | None:
    """The size in the name of an embedded pack (``toyfaces64`` → 64), None for any other."""
    digits = name.removeprefix("toyfaces")
    return int(digits) if name.startswith("toyfaces") and digits.isdigit() else None


def find_pack(home: Path, name: str, console: Console) -> Pack:
    """The pack called ``name`` in ``home/packs``, or at a path; toyfaces packs are drawn when not there yet."""
    path, size = pack_path(home, name), embedded_size(name)
    if not path.exists() and size is not None:
        console.print(f"drawing the embedded data set {name} into {path} (once)")
        draw_faces(home, size, console)
    return open_pack(path)


def draw_faces(home: Path, size: int, console: Console, **options: Any) -> None:
    """Make the embedded pack of a size, with a progress bar; ``options`` as in ``mdebench data prepare toyfaces``."""
    with Progress(console=console, transient=True) as bar:
        task = bar.add_task("drawing toyfaces", total=None)
        prepare(
            "toyfaces",
            root=None,
            size=size,
            packs_dir=home / "packs",
            progress=lambda done, total: bar.update(task, completed=done, total=total),
            **options,
        )


def method_settings(method: str, scale: str, overrides: Mapping[str, str]) -> Any:
    """A method's settings at a scale with ``overrides``, checked; the recipe's own keys are checked and left out."""
    values = choose(scale, SCALES, "scale")
    for key in ("updates", "batch"):
        _positive(key, overrides, 1)
    if overrides.get("precision", "fp32") not in ("fp32", "bf16", "fp64"):
        raise UserError(f"precision={overrides['precision']} is none of fp32, bf16 and fp64")
    choose(overrides.get("batch_norm", "synchronised"), KINDS, "batch_norm")
    own = {k: v for k, v in overrides.items() if k not in _RECIPE_KEYS}
    return catalog.method(method).settings(values, own)


def make_recipe(method: str, pack: Pack, scale: str, seed: int, overrides: Mapping[str, str]) -> Recipe:
    """The full recipe of a method at a scale on a pack.

    ``overrides`` may name ``updates``, ``batch``, ``precision``, ``batch_norm`` and any of the method's settings.
    """
    values, name = SCALES[scale], catalog.method(method).name
    plain = asdict(method_settings(method, scale, overrides))
    S = plain.get("S")
    return Recipe(
        method=name,
        label=name if S is None else f"{name} {S:g}",
        settings=plain,
        scale=scale,
        size=pack.size,
        pack=pack.name,
        pack_hash=pack.hash,
        seed=seed,
        updates=_positive("updates", overrides, values.updates),
        batch=_positive("batch", overrides, values.batch),
        precision=overrides.get("precision", default_precision(default_device())),
        overrides={k: v for k, v in overrides.items() if k != "S"},
    )


def _positive(key: str, overrides: Mapping[str, str], default: int) -> int:
    try:
        value = int(overrides.get(key, default))
    except ValueError:
        value = 0
    if value < 1:
        raise UserError(f"{key}={overrides[key]!r} is not a whole number of at least 1")
    return value


def train_run(home: Path, recipe: Recipe, pack: Pack, console: Console) -> Run:
    """Do (or go on with, or find finished) the run of a recipe; returns it."""
    folder = home / "runs" / recipe.name
    pretrain(recipe, Run(folder), pack, console)
    return Run(folder)


def finished_runs(home: Path, pack: str) -> list[Run]:
    """The finished runs that were trained on a pack."""
    return [run for run in list_runs(home) if run.finished and run.info["pack"] == pack]


def references(need: str) -> list[str]:
    """The untrained methods that stand in every table for comparison and can do what is needed."""
    found = {name: entry.load().Method for name, entry in catalog.methods().items()}
    return [name for name, cls in found.items() if cls.REFERENCE and hasattr(cls, need)]


def with_references(home: Path, runs: Sequence[Run], pack: Pack, need: str, console: Console) -> list[Run]:
    """``runs`` and, first, the untrained reference methods at the scales of ``runs`` that can do what is needed."""
    made = []
    for scale in sorted({run.info["scale"] for run in runs}):
        for name in references(need):
            recipe = make_recipe(name, pack, scale, 0, {})
            run = Run(home / "runs" / recipe.name)
            made.append(run if run.finished else train_run(home, recipe, pack, console))
    known = {run.folder for run in made}
    return made + [run for run in runs if run.folder not in known]


def load_subject(run: Run, judge: Judge | None = None) -> Subject:
    """A finished run with its trained weights, ready to be measured; UserError when its state does not fit."""
    info = run.info
    if not run.finished:
        raise UserError(
            f"run {run.folder.name} is not finished ({info.get('status')}); go on with the command that began it"
        )
    method = build_method(info["method"], info["settings"], info["size"], info["seed"])
    if info["precision"] == "fp64":
        method.double()
    try:
        method.load_state_dict(run.load_state()["method"])
    except RuntimeError as error:
        raise UserError(f"{run.state_path} does not fit the networks of run.json; train this run again") from error
    if weights_hash(method) != info["weights_hash"]:
        raise UserError(f"{run.state_path} holds other weights than run.json says; train this run again")
    if info["precision"] == "fp64":  # images are measured in float32
        method.float()
    method.to(default_device(), memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return Subject(run.folder.name, method, run.folder, info["seed"], info["weights_hash"], judge)


def check(name: str, runs: Sequence[Run], pack: Pack, overrides: Mapping[str, Any]) -> list[Any]:
    """The cases of a protocol, once it is sure that it can be measured on the pack and by each of the runs named.

    UserError when the pack lacks the labels, a setting is wrong, or a run lacks what the protocol needs.
    """
    module = catalog.protocol(name)
    cases: list[Any] = module.cases(build(module.Settings, overrides))
    if reason := module.requires(pack):
        raise UserError(f"{name} cannot be measured on {pack.name}: {reason}")
    for run in runs:
        if not able(run.info["method"], name):
            raise UserError(f"{name} cannot be measured: {_unable(run, module)}; choose another run")
    return cases


def able(method: str, protocol: str) -> bool:
    """Whether a method can do what a protocol needs."""
    return hasattr(catalog.method(method).load().Method, catalog.protocol(protocol).NEEDS)


def _unable(run: Run, module: ModuleType) -> str:
    what = {"complete": "complete images (it has no decoder)", "encode": "encode images", "stages": "show its stages"}
    return f"{run.info['label']} cannot {what[module.NEEDS]}"


def judge_for(home: Path, cases: Sequence[Any], pack: Pack, console: Console) -> Judge | None:
    """The classifier that the cases ask for, trained when it is not there yet; None where none is asked for or had."""
    spec = getattr(cases[0], "judge", None)
    return None if spec is None else find_judge(home, pack, spec, console)


def measure(
    home: Path, name: str, runs: Sequence[Run], pack: Pack, overrides: Mapping[str, Any], console: Console
) -> int:
    """Measure runs by a protocol; returns the number of new rows. What is measured already is not measured again.

    A run that lacks what the protocol needs is left out, and said so.
    """
    module, cases, new = catalog.protocol(name), check(name, [], pack, overrides), 0
    judge = judge_for(home, cases, pack, console)
    for run in runs:
        if able(run.info["method"], name):
            new += measure_run(home, name, run, pack, cases, judge, console)
        elif (
            not catalog.method(run.info["method"]).load().Method.REFERENCE
        ):  # nobody expects a majority value to complete
            console.print(f"[yellow]left out[/] {run.folder.name}: {_unable(run, module)}")
    return new


def measure_run(
    home: Path, name: str, run: Run, pack: Pack, cases: Sequence[Any], judge: Judge | None, console: Console
) -> int:
    """Measure one finished run by the cases of a protocol that have no rows yet; returns the number of new rows."""
    if run.info["size"] != pack.size:
        raise UserError(f"run {run.folder.name} takes {run.info['size']} pixels, pack {pack.name} has {pack.size}")
    if run.info["pack"] == pack.name and run.info["pack_hash"] != pack.hash:
        console.print(f"[yellow]note[/] {run.folder.name} was trained on another version of {pack.name}")
    module, by = catalog.protocol(name), judge.id if judge else ""
    missing = [c for c in cases if not has_unit(home, name, run.folder.name, case_key(name, c, run, pack, by))]
    if not missing:
        console.print(f"[dim]kept[/] {name} of {run.folder.name}: measured already")
        return 0
    subject, begin, new = load_subject(run, judge), time.monotonic(), 0
    for case in missing:
        with console.status(f"{name} of {subject.name} {case}"):
            measurements: list[Measurement] = module.evaluate(subject, pack, case)
        facts = _facts(name, module, case, run, pack, judge)
        keep_values(home, facts["key"], measurements)
        new += append_rows(home, [Row(**facts, **m.plain()) for m in measurements])
    console.print(f"{name} of {subject.name}: {new} rows, {time.monotonic() - begin:.1f} s")
    return new


def case_key(name: str, case: Any, run: Run, pack: Pack, judge: str) -> str:
    """The key of one case's rows for a finished run; ``judge`` is the id of the classifier, "" for none."""
    return unit_key(
        protocol=name,
        protocol_version=catalog.protocol(name).VERSION,
        protocol_settings=_recorded_case(case, judge),
        method=run.info["method"],
        settings=_recorded_settings(run),
        seed=run.info["seed"],
        pack_hash=pack.hash,
        weights_hash=run.info["weights_hash"],
    )


def _recorded_case(case: Any, judge: str) -> dict[str, Any]:
    """A case's settings as its rows tell them: networks by name and hash of their weights, not by a path here."""
    settings = asdict(case)
    settings |= {"judge": judge} if "judge" in settings else {}
    if settings.get("lpips", "none") != "none":
        settings["lpips"] = load_lpips(Path(settings["lpips"])).name
    return settings


def _recorded_settings(run: Run) -> dict[str, Any]:
    """A run's settings as its rows tell them: a perceptual weight file by name and hash, not by its path here."""
    settings: dict[str, Any] = run.info["settings"] | run.info.get("told", {})
    return settings | ({"perceptual": run.info["perceptual"]} if "perceptual" in settings else {})


def _facts(name: str, module: ModuleType, case: Any, run: Run, pack: Pack, judge: Judge | None) -> dict[str, Any]:
    """Everything a row says beside the measurement itself."""
    same = ["method", "label", "scale", "updates", "batch", "precision"]
    same += ["seed", "weights_hash", "perceptual", "losses"]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    by = judge.id if judge else ""
    return {
        "key": case_key(name, case, run, pack, by),
        "protocol": name,
        "protocol_version": module.VERSION,
        "protocol_settings": _recorded_case(case, by),
        "run": run.folder.name,
        "dataset": pack.name,
        "pack_hash": pack.hash,
        "pack_note": pack.footnote(),
        "device": device,
        "judge": judge.name if judge else "",
        "settings": _recorded_settings(run),
        **{key: run.info[key] for key in same},
        **{key: float(run.info.get(key, math.nan)) for key in ("seconds", "gflop")},
        **provenance(),
    }
