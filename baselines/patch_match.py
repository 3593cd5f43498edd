"""Exemplar-based fill by PatchMatch: the hole is put together from patches of the same image that are wholly seen.

The classic that learned completions are compared with; Wexler, Shechtman and Irani, "Space-Time Completion of Video",
2007, with the search of Barnes et al., "PatchMatch: A Randomized Correspondence Algorithm for Structural Image
Editing", 2009. From the coarsest of several sizes to the finest, in turns: each patch that touches the hole looks for
the seen patch most like it (its neighbours' finds, moved along, and random places nearer and nearer to its own), and
each missing pixel becomes the mean of what the patches over it have found there, the better ones weighing more.
Changed for small images: patches of 5×5 pixels where photographs have 7×7 and more; all patches look at once rather
than in scan order. What is drawn at random is the same for every image, so that a fill depends on its image alone.
An image that shows no whole patch (a channel is missing, or too little is seen) gets the mean colour (`fills.py`).
Command: `mdebench occlusion --preset all` adds it to every table by itself.
Expected: a periodic texture is found again; of faces the skin, but no eye where both are hidden.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from numpy.lib.stride_tricks import sliding_window_view
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from mdebench.methods import fills
from mdebench.methods.contract import Method as BaseMethod
from mdebench.settings import Count

Image = npt.NDArray[np.float32]  # (H, W, 3)
Mask = npt.NDArray[np.bool_]  # (H, W, 3), or (rows, columns) of patches, which stand at their upper left corners
Numbers = npt.NDArray[np.floating]
Places = npt.NDArray[np.int64]  # rows and columns of patches, (2, …)
NEIGHBOURS = ((0, 1), (1, 0), (0, -1), (-1, 0))


@dataclass(frozen=True)
class Settings:
    """``patch``: its side in pixels; ``rounds`` more of searching and painting at each next coarser size.

    ``sweeps`` of a search over neighbours and random places.
    """

    patch: Count = 5
    rounds: Count = 2
    sweeps: Count = 2


class Method(BaseMethod):
    """Completes image by image, on the CPU; it has no players and no encoder."""

    REFERENCE = True
    settings: Settings

    def complete(self, images: Tensor, seen: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [0, 1] and `seen` (broadcastable) of 1 and 0 → the images with their holes filled."""
        seen = seen.expand_as(images)
        filled = fills.mean_colour(images, seen)
        pairs = (each.permute(0, 2, 3, 1).cpu().numpy() for each in (images.float(), seen > 0))
        for n, (image, known) in enumerate(zip(*pairs)):
            if (found := fill(image, known, self.settings)) is not None:
                filled[n] = torch.from_numpy(found).permute(2, 0, 1).to(filled)
        return torch.where(seen > 0, images, filled)


def fill(image: Image, seen: Mask, settings: Settings) -> Image | None:
    """The image with values for all that is not seen, both (H, W, 3); None where no patch of it is wholly seen."""
    rng, side = np.random.default_rng(0), settings.patch
    if min(seen.shape[:2]) < side or not whole(seen, side).any():
        return None
    sizes = [(image, seen)]
    while not sizes[-1][1].all():
        sizes.append(halved(*sizes[-1]))
        if min(sizes[-1][1].shape[:2]) < 2 * side or not whole(sizes[-1][1], side).any():
            break
    sizes.pop()  # one is left where nothing is missing any more, or too little is there to copy
    if not sizes:
        return image
    level, painted = None, nearest_seen(*sizes[-1])
    for finer_ones, (image, seen) in reversed([*enumerate(sizes)]):
        finer = Level(image, seen, side, rng)
        if level is not None:
            finer.start_from(level)
            painted = finer.paint(np.zeros(len(finer.rows), np.float32))
        level = finer
        # One round at the finest size, which takes most of the time, and more where much is still to be decided.
        for _ in range(1 + settings.rounds * finer_ones):
            painted = level.paint(level.search(painted, settings.sweeps))
    return painted


def whole(seen: Mask, side: int) -> Mask:
    """Which patches are wholly seen: (H, W, 3) → (H − side + 1, W − side + 1)."""
    windows = sliding_window_view(seen.all(axis=2), (side, side))
    return np.asarray(windows.all(axis=(2, 3)))


