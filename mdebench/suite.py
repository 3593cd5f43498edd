"""Which runs and rows are wanted, which exist, and doing what is missing: recipes → runs, runs × protocol → rows.

Every table needs the rows of the untrained methods (majority, raw pixels, random weights, …): they are runs like all
others, made here without anybody asking, and said aloud.
"""

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
from mdebench.data import prepare
from mdebench.data.pack import Pack, open_pack
from mdebench.errors import UserError
from mdebench.protocol import Subject
from mdebench.results import Measurement, Row, append_rows, has_unit, keep_values, provenance, unit_key
from mdebench.runs import Recipe, Run, list_runs
from mdebench.settings import SCALES, build, choose
from mdebench.train import build_method, default_device, default_precision, pretrain, weights_hash

_RECIPE_KEYS = ("updates", "batch", "precision")


def find_pack(home: Path, name: str, console: Console) -> Pack:
    """The pack called ``name`` in ``home/packs``, or at a path; toyfaces packs are drawn when not there yet."""
    path = Path(name) if "/" in name else home / "packs" / name
    digits = name.removeprefix("toyfaces")
    if not path.exists() and name.startswith("toyfaces") and digits.isdigit():
        console.print(f"drawing the embedded data set {name} into {path} (once)")
        draw_faces(home, int(digits), console)
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
    if overrides.get("precision", "fp32") not in ("fp32", "bf16"):
        raise UserError(f"precision={overrides['precision']} is neither fp32 nor bf16")
    own = {k: v for k, v in overrides.items() if k not in _RECIPE_KEYS}
    return catalog.method(method).settings(values, own)


