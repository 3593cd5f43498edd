"""Measuring by a protocol: what is stored already is not measured again, what cannot be measured is left out and said.

A unit is one case of a protocol for one subject. Its rows share a key, made of all that decides whether they are good.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console

from mdebench import catalog
from mdebench.catalog import Code
from mdebench.compute.memory import enough_memory
from mdebench.data.pack import SPLITS, Pack
from mdebench.errors import UserError
from mdebench.evaluation.contract import Subject, Unfit
from mdebench.evaluation.displays import display_of
from mdebench.evaluation.judging.judge import Judge
from mdebench.evaluation.judging.judges import find_judge
from mdebench.evaluation.judging.lpips import load_lpips
from mdebench.evaluation.passes import watched
from mdebench.evaluation.subjects import load_subject
from mdebench.evaluation.subjects.maskers import find_masker, load_masker, masker_id
from mdebench.evaluation.subjects.seen import check_unseen, remarked, trained_images, unknown
from mdebench.files import write_json
from mdebench.home import Home
from mdebench.results.intervals import interval, known_people
from mdebench.results.provenance import provenance
from mdebench.results.rows import Measurement, Row, append_rows, keep_values, stored_rows, unit_key, width_is_unknown
from mdebench.runs import Run, other_pack
from mdebench.settings import build
from mdebench.training.recipes import changed_code, entry_of
from mdebench.words import duration, tell

ABILITIES = {
    "complete": "complete images (it has no decoder)",
    "encode": "encode images",
    "stages": "show its stages",
    "likelihood": "tell how likely images are",
}


def check(home: Home, word: str, runs: Sequence[Run], pack: Pack, overrides: Mapping[str, Any]) -> list[Any]:
    """The cases of a protocol, once it is sure that it can be measured on the pack and by each of the runs named.

    UserError when the pack lacks the labels, a setting is wrong, or a run (also one named as masker) lacks what the
    protocol needs.
    """
    code = catalog.find_protocol(word)
    module = code.load()
    with code.guarded():
        cases: list[Any] = module.cases(build(module.Settings, overrides))
        reason = module.requires(pack)
    if not isinstance(cases, list) or not cases or not all(isinstance(case, module.Settings) for case in cases):
        raise UserError(f"{code.name}: cases(settings) is to return a list of Settings, at least one, not {cases!r}")
    if reason is not None and not isinstance(reason, str):
        raise UserError(f"{code.name}: requires(pack) is to return None, or in words why not, not {reason!r}")
    if reason:
        raise UserError(f"{code.name} cannot be measured on {pack.name}: {reason}")
    for name in {case.masker for case in cases if hasattr(case, "masker")}:
        find_masker(home, name, pack)
    for run in runs:
        try:
            fits = able(entry_of(run.info), word)
        except UserError:  # its code is not here, or no longer works: left out, and said, where it would be measured
            continue
        if not fits:
            raise UserError(f"{code.name} cannot be measured: {_unable(run, module.NEEDS)}; choose another run")
    return cases


def able(method: Code, protocol: str) -> bool:
    """Whether a method can do what a protocol needs."""
    return hasattr(method.load().Method, catalog.protocol(protocol).NEEDS)


def _unable(run: Run, need: str) -> str:
    return f"{run.info['label']} cannot {ABILITIES[need]}"


def judge_for(home: Home, cases: Sequence[Any], pack: Pack, console: Console) -> Judge | None:
    """The classifier that the cases ask for, trained when it is not there yet; None where none is asked for or had."""
    spec = getattr(cases[0], "judge", None)
    return None if spec is None else find_judge(home, pack, spec, console)


def measurable(word: str, runs: Sequence[Run], console: Console) -> list[Run]:
    """Those of the runs that can be measured by a protocol; of the others it is said why they are left out."""
    need, kept = catalog.protocol(word).NEEDS, []
    for run in runs:
        try:
            method = entry_of(run.info)
            fits = able(method, word)
        except UserError as problem:  # its code is not here, or no longer works
            tell(console, "left out", f"{run.folder.name}: {problem}")
            continue
        if fits and (lack := method.load().Method.lacking()):
            tell(console, "left out", f"{run.folder.name}: {lack}")
        elif fits:
            kept.append(run)
        elif not method.load().Method.REFERENCE:  # nobody expects a majority value to complete
            tell(console, "left out", f"{run.folder.name}: {_unable(run, need)}")
    return kept


def measure(
    home: Home, word: str, runs: Sequence[Run], pack: Pack, overrides: Mapping[str, Any], console: Console
) -> int:
    """Measure runs by a protocol; returns the number of new rows. What is measured already is not measured again.

    A run that lacks what the protocol needs, or whose method is not here, is left out, and said so.
    """
    cases = check(home, word, [], pack, overrides)
    able_runs = measurable(word, runs, console)
    judge = judge_for(home, cases, pack, console) if able_runs else None
    begin, new, failed = time.monotonic(), 0, list[str]()
    for done, run in enumerate(able_runs):
        try:
            new += measure_run(home, word, run, pack, cases, judge, console)
        except UserError as problem:
            if len(able_runs) == 1:
                raise
            tell(console, "failed", f"{run.folder.name}: {problem}")
            failed.append(f"{run.folder.name} ({problem})")
        if new and len(able_runs) - done > 1:
            each = (time.monotonic() - begin) / (done + 1)
            left = duration(each * (len(able_runs) - done - 1))
            console.print(f"{done + 1} of {len(able_runs)} runs, about {left} left")
    if failed:
        raise UserError(f"not all was measured: {'; '.join(failed)}")
    return new


def measure_run(
    home: Home, word: str, run: Run, pack: Pack, cases: Sequence[Any], judge: Judge | None, console: Console
) -> int:
    """Measure one finished run by the cases of a protocol that have no rows yet; returns the number of new rows.

    A reference that lacks what a case asks of it is left out, and said so.
    """
    name, info = run.folder.name, run.info
    if info["size"] != pack.size:
        raise UserError(f"run {name} takes {info['size']} pixels, pack {pack.name} has {pack.size}")
    if changed := changed_code(info):
        tell(console, "note", f"{name} was {changed}")
    info = {**info, "source": entry_of(info).source}
    load = partial(load_subject, run, judge)
    try:
        return measure_subject(home, word, name, info, run.folder, load, pack, cases, judge, console)
    except Unfit as problem:
        if not entry_of(info).load().Method.REFERENCE:
            raise
        tell(console, "left out", str(problem))  # nobody asked for this one
        return 0


def measure_subject(
    home: Home,
    word: str,
    name: str,
    info: Mapping[str, Any],
    folder: Path,
    load: Callable[[], Subject],
    pack: Pack,
    cases: Sequence[Any],
    judge: Judge | None,
    console: Console,
) -> int:
    """Measure a subject by the cases that have no rows yet; returns the number of new rows.

    ``info`` is its record as in run.json, ``folder`` its run's, where it has one; it is loaded only when something is
    missing. UserError where it was trained on test images of the pack.
    """
    if info["updates"] and info["pack"] == pack.name and (other := other_pack(info, pack.hash)):
        tell(console, "note", f"{name} was trained on {other}")
    trained = trained_images(home, folder, info, pack)
    if trained is None:
        tell(console, "note", f"{name}: {unknown(info)}")
    else:
        check_unseen(name, info, pack, trained)
    code = catalog.find_protocol(word)
    module, source, by = code.load(), code.source, judge.id if judge else ""
    keys = {row["key"]: row for row in stored_rows(home, code.name, name) if not width_is_unknown(row)}
    missing = []
    for case in cases:
        kept = keys.get(case_key(home, word, case, info, pack, by))
        if kept is None:
            missing.append(case)
        elif kept["protocol_source"] != source:
            other, now = kept["protocol_source"] or "the suite's own", source or "the suite's own"
            tell(
                console,
                "note",
                f"{code.name} of {name} was measured by other code ({other}; now "
                f"{now}) and is kept, as its VERSION is still {module.VERSION}: raise that to measure again",
            )
    if not missing:
        tell(console, "kept", f"{code.name} of {name}: measured already")
        return 0
    subject, begin, new = load(), time.monotonic(), 0
    if source:
        _keep_display(home, code)
    for place, case in enumerate(missing, start=1):
        what = f"{code.name} of {subject.name}" + (f", {place} of {len(missing)}" if len(missing) > 1 else "")
        subject.masker = load_masker(home, case.masker, pack) if hasattr(case, "masker") else None
        with watched(console, what):
            measurements = [remarked(each, info, pack, trained) for each in _evaluated(code, subject, pack, case)]
        facts = _facts(home, word, case, name, info, pack, judge) | {"protocol_source": source}
        facts["width"] = 0 if module.NEEDS in ("complete", "likelihood") else subject.width
        people = [_people(pack, measurement) for measurement in measurements]
        measurements = [over_people(measurement, shown) for measurement, shown in zip(measurements, people)]
        keep_values(home, facts["key"], measurements, people)
        new += append_rows(home, [Row(**facts, **m.plain()) for m in measurements])
    console.print(f"{code.name} of {subject.name}: {new} rows, {time.monotonic() - begin:.1f} s")
    return new


def over_people(measurement: Measurement, people: npt.NDArray[np.int32] | None) -> Measurement:
    """The measurement with its interval over the people (n,) on its images, -1 where unknown; as it is for None."""
    if people is None or measurement.values is None:
        return measurement
    mean, low, high = interval(measurement.values, people, measurement.unit)
    off = measurement.value - mean  # what single precision took from the values
    return replace(measurement, low=low + off, high=high + off, people=known_people(people))


def _people(pack: Pack, measurement: Measurement) -> npt.NDArray[np.int32] | None:
    """Who is on the images whose values a measurement has, -1 where unknown; None where the pack knows none of them.

    UserError where a protocol does not say which images these are: a partition has another number of them.
    """
    if measurement.values is None or not (pack.identity >= 0).any():
        return None
    rows = measurement.images
    if rows is None:
        rows = pack.indices(measurement.split) if measurement.split in SPLITS else np.empty(0, np.int64)
    if len(rows) != len(measurement.values):
        raise UserError(
            f"{measurement.metric} has {len(measurement.values)} values, and it is not known on which images of "
            f"{pack.name}: its protocol is to say so, measure_mean(…, images=rows of the pack)"
        )
    people = pack.identity[rows]
    return people if (people >= 0).any() else None


def _evaluated(code: Code, subject: Subject, pack: Pack, case: Any) -> list[Measurement]:
    """What a protocol measures in a case; UserError where somebody else's fails, or gives what is no measurement."""
    way_on = "close what else takes memory, measure fewer runs at a time (--jobs), or give it another machine"
    with code.guarded(), enough_memory(f"{code.name} of {subject.name} on {pack.name}", way_on):
        found = code.load().evaluate(subject, pack, case)
    if not isinstance(found, list) or not found or not all(isinstance(each, Measurement) for each in found):
        raise UserError(f"{code.name}: evaluate is to return a list of Measurement, at least one, not {found!r:.80}")
    places = [(each.metric, each.setting, each.split) for each in found]
    if twice := [place for place in places if places.count(place) > 1]:
        raise UserError(
            f"{code.name}: evaluate measures {', '.join(twice[0])} twice; settings or metrics tell them apart"
        )
    return found


