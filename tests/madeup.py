"""Made-up rows for the tests of rows, tables and page, and how the suite's protocols show theirs."""

from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path

from mdebench import catalog
from mdebench.evaluation.displays import display_of
from mdebench.results.displays import Display
from mdebench.results.rows import Measurement, Row, append_rows

FACTS = {
    "protocol": "landmarks",
    "protocol_version": 1,
    "protocol_settings": {"updates": 5000},
    "method": "rec",
    "label": "rec 0.1",
    "run": "pack-rec-S0.1-small-seed0",
    "settings": {"S": 0.1},
    "scale": "small",
    "updates": 3000,
    "dataset": "pack",
    "pack_hash": "ab" * 32,
    "pack_note": "pack: 1,000 images, 64×64",
    "seed": 0,
    "weights_hash": "cd" * 32,
    "perceptual": "none",
    "git": "0123456789" * 4,
    "dirty": False,
    "packages": {"torch": "2.14.1"},
    "device": "cpu",
    "time": "2026-01-01T00:00:00.000+00:00",
    "losses": "compl+adv",
    "seconds": 1200.0,
    "gflop": 50_000.0,
}
# What every run.json says.
RECORD = {
    **{
        key: FACTS[key] for key in ("method", "label", "settings", "scale", "seed", "updates", "pack_hash", "pack_note")
    },
    **{key: FACTS[key] for key in ("losses", "perceptual", "git", "dirty", "device", "weights_hash")},
    **{"name": FACTS["run"], "pack": "pack", "size": 64, "batch": 24, "precision": "fp32", "recipe": {}},
    **{"told": {}, "feature_dim": 4, "parameters": 1_020_560, "notes": [], "status": "finished", "step": 3000},
}
POINT = Measurement("landmark_distance", "px of 96", 1.25, 1.0, 1.5, 330, "frozen-probe", note="alpha 1")
TRIVIAL = {"constant": {}, "pixels": {"side": 21}, "random": {"width": 16}, "mean_colour": {}, "biharmonic": {}}


def row(key: str = "k", measurement: Measurement = POINT, **facts: object) -> Row:
    return Row(key=key, **{**FACTS, **facts}, **measurement.plain())


def measured(
    value: float, metric: str = "landmark_distance", setting: str = "frozen-probe", **more: object
) -> Measurement:
    """A value with the interval ± 0.1."""
    return Measurement(
        **{**asdict(POINT), "note": "", "value": value, "low": value - 0.1, "high": value + 0.1}
        | {"metric": metric, "setting": setting}
        | more
    )


def store(home: Path, label: str, measurements: Iterable[Measurement], **facts: object) -> None:
    """Append one unit of a variant; key and run are made from label, protocol, scale and seed unless given."""
    method, _, ratio = label.partition(" ")
    facts = {"label": label, "method": method, "settings": {"S": float(ratio)} if ratio else {}, **facts}
    if method in TRIVIAL:
        facts = {"settings": TRIVIAL[method], "updates": 0, "losses": "", **facts}
    place = f"{label}-{facts.get('scale', 'small')}-seed{facts.get('seed', 0)}"
    facts = {"run": place, "key": f"{facts.get('protocol', 'landmarks')} of {place}", **facts}
    append_rows(home, [row(measurement=measurement, **facts) for measurement in measurements])


def displays(**versions: int) -> dict[str, Display]:
    """How the suite's own protocols show their rows, with other versions than theirs where these are given."""
    said = {name: display_of(code) for name, code in catalog.own_protocols().items()}
    return said | {name: replace(said[name], version=version) for name, version in versions.items()}
