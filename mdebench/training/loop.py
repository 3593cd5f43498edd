"""The loop: one for every method. Prepare, resume, then in every update each player moves in turn.

It owns precision (bf16 autocast, or float64), memory format (channels last), gradient steps, schedules, logging,
checkpoints, resuming, and the sharing of batches among several processes (``devices.py``), of which the first one has
the run's files to itself. What a step draws comes from (seed, step) alone, so a killed run that goes on ends in the
same bits.
"""

import json
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import asdict, replace
from io import BytesIO
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from mdebench import catalog
from mdebench.compute import devices
from mdebench.compute.machine import computing, default_device, same_bits
from mdebench.data.finding import no_images
from mdebench.data.pack import Pack
from mdebench.errors import Interrupted, UserError
from mdebench.files import write_atomically
from mdebench.methods.checkpoints import file_hash, path_of
from mdebench.methods.contract import Completes, Method
from mdebench.pictures import grid
from mdebench.results.provenance import provenance
from mdebench.runs import Recipe, Run, other_pack
from mdebench.training.beside import beside_of
from mdebench.training.operations import Operations
from mdebench.training.progress import polite_stop, progress_line
from mdebench.training.trainer import Trainer, batch_at, batch_of, weights_hash
from mdebench.training.trial import built, room, try_out
from mdebench.words import tell

LOG_EVERY = 10  # updates per line of the log
SAMPLES = 5  # sheets of sample pictures over a run
ONE_LENGTH = "schedules follow the length of a run, so a finished one cannot be made longer"
SAVE_SECONDS = 10.0  # between checkpoints, stretched so that saving takes at most 2 % of the time


class Watch(Protocol):
    """Looks at a network at some updates of its training, and changes nothing: no weights, modes or random state."""

    def begin(self, run: Run, step: int) -> None:
        """The run now begins, or goes on, after ``step`` updates."""

    def due(self, step: int) -> bool:
        """Whether to look after ``step`` updates."""

    def look(self, run: Run, method: Method, step: int, gflop: float, seconds: float) -> None:
        """Look at the method after ``step`` updates, which took so many operations (GFLOP) and seconds."""


