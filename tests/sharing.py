"""What the processes of test_devices do, in a module that they can import; and a game with five turns of a critic."""

import os
import signal
import time
from dataclasses import asdict
from pathlib import Path

import psutil
import torch
from accelerate.utils import gather_object
from rich.console import Console
from torch import nn

from mdebench import catalog
from mdebench.compute import devices
from mdebench.data.pack import open_pack
from mdebench.errors import UserError
from mdebench.methods.contract import Batch, Loss, Player
from mdebench.methods.contract import Method as BaseMethod
from mdebench.runs import Recipe
from mdebench.settings import Scale
from mdebench.training import loop, operations, recipes, trainer

SIZE, IMAGES, UPDATES = 32, 4, 10
SCALE = Scale(SIZE, 4, 8, "compl+adv+hns_coord", "none", IMAGES, UPDATES)
NAMES = (
    "rec",
    "context_encoder",
    "mae",
    "glcic",
    "deepfill_v2",
    "split_brain",
    "vcnet",
    "simclr",
    "byol",
    "dino",
    "critics",
)
RUN = {"width": "2", "code": "4", "updates": "40", "batch": "6", "precision": "fp64"}


class Critics(BaseMethod):
    """A Wasserstein game with gradient penalty: gradients of gradients go through a batch-norm of timm's own class."""

    feature_dim = 3

    def __init__(self):
        from timm.layers import BatchNormAct2d  # slow to import

        super().__init__(None, SIZE)
        # No biases: they move nothing here, and of a gradient that is but rounding Adam makes whole steps.
        self.encoder = nn.Conv2d(3, 3, 1, bias=False)
        first, last = nn.Conv2d(3, 4, 3, stride=4, bias=False), nn.Conv2d(4, 1, 3, bias=False)
        self.critic = nn.Sequential(first, BatchNormAct2d(4), last)

    def players(self):
        players = {"critic": self.critic, "encoder": self.encoder}
        return {name: Player(list(network.parameters()), 1e-3) for name, network in players.items()}

    def turns(self, step, updates):
        return ("critic",) * 5 + ("encoder",)

    def encode(self, images):
        return self.encoder(images).mean(dim=(2, 3))

    def loss(self, player, batch):
        fake = self.encoder(batch.images)
        score = self.critic(fake).mean()
        if player == "encoder":
            return Loss(-score, {"score": score})
        share = batch.own(torch.rand(batch.count, 1, 1, 1, generator=batch.generator)).to(fake)
        between = (share * batch.images + (1 - share) * fake.detach()).requires_grad_()
        (slope,) = torch.autograd.grad(self.critic(between).sum(), between, create_graph=True)
        penalty = (slope.flatten(1).norm(dim=1) - 1).square().mean()
        gap = score - self.critic(batch.images).mean()
        return Loss(gap + 10 * penalty, {"gap": gap, "penalty": penalty})


def after_updates(name, **overrides):
    """A method's state and loss parts in float64 after an update of each of its phases, this process's part of each."""
    settings = {} if name == "critics" else asdict(catalog.method(name).settings(SCALE, {}))
    recipe = Recipe(name, name, settings, "test", SIZE, "pack", "", 0, UPDATES, IMAGES, "fp64", overrides)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        method = Critics() if name == "critics" else trainer.build_method(name, settings, SIZE, 0)
    made, counts, parts = trainer.Trainer(method, recipe, torch.device("cpu")), operations.Operations(), {}
    for step in (0, 5, 9):
        draws = torch.Generator().manual_seed(step)
        images = torch.rand(IMAGES, 3, SIZE, SIZE, generator=draws, dtype=torch.float64)
        n, part = IMAGES // devices.count(), devices.rank()
        own = slice(n * part, n * (part + 1))
        batch = Batch(images[own], torch.arange(IMAGES)[own], step, 0, 0, draws, UPDATES, part, devices.count())
        parts, gflop = counts.update(made, batch)
    return {"state": made.method.state_dict(), "parts": parts, "gflop": gflop, "hash": trainer.weights_hash(method)}


def words(work):
    """What the user would be told of a mistake."""
    try:
        work()
    except UserError as error:
        return str(error)


def not_finite():
    """A loss that is not a number for the second process's images."""
    recipe = Recipe("critics", "critics", {}, "test", SIZE, "pack", "", 0, UPDATES, IMAGES, "fp64", {})
    images = torch.full((2, 3, SIZE, SIZE), float("nan") if devices.rank() else 0.5, dtype=torch.float64)
    batch = Batch(images, torch.arange(2), 0, 0, 0, torch.Generator(), UPDATES, devices.rank(), 2)
    trainer.Trainer(Critics(), recipe, torch.device("cpu")).update(batch)


def full_disk():
    raise UserError("the disk is full")


def compare(folder, home):
    """Every game, one with local batch-norm, and an unbroken run; what each process then holds goes into a file."""
    found = {name: after_updates(name) for name in NAMES}
    found["local"] = after_updates("rec", batch_norm="local")
    run(home)
    listening = [c.laddr.ip for c in psutil.Process().net_connections("inet") if c.status == psutil.CONN_LISTEN]
    stopped = [words(not_finite), words(lambda: devices.on_first(full_disk))]
    stopped += [words(lambda: devices.check_same("pack", devices.rank()))]
    told = {"listening": listening, "stopped": stopped, **{name: each["hash"] for name, each in found.items()}}
    told = gather_object([told])
    if devices.rank() == 0:
        torch.save({"found": found, "told": told}, Path(folder) / "compared.pt")


def recipe_of(pack):
    return recipes.make_recipe("rec", pack, "tiny", 0, RUN)


def run(home, console=None):
    """A run of forty updates, saved after each."""
    pack = open_pack(home.packs / "toyfaces16")
    recipe = recipe_of(pack)
    loop.pretrain(recipe, home.run(recipe.name), pack, console or Console(quiet=True), save_seconds=0)


def run_killed(home, step):
    """The same run, of which the second process is killed before an update."""
    _before(step, lambda: os.kill(os.getpid(), signal.SIGKILL))
    run(home)


def run_stopped(home, step):
    """The same run, whose launcher is asked to stop before an update."""

    def stop():
        os.kill(os.getppid(), signal.SIGINT)
        time.sleep(1)  # until it reaches us

    _before(step, stop)
    run(home)


def _before(step, act):
    original = loop.batch_at

    def batch_at(pack, rows, recipe, at, device, beside=None):
        if at == step and devices.rank() == 1:
            act()
        return original(pack, rows, recipe, at, device)

    loop.batch_at = batch_at
