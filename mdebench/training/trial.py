"""What a run declares (size, width, batch) is tried before it begins, so that it is refused at once or not at all.

One batch of black images goes through every loss that the run will play, forward and backward, and a few through the
encoder, its stages and its completions. All of it happens to a copy: weights, batch-norm's statistics and the state of
random generators stay as they were, and so do a run's numbers. Values are not looked at: black images have losses that
pictures do not have.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor
from torch.linalg import LinAlgError  # type: ignore[attr-defined]  # exported, but not by name
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from mdebench.catalog import Code, told
from mdebench.compute import devices
from mdebench.compute.memory import enough_memory, free_memory
from mdebench.errors import Interrupted, UserError
from mdebench.files import wants_memory
from mdebench.methods.contract import Batch, Beside, Completes, Encodes, Method, Scores, Stages, codes_of, shape_of
from mdebench.runs import Recipe
from mdebench.training.trainer import Trainer, build_method, step_seed
from mdebench.words import size, tell


def built(recipe: Recipe, device: torch.device, code: Code | None = None) -> Method:
    """The method of a recipe with its initial weights; UserError where its settings cannot be built, or not here.

    ``code``: where it is from.
    """
    try:
        if not (code and code.place):  # somebody else's is built once only: who knows what it keeps
            _check_room(recipe, device)
        with room(recipe):
            return build_method(code or recipe.method, recipe.settings, recipe.size, recipe.seed)
    except (UserError, Interrupted):
        raise
    except Exception as error:
        raise UserError(_sentence(error, recipe, code, "built for")) from error


def room(recipe: Recipe) -> AbstractContextManager[None]:
    """Where there is not enough memory for what is done in here with a recipe's batches, that is said."""
    batches = f"batches of {recipe.batch} of {recipe.size}×{recipe.size} pixels"
    return enough_memory(batches, "give a smaller --set batch=N or --scale, or close what else takes memory")


def _check_room(recipe: Recipe, device: torch.device) -> None:
    """UserError where weights, gradients and one moment of them take more than is free, before any of it is asked for:
    a system that promises more memory than it has would kill us instead."""
    way_on = "choose a smaller code or width (--set), or --scale"
    try:
        with torch.device("meta"):  # shapes alone
            shapes = build_method(recipe.method, recipe.settings, recipe.size, recipe.seed, {})
            weights = sum(each.numel() for each in shapes.parameters())
    except Exception as error:  # what cannot be built says so where it is built
        if wants_memory(error):
            raise UserError(f"{recipe.label} with these settings has more weights than any memory; {way_on}") from error
        weights = 0
    needed = 3 * weights * (8 if recipe.precision == "fp64" else 4)
    free = free_memory(device if device.type == "cuda" else None)
    if needed > free:
        told = (
            f"{recipe.label} with these settings has {weights:,} weights, which take at least {size(needed)} to train"
        )
        raise UserError(f"{told}, and {size(free)} are free here: {way_on}")


def try_out(
    method: Method,
    recipe: Recipe,
    device: torch.device,
    rows: NDArray[np.int64],
    console: Console,
    code: Code | None = None,
    beside: Beside | None = None,
) -> None:
    """Try an untrained method at its recipe; ``rows`` are places in the pack for as many images as this process takes.

    ``code``: where the method is from; ``beside``: what it takes beside images. UserError for what cannot be done, with
    what to do; a method that cannot be copied is not tried, which is said. Several processes call it together.
    """
    try:
        tried = deepcopy(method)
    except Exception as error:  # a lock, an open file: it may train all the same
        tell(console, "note", f"{recipe.label} is not tried before it begins: it cannot be copied ({told(error)})")
        return
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(0)
        with _refused(recipe, code, "trained on"):
            _train(Trainer(tried, recipe, device), rows, beside)
        with _refused(recipe, code, "used for"), torch.no_grad():
            _use(tried.to(device).eval(), recipe, device)


def _train(trainer: Trainer, rows: NDArray[np.int64], beside: Beside | None) -> None:
    """Every loss that the run will play, in each order of turns, forward and backward; nothing moves."""
    recipe = trainer.recipe
    first: dict[tuple[str, ...], int] = {}  # order of turns → the step that has it first
    for step in range(recipe.updates if trainer.players else 0):
        first.setdefault(tuple(trainer.method.turns(step, recipe.updates)), step)
    trainer.method.train()
    for turns, step in first.items():
        generator = torch.Generator().manual_seed(step_seed(recipe.seed, step))
        images, index = _black(len(rows), recipe, trainer.device), torch.from_numpy(rows)
        part, parts = devices.rank(), devices.count()
        batch = Batch(images, index, step, 0, recipe.seed, generator, recipe.updates, part, parts, beside)
        for player in turns:
            with _SmallMaps():
                loss = trainer.loss(player, batch)
            loss.total.backward(inputs=trainer.players[player].parameters)  # type: ignore[no-untyped-call]
            trainer.optimizers[player].zero_grad(set_to_none=True)