def pretrain(
    recipe: Recipe,
    run: Run,
    pack: Pack,
    console: Console,
    save_seconds: float = SAVE_SECONDS,
    method: Method | None = None,
    watch: Watch | None = None,
) -> None:
    """Train ``recipe`` in ``run``'s folder, or go on where it was left; nothing happens when it is finished.

    A checkpoint is written every ``save_seconds`` (0: after every update), seldomer where saving is slow. ``method``,
    untrained, takes the place of the one that the recipe names in the catalog. ``watch`` looks on (in the first of
    several processes); what it takes is no part of the run's time.
    UserError when another process trains it, its recipe differs, a loss is not finite, or the disk is full. Interrupted
    after Ctrl-C or SIGTERM, with the state saved. Several processes call it together (see ``devices.joined``).
    """
    device = default_device()
    devices.part_of(recipe.batch, devices.count())
    console = console if devices.rank() == 0 else Console(quiet=True)
    with ExitStack() as held:
        devices.on_first(held.enter_context, run.lock())
        for stray in devices.on_first(run.clear_strays):
            tell(console, "cleared", f"{stray}, left half written by a kill")
        run = devices.on_first(Run, run.folder)  # what another process may have written while we waited
        recipe = _as_begun(run, recipe, console)
        entry = None if method else catalog.method_at(recipe.method, recipe.place)
        files = devices.on_first(_file_hashes, recipe, entry)
        _check_same(run, _with_files_of(run, recipe, files))
        devices.on_first(_tell_changed, run, recipe, entry, console)
        if devices.on_first(lambda: run.finished):
            tell(console, "finished", f"{recipe.name}: {recipe.updates} updates; delete {run.folder} to train it again")
            return
        loose = held.enter_context(same_bits(device)) if recipe.deterministic else []
        method = method or built(recipe, device, entry)
        with entry.guarded() if entry else nullcontext():
            source = entry.source if entry else ""
            record = _record(recipe, method, pack, device) | {"source": source, "files": files}
            rows = _first_rows(pack, recipe, method)
        for note in method.notes:  # some stand there only once a perceptual network was asked for
            tell(console, "note", f"{note}")
        with polite_stop() as signals:  # a second signal must not end us between the state and the word about it
            try_out(method, recipe, device, rows, console, entry, beside_of(method, pack, recipe, device))
            trainer = Trainer(method, recipe, device)
            if entry and entry.place and not trainer.players:
                word = f"{entry.name} has no players, so there is nothing to train: its weights stay as drawn"
                tell(console, "note", word)
            state = devices.on_first(lambda: run.load_state() if run.state_path.is_file() else None)
            if state is not None:
                trainer.restore(state, str(run.state_path))
                console.print(f"resuming {recipe.name} at update {trainer.step} of {recipe.updates}")
            elif trainer.players:
                devices.on_first(_tell_other_length, run, recipe, console)
            record["stretches"] = _stretches(run, recipe, trainer.step, device, console)
            if devices.count() > 1:
                _meet(trainer, console)
            devices.on_first(run.update, **record, status="running", step=trainer.step)
            since = (state or {}).get("since", {})
            since["lines"] = devices.on_first(run.cut_log, trainer.step, since.get("lines"))
            if trainer.players:
                devices.on_first(_keep_trained_on, run, trainer.step, pack)
            try:
                with entry.guarded() if entry else nullcontext(), room(recipe):
                    _loop(trainer, run, pack, console, save_seconds, signals, since, watch)
            except (UserError, Interrupted) as stop:
                status = "interrupted" if isinstance(stop, Interrupted) else "failed"
                if devices.rank() == 0:
                    with suppress(UserError):  # on a full disk; the sentence below says so
                        run.update(status=status, stopped_by=str(stop))
                if isinstance(stop, UserError):
                    raise UserError(f"{recipe.name} stopped: {stop}; {_kept(run)}") from stop
                raise
        run.info.pop("stopped_by", None)
        if loose:
            names = ", ".join(dict.fromkeys(loose))
            tell(console, "note", f"torch has no deterministic form of {names}: another training may end in other bits")
            devices.on_first(run.update, not_deterministic=names)
        devices.on_first(run.update, status="finished", step=trainer.step, weights_hash=weights_hash(method))
        tell(console, "done", f"{recipe.name} in {run.folder}")


def _kept(run: Run) -> str:
    """What there is to go on from, in words."""
    if not run.state_path.is_file():
        return "no state was saved"
    try:
        step = run.load_state()["step"]
    except UserError as problem:
        return str(problem)
    return f"the last good state is in {run.state_path}, update {step:,}"


def _first_rows(pack: Pack, recipe: Recipe, method: Method) -> NDArray[np.int64]:
    """The first training images, as many as this process takes of a batch; UserError where there are too few."""
    train = pack.indices("train")
    if method.players() and (none := no_images(pack, "train")):
        raise UserError(none)
    if method.players() and len(train) < recipe.batch:
        raise UserError(
            f"pack {pack.name} has {len(train)} training images, fewer than one batch of {recipe.batch}: give --set"
            f" batch={len(train)} or less"
        )
    return train[: devices.part_of(recipe.batch, devices.count())]


def _meet(trainer: Trainer, console: Console) -> None:
    """Say what the processes of a run have; UserError when they did not come with the same recipe and weights."""
    devices.check_same("recipe and weights", (asdict(trainer.recipe), weights_hash(trainer.method)))
    threads = f"{torch.get_num_threads()} CPU thread(s), as there is no GPU,"
    each = "a GPU" if trainer.device.type == "cuda" else threads
    console.print(f"{devices.count()} processes, each with {each} and a part of every batch")
    if trainer.recipe.deterministic:
        told = "deterministic: the same bits for any number of threads, not for another number of processes"
        tell(console, "note", told)


