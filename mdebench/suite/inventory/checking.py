"""The contract of a method, and that of a protocol, held against any file: what fails is explained to who wrote it.

The suite's own methods are held to the same checks by its tests.
"""

from collections.abc import Callable, Iterable
from dataclasses import MISSING, asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from mdebench import catalog
from mdebench.catalog import Code
from mdebench.data import prepare
from mdebench.data.pack import Pack, open_pack
from mdebench.errors import UserError
from mdebench.evaluation.contract import Subject
from mdebench.evaluation.displays import display_of
from mdebench.files import scratch
from mdebench.methods.contract import Batch, Completes, Encodes, Method, Scores, Stages
from mdebench.results.rows import Measurement
from mdebench.runs import Recipe
from mdebench.settings import Scale
from mdebench.training.beside import MADE_UP, made_up
from mdebench.training.trainer import Trainer, build_method, step_seed, weights_hash
from mdebench.words import tell

SIZE, UPDATES, BATCH = 32, 10, 4
SCALE = Scale(SIZE, 4, 8, "compl+adv+hns_coord", "none", BATCH, UPDATES)  # as small as networks get
CPU = torch.device("cpu")


class Broken(Exception):
    """What the contract says, and what was found instead."""


def check_file(word: str, console: Console) -> None:
    """Hold a method or protocol, by path or name, to its contract, saying how each ends; UserError if any fails."""
    code, checks = _code(word)
    failed = 0
    for title, check in checks.items():
        try:
            check(code)
        except Broken as broken:
            tell(console, "failed", f"{title}: {broken}")
            failed += 1
        except UserError as error:
            tell(console, "failed", f"{title}: {error}")
            failed += 1
        except (Exception, SystemExit) as error:  # whatever a stranger's code raises, with the line where it does
            tell(console, "failed", f"{title}: {catalog.told(error, Path(code.place))}")
            failed += 1
        else:
            tell(console, "done", title)
    if failed:
        raise UserError(f"{code.name} fails {failed} of {len(checks)} checks of the contract of a {code.kind}")
    console.print(f"{code.name} keeps the contract of a {code.kind}")


def _code(word: str) -> tuple[Any, dict[str, Callable[[Any], None]]]:
    """The method or protocol that a word names, and its checks."""
    code = catalog.either(word)
    code.load()
    return code, METHOD if code.kind == "method" else PROTOCOL


# --- methods


def settings_of(entry: Code) -> dict[str, Any]:
    """A method's settings at the scale of the checks, as plain values."""
    return asdict(entry.load().Method.suited(entry.settings(SCALE, {}), MADE_UP))


def trainer_of(entry: Code, precision: str = "fp32") -> Trainer:
    """A trainer of the untrained method at the scale of the checks."""
    recipe = Recipe(
        entry.name, entry.name, settings_of(entry), "test", SIZE, "pack", "", 0, UPDATES, BATCH, precision, {}
    )
    return Trainer(build_method(entry, recipe.settings, SIZE, 0), recipe, CPU)


def batch_at(step: int, method: Method) -> Batch:
    """Random images with what the method takes beside them, the same for the same step."""
    generator = torch.Generator().manual_seed(step_seed(0, step))
    images = torch.rand(BATCH, 3, SIZE, SIZE, generator=generator)
    return Batch(images, torch.arange(BATCH), step, 0, 0, generator, UPDATES, given=made_up(method, BATCH))


def _updates(trainer: Trainer, steps: Iterable[int]) -> dict[str, Tensor]:
    parts: dict[str, Tensor] = {}
    for step in steps:
        parts = trainer.update(batch_at(step, trainer.method))
    trainer.read()
    return parts


def _built(entry: Code) -> Method:
    return build_method(entry, settings_of(entry), SIZE, 0).eval()


def _images(count: int) -> Tensor:
    return torch.rand(count, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))


def _frozen_settings(code: Code) -> None:
    cls: Any = code.load().Settings
    made_by = getattr(cls, "__dataclass_params__", None)
    if made_by is None or not made_by.frozen:
        raise Broken("Settings is to be a frozen dataclass: @dataclass(frozen=True)")
    bare = [f.name for f in fields(cls) if f.default is MISSING and f.default_factory is MISSING]
    if bare:
        raise Broken(f"Settings() builds with no arguments, but {', '.join(bare)} has no default")
    code.load().Settings()


def _tells_its_story(entry: Code) -> None:
    text = entry.load().__doc__ or ""
    if missing := [word for word in ("Command:", "Expected") if word not in text]:
        raise Broken(
            f"the file's docstring tells the command and the expected result; it lacks {' and '.join(missing)}"
        )


