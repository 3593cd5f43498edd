"""A pack of noise for what is timed: as large as asked for, on disk and read like any other."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from mdebench.data.pack import Pack, unlabelled
from mdebench.files import scratch

IMAGES = "images.npy"


@contextmanager
def generated_pack(count: int, size: int) -> Iterator[Pack]:
    """A pack of ``count`` training images of noise, memory-mapped from a temporary file."""
    rng, shape = np.random.default_rng(0), (count, 3, size, size)
    with scratch() as folder:
        images = np.lib.format.open_memmap(folder / IMAGES, "w+", np.uint8, shape)
        for start in range(0, count, 1000):
            images[start : start + 1000] = rng.integers(0, 256, (min(1000, count - start), *shape[1:]), np.uint8)
        images.flush()
        del images  # or its pages would count as memory in use
        yield noise_pack(folder)


def noise_pack(folder: Path) -> Pack:
    """The pack whose images `generated_pack` wrote to a folder, without labels."""
    images = np.load(folder / IMAGES, mmap_mode="r")
    labels = unlabelled(len(images), images.shape[-1])
    return Pack(folder, {"hash": "", "attribute_names": ()}, **{**labels, "images": images})
