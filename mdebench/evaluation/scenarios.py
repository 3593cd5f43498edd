"""The test scenarios of Figure 8: what of a test image is seen when a run is asked to complete it.

A scenario is a variant and its ratio, "rec 0.1" in words. Its test masks are drawn once per pack, scenario and seed,
never per run: every run completes the same fragments, so that their differences are paired. Names need no torch.
"""

import hashlib
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mdebench.data.pack import Pack
from mdebench.errors import UserError
from mdebench.settings import suggest
from mdebench.variants import ALIASES, FIGURE8, MASKS, VARIANTS, check_ratio

if TYPE_CHECKING:
    from torch import Tensor

    from mdebench.evaluation.passes import Indices

_PIECE = 256  # masks drawn at once, since they are drawn as float


class Scenario(NamedTuple):
    """A variant of `MASKS` and its ratio S in (0, 1), None where it has none (colorization, free form)."""

    variant: str
    S: float | None

    @property
    def name(self) -> str:
        """As in rows, figures and settings: "rec 0.1", "colorization1"."""
        return self.variant if self.S is None else f"{self.variant} {self.S:g}"

    @property
    def slug(self) -> str:
        """As in file names: "rec-S0.1"."""
        return self.name.replace(" ", "-S")


SCENARIOS = tuple(Scenario(variant, S) for variant, S in FIGURE8)


def parse(text: str) -> Scenario:
    """The scenario called ``text``: a variant or its short name, and a ratio ("rec 0.2", "c1", "ri").

    Without a ratio it is the variant's own of `VARIANTS`. UserError for another variant or an S that it cannot have.
    """
    word, _, ratio = text.strip().partition(" ")
    variant = ALIASES.get(word, word)
    if variant not in MASKS:
        near = suggest(word, MASKS)
        raise UserError(f"there is no test scenario {text!r}.{near} Name one like 'rec 0.1': {', '.join(MASKS)}.")
    try:
        S = float(ratio) if ratio else VARIANTS.get(variant, {"S": None})["S"]
    except ValueError as error:
        raise UserError(f"the ratio of the test scenario {text!r} is no number; name one like 'rec 0.1'") from error
    check_ratio(variant, S)
    return Scenario(variant, S)


def parse_all(text: str) -> list[Scenario]:
    """The scenarios of a comma-separated list, each once; "all" stands for the ten of Figure 8."""
    found: list[Scenario] = []
    for part in text.split(","):
        found += SCENARIOS if part.strip() == "all" else (parse(part),)
    return list(dict.fromkeys(found))


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


def _seed(*decides: str | int) -> int:
    digest = hashlib.sha256(repr(decides).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1