def _can_do_something(entry: Code) -> None:
    method = _built(entry)
    if not isinstance(method, Encodes | Completes):
        raise Broken("it has neither `encode` (with `feature_dim`) nor `complete`")
    if isinstance(method, Encodes) and method.feature_dim < 1:
        raise Broken(f"it encodes, but its feature_dim is {method.feature_dim}: set it in __init__")


def _learns(entry: Code) -> None:
    trainer = trainer_of(entry)
    if not trainer.players:
        return
    before = {name: value.clone() for name, value in trainer.method.state_dict().items()}
    first: dict[tuple[str, ...], int] = {}  # order of turns → the step that has it first
    for step in range(UPDATES):
        first.setdefault(tuple(trainer.method.turns(step, UPDATES)), step)
    parts: dict[str, Tensor] = {}
    for step in sorted({0, 1, 2, *first.values()}):  # after a warm-up's first, a moving average follows at the third
        parts |= _updates(trainer, [step])
    if not parts or not all(value.isfinite() for value in parts.values()):
        raise Broken(f"after the first updates the parts of the losses are {parts}")
    for name, player in trainer.players.items():
        if not any(p.grad is not None and p.grad.abs().sum() > 0 for p in player.parameters):
            raise Broken(f"no gradient reaches the parameters of the player {name!r}")
    method: Any = trainer.method
    if not isinstance(method, Encodes):
        return
    moved = {name for name, value in trainer.method.state_dict().items() if not torch.equal(value, before[name])}
    named = dict(trainer.method.eval().named_parameters())
    with torch.enable_grad():
        code = method.encode(_images(2).requires_grad_())
        reached = torch.autograd.grad(code.sum(), list(named.values()), allow_unused=True) if code.requires_grad else ()
    encoder = {name for name, gradient in zip(named, reached) if gradient is not None}
    if not encoder & moved:
        raise Broken("updates do not move the encoder: what `encode` uses is no player's, or no loss reaches it")


def _same_bits(entry: Code) -> None:
    unbroken, broken = trainer_of(entry), trainer_of(entry)
    if not unbroken.players:
        return
    _updates(unbroken, range(4))
    _updates(broken, range(2))
    resumed = trainer_of(entry)
    resumed.restore(broken.state(), "the saved state")
    _updates(resumed, range(2, 4))
    ours, theirs = unbroken.method.state_dict(), resumed.method.state_dict()
    if differing := [name for name in ours if not torch.equal(ours[name], theirs[name])]:
        raise Broken(
            f"a state saved after two updates and loaded does not go on to the same bits ({differing[0]}): draw from"
            " batch.generator or torch's default one, and keep nothing between updates but parameters and buffers"
        )


def _encodes(entry: Code) -> None:
    method = _built(entry)
    if not isinstance(method, Encodes):
        return
    images = _images(5)
    with torch.no_grad():
        codes, alone = method.encode(images), method.encode(images[2:3])
    if tuple(codes.shape) != (5, method.feature_dim):
        promised = f"(N, feature_dim) = (5, {method.feature_dim})"
        raise Broken(f"`encode` promises {promised} for 5 images and gives {tuple(codes.shape)}")
    if not torch.allclose(alone[0], codes[2], rtol=1e-4, atol=1e-5):
        raise Broken("the code of an image depends on its neighbours in the batch (in eval mode)")


def _shows_stages(entry: Code) -> None:
    method = _built(entry)
    if not isinstance(method, Stages):
        return
    images = _images(5)
    with torch.no_grad():
        maps, alone = method.stages(images), method.stages(images[2:3])
    if list(maps) != [f"stage{i}" for i in range(1, len(maps) + 1)] or len(maps) < 2:
        raise Broken(f"`stages` are called stage1, stage2, … in order, at least two; here: {', '.join(maps)}")
    areas = [each.shape[-2] * each.shape[-1] for each in maps.values()]
    if any(each.ndim != 4 or len(each) != 5 for each in maps.values()):
        raise Broken("`stages` gives maps (N, C, h, w)")
    if areas != sorted(areas, reverse=True) or areas[0] >= SIZE * SIZE:
        raise Broken(f"the maps of `stages` shrink from first to last; here they have {areas} places")
    for name, each in maps.items():
        if not torch.allclose(alone[name][0], each[2], rtol=1e-4, atol=1e-5):
            raise Broken(f"the map of {name} depends on the image's neighbours in the batch")


