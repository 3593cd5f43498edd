"""Galleries: what a run made of the first test images, kept beside it as numbers, for figures and the report.

`runs/<run>/gallery/<pack>/<slug>.npz`, one for each test scenario and one for resampling; reading takes numpy alone.
They may show people: they stay in the run's folder.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mdebench.files import read_archive, read_arrays, reading, writing
from mdebench.home import Home

IMAGES = 8  # first test images shown
MASKS = 5  # completions of each image where the box moves (Figure 6)
RESAMPLING = "resampling"  # the gallery of successive completions (Figure 7)
Pixels = NDArray[np.uint8]

WAY_ON = "delete it and measure its run again"


@dataclass(frozen=True, eq=False)
class Gallery:
    """n images, each completed k times; the first k is the test's own.

    In the gallery of resampling, completion j is that of completion j − 1; else each is that of the original.
    """

    scenario: str  # "rec 0.1", or RESAMPLING
    originals: Pixels  # (n, H, W, 3)
    boxes: NDArray[np.float32]  # (n, k, 3, 4): for each channel x1, y1, x2, y2 relative to the image
    seen: NDArray[np.bool_]  # (n, k, H, W, 3)
    completed: Pixels  # (n, k, H, W, 3), the raw output

    @property
    def sources(self) -> Pixels:
        """(n, k, H, W, 3): the image that was masked."""
        first = self.originals[:, None]
        if self.scenario == RESAMPLING:
            return np.concatenate([first, self.completed[:, :-1]], axis=1)
        return np.broadcast_to(first, self.completed.shape)

    @property
    def inputs(self) -> Pixels:
        """(n, k, H, W, 3): what the run was shown, black where nothing was."""
        return np.where(self.seen, self.sources, np.uint8(0))

    @property
    def composites(self) -> Pixels:
        """(n, k, H, W, 3): the seen pixels pasted over the completion."""
        return np.where(self.seen, self.sources, self.completed)


class Found(NamedTuple):
    """Where a gallery is, and of what."""

    run: str
    pack: str
    scenario: str
    path: Path


def write_gallery(run_folder: Path, pack: str, gallery: Gallery) -> Path:
    """Write a run's gallery on a pack, whole or not at all; returns the path. UserError on a full disk."""
    path = run_folder / "gallery" / pack / f"{gallery.scenario.replace(' ', '-S')}.npz"
    arrays = {name: getattr(gallery, name) for name in _SHAPES}
    with writing(path) as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    return path


def list_galleries(home: Home) -> list[Found]:
    """Every gallery under ``home/runs``, by run, pack and scenario."""
    paths = sorted(home.runs.glob("*/gallery/*/*.npz"))
    return [Found(path.parts[-4], path.parts[-2], _scenario(path), path) for path in paths]


def open_gallery(path: Path) -> Gallery:
    """Read a gallery; Damaged when the file is none, or not whole any more."""
    found = read_arrays(path, WAY_ON)
    with reading(path, WAY_ON):
        if lacking := [name for name in _SHAPES if name not in found]:
            raise ValueError(f"no gallery: {lacking[0]} is missing")
        arrays: dict[str, NDArray[Any]] = {name: found[name] for name in _SHAPES}
        n, k, height, width = arrays["completed"].shape[:4]
        known = {"n": n, "k": k, "H": height, "W": width}
        for name, (dtype, shape) in _SHAPES.items():
            if arrays[name].dtype != dtype or arrays[name].shape != tuple(known.get(str(s), s) for s in shape):
                raise ValueError(f"no gallery: {name} has another shape")
    return Gallery(_scenario(path), **arrays)


def gallery_bytes(path: Path) -> bytes:
    """All that a gallery holds, whatever its archive says besides; Damaged."""
    return b"".join(name.encode() + data for name, data in sorted(read_archive(path, WAY_ON).items()))


def to_pixels(images: NDArray[np.floating]) -> Pixels:
    """Images (…, 3, H, W) in [0, 1] → (…, H, W, 3) uint8."""
    return np.moveaxis(np.rint(np.clip(images, 0, 1) * 255).astype(np.uint8), -3, -1)


_SHAPES: dict[str, tuple[type[np.generic], tuple[str | int, ...]]] = {
    "originals": (np.uint8, ("n", "H", "W", 3)),
    "boxes": (np.float32, ("n", "k", 3, 4)),
    "seen": (np.bool_, ("n", "k", "H", "W", 3)),
    "completed": (np.uint8, ("n", "k", "H", "W", 3)),
}


def _scenario(path: Path) -> str:
    return path.stem.replace("-S", " ")
