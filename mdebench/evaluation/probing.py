"""Probes during pretraining: what does the code know after so many updates, and from which budget on more than pixels?

At chosen updates the converged probe reads attributes, landmarks and classes off the frozen code, trained on a fixed
part of the training images and measured on validation images; the test partition is not touched. Beside it stand the
effective rank of the codes, the share of dead units, and the alignment with the same run of another seed. What is found
stands in `results/probes`; the network as it was, and the codes that are compared, stay in the run's folder.

A look draws nothing and moves nothing: a run with probes ends in the bits of one without.
"""

import io
import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from safetensors.torch import save

from mdebench.data.pack import SPLITS, Pack
from mdebench.errors import UserError
from mdebench.evaluation import tasks
from mdebench.evaluation.passes import Indices, chunks, encode, frozen, load, placed
from mdebench.evaluation.readouts import HELD_OUT, Readout, converged
from mdebench.files import read_bytes, reading, write_atomically
from mdebench.home import Home
from mdebench.methods.contract import Encodes, Method
from mdebench.results import probes
from mdebench.results.intervals import interval, known_people
from mdebench.results.rows import Measurement
from mdebench.runs import Recipe, Run
from mdebench.training.recipes import make_recipe
from mdebench.training.trainer import build_method
from mdebench.words import tell, words

TRAIN, VAL, COMPARED = 2000, 1000, 400  # at most so many images train a probe, are measured, and have their codes kept
KINDS = (tasks.Attributes, tasks.Landmarks, tasks.Classes)
FOLDER = "probes"  # in a run's
DEAD = 1e-6  # a unit is dead that varies less than so much of the mean size of all units

Codes = npt.NDArray[np.float32]


class Probes:
    """Looks at a run that is trained, as its `schedule` says; see `training.loop.Watch`."""

    def __init__(self, home: Home, recipe: Recipe, pack: Pack, schedule: probes.Schedule, console: Console):
        if reason := _lacking(pack):
            raise UserError(f"probes on the way cannot be taken: {reason}")
        self.home, self.recipe, self.schedule, self.console = home, recipe, schedule, console
        self.pack = _without_test(pack)
        self.path = probes.path_of(home, recipe.name)
        self.looks: list[dict[str, Any]] = []

    def begin(self, run: Run, step: int) -> None:
        """Take up what an earlier part of the run, which is now after ``step`` updates, found; references first."""
        for method in probes.REFERENCES:
            _look_at_reference(self.home, method, self.pack, self.recipe.scale, self.console)
        kept = [look for look in probes.read(self.path) if look["version"] == probes.VERSION]
        self.looks = [look for look in kept if look["pack_hash"] == self.recipe.pack_hash and look["step"] <= step]
        missed = [at for at in self.schedule.at if at < step and at not in {look["step"] for look in self.looks}]
        if missed:
            told = words(f"{at:,}" for at in missed)
            tell(self.console, "note", f"{self.recipe.name} is at update {step:,}: no probe at {told}")

    def due(self, step: int) -> bool:
        """Whether to look after ``step`` updates: the schedule says so, and nobody has yet."""
        return self.schedule.due(step, self.recipe.updates) and step not in {look["step"] for look in self.looks}

    def look(self, run: Run, method: Method, step: int, gflop: float, seconds: float) -> None:
        """Look at the network after ``step`` updates, which took so many operations and seconds; and keep it."""
        begin = time.monotonic()
        if not isinstance(method, Encodes):
            raise UserError(f"{self.recipe.method} has no encoder: probes look at one; leave --probe-every out")
        codes, found = _measured(method, self.pack)
        folder = run.folder / FOLDER
        folder.mkdir(exist_ok=True)
        weights = {name: each.detach().cpu().contiguous().clone() for name, each in method.state_dict().items()}
        write_atomically(folder / f"step-{step:06d}.safetensors", save(weights))
        stored = io.BytesIO()
        np.save(stored, codes.astype(np.float16))
        write_atomically(_codes_of(run.folder, step), stored.getvalue())
        found += _alignments(self.home, run, codes, step)
        facts = _facts(self.recipe, run.info, self.pack)
        took = time.monotonic() - begin
        look = {**facts, "step": step, "gflop": gflop, "seconds": round(seconds, 1), "took": round(took, 2)}
        self.looks.append({**look, "measured": [_plain(each, self.pack) for each in found]})
        probes.write(self.path, self.looks)
        tell(self.console, "probe", f"{self.recipe.name} at {step:,}: {_told(found)} ({took:.1f} s)")