def make_recipe(method: str, pack: Pack, scale: str, seed: int, overrides: Mapping[str, str]) -> Recipe:
    """The full recipe of a method at a scale on a pack.

    ``overrides`` may name ``updates``, ``batch``, ``precision`` and any of the method's settings.
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


def with_references(home: Path, runs: Sequence[Run], pack: Pack, need: str, console: Console) -> list[Run]:
    """``runs`` and, first, the untrained reference methods at the scales of ``runs`` that can do what is needed."""
    made = []
    for scale in sorted({run.info["scale"] for run in runs}):
        for name, entry in catalog.methods().items():
            module = entry.load()
            if not module.Method.REFERENCE or not hasattr(module.Method, need):
                continue
            recipe = make_recipe(name, pack, scale, 0, {})
            run = Run(home / "runs" / recipe.name)
            made.append(run if run.finished else train_run(home, recipe, pack, console))
    known = {run.folder for run in made}
    return made + [run for run in runs if run.folder not in known]


def load_subject(run: Run) -> Subject:
    """A finished run with its trained weights, ready to be measured; UserError when its state does not fit."""
    info = run.info
    if not run.finished:
        raise UserError(
            f"run {run.folder.name} is not finished ({info.get('status')}); go on with the command that began it"
        )
    method = build_method(info["method"], info["settings"], info["size"], info["seed"])
    try:
        method.load_state_dict(run.load_state()["method"])
    except RuntimeError as error:
        raise UserError(f"{run.state_path} does not fit the networks of run.json; train this run again") from error
    if weights_hash(method) != info["weights_hash"]:
        raise UserError(f"{run.state_path} holds other weights than run.json says; train this run again")
    method.to(default_device(), memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    return Subject(run.folder.name, method, run.folder, info["seed"], info["weights_hash"])


def check(name: str, runs: Sequence[Run], pack: Pack, overrides: Mapping[str, Any]) -> list[Any]:
    """The cases of a protocol, once it is sure that it can be measured on the pack and by each of the runs named.

    UserError when the pack lacks the labels, a setting is wrong, or a run lacks what the protocol needs.
    """
    module = catalog.protocol(name)
    cases: list[Any] = module.cases(build(module.Settings, overrides))
    if reason := module.requires(pack):
        raise UserError(f"{name} cannot be measured on {pack.name}: {reason}")
    for run in runs:
        if not _able(run, module):
            raise UserError(f"{name} cannot be measured: {_unable(run, module)}; choose another run")
    return cases


def _able(run: Run, module: ModuleType) -> bool:
    return hasattr(catalog.method(run.info["method"]).load().Method, module.NEEDS)


def _unable(run: Run, module: ModuleType) -> str:
    what = "complete images (it has no decoder)" if module.NEEDS == "complete" else "encode images"
    return f"{run.info['label']} cannot {what}"


def measure(
    home: Path, name: str, runs: Sequence[Run], pack: Pack, overrides: Mapping[str, Any], console: Console
) -> int:
    """Measure runs by a protocol; returns the number of new rows. What is measured already is not measured again.

    A run that lacks what the protocol needs is left out, and said so.
    """
    module, cases, new = catalog.protocol(name), check(name, [], pack, overrides), 0
    for run in runs:
        if _able(run, module):
            new += _measure_run(home, name, module, run, pack, cases, console)
        elif (
            not catalog.method(run.info["method"]).load().Method.REFERENCE
        ):  # nobody expects a majority value to complete
            console.print(f"[yellow]left out[/] {run.folder.name}: {_unable(run, module)}")
    return new


def _measure_run(
    home: Path, name: str, module: ModuleType, run: Run, pack: Pack, cases: Sequence[Any], console: Console
) -> int:
    if run.info["size"] != pack.size:
        raise UserError(f"run {run.folder.name} takes {run.info['size']} pixels, pack {pack.name} has {pack.size}")
    if run.info["pack"] == pack.name and run.info["pack_hash"] != pack.hash:
        console.print(f"[yellow]note[/] {run.folder.name} was trained on another version of {pack.name}")
    missing = [c for c in cases if not has_unit(home, name, run.folder.name, _key(name, module, c, run, pack))]
    if not missing:
        console.print(f"[dim]kept[/] {name} of {run.folder.name}: measured already")
        return 0
    subject, begin, new = load_subject(run), time.monotonic(), 0
    for case in missing:
        with console.status(f"{name} of {subject.name} {case}"):
            measurements: list[Measurement] = module.evaluate(subject, pack, case)
        facts = _facts(name, module, case, run, pack)
        keep_values(home, facts["key"], measurements)
        new += append_rows(home, [Row(**facts, **m.plain()) for m in measurements])
    console.print(f"{name} of {subject.name}: {new} rows, {time.monotonic() - begin:.1f} s")
    return new


def _key(name: str, module: ModuleType, case: Any, run: Run, pack: Pack) -> str:
    return unit_key(
        protocol=name,
        protocol_version=module.VERSION,
        protocol_settings=asdict(case),
        method=run.info["method"],
        settings=_recorded_settings(run),
        seed=run.info["seed"],
        pack_hash=pack.hash,
        weights_hash=run.info["weights_hash"],
    )


def _recorded_settings(run: Run) -> dict[str, Any]:
    """A run's settings as its rows tell them: a perceptual weight file by name and hash, not by its path here."""
    settings = dict(run.info["settings"])
    return settings | ({"perceptual": run.info["perceptual"]} if "perceptual" in settings else {})


def _facts(name: str, module: ModuleType, case: Any, run: Run, pack: Pack) -> dict[str, Any]:
    """Everything a row says beside the measurement itself."""
    same = ["method", "label", "scale", "updates", "batch", "precision"]
    same += ["seed", "weights_hash", "perceptual", "losses"]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "key": _key(name, module, case, run, pack),
        "protocol": name,
        "protocol_version": module.VERSION,
        "protocol_settings": asdict(case),
        "run": run.folder.name,
        "dataset": pack.name,
        "pack_hash": pack.hash,
        "pack_note": pack.footnote(),
        "device": device,
        "settings": _recorded_settings(run),
        **{key: run.info[key] for key in same},
        **provenance(),
    }