def _as_begun(run: Run, recipe: Recipe, console: Console) -> Recipe:
    """The recipe in the precision that the run was begun in, where a machine chose it and not the user: that the run
    goes on on another machine makes no other run of it."""
    begun = run.info.get("recipe", {}).get("precision", recipe.precision)
    if begun == recipe.precision or "precision" in recipe.overrides:
        return recipe
    if not run.finished:
        here = f"this machine's own choice would be {recipe.precision}"
        tell(console, "note", f"{recipe.name} goes on in {begun}, in which it was begun; {here}")
    return replace(recipe, precision=begun)


def _check_same(run: Run, recipe: Recipe) -> None:
    old, new = run.info.get("recipe"), json.loads(json.dumps(asdict(recipe)))
    if old is not None:
        new["place"] = old["place"] = ""  # the same code may lie elsewhere now; its hash is told when it is measured
    if old is None or old == new:
        return
    changed = sorted(k for k in new.keys() | old.keys() if old.get(k) != new.get(k))
    told = f"{run.folder} holds a run with another recipe (different: {', '.join(changed)})"
    ways = "use another --seed or home, or delete the folder"
    if other := other_pack(run.info, recipe.pack_hash):
        ways = (
            f"to go on with it make that pack again, `mdebench data prepare … --replace`; to train on this one {ways}"
        )
        raise UserError(f"{told}: it was begun on {other}; {ways}")
    if "updates" in changed:
        told += f": {old.get('updates')} updates there, {recipe.updates} asked for, and {ONE_LENGTH}"
    raise UserError(f"{told}; {ways}")


def _tell_other_length(run: Run, recipe: Recipe, console: Console) -> None:
    """Say that a run that now begins is no continuation of a finished one of another length, where there is such."""
    same = [other for other in _others(run) if _but_length(other.info.get("recipe", {})) == _but_length(asdict(recipe))]
    done = {int(other.info["updates"]): other.folder.name for other in same if other.finished}
    if done:
        finished = f"{done[max(done)]}, which is finished ({max(done):,} updates)"
        told = f"{recipe.name} is another run than {finished}, and begins at update 0: {ONE_LENGTH}"
        ways = "stop here (Ctrl-C) to keep to that one, or let this one train: both can be measured"
        tell(console, "note", f"{told}; {ways}")


def _others(run: Run) -> Iterator[Run]:
    for path in sorted(run.folder.parent.glob("*/run.json")):
        with suppress(UserError):  # a damaged one is told where it is used
            yield Run(path.parent)


def _but_length(recipe: Mapping[str, Any]) -> dict[str, Any]:
    """What two runs share that differ in their length alone; also in what a machine chose, or where code lies."""
    overrides = {key: value for key, value in recipe.get("overrides", {}).items() if key != "updates"}
    same = {"overrides": overrides, "updates": 0, "place": "", "precision": overrides.get("precision", "")}
    found: dict[str, Any] = json.loads(json.dumps({**recipe, **same}))
    return found


def _file_hashes(recipe: Recipe, entry: catalog.Code | None) -> dict[str, str]:
    """The sha256 (hex) of each file that a setting names and that is there, by setting."""
    named = entry.load().Method.FILES if entry else ()
    # Words such as "random" are no files, whatever lies here under that name.
    places = {key: path_of(value) for key in named if re.search(r"[./]", value := str(recipe.settings[key]))}
    found = {}
    for key, path in places.items():
        with suppress(UserError):  # one that is gone: a finished run needs it no more, another one will say so
            found[key] = file_hash(path)
    return found


def _with_files_of(run: Run, recipe: Recipe, files: Mapping[str, str]) -> Recipe:
    """The recipe, with the run's own paths where the same files now lie elsewhere.

    UserError when another file lies where one of the run's did: that would be another run.
    """
    same: dict[str, str] = {}
    for key, before in run.info.get("files", {}).items():
        now = files.get(key, before)
        if now != before:
            raise UserError(
                f"{run.folder} holds a run made of another file: that of {key}={recipe.settings[key]} had the sha256"
                f" {before[:12]}…, now it has {now[:12]}…; give the new one another name, or delete the folder"
            )
        if key in files:
            same[key] = run.info["recipe"]["settings"][key]
    changed = {key: same.get(key, value) for key, value in recipe.overrides.items()}
    return replace(recipe, settings=recipe.settings | same, overrides=changed)


