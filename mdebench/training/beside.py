"""What a method is given beside images: of all that a pack knows that alone which the method says it takes.

Most take nothing, so that no label can reach them. Where there is no pack (a method is checked, counted or timed),
labels are made up.
"""

import numpy as np
import torch

from mdebench.data.pack import LANDMARKS, Pack
from mdebench.methods.contract import Beside, Method
from mdebench.runs import Recipe
from mdebench.training.trainer import images_of

MADE_UP = {"attributes": 40, "landmarks": len(LANDMARKS), "identity": 8, "label": 8, "clip": 4, "segments": 8}


def known(pack: Pack) -> dict[str, int]:
    """How many there are of what a method may take: see ``Method.suited``."""
    train = pack.indices("train")
    most = {name: int(getattr(pack, name)[train].max(initial=-1)) + 1 for name in ("identity", "label", "clip")}
    attributes = len(pack.attribute_names) if (pack.attributes[train] >= 0).any() else 0
    landmarks = len(LANDMARKS) if np.isfinite(pack.landmarks[train]).any() else 0
    return {"attributes": attributes, "landmarks": landmarks, "segments": len(pack.segment_names), **most}


def beside_of(method: Method, pack: Pack, recipe: Recipe, device: torch.device) -> Beside | None:
    """What a method takes of a pack; None where it takes nothing."""
    if not method.TAKES:
        return None
    arrays = {name: getattr(pack, name) for name in method.TAKES}
    return Beside(arrays, lambda rows: images_of(pack, rows.numpy(), recipe, device))


def made_up(method: Method, count: int) -> Beside | None:
    """The like for ``count`` random images, in numbers as `MADE_UP` has them; the same every time."""
    if not method.TAKES:
        return None
    rng, size = np.random.default_rng(0), method.size
    arrays = {
        "attributes": rng.integers(0, 2, (count, MADE_UP["attributes"]), np.int8),
        "landmarks": rng.random((count, MADE_UP["landmarks"], 2), np.float32),
        **{name: rng.integers(0, MADE_UP[name], count, np.int32) for name in ("identity", "label")},
        "clip": (np.arange(count) // max(2, count // MADE_UP["clip"])).astype(np.int32),  # of two frames at least
        "segments": rng.integers(0, MADE_UP["segments"], (count, size, size), np.uint8),
    }
    images = torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(0))
    dtype = next((p.dtype for p in method.parameters()), torch.float32)
    return Beside({name: arrays[name] for name in method.TAKES}, lambda rows: images[rows].to(dtype))
