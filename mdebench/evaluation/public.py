"""What ``mdebench.measure`` does: any subject measured as the command line measures a run, its rows returned."""

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import pandas as pd
from torch import nn

from mdebench import catalog
from mdebench.data.finding import find_pack
from mdebench.data.pack import Pack, open_pack
from mdebench.errors import UserError
from mdebench.evaluation.contract import Subject
from mdebench.evaluation.encoders import encoder as encoders
from mdebench.evaluation.encoders.encoder import Encoder
from mdebench.evaluation.judging.judge import Judge
from mdebench.evaluation.measuring import ABILITIES, case_key, check, judge_for, measure_run, measure_subject
from mdebench.home import Home
from mdebench.results.rows import read_rows
from mdebench.words import new_console


def measure(
    subject: str | PathLike[str] | nn.Module,
    protocol: str,
    pack: Pack | str | PathLike[str],
    home: str | PathLike[str],
    settings: Mapping[str, Any],
    preprocessing: Mapping[str, Any],
) -> pd.DataFrame:
    """See ``mdebench.measure``."""
    console, place = new_console(), Home(home)
    module = catalog.protocol(protocol)  # a misspelt one is answered before anything is loaded
    if not isinstance(pack, Pack | str | PathLike) or not isinstance(subject, nn.Module | str | PathLike):
        raise UserError("measure takes a run's name or a torch.nn.Module, a protocol, and a pack or its name")
    data = pack if isinstance(pack, Pack) else _opened(place, pack)
    if isinstance(subject, nn.Module) and not isinstance(subject, Encoder):
        subject = encoders.wrap(subject, images=data.size, **preprocessing)
    run = None if isinstance(subject, Encoder) else place.find_run(str(subject))
    cases = check(place, protocol, [run] if run else [], data, settings)
    judge = judge_for(place, cases, data, console)
    if isinstance(subject, Encoder):
        name, info = subject.name, subject.info
        _check_able(subject, module.NEEDS)
        if subject.size != data.size:
            raise UserError(f"{name} takes {subject.size} pixels, pack {data.name} has {data.size}")
        loaded, folder = _subject(subject, place, judge), subject.folder or place.runs / name
        measure_subject(place, protocol, name, info, folder, lambda: loaded, data, cases, judge, console)
    else:
        assert run is not None
        name, info = run.folder.name, run.info
        measure_run(place, protocol, run, data, cases, judge, console)
    keys = {case_key(place, protocol, case, info, data, judge.id if judge else "") for case in cases}
    every = read_rows(place)
    return every[every["key"].isin(keys) & (every["run"] == name)].reset_index(drop=True)


def _opened(home: Home, pack: str | PathLike[str]) -> Pack:
    return open_pack(Path(pack)) if (Path(pack) / "pack.json").is_file() else find_pack(home, str(pack), new_console())


def _check_able(encoder: Encoder, need: str) -> None:
    if not hasattr(encoder.method, need) or (need == "complete" and encoder.info.get("exported")):
        asked = "; name the modules whose maps are its stages, stages=[…]" if need == "stages" else ""
        raise UserError(f"{encoder.name} cannot {ABILITIES[need]}{asked}")


def _subject(encoder: Encoder, home: Home, judge: Judge | None) -> Subject:
    info, folder = encoder.info, home.runs / encoder.name
    exported = bool(info.get("exported"))
    return Subject(encoder.name, encoder.method, folder, info["seed"], info["weights_hash"], judge, exported)