def _use(method: Method, recipe: Recipe, device: torch.device) -> None:
    """All that is asked of a run when it is done, of two images and of one, as the last piece of a pass may be."""
    for count in (2, 1):
        images = _black(count, recipe, device)
        if isinstance(method, Encodes):
            codes_of(method, images)
        if isinstance(method, Stages):
            maps = method.stages(images)
            each = list(maps.values()) if isinstance(maps, Mapping) else [maps]
            if wrong := [shape_of(one) for one in each if not (isinstance(one, Tensor) and len(one.shape) == 4)]:
                raise UserError(f"stages promises maps (N, C, h, w) by name and gives {wrong[0]}")
        if isinstance(method, Completes):
            seen = torch.ones_like(images)
            seen[..., : recipe.size // 2] = 0
            for bf16 in {False, recipe.precision == "bf16"}:  # as it is measured, and as it paints while it trains
                with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
                    completed = method.complete(images * seen, seen)
                if shape_of(completed) != shape_of(images):
                    raise UserError(f"complete promises images {shape_of(images)} and gives {shape_of(completed)}")
        if isinstance(method, Scores) and shape_of(found := method.likelihood(images)) != (count,):
            raise UserError(f"likelihood promises a number for each of {count} images and gives {shape_of(found)}")


def _black(count: int, recipe: Recipe, device: torch.device) -> Tensor:
    dtype = torch.float64 if recipe.precision == "fp64" else torch.float32
    images = torch.zeros(count, 3, recipe.size, recipe.size, dtype=dtype, device=device)
    return images.contiguous(memory_format=torch.channels_last)


class _SmallMaps(TorchFunctionMode):
    """Where convolutions are watched: of a map smaller than its stride, torch 2.14 leaves parts of the gradient of the
    kernel unset when it computes in bf16 on a CPU."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Iterable[type], args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        bf16 = func is F.conv2d and args[0].device.type == "cpu" and torch.is_autocast_enabled("cpu")
        stride = (args[3] if len(args) > 3 else (kwargs or {}).get("stride", 1)) if bf16 else 1
        step = stride if isinstance(stride, int) else max(stride)
        if bf16 and min(args[0].shape[2:]) < step and max(args[1].shape[2:]) > 1:
            side = "×".join(map(str, args[0].shape[2:]))
            raise UserError(
                f"pictures come down to maps of {side}, whose convolutions in steps of {step} torch does not learn"
                " rightly in bf16 on a CPU: give --set precision=fp32, or take a pack of larger pictures"
            )
        return func(*args, **(kwargs or {}))


@contextmanager
def _refused(recipe: Recipe, code: Code | None, what: str) -> Iterator[None]:
    """What fails in here is told in a sentence, whoever's code it is; that black images lack a number is no failure."""
    try:
        with room(recipe):
            yield
    except Interrupted:
        raise
    except UserError as error:
        raise UserError(f"{recipe.label}: {error}") from error
    except (ArithmeticError, LinAlgError):
        pass
    except (Exception, SystemExit) as error:
        raise UserError(_sentence(error, recipe, code, what)) from error


def _sentence(error: BaseException, recipe: Recipe, code: Code | None, what: str) -> str:
    """What cannot be done, why, and what to do."""
    batch, parts, side = f"batches of {recipe.batch}", devices.count(), f"{recipe.size}×{recipe.size} pixels"
    if one_value(error):
        shared = f", each shared by {parts} processes that normalise their own part" if parts > 1 else ""
        return (
            f"{recipe.label} cannot be trained in {batch}{shared}: batch-norm would normalise over a single value of"
            f" a channel; give --set batch={2 * parts} or more"
        )
    if code and code.place:
        why = _line(told(error, Path(str(code.load().__file__))))
        tried = (
            f"{code.name} ({code.place}), {what} black pictures of {side} in {batch} before it begins, failed: {why}"
        )
        return f"{tried}; `mdebench check {code.word}` looks closer"
    advice = "make a pack of another --size, or choose other settings"
    return f"{recipe.label} cannot be {what} pictures of {side} in {batch}: {_line(told(error))}; {advice}"


def _line(text: str) -> str:
    return " ".join(text.split())


def one_value(error: BaseException) -> bool:
    """Whether torch says that a normalisation, in training, met a single value of a channel."""
    return "more than 1 value per channel" in str(error)
