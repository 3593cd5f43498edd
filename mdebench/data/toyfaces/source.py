"""The embedded source: a pack of toyfaces, which the project draws itself."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdebench.data import toyfaces
from mdebench.data.pack import ANNOTATED, ATTRIBUTES
from mdebench.data.toyfaces.parts import SEGMENTS
from mdebench.data.writer import PackWriter, Progress
from mdebench.errors import UserError

EXPECTS = "nothing"


def write(
    writer: PackWriter,
    root: Path,
    progress: Progress,
    *,
    count: int = 20000,
    seed: int = 0,
    clips: int = 0,
    segments: bool = False,
) -> None:
    """Draw `count` faces with `seed` into `writer`; `root` is not used.

    clips: how many frames a clip has (2 to 100), of which there are `count` in all; 0 for stills. segments: with the
    class of each pixel.
    """
    if count < 1:
        raise UserError(f"toyfaces needs a count of at least 1, not {count}.")
    if clips and not 2 <= clips <= 100:
        raise UserError(f"A clip of toyfaces has from 2 to 100 frames, not {clips}.")
    frames = clips or 1
    if count % frames:
        raise UserError(f"{count:,} faces are no whole number of clips of {clips} frames: choose another --count.")
    writer.attribute_names = ATTRIBUTES
    writer.info |= {
        "source": "toyfaces",
        "options": {"count": count, "seed": seed}
        | ({"clips": clips} if clips else {})
        | ({"segments": True} if segments else {}),
        "crop": "none: drawn at this size",
        "resize": "none",
    }
    writer.info |= {"segment_names": list(SEGMENTS)} if segments else {}
    done = 0
    for chunk in toyfaces.generate(count, writer.size, seed, frames, segments):
        n = len(chunk.images)
        numbers = range(done, done + n)
        further: dict[str, NDArray[Any]] = {"clip": chunk.clip} if clips else {}
        further |= {} if chunk.segments is None else {"segments": chunk.segments}
        writer.add(
            chunk.images,
            [f"{i // clips:06d}-{i % clips:02d}" if clips else f"{i:06d}" for i in numbers],
            toyfaces.split_of(chunk.identity),
            attributes=chunk.attributes,
            landmarks=chunk.landmarks,
            landmark_source=np.full(n, ANNOTATED),
            identity=chunk.identity,
            **further,
        )
        done += n
        progress(done, count)
