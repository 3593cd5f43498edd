"""The update: each player of a method in turn computes its loss and moves. What a step draws comes from (seed, step).

Here are precision (bf16 autocast, or float64), memory format (channels last), gradient steps, schedules, and the batch
of a step; `loop` repeats it, saves and logs.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from inspect import signature
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.optim import Optimizer

from mdebench import catalog
from mdebench.catalog import Code
from mdebench.compute import devices
from mdebench.compute.batchnorm import average_statistics, batch_norms
from mdebench.compute.memory import keep_freed_memory
from mdebench.data.pack import Pack
from mdebench.errors import UserError
from mdebench.methods.contract import Batch, Beside, Loss, Method, Player
from mdebench.runs import Recipe
from mdebench.settings import build


def step_seed(seed: int, step: int, part: int = 0) -> int:
    """The seed of everything that update ``step`` of a run draws, or draws for a later part of the batch alone."""
    entropy = [seed, step, part] if part else [seed, step]
    return int(np.random.SeedSequence(entropy).generate_state(1, np.uint64)[0] >> np.uint64(1))


def build_method(
    method: Code | str, settings: Mapping[str, Any], size: int, seed: int, state: Mapping[str, Tensor] | None = None
) -> Method:
    """A method, by name or as the catalog found it, with initial weights drawn from ``seed``.

    ``state``: what is to be loaded into it; then it asks for no file that its settings name. Global random state is
    left as it was.
    """
    code = catalog.method(method) if isinstance(method, str) else method
    module = code.load()
    with torch.random.fork_rng(devices=[]), code.guarded():
        torch.manual_seed(seed)
        plain = build(module.Settings, settings)
        built: Method = module.Method(plain, size) if state is None else module.Method.restored(plain, size, state)
    return built


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
            loss = self.loss(name, batch)
            told = _of_whole_batch(loss)
            self.unread.append((name, batch.step, told))
            if len(self.unread) >= self.at_most_unread:
                self.read()
            optimizer.zero_grad(set_to_none=True)
            # Only this player's gradients: nothing is computed for, or left behind in, the others' parameters.
            loss.total.backward(inputs=player.parameters)  # type: ignore[no-untyped-call]
            devices.average_gradients(player.parameters)
            for group in optimizer.param_groups:
                group["lr"] = player.lr * player.schedule(batch.progress)
            optimizer.step()
            parts |= {f"{name}/{key}": value for key, value in told.parts.items()}
        if self.recipe.batch_norm == "local":
            average_statistics(self.method)
        self.step = batch.step + 1
        return parts

    def loss(self, name: str, batch: Batch) -> Loss:
        """What a player minimises on a batch, in the recipe's precision."""
        bf16 = torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.precision == "bf16")
        with bf16, batch_norms(self.recipe.batch_norm):
            found: Loss = self.method.loss(name, batch)
        return found

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
                _restore(optimizer, self.players[name], state["optimizers"][name])
        except (RuntimeError, KeyError, ValueError, TypeError, AttributeError, IndexError) as error:
            raise UserError(
                f"{where} does not fit the networks of this recipe; delete it to train this run again"
            ) from error
        self.step = state["step"]


# Those whose moments are a number for each weight and are called the same for every weight.
_ELEMENTWISE = (torch.optim.Adam, torch.optim.AdamW, torch.optim.Adadelta, torch.optim.RMSprop)


def _restore(optimizer: Optimizer, player: Player, state: dict[str, Any]) -> None:
    """Load an optimizer's state; KeyError or ValueError where it lacks what its updates need, or has it otherwise."""
    needed = set(optimizer.param_groups[0])
    optimizer.load_state_dict(state)
    if any(needed - set(group) for group in optimizer.param_groups):
        raise KeyError("an option of the optimizer")
    if type(optimizer) not in _ELEMENTWISE:
        return
    weight = nn.Parameter(torch.zeros(1))
    weight.grad = torch.zeros(1)
    tried = optimizer_of(replace(player, parameters=[weight]), fast=False)
    tried.step()  # which shows what an update keeps
    for parameter, kept in optimizer.state.items():
        if kept.keys() != tried.state[weight].keys():
            raise KeyError("a moment of the weights")
        if any(value.shape not in (parameter.shape, torch.Size([])) for value in kept.values()):
            raise ValueError("moments of other shapes than the weights")


def _of_whole_batch(loss: Loss) -> Loss:
    """A loss to be looked at: the mean of what the processes found, each for its part of the batch."""
    found = [value.detach() for value in (loss.total, *loss.parts.values())]
    total, *parts = found if devices.count() == 1 else devices.mean(torch.stack(found))
    return Loss(total, dict(zip(loss.parts, parts)))


def images_of(pack: Pack, index: NDArray[np.int64], recipe: Recipe, device: torch.device) -> Tensor:
    """These images of the pack (n,) as methods see them: (n, 3, H, W) in [0, 1]."""
    dtype = torch.float64 if recipe.precision == "fp64" else torch.float32
    return pack.batch(index, device).to(dtype).div_(255).contiguous(memory_format=torch.channels_last)


def batch_at(
    pack: Pack,
    train: NDArray[np.int64],
    recipe: Recipe,
    step: int,
    device: torch.device,
    beside: Beside | None = None,
) -> Batch:
    """The batch of update ``step``: an epoch is a permutation drawn from (seed, epoch), less a last partial batch.

    With several processes, this one's part of it; UserError when the batch cannot be shared out evenly.
    """
    epoch, place = divmod(step, len(train) // recipe.batch)
    order, part, parts = _order(recipe.seed, epoch, len(train)), devices.rank(), devices.count()
    index = train[order[place * recipe.batch : (place + 1) * recipe.batch]]
    own = index.reshape(parts, devices.part_of(recipe.batch, parts))[part]
    return replace(batch_of(pack, own, recipe, step, epoch, device, beside), part=part, parts=parts)


@lru_cache(maxsize=1)
def _order(seed: int, epoch: int, count: int) -> NDArray[np.int64]:
    """The order of the training images in an epoch, drawn once in it: that takes longer the more there are."""
    return np.random.default_rng([seed, epoch]).permutation(count)


def batch_of(
    pack: Pack,
    index: NDArray[np.int64],
    recipe: Recipe,
    step: int,
    epoch: int,
    device: torch.device,
    beside: Beside | None = None,
) -> Batch:
    """These images of the pack as the batch of a step, with what is taken of that which stands beside them."""
    images = images_of(pack, index, recipe, device)
    generator = torch.Generator().manual_seed(step_seed(recipe.seed, step))
    return Batch(images, torch.from_numpy(index), step, epoch, recipe.seed, generator, recipe.updates, given=beside)