def _lacking(pack: Pack) -> str | None:
    if not len(pack.indices("val")):
        return f"{pack.name} has no validation images, on which they are measured"
    return tasks.lacking(_without_test(pack), KINDS)


def _without_test(pack: Pack) -> Pack:
    """The pack as a probe sees it: of its training images some train and some choose alpha, some of its validation
    images are tested on, and all others are nowhere. The draws depend on the pack alone."""
    train, val = (_some(pack.indices(split), most) for split, most in (("train", TRAIN), ("val", VAL)))
    chooses = np.arange(len(train)) % HELD_OUT == 0
    split = np.full(len(pack.split), 255, np.uint8)
    for name, rows in (("train", train[~chooses]), ("val", train[chooses]), ("test", val)):
        split[rows] = SPLITS.index(name)
    return replace(pack, split=split)


def _some(rows: Indices, most: int) -> Indices:
    """At most so many of the rows, ascending."""
    return np.sort(np.random.default_rng(0).permutation(rows)[:most])


def _measured(method: Method, pack: Pack) -> tuple[Codes, list[Measurement]]:
    """The codes of the first images that are measured, and all that is measured; the pack as `_without_test` has it."""
    rows = np.flatnonzero(pack.split != 255).astype(np.int64)
    like = next(method.parameters(), torch.empty(0))  # their device, and float64 where a run asked for it
    with torch.random.fork_rng(), frozen(method):
        pieces = [encode(method, load(pack, piece, like.device).to(like)).cpu().numpy() for piece in chunks(rows)]
    codes: Codes = np.concatenate(pieces)

    def features(wanted: Indices) -> Codes:
        return codes[np.searchsorted(rows, wanted)]

    found = []
    for each in tasks.known(pack, KINDS):
        probe, note = converged(features, each.task, each.task.partition, like.device)
        found.append(each.headline(Readout("probe", probe(features(each.rows)), note)))
    own = features(pack.indices("test"))
    spread = own.std(axis=0, dtype=np.float64)
    dead = 100.0 * (spread <= DEAD * max(float(np.abs(own).mean()), 1e-30))
    found += [_alone("rank", "", effective_rank(own), len(own)), _alone("dead", "%", float(dead.mean()), len(own))]
    return own[:COMPARED], found


def effective_rank(codes: Codes) -> float:
    """RankMe of codes (n, d): the exponential of the entropy of their singular values, these divided by their sum.

    Garrido et al. 2023, equation 2, of the codes as they are, not centred; 1 to min(n, d), 0 where all are zero.
    """
    values = np.linalg.svd(codes.astype(np.float64), compute_uv=False)
    if not values.sum():
        return 0.0
    share = values / values.sum() + 1e-7
    return float(np.exp(-(share * np.log(share)).sum()))


def linear_cka(x: npt.NDArray[np.floating], y: npt.NDArray[np.floating]) -> float:
    """Linear centred kernel alignment of codes (n, d) and (n, e) of the same images: 0 to 1 (Kornblith et al. 2019,
    section 3), |XᵀY|² / (|XᵀX| |YᵀY|) in Frobenius norms of centred columns; NaN where either never varies."""
    x, y = (part.astype(np.float64) - part.astype(np.float64).mean(axis=0) for part in (x, y))
    # By the n × n matrices, which are smaller than those of the units: |XᵀY|² = <XXᵀ, YYᵀ>.
    own, other = x @ x.T, y @ y.T
    size = float(np.linalg.norm(own) * np.linalg.norm(other))
    return float((own * other).sum()) / size if size else float("nan")