def _tell_changed(run: Run, recipe: Recipe, entry: catalog.Code | None, console: Console) -> None:
    """Say that a run was begun by other code than there is now, and note where its method's file lies now."""
    if not run.info or entry is None:
        return
    if (before := run.info.get("source", "")) != entry.source:
        then, now = before or "the suite's own code", entry.source or "the suite's own code"
        tell(console, "note", f"{recipe.name} was begun by {then}; now it is {now}")
    if run.info["recipe"].get("place", "") != recipe.place:
        run.update(recipe={**run.info["recipe"], "place": recipe.place}, place=recipe.place)


def _keep_trained_on(run: Run, step: int, pack: Pack) -> None:
    """Which images the run learns from; of one begun before that was kept, when it goes on: its pack is the same."""
    if step == 0 or not run.trained_on_path.is_file():
        run.keep_trained_on(pack.split_digests("train"))


def _stretches(run: Run, recipe: Recipe, step: int, device: torch.device, console: Console) -> list[dict[str, Any]]:
    """What trained the run from which update on, the stretch now beginning included: processes, threads, kernels.

    It is said when they change; what older runs did not keep is not known to have changed.
    """
    done = [stretch for stretch in run.info.get("stretches", [{"from": 0, "processes": 1}]) if stretch["from"] < step]
    now = {"processes": devices.count(), **computing(device)}
    before = {key: value for key, value in (done[-1] if done else {}).items() if key != "from"}
    if before == now:
        return done
    changed = [key for key in now if before.get(key, now[key]) != now[key]]
    if changed:
        told = ", ".join(f"{key} from update {step} on: {now[key]}, before: {before[key]}" for key in changed)
        local = "processes" in changed and recipe.batch_norm == "local"
        change = "numbers change with it" if local else "the same training, rounded otherwise"
        tell(console, "note", f"{told}; {change}")
    return [*done, {"from": step, **now}]


def _record(recipe: Recipe, method: Method, pack: Pack, device: torch.device) -> dict[str, Any]:
    plain = asdict(recipe)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    together = f"{devices.count()} × " if devices.count() > 1 else ""
    return {
        **{key: value for key, value in plain.items() if key != "overrides"},
        "name": recipe.name,
        "pack_note": pack.footnote(),
        "crop": pack.info.get("crop", ""),
        "recipe": plain,
        "updates": recipe.updates if method.players() else 0,
        "losses": method.losses,
        "perceptual": method.perceptual,
        "family": method.family(method.settings),
        "told": method.told,
        "feature_dim": method.feature_dim,
        "parameters": sum(p.numel() for p in method.parameters()),
        "notes": method.notes,
        "device": together + name,
        "batch_norm": recipe.batch_norm,
        **provenance(),
    }


