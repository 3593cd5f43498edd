"""A method and a protocol as somebody else would write them, about thirty lines each, for the tests of the doors."""

METHOD = '''"""A colour autoencoder.

Command: ``mdebench pretrain ./tint.py``. Expected: a code that knows the mean colour.
"""

from dataclasses import dataclass

from torch import nn

from mdebench.methods import Loss, Player
from mdebench.methods import Method as BaseMethod


@dataclass(frozen=True)
class Settings:
    code: int = 16
    lr: float = 1e-3


class Method(BaseMethod):
    PAPER = "Nobody 2026"

    def __init__(self, settings, size):
        super().__init__(settings, size)
        self.feature_dim = settings.code
        self.encoder = nn.Sequential(nn.AvgPool2d(size // 4), nn.Flatten(), nn.Linear(48, settings.code), nn.ReLU())
        self.decoder = nn.Linear(settings.code, 3)

    def players(self):
        return {"network": Player(list(self.parameters()), self.settings.lr)}

    def loss(self, player, batch):
        error = (self.decoder(self.encode(batch.images)) - batch.images.mean(dim=(2, 3))).square().sum(dim=1).mean()
        return Loss(error, {"colour": error})

    def encode(self, images):
        return self.encoder(images)
'''

PROTOCOL = '''"""How far codes move when images are turned upside down.

Command: ``mdebench measure ./upturned.py``. Expected: little, for a code of colours.
"""

from dataclasses import dataclass

import torch

from mdebench.evaluation import Display, Metric, chunks, encode, frozen, load, measure_mean

VERSION = 1
NEEDS = "encode"
MOVED = Metric("moved", "How far the code moves", "% of its length", "lower", told=True)
DISPLAY = Display("Turned upside down", (MOVED,))


@dataclass(frozen=True)
class Settings:
    images: int = 50


def evaluate(subject, pack, settings):
    moved = []
    with frozen(subject.method) as method:
        for piece in chunks(pack.indices("test")[: settings.images]):
            images = load(pack, piece, subject.device)
            code, turned = encode(method, images), encode(method, images.flip(2))
            moved.append(100 * (code - turned).norm(dim=1) / code.norm(dim=1).clamp_min(1e-9))
    return [measure_mean("moved", "% of its length", torch.cat(moved).cpu(), "upside down")]
'''
