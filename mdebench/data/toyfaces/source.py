"""The embedded source: a pack of toyfaces, which the project draws itself."""

from pathlib import Path

import numpy as np

from mdebench.data import toyfaces
from mdebench.data.pack import ANNOTATED, ATTRIBUTES
from mdebench.data.writer import PackWriter, Progress
from mdebench.errors import UserError

EXPECTS = "nothing"


def write(writer: PackWriter, root: Path, progress: Progress, *, count: int = 20000, seed: int = 0) -> None:
    """Draw `count` faces with `seed` into `writer`; `root` is not used."""
    if count < 1:
        raise UserError(f"toyfaces needs a count of at least 1, not {count}.")
    writer.attribute_names = ATTRIBUTES
    writer.info |= {
        "source": "toyfaces",
        "options": {"count": count, "seed": seed},
        "crop": "none: drawn at this size",
        "resize": "none",
    }
    done = 0
    for chunk in toyfaces.generate(count, writer.size, seed):
        n = len(chunk.images)
        writer.add(
            chunk.images,
            [f"{i:06d}" for i in range(done, done + n)],
            toyfaces.split_of(chunk.identity),
            attributes=chunk.attributes,
            landmarks=chunk.landmarks,
            landmark_source=np.full(n, ANNOTATED),
            identity=chunk.identity,
        )
        done += n
        progress(done, count)
