"""The loop: one for every method. Prepare, resume, then in every update each player moves in turn.

It owns precision (bf16 autocast, or float64), memory format (channels last), gradient steps, schedules, logging,
checkpoints, resuming, and the sharing of batches among several processes (``devices.py``), of which the first one has
the run's files to itself. What a step draws comes from (seed, step) alone, so a killed run that goes on ends in the
same bits.
"""

import hashlib
import json
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from copy import deepcopy
from dataclasses import asdict, replace
from functools import lru_cache
from inspect import signature
from io import BytesIO
from types import FrameType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor
from torch.optim import Optimizer
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.module_tracker import ModuleTracker

from mdebench import catalog, devices
from mdebench.batchnorm import average_statistics, batch_norms
from mdebench.data.pack import Pack
from mdebench.errors import UserError
from mdebench.memory import keep_freed_memory
from mdebench.method import Batch, Completes, Loss, Method, Player
from mdebench.pictures import grid
from mdebench.results import provenance
from mdebench.runs import Recipe, Run, write_atomically
from mdebench.settings import build

LOG_EVERY = 10  # updates per line of the log
SAMPLES = 5  # sheets of sample pictures over a run
SAVE_SECONDS = 10.0  # between checkpoints, stretched so that saving takes at most 2 % of the time


class Interrupted(Exception):
    """Ctrl-C or a polite kill: the state after the last whole update is on disk."""


def default_device() -> torch.device:
    """The GPU when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def default_precision(device: torch.device) -> str:
    """``bf16`` where the machine multiplies in it, else ``fp32``."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else "fp32"


def step_seed(seed: int, step: int, part: int = 0) -> int:
    """The seed of everything that update ``step`` of a run draws, or draws for a later part of the batch alone."""
    entropy = [seed, step, part] if part else [seed, step]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1))


def build_method(name: str, settings: Mapping[str, Any], size: int, seed: int) -> Method:
    """A method by name with initial weights drawn from ``seed``; global random state is left as it was."""
    module = catalog.method(name).load()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        method: Method = module.Method(build(module.Settings, settings), size)
    return method


