"""The test scenarios of Figure 8 (`variants.Scenario`): what of a test image is seen when a run is to complete it.

A scenario is a variant and its ratio, "rec 0.1" in words. Its test masks are drawn once per pack, scenario and seed,
never per run: every run completes the same fragments, so that their differences are paired. So is the damage of blind
inpainting.
"""

import hashlib
from typing import TYPE_CHECKING

import numpy as np

from mdebench.data.pack import Pack
from mdebench.variants import Scenario

if TYPE_CHECKING:
    from torch import Tensor

    from mdebench.evaluation.passes import Indices

_PIECE = 256  # masks drawn at once, since they are drawn as float


def test_images(pack: Pack, count: int, seed: int) -> "Indices":
    """At most ``count`` test images: all of them in the pack's order, or the first of an order drawn from ``seed``."""
    test = pack.indices("test")
    return test if len(test) <= count else np.random.default_rng(seed).permutation(test)[:count]


def test_masks(pack: Pack, scenario: Scenario, count: int, seed: int, draw: int = 0) -> "tuple[Tensor, Tensor]":
    """Masks for the first ``count`` test images, the same for every run.

    Returns ``seen`` (count, 3, H, W) bool and the boxes (count, 3, 4) as (x1, y1, x2, y2) relative to the image. They
    depend on the pack's content, the scenario, the seed and ``draw`` (0 is the test's mask; 1, 2, … are others for the
    same images), and the first of them not on ``count``.
    """
    import torch

    from mdebench.methods import masks

    generator = torch.Generator().manual_seed(_seed(pack.hash, scenario.name, seed, draw))
    pieces = []
    for start in range(0, count, _PIECE):
        seen, boxes = masks.draw(*scenario, min(_PIECE, count - start), pack.size, generator)
        pieces.append((seen.bool(), boxes))
    return torch.cat([seen for seen, _ in pieces]), torch.cat([boxes for _, boxes in pieces])


def test_damage(pack: Pack, count: int, seed: int) -> "tuple[Tensor, Tensor]":
    """The damage of the first ``count`` test images, the same for every run.

    Returns what is left of each pixel (count, 1, H, W) float32 in [0, 1], 1 where intact (`masks.draw_damage`), and how
    the pictures in the damage are moved (count, 3) (`masks.strange`). The first of them do not depend on ``count``.
    """
    import torch

    from mdebench.methods import masks

    generator = torch.Generator().manual_seed(_seed(pack.hash, "damage", seed))
    pieces = [
        (masks.draw_damage(_PIECE, pack.size, generator), torch.rand(_PIECE, 3, generator=generator))
        for _ in range(0, count, _PIECE)
    ]
    return torch.cat([alpha for alpha, _ in pieces])[:count], torch.cat([moved for _, moved in pieces])[:count]


def _seed(*decides: str | int) -> int:
    digest = hashlib.sha256(repr(decides).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