def _loop(
    trainer: Trainer,
    run: Run,
    pack: Pack,
    console: Console,
    save_seconds: float,
    signals: Sequence[str],
    since: Mapping[str, Any],
    watch: Watch | None,
) -> None:
    """Train to the end; ``since`` is what the checkpoint keeps of the log, its line under way, and the operations."""
    recipe, device = trainer.recipe, trainer.device
    train, given = pack.indices("train"), beside_of(trainer.method, pack, recipe, device)
    seconds, first, started = run.info.get("seconds", 0.0), trainer.step, time.monotonic()
    gflop, counts = since.get("gflop", run.info.get("gflop", 0.0)), Operations()
    saved, cost, sums = started, 0.0, _Means(since.get("sums", {}), since.get("counts", {}))
    updates, lines = recipe.updates if trainer.players else 0, since["lines"]
    sheet_steps = {updates * i // SAMPLES for i in range(1, SAMPLES + 1)}

    def write(begin: float) -> None:
        # In the checkpoint and not in run.json alone: a kill between the two must change neither the log nor the costs.
        run.sync_log()
        run.save_state({**trainer.state(), "since": {"gflop": gflop, "lines": lines, **sums.state()}})
        spent = seconds + begin - started
        speed = (trainer.step - first) * recipe.batch / max(begin - started, 1e-9)
        run.update(step=trainer.step, seconds=round(spent, 1), images_per_second=round(speed, 1), gflop=gflop)

    def save() -> None:
        nonlocal saved, cost
        begin = time.monotonic()
        devices.on_first(write, begin)
        saved = time.monotonic()
        cost = saved - begin

    def look() -> None:
        nonlocal started, saved
        if watch is None or not devices.on_first(watch.due, trainer.step):
            return
        begin = time.monotonic()
        devices.on_first(watch.look, run, trainer.method, trainer.step, gflop, seconds + begin - started)
        took = time.monotonic() - begin
        started, saved = started + took, saved + took

    if watch:
        devices.on_first(watch.begin, run, trainer.step)
        started = saved = time.monotonic()
    with progress_line(console, recipe, trainer.step, updates) as show:
        look()
        while trainer.step < updates:
            batch = batch_at(pack, train, recipe, trainer.step, device, given)
            parts, operations = counts.update(trainer, batch)
            sums.add(parts)
            gflop += operations
            speed = (trainer.step - first) * recipe.batch / (time.monotonic() - started)
            if trainer.step % LOG_EVERY == 0 or trainer.step == updates:
                means, lines = sums.take(), lines + 1
                line = {"step": trainer.step, "line": lines, **means, "images_per_second": round(speed, 1)}
                devices.on_first(run.add_to_log, line)
                show(trainer.step, means, speed)
            if trainer.step in sheet_steps and isinstance(trainer.method, Completes):
                devices.on_first(_sample_sheet, trainer, trainer.method, run, pack)
            look()
            due = time.monotonic() - saved >= (max(save_seconds, 50 * cost) if save_seconds else 0)
            due, stop = devices.anywhere(due, bool(signals))
            if due or stop:
                save()
            if stop:
                raise Interrupted(f"{signals[0] if signals else 'a signal'} at update {trainer.step} of {updates}")
        save()


class _Means:
    """Running means of the loss parts, kept as tensors so that no step waits for the device."""

    def __init__(self, sums: Mapping[str, Tensor], counts: Mapping[str, int]):
        self.sums, self.counts = dict(sums), dict(counts)

    def state(self) -> dict[str, Any]:
        return {"sums": dict(self.sums), "counts": dict(self.counts)}

    def add(self, parts: Mapping[str, Tensor]) -> None:
        for key, value in parts.items():
            self.sums[key] = self.sums[key].to(value.device) + value if key in self.sums else value
            self.counts[key] = self.counts.get(key, 0) + 1

    def take(self) -> dict[str, float]:
        means = {key: round(float(value) / self.counts[key], 6) for key, value in self.sums.items()}
        self.sums, self.counts = {}, {}
        return means


@torch.no_grad()
def _sample_sheet(trainer: Trainer, completer: Completes, run: Run, pack: Pack) -> None:
    """Eight validation images (training ones where there is no such partition): input, completed, original."""
    chosen = pack.indices("val") if len(pack.indices("val")) else pack.indices("train")
    batch = batch_of(pack, chosen[:8], trainer.recipe, trainer.recipe.updates, 0, trainer.device)
    seen = trainer.method.eval().draw_seen(batch).to(trainer.device)
    with torch.autocast(trainer.device.type, torch.bfloat16, enabled=trainer.recipe.precision == "bf16"):
        output = completer.complete(batch.images, seen)
    rows = [batch.images * seen, output.float(), batch.images]
    cells = [list(t.clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()) for t in rows]
    (run.folder / "samples").mkdir(exist_ok=True)
    picture = BytesIO()
    grid(cells, ["input", "completed", "original"], [], zoom=2).save(picture, "PNG")
    write_atomically(run.folder / "samples" / f"step-{trainer.step:06d}.png", picture.getvalue())