def _keep_display(home: Home, code: Code) -> None:
    """Somebody else's protocol says beside its rows how they are shown, as its code may be gone when they are."""
    write_json(home.rows / code.name / "display.json", asdict(display_of(code)))


def case_key(home: Home, word: str, case: Any, info: Mapping[str, Any], pack: Pack, judge: str) -> str:
    """The key of one case's rows for a finished run; ``judge`` is the id of the classifier, "" for none."""
    code = catalog.find_protocol(word)
    return unit_key(
        protocol=code.name,
        protocol_version=code.load().VERSION,
        protocol_settings=_recorded_case(home, case, judge),
        method=info["method"],
        settings=_recorded_settings(info),
        seed=info["seed"],
        pack_hash=pack.hash,
        weights_hash=info["weights_hash"],
    )


def _recorded_case(home: Home, case: Any, judge: str) -> dict[str, Any]:
    """A case's settings as its rows tell them: networks by name and hash of their weights, not by a path here."""
    settings = asdict(case)
    settings |= {"judge": judge} if "judge" in settings else {}
    if settings.get("lpips", "none") != "none":
        settings["lpips"] = load_lpips(Path(settings["lpips"])).name
    settings |= {"masker": masker_id(home, settings["masker"])} if "masker" in settings else {}
    return settings