def weights_hash(method: Method) -> str:
    """Sha256 (hex) over every parameter and buffer, by name."""
    digest = hashlib.sha256()
    for name, tensor in sorted(method.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def optimizer_of(player: Player, fast: bool) -> Optimizer:
    """A player's optimizer, as one kernel over all parameters where it has one and ``fast`` asks for it."""
    kernel = {"fused": True} if fast and "fused" in signature(player.optimizer).parameters else {}
    return player.optimizer(player.parameters, **{"lr": player.lr, **player.options, **kernel})


class Trainer:
    """A method, its optimizers and the next step: all that a checkpoint holds."""

    def __init__(self, method: Method, recipe: Recipe, device: torch.device):
        keep_freed_memory()
        self.recipe = recipe
        self.device = device
        self.method = method.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        if recipe.precision == "fp64":
            self.method.double()
        self.players: dict[str, Player] = dict(method.players())
        self.optimizers = {name: optimizer_of(player, fast=True) for name, player in self.players.items()}
        self.step = 0
        self.unread: list[tuple[str, int, Loss]] = []
        # Reading a loss waits for a GPU to compute it; a CPU has computed it already.
        self.at_most_unread = 1 if device.type == "cpu" else 20

    def update(self, batch: Batch) -> dict[str, Tensor]:
        """One update: each player in turn computes its loss and moves. UserError when a loss is not finite.

        On a GPU a few more updates may be done before that is seen, but no state of them is saved.
        """
        parts: dict[str, Tensor] = {}
        self.method.train()
        torch.manual_seed(step_seed(self.recipe.seed, batch.step, batch.part))  # for layers that draw by themselves
        for name in self.method.turns(batch.step, batch.updates):
            player, optimizer = self.players[name], self.optimizers[name]
            bf16 = torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16")
            with bf16, batch_norms(self.recipe.batch_norm):
                loss = self.method.loss(name, batch)
            told = _of_whole_batch(loss)
            self.unread.append((name, batch.step, told))
            if len(self.unread) >= self.at_most_unread:
                self.read()
            optimizer.zero_grad(set_to_none=True)
            # Only this player's gradients: nothing is computed for, or left behind in, the others' parameters.
            loss.total.backward(inputs=player.parameters)
            devices.average_gradients(player.parameters)
            for group in optimizer.param_groups:
                group["lr"] = player.lr * player.schedule(batch.progress)
            optimizer.step()
            parts |= {f"{name}/{key}": value for key, value in told.parts.items()}
        if self.recipe.batch_norm == "local":
            average_statistics(self.method)
        self.step = batch.step + 1
        return parts

    def read(self) -> None:
        """Look at the losses of the updates so far; UserError for the first that is not finite."""
        unread, self.unread = self.unread, []
        finite = torch.stack([told.total for _, _, told in unread]).isfinite().tolist() if unread else []
        for (name, step, told), fine in zip(unread, finite):
            if not fine:
                bad = ", ".join(f"{k}={v.item():g}" for k, v in told.parts.items())
                raise UserError(f"the loss of the {name} is not finite at step {step} ({bad})")

    def state(self) -> dict[str, Any]:
        """What ``restore`` needs to go on to the same bits; UserError when a loss or a weight is no longer finite."""
        self.read()
        weights = self.method.state_dict()
        if bad := [name for name, w in weights.items() if w.is_floating_point() and not w.isfinite().all()]:
            raise UserError(f"the weights {bad[0]} (and {len(bad) - 1} more) are not finite after step {self.step - 1}")
        optimizers = {name: optimizer.state_dict() for name, optimizer in self.optimizers.items()}
        return {"step": self.step, "method": weights, "optimizers": optimizers}

    def restore(self, state: Mapping[str, Any], where: str) -> None:
        """Take up a checkpoint; UserError when it does not fit this recipe's networks."""
        try:
            self.method.load_state_dict(state["method"])
            for name, optimizer in self.optimizers.items():
                optimizer.load_state_dict(state["optimizers"][name])
        except (RuntimeError, KeyError, ValueError) as error:
            raise UserError(
                f"{where} does not fit the networks of this recipe; delete it to train this run again"
            ) from error
        self.step = state["step"]


def _of_whole_batch(loss: Loss) -> Loss:
    """A loss to be looked at: the mean of what the processes found, each for its part of the batch."""
    found = [value.detach() for value in (loss.total, *loss.parts.values())]
    total, *parts = found if devices.count() == 1 else devices.mean(torch.stack(found))
    return Loss(total, dict(zip(loss.parts, parts)))


class _NoModules(ModuleTracker):
    """In the place of the tracker by which torch's counter tells modules apart: a total has no use for them, and its
    hooks fail where a loss asks for gradients at a leaf of its graph (PyTorch issue 131753).
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *args: object) -> None:
        pass


class Operations:
    """What updates cost: floating-point operations of convolutions and matrix products, counted once for each order of
    turns, since updates with the same turns do the same.
    """

    def __init__(self) -> None:
        self.gflop: dict[tuple[str, ...], float] = {}

    def update(self, trainer: Trainer, batch: Batch) -> tuple[dict[str, Tensor], float]:
        """Do an update; returns its loss parts and its GFLOP, a multiplication and an addition counted as two.

        Under the counter other kernels may run, which round otherwise: what is counted is taken back and done again.
        """
        turns = trainer.method.turns(batch.step, batch.updates)
        if turns not in self.gflop:
            before, draws = deepcopy(trainer.state()), batch.generator.get_state()
            counter = FlopCounterMode(display=False)
            counter.mod_tracker = _NoModules()
            with counter:
                trainer.update(batch)
            self.gflop[turns] = devices.count() * counter.get_total_flops() / 1e9
            trainer.restore(before, "the state before this update")
            batch.generator.set_state(draws)
        return trainer.update(batch), self.gflop[turns]


def batch_at(pack: Pack, train: NDArray[np.int64], recipe: Recipe, step: int, device: torch.device) -> Batch:
    """The batch of update ``step``: an epoch is a permutation drawn from (seed, epoch), less a last partial batch.

    With several processes, this one's part of it; UserError when the batch cannot be shared out evenly.
    """
    epoch, place = divmod(step, len(train) // recipe.batch)
    order, part, parts = _order(recipe.seed, epoch, len(train)), devices.rank(), devices.count()
    index = train[order[place * recipe.batch : (place + 1) * recipe.batch]]
    own = index.reshape(parts, devices.part_of(recipe.batch, parts))[part]
    return replace(_batch(pack, own, recipe, step, epoch, device), part=part, parts=parts)


@lru_cache(maxsize=1)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The order of the training images in an epoch, drawn once in it: that takes longer the more there are."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def _batch(pack: Pack, index: NDArray[np.int64], recipe: Recipe, step: int, epoch: int, device: torch.device) -> Batch:
    dtype = torch.float64 if recipe.precision == "fp64" else torch.float32
    images = pack.batch(index, device).to(dtype).div_(255).contiguous(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(step_seed(recipe.seed, step))
    return Batch(images, torch.from_numpy(index), step, epoch, recipe.seed, generator, recipe.updates)


def pretrain(
    recipe: Recipe,
    run: Run,
    pack: Pack,
    console: Console,
    save_seconds: float = SAVE_SECONDS,
    method: Method | None = None,
) -> None:
    """Train ``recipe`` in ``run``'s folder, or go on where it was left; nothing happens when it is finished.

    A checkpoint is written every ``save_seconds`` (0: after every update), seldomer where saving is slow. ``method``,
    untrained, takes the place of the one that the recipe names in the catalog.
    UserError when another process trains it, its recipe differs, a loss is not finite, or the disk is full. Interrupted
    after Ctrl-C or SIGTERM, with the state saved. Several processes call it together (see ``devices.joined``).
    """
    device = default_device()
    devices.part_of(recipe.batch, devices.count())
    console = console if devices.rank() == 0 else Console(quiet=True)
    with ExitStack() as held:
        devices.on_first(held.enter_context, run.lock())
        run = devices.on_first(Run, run.folder)  # what another process may have written while we waited
        _check_same(run, recipe)
        if devices.on_first(lambda: run.finished):
            console.print(
                f"[green]finished[/] {recipe.name}: {recipe.updates} updates; delete {run.folder} to train it again"
            )
            return
        method = method or build_method(recipe.method, recipe.settings, recipe.size, recipe.seed)
        for note in method.notes:
            console.print(f"[yellow]note[/] {note}")
        trainer = Trainer(method, recipe, device)
        state = devices.on_first(lambda: run.load_state() if run.state_path.is_file() else None)
        if state is not None:
            trainer.restore(state, str(run.state_path))
            console.print(f"resuming {recipe.name} at update {trainer.step} of {recipe.updates}")
        record = _record(recipe, method, pack, device) | {"stretches": _stretches(run, recipe, trainer.step, console)}
        if devices.count() > 1:
            _meet(trainer, console)
        devices.on_first(run.update, **record, status="running", step=trainer.step)
        devices.on_first(run.cut_log, trainer.step)
        with _polite_stop() as signals:  # a second signal must not end us between the state and the word about it
            try:
                _loop(trainer, run, pack, console, save_seconds, signals)
            except (UserError, Interrupted) as stop:
                status = "interrupted" if isinstance(stop, Interrupted) else "failed"
                if devices.rank() == 0:
                    with suppress(UserError):  # on a full disk; the sentence below says so
                        run.update(status=status, stopped_by=str(stop))
                if isinstance(stop, UserError):
                    saved = run.state_path.is_file()
                    kept = f"the last good state is in {run.state_path}" if saved else "no state was saved"
                    raise UserError(f"{recipe.name} stopped: {stop}; {kept}") from stop
                raise
        run.info.pop("stopped_by", None)
        devices.on_first(run.update, status="finished", step=trainer.step, weights_hash=weights_hash(method))
        console.print(f"[green]done[/] {recipe.name} in {run.folder}")


def _meet(trainer: Trainer, console: Console) -> None:
    """Say what the processes of a run have; UserError when they did not come with the same recipe and weights."""
    devices.check_same("recipe and weights", (asdict(trainer.recipe), weights_hash(trainer.method)))
    threads = f"{torch.get_num_threads()} CPU thread(s), as there is no GPU,"
    each = "a GPU" if trainer.device.type == "cuda" else threads
    console.print(f"{devices.count()} processes, each with {each} and a part of every batch")


def _check_same(run: Run, recipe: Recipe) -> None:
    old = run.info.get("recipe")
    if old is not None and old != (new := json.loads(json.dumps(asdict(recipe)))):
        changed = sorted(k for k in new.keys() | old.keys() if old.get(k) != new.get(k))
        raise UserError(
            f"{run.folder} holds a run with another recipe (different: {', '.join(changed)});"
            " use another --seed or home, or delete the folder"
        )


def _stretches(run: Run, recipe: Recipe, step: int, console: Console) -> list[dict[str, int]]:
    """Which number of processes trained the run from which update on, the one now beginning included."""
    done = [stretch for stretch in run.info.get("stretches", [{"from": 0, "processes": 1}]) if stretch["from"] < step]
    now = {"from": step, "processes": devices.count()}
    before = done[-1]["processes"] if done else now["processes"]
    if before == now["processes"]:
        return done or [now]
    change = "numbers change with it" if recipe.batch_norm == "local" else "the same training, rounded otherwise"
    console.print(f"[yellow]note[/] processes from update {step} on: {now['processes']}, before: {before}; {change}")
    return [*done, now]


def _record(recipe: Recipe, method: Method, pack: Pack, device: torch.device) -> dict[str, Any]:
    plain = asdict(recipe)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu, {torch.get_num_threads()} threads"
    together = f"{devices.count()} × " if devices.count() > 1 else ""
    return {
        **{key: value for key, value in plain.items() if key != "overrides"},
        "name": recipe.name,
        "pack_note": pack.footnote(),
        "recipe": plain,
        "updates": recipe.updates if method.players() else 0,
        "losses": method.losses,
        "perceptual": method.perceptual,
        "told": method.told,
        "feature_dim": method.feature_dim,
        "parameters": sum(p.numel() for p in method.parameters()),
        "notes": method.notes,
        "device": together + name,
        "batch_norm": recipe.batch_norm,
        **provenance(),
    }


def _loop(
    trainer: Trainer, run: Run, pack: Pack, console: Console, save_seconds: float, signals: Sequence[str]
) -> None:
    recipe, device = trainer.recipe, trainer.device
    train = pack.indices("train")
    if trainer.players and len(train) < recipe.batch:
        raise UserError(f"pack {pack.name} has {len(train)} training images, fewer than one batch of {recipe.batch}")
    seconds, first, started = run.info.get("seconds", 0.0), trainer.step, time.monotonic()
    gflop, counts = run.info.get("gflop", 0.0), Operations()
    saved, cost, sums = started, 0.0, _Means()
    updates = recipe.updates if trainer.players else 0
    sheet_steps = {updates * i // SAMPLES for i in range(1, SAMPLES + 1)}

    def write(begin: float) -> None:
        run.save_state(trainer.state())
        spent = seconds + begin - started
        speed = (trainer.step - first) * recipe.batch / max(begin - started, 1e-9)
        run.update(step=trainer.step, seconds=round(spent, 1), images_per_second=round(speed, 1), gflop=gflop)

    def save() -> None:
        nonlocal saved, cost
        begin = time.monotonic()
        devices.on_first(write, begin)
        saved = time.monotonic()
        cost = saved - begin

    with _progress(console, recipe, trainer.step, updates) as show:
        while trainer.step < updates:
            batch = batch_at(pack, train, recipe, trainer.step, device)
            parts, operations = counts.update(trainer, batch)
            sums.add(parts)
            gflop += operations
            speed = (trainer.step - first) * recipe.batch / (time.monotonic() - started)
            if trainer.step % LOG_EVERY == 0 or trainer.step == updates:
                means = sums.take()
                devices.on_first(_log, run, {"step": trainer.step, **means, "images_per_second": round(speed, 1)})
                show(trainer.step, means, speed)
            if trainer.step in sheet_steps and isinstance(trainer.method, Completes):
                devices.on_first(_sample_sheet, trainer, trainer.method, run, pack)
            due = time.monotonic() - saved >= (max(save_seconds, 50 * cost) if save_seconds else 0)
            due, stop = devices.anywhere(due, bool(signals))
            if due or stop:
                save()
            if stop:
                raise Interrupted(f"{signals[0] if signals else 'a signal'} at update {trainer.step} of {updates}")
        save()


class _Means:
    """Running means of the loss parts, kept as tensors so that no step waits for the device."""

    def __init__(self) -> None:
        self.sums: dict[str, Tensor] = {}
        self.counts: dict[str, int] = {}

    def add(self, parts: Mapping[str, Tensor]) -> None:
        for key, value in parts.items():
            self.sums[key] = self.sums[key] + value if key in self.sums else value
            self.counts[key] = self.counts.get(key, 0) + 1

    def take(self) -> dict[str, float]:
        means = {key: round(float(value) / self.counts[key], 6) for key, value in self.sums.items()}
        self.sums, self.counts = {}, {}
        return means


def _log(run: Run, line: Mapping[str, Any]) -> None:
    try:
        with run.log_path.open("a") as file:
            file.write(json.dumps(line) + "\n")
    except OSError as error:
        raise UserError(f"could not write {run.log_path}: {error.strerror}") from error


@torch.no_grad()
def _sample_sheet(trainer: Trainer, completer: Completes, run: Run, pack: Pack) -> None:
    """Eight validation images (training ones where there is no such partition): input, completed, original."""
    chosen = pack.indices("val") if len(pack.indices("val")) else pack.indices("train")
    batch = _batch(pack, chosen[:8], trainer.recipe, trainer.recipe.updates, 0, trainer.device)
    seen = trainer.method.eval().draw_seen(batch).to(trainer.device)
    with torch.autocast(trainer.device.type, torch.bfloat16, enabled=trainer.recipe.precision == "bf16"):
        output = completer.complete(batch.images, seen)
    rows = [batch.images * seen, output.float(), batch.images]
    cells = [list(t.clamp(0, 1).mul(255).round().byte().permute(0, 2, 3, 1).cpu().numpy()) for t in rows]
    (run.folder / "samples").mkdir(exist_ok=True)
    picture = BytesIO()
    grid(cells, ["input", "completed", "original"], [], zoom=2).save(picture, "PNG")
    write_atomically(run.folder / "samples" / f"step-{trainer.step:06d}.png", picture.getvalue())


@contextmanager
def _polite_stop() -> Iterator[list[str]]:
    """A list that receives the name of a signal that asks us to stop; the loop looks at it between updates."""
    received: list[str] = []

    def note(number: int, frame: FrameType | None) -> None:
        received.append(signal.Signals(number).name)

    old = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


@contextmanager
def _progress(console: Console, recipe: Recipe, step: int, updates: int) -> Iterator[Any]:
    """A progress bar with losses, images/s and time left on a terminal; a line every half minute elsewhere."""
    if console.is_terminal:
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn())
        with Progress(TextColumn(recipe.name), *columns, TextColumn("{task.fields[losses]}"), console=console) as bar:
            task = bar.add_task("", total=updates, completed=step, losses="")
            yield lambda step, means, speed: bar.update(task, completed=step, losses=_short(means, speed))
    else:
        last = time.monotonic()

        def line(step: int, means: Mapping[str, float], speed: float) -> None:
            nonlocal last
            if time.monotonic() - last > 30 or step == updates:
                left = (updates - step) * recipe.batch / speed
                console.print(
                    f"{recipe.name} {step}/{updates}, {left:.0f} s left, {_short(means, speed)}", soft_wrap=True
                )
                last = time.monotonic()

        yield line


def _short(means: Mapping[str, float], speed: float) -> str:
    return " ".join(f"{key.partition('/')[2]} {value:.3g}" for key, value in means.items()) + f" {speed:.0f} images/s"