def halved(image: Image, seen: Mask) -> tuple[Image, Mask]:
    """Both at half the size, rounded up: means of what is seen in squares of 2×2, which are seen where any of it is."""
    height, width = (-(-each // 2) for each in image.shape[:2])
    padding = [(0, 2 * height - image.shape[0]), (0, 2 * width - image.shape[1]), (0, 0)]
    values, counts = (
        np.pad(each, padding).reshape(height, 2, width, 2, 3).sum(axis=(1, 3))
        for each in (np.where(seen, image, 0), seen.astype(np.float32))
    )
    return (values / np.maximum(counts, 1)).astype(np.float32), counts > 0


def nearest_seen(image: Image, seen: Mask) -> Image:
    """What is missing gets the value of the nearest pixel that is seen, channel by channel; each channel has one."""
    filled = image.copy()
    for c in range(3):
        rows, columns = distance_transform_edt(~seen[..., c], return_distances=False, return_indices=True)
        filled[..., c] = image[rows, columns, c]
    return filled


class Level:
    """The search at one size: ``rows`` and ``columns`` of the n patches that touch the hole, and what each has found.

    ``found``: places of wholly seen patches, (2, h, w); what stands there for a patch off the hole stays as drawn.
    """

    def __init__(self, image: Image, seen: Mask, side: int, rng: np.random.Generator) -> None:
        self.image, self.seen, self.side, self.rng = image, seen, side, rng
        self.sources = whole(seen, side)
        self.rows, self.columns = np.nonzero(~self.sources)
        self.patches = self._cut(image)
        self.found = self._anywhere(self.sources.shape)

    def _anywhere(self, shape: tuple[int, ...]) -> Places:
        """Places of wholly seen patches, drawn at random."""
        places = np.stack(np.nonzero(self.sources))
        return places[:, self.rng.integers(places.shape[1], size=shape)]

    def _cut(self, image: Image) -> npt.NDArray[np.float32]:
        """Every patch as a line: (h, w, 3·side²)."""
        windows = sliding_window_view(image, (self.side, self.side), axis=(0, 1))
        return windows.reshape(*windows.shape[:2], -1)

    def start_from(self, coarser: "Level") -> None:
        """Take what patches at half the size have found, at double the place, where that is wholly seen here."""
        places = np.indices(self.sources.shape)
        last = np.array(coarser.sources.shape)[:, None, None] - 1
        half = np.minimum(places // 2, last)
        doubled = 2 * coarser.found[:, *half] + places - 2 * half
        self.found = np.where(self._is_source(doubled), doubled, self.found)

    def _is_source(self, places: Places) -> Mask:
        height, width = self.sources.shape
        rows, columns = places
        inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
        found: Mask = inside & self.sources[np.where(inside, rows, 0), np.where(inside, columns, 0)]
        return found

    def search(self, painted: Image, sweeps: int) -> Numbers:
        """Look for patches more like those of the painted image; returns the squared distances (n,) to those found."""
        wanted = self._cut(painted)[self.rows, self.columns]
        height, width = self.sources.shape
        best = self.found[:, self.rows, self.columns]
        distance: Numbers = np.square(wanted - self.patches[*best]).sum(axis=1)

        def try_out(places: Places) -> None:
            (usable,) = np.nonzero(self._is_source(places) & (places != best).any(axis=0))
            there = np.square(wanted[usable] - self.patches[*places[:, usable]]).sum(axis=1)
            better = there < distance[usable]
            distance[usable[better]] = there[better]
            best[:, usable[better]] = places[:, usable[better]]

        for _ in range(sweeps):
            for down, right in NEIGHBOURS:
                rows, columns = self.rows - down, self.columns - right
                self.found[:, self.rows, self.columns] = best
                inside = (rows >= 0) & (rows < height) & (columns >= 0) & (columns < width)
                theirs = self.found[:, np.where(inside, rows, 0), np.where(inside, columns, 0)]
                try_out(np.where(inside, theirs + np.array([[down], [right]]), -1))
            reach = max(height, width)
            while reach >= 1:
                try_out(best + np.rint(reach * self.rng.uniform(-1, 1, best.shape)).astype(np.int64))
                reach //= 2
        self.found[:, self.rows, self.columns] = best
        return distance

    def paint(self, distance: Numbers) -> Image:
        """The image whose missing values are means of what was found for them, by distances (n,) of the patches."""
        spread = 2 * max(float(np.quantile(distance, 0.75)), 1e-6)  # as Wexler et al. choose it
        weights = np.exp(-distance / spread)[:, None] + 1e-6  # which is all where no patch over a pixel is like another
        copied = self.patches[*self.found[:, self.rows, self.columns]].reshape(len(weights), 3, -1)
        width, offsets = self.image.shape[1], np.arange(self.side)
        under = (self.rows * width + self.columns)[:, None] + (offsets[:, None] * width + offsets).ravel()

        def summed(values: Numbers) -> Numbers:
            """Numbers of each patch's pixels (n, side²), added up in the image: (H, W)."""
            sums = np.bincount(under.ravel(), values.ravel(), minlength=self.image[..., 0].size)
            return sums.astype(np.float64, copy=False).reshape(self.image.shape[:2])

        weight = summed(np.broadcast_to(weights, under.shape))
        means = [summed(weights * copied[:, c]) / np.where(weight > 0, weight, 1) for c in range(3)]
        return np.where(self.seen, self.image, np.stack(means, axis=2).astype(np.float32))