def _alignments(home: Home, run: Run, codes: Codes, step: int) -> list[Measurement]:
    """The mean alignment with the same run of other seeds, where they were looked at after as many updates."""
    found, recipe = [], json.loads(json.dumps(run.info["recipe"]))  # as one that was read from a file
    for other in home.list_runs():
        theirs = other.info.get("recipe", {})
        if other.folder == run.folder or {**theirs, "seed": 0} != {**recipe, "seed": 0}:
            continue
        if (there := _codes_of(other.folder, step)).is_file():
            with reading(there, "delete it"):
                kept = np.load(io.BytesIO(read_bytes(there)), allow_pickle=False)
            if len(kept) == len(codes):
                found.append(linear_cka(codes, kept))
    return [_alone("cka", "", float(np.mean(found)), len(codes), f"{len(found)} other seeds")] if found else []


def _codes_of(folder: Path, step: int) -> Path:
    return folder / FOLDER / f"codes-{step:06d}.npy"


def _look_at_reference(home: Home, method: str, pack: Pack, scale: str, console: Console) -> None:
    """Look at a method that is not trained, once for a pack and scale."""
    recipe = make_recipe(method, pack, scale, 0, {})
    path = probes.path_of(home, recipe.name)
    if any(look["version"] == probes.VERSION and look["pack_hash"] == pack.hash for look in probes.read(path)):
        return
    begin = time.monotonic()
    built = placed(build_method(recipe.method, recipe.settings, recipe.size, recipe.seed))
    _, found = _measured(built, pack)
    info = {"losses": built.losses, "perceptual": built.perceptual, "family": built.family(built.settings)}
    facts = _facts(recipe, info, pack) | {"updates": 0}
    took = round(time.monotonic() - begin, 2)
    look = {**facts, "step": 0, "gflop": 0.0, "seconds": 0.0, "took": took}
    probes.write(path, [{**look, "measured": [_plain(each, pack) for each in found]}])
    tell(console, "probe", f"{recipe.label}: {_told(found)}")


def _facts(recipe: Recipe, info: dict[str, Any], pack: Pack) -> dict[str, Any]:
    """Who is looked at, under the names that rows use."""
    same = ("method", "label", "settings", "scale", "pack_hash", "seed", "updates", "batch", "precision")
    facts = {name: getattr(recipe, name) for name in same}
    facts |= {name: info.get(name, "") for name in ("losses", "perceptual", "family")}
    counts = [f"{len(pack.indices(split)):,}" for split in ("train", "val", "test")]
    note = f"{counts[0]} training images, alpha by {counts[1]} others, measured on {counts[2]} validation images"
    facts |= {"run": recipe.name, "dataset": recipe.pack, "pack_note": note, "version": probes.VERSION}
    return facts


def _alone(metric: str, unit: str, value: float, n: int, note: str = "") -> Measurement:
    """A number that is no mean over images."""
    return Measurement(metric, unit, value, float("nan"), float("nan"), n, "probe", note=note)


def _plain(found: Measurement, pack: Pack) -> dict[str, Any]:
    """A measurement as it is kept, its interval over the people on the images; what is not a number is None."""
    plain = {"metric": found.metric, "unit": found.unit, "n": found.n, "note": found.note}
    numbers = {"value": found.value, "low": found.low, "high": found.high}
    if found.values is not None:
        people = pack.identity[pack.indices("test") if found.images is None else found.images]
        numbers = dict(zip(numbers, interval(found.values, people, found.unit)))
        plain |= {"people": known_people(people), "values": probes.packed(found.values)}
        plain |= {"faces": probes.packed(people, "<i4")}
    return plain | {name: None if np.isnan(value) else float(value) for name, value in numbers.items()}


def _told(found: Sequence[Measurement]) -> str:
    names = {"attribute_error": "attributes", "landmark_distance": "landmarks", "cka": "alignment of seeds"}
    return ", ".join(f"{names.get(m.metric, m.metric)} {m.value:.3g} {m.unit}".strip() for m in found)