def _recorded_settings(info: Mapping[str, Any]) -> dict[str, Any]:
    """A run's settings as its rows tell them: a perceptual weight file by name and hash, not by its path here."""
    settings: dict[str, Any] = info["settings"] | info.get("told", {})
    return settings | ({"perceptual": info["perceptual"]} if "perceptual" in settings else {})


def _facts(
    home: Home, word: str, case: Any, name: str, info: Mapping[str, Any], pack: Pack, judge: Judge | None
) -> dict[str, Any]:
    """Everything a row says beside the measurement itself."""
    code, by = catalog.find_protocol(word), judge.id if judge else ""
    same = ["method", "label", "scale", "updates", "batch", "precision"]
    same += ["seed", "weights_hash", "perceptual", "losses"]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return {
        "key": case_key(home, word, case, info, pack, by),
        "protocol": code.name,
        "protocol_version": code.load().VERSION,
        "protocol_settings": _recorded_case(home, case, by),
        "run": name,
        "dataset": pack.name,
        "pack_hash": pack.hash,
        "pack_note": pack.footnote(),
        "device": device,
        "judge": judge.name if judge else "",
        "settings": _recorded_settings(info),
        "method_source": info.get("source", ""),
        "family": info.get("family", ""),
        "trained_on": info["pack"] if info["updates"] else "",
        "trained_hash": info["pack_hash"] if info["updates"] else "",
        **{key: info[key] for key in same},
        **{key: float(info.get(key, math.nan)) for key in ("seconds", "gflop")},
        **provenance(),
    }
