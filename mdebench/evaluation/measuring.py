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

from mdebench import catalog
from mdebench.compute.machine import default_device
from mdebench.data.pack import Pack
from mdebench.errors import UserError
from mdebench.evaluation.contract import Subject
from mdebench.evaluation.judge import Judge
from mdebench.evaluation.judges import find_judge
from mdebench.evaluation.lpips import load_lpips
from mdebench.home import Home
from mdebench.results.provenance import provenance
from mdebench.results.rows import Measurement, Row, append_rows, has_unit, keep_values, unit_key
from mdebench.runs import Run
from mdebench.settings import build
from mdebench.training.trainer import build_method, weights_hash


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


def judge_for(home: Home, cases: Sequence[Any], pack: Pack, console: Console) -> Judge | None:
    """The classifier that the cases ask for, trained when it is not there yet; None where none is asked for or had."""
    spec = getattr(cases[0], "judge", None)
    return None if spec is None else find_judge(home, pack, spec, console)


def measure(
    home: Home, name: str, runs: Sequence[Run], pack: Pack, overrides: Mapping[str, Any], console: Console
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
    home: Home, name: str, run: Run, pack: Pack, cases: Sequence[Any], judge: Judge | None, console: Console
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
