"""The embedded data set: faces with CelebA's 40 attributes, exact landmarks, identities and splits, drawn by numpy.

A picture is made of random numbers in three steps: who has which attribute (`attributes`), what that looks like in
lengths and colours (`looks`), and the parts of the face painted one over another (`parts`, on a `canvas`). An identity
keeps its share of those numbers in all its pictures; the rest (smile, pose, light, background…) is drawn anew for each.
A picture may move: then it is a short clip, in which pose, gaze, mouth and light go along smooth paths.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mdebench.data.pack import ATTRIBUTES
from mdebench.data.toyfaces.attributes import Draws, draw_attributes
from mdebench.data.toyfaces.canvas import Array
from mdebench.data.toyfaces.looks import looks
from mdebench.data.toyfaces.parts import render
from mdebench.errors import UserError

IDENTITIES, PICTURES = 100, 5  # a block holds 100 identities with 5 pictures each
BLOCK = IDENTITIES * PICTURES
BATCH = 25  # pictures drawn at once: few enough for a processor's cache


@dataclass(frozen=True)
class Chunk:
    """Some pictures: images (n, 3, H, W); attributes (n, 40), 0 or 1; landmarks (n, 5, 2); identity (n,); clip (n,).

    The landmarks are x, y in [0, 1] of the left eye, right eye, nose, left and right corner of the mouth as seen. A
    clip's frames stand one after the other; -1 for stills. Segments (n, H, W) are places in `parts.SEGMENTS`, where
    they were asked for.
    """

    images: NDArray[np.uint8]
    attributes: NDArray[np.int8]
    landmarks: Array
    identity: NDArray[np.int32]
    clip: NDArray[np.int32]
    segments: NDArray[np.uint8] | None


def generate(count: int, size: int, seed: int = 0, frames: int = 1, segments: bool = False) -> Iterator[Chunk]:
    """Draw `count` pictures of size × size, in order, as chunks of at most 25.

    The same seed gives the same pictures, and a shorter set is the beginning of a longer one. Pictures 500 b to
    500 b + 499 show the identities 100 b to 100 b + 99 in turn, five times each. With more than one of `frames`, each
    picture is a clip of so many (`count` counts them all), whose first frame is that picture but for its noise.
    UserError for a size below 16 or a negative count.
    """
    if size < 16 or count < 0:
        raise UserError(f"toyfaces: cannot draw {count} faces of {size} × {size} pixels; the smallest size is 16.")
    for start in range(0, count, BATCH):
        block, first = divmod(start, BLOCK * frames)
        if first == 0:
            draws = Draws(seed, block, IDENTITIES, PICTURES, frames)
            has = draw_attributes(draws)
            attributes = np.stack([has[name] for name in ATTRIBUTES], 1).astype(np.int8)
            people = looks(draws, has)
        # A full batch is drawn even where fewer are wanted, so that no picture depends on `count`.
        rows, keep = np.arange(first, first + BATCH), slice(0, count - start)
        noise = np.random.default_rng([seed, block, first]).standard_normal((BATCH, 3, size, size), np.float32)
        images, points, classes = render(people.rows(rows), size, noise, segments)
        picture = rows // frames
        identity = (block * IDENTITIES + picture % IDENTITIES).astype(np.int32)
        clip = (block * BLOCK + picture if frames > 1 else np.full(BATCH, -1)).astype(np.int32)
        yield Chunk(
            images[keep],
            attributes[rows][keep],
            points[keep],
            identity[keep],
            clip[keep],
            None if classes is None else classes[keep],
        )


def split_of(identity: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Split of each identity, (n,) index into ("train", "val", "test"): of every ten people eight, one and one."""
    splits: NDArray[np.uint8] = np.array([0] * 8 + [1, 2], np.uint8)[identity % 10]
    return splits