def _completes(entry: Code) -> None:
    method = _built(entry)
    if not isinstance(method, Completes):
        return
    images, seen = _images(2), torch.ones(2, 3, SIZE, SIZE)
    seen[:, :, 8:20, 10:22] = 0
    with torch.no_grad():
        output, blind = method.complete(images, seen), method.complete(images * seen, seen)
    if output.shape != images.shape:
        raise Broken(f"`complete` promises images {tuple(images.shape)} and gives {tuple(output.shape)}")
    if output.min() < 0 or output.max() > 1:
        raise Broken(f"completions lie in [0, 1]; here in [{output.min():.3g}, {output.max():.3g}]")
    if not torch.allclose(blind, output, rtol=1.3e-6, atol=1e-5):
        raise Broken("`complete` looks at pixels that are not seen: its answer changes when they are blacked out")


def _scores(entry: Code) -> None:
    method = _built(entry)
    if not isinstance(method, Scores):
        return
    images = _images(3)
    with torch.no_grad():
        together, alone = method.likelihood(images), method.likelihood(images[1:2])
    if tuple(together.shape) != (3,) or not together.isfinite().all() or together.max() > 0:
        raise Broken("`likelihood` gives ln p of each image, a finite number and at most 0")
    if not torch.allclose(alone[0], together[1], rtol=1e-4):
        raise Broken("the likelihood of an image depends on its neighbours in the batch")


METHOD: dict[str, Callable[[Any], None]] = {
    "settings are a frozen dataclass with defaults": _frozen_settings,
    "the docstring tells command and expected result": _tells_its_story,
    "it encodes or completes": _can_do_something,
    "updates of every phase give finite losses and move every player and the encoder": _learns,
    "the same seed gives the same numbers, and a saved state goes on to the same bits": _same_bits,
    "encode has the promised shape and looks at one image at a time": _encodes,
    "stages are maps that shrink in order": _shows_stages,
    "complete gives images and looks only at what is seen": _completes,
    "likelihood is that of each image by itself": _scores,
}


# --- protocols


def _version_and_need(code: Code) -> None:
    module = code.load()
    if not isinstance(module.VERSION, int) or module.NEEDS not in catalog.NEEDS:
        raise Broken(f"VERSION is a whole number, NEEDS is {' or '.join(map(repr, catalog.NEEDS))}")


def _shown(code: Code) -> None:
    display_of(code)


def _measures(code: Code) -> None:
    """On a few drawn faces, by an untrained network that can do what is needed."""
    module = code.load()
    with scratch() as folder:
        pack = _drawn_faces(folder)
        if reason := module.requires(pack):
            raise Broken(f"it cannot be tried on drawn faces: {reason}")
        able = (catalog.method("rec"), *catalog.own_methods().values())
        entry = next(each for each in able if hasattr(each.load().Method, module.NEEDS))
        method = _built(entry)
        found = []
        for _ in range(2):
            subject = Subject(f"an untrained {entry.name}", method, folder / "run", 0, weights_hash(method))
            found.append([m for case in module.cases(module.Settings()) for m in module.evaluate(subject, pack, case)])
    if not found[0] or not all(isinstance(m, Measurement) for m in found[0]):
        raise Broken("evaluate returns a list of Measurement, at least one")
    for m in found[0]:
        if not np.isnan(m.value) and not (m.low <= m.value <= m.high or np.isnan(m.low)):
            raise Broken(f"{m.metric}: the interval [{m.low:g}, {m.high:g}] does not hold the value {m.value:g}")
    first, again = ([(m.metric, m.setting, m.split, m.value) for m in each] for each in found)
    if repr(first) != repr(again):
        raise Broken("the same subject measured twice gives other numbers: draw from a generator with a fixed seed")
    if said := display_of(code).metrics:
        unknown = sorted({m.name for m in said} - {m.metric for m in found[0]})
        if len(unknown) == len(said):
            raise Broken(f"DISPLAY speaks of {', '.join(unknown)}, which evaluate does not measure")


def _drawn_faces(folder: Path) -> Pack:
    """Some, with all labels that a pack may have; nobody drew their ages, which are made up of "Young"."""
    pack = open_pack(prepare("toyfaces", root=None, size=SIZE, packs_dir=folder, count=300, segments=True))
    young = pack.attributes[:, pack.attribute_names.index("Young")] == 1
    return replace(pack, age=np.where(young, 30, 60).astype(np.float32))


PROTOCOL: dict[str, Callable[[Any], None]] = {
    "settings are a frozen dataclass with defaults": _frozen_settings,
    "VERSION and NEEDS are what they should be": _version_and_need,
    "DISPLAY, where there is one, is a Display": _shown,
    "it measures an untrained network on drawn faces, twice the same": _measures,
}
