"""MNIST (LeCun et al.): the four raw idx files, plain or .gz, enlarged to the pack's size in three equal channels.

Splits after the paper: 55,000 train and 10,000 test images. Of the official 60,000 the last 5,000 are val.
"""

import gzip
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mdebench.data.decode import RESIZE
from mdebench.data.workers import GROUP
from mdebench.data.writer import PackWriter, Progress
from mdebench.errors import UserError

EXPECTS = "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte"
EXPECTS += " (plain or .gz; also in raw/ or MNIST/raw/)"
TRAIN = 55_000


def write(writer: PackWriter, root: Path, progress: Progress) -> None:
    """Read MNIST below `root` into `writer`; names are 'train-00000' and 't10k-00000', labels the digits."""
    parts = {part: (_images(root, part), _labels(root, part)) for part in ("train", "t10k")}
    total = sum(len(images) for images, _ in parts.values())
    writer.info |= {"source": "mnist", "options": {}, "classes": 10, "crop": "none: 28×28 whole", "resize": RESIZE}
    writer.info["notes"].append(
        f"grey 28×28, enlarged, in three equal channels; train is the first {TRAIN:,} official training images, "
        "val the rest"
    )
    done = 0
    for part, (images, labels) in parts.items():
        if len(images) != len(labels):
            raise UserError(
                f"{root}: {len(images):,} {part} images have {len(labels):,} labels; fetch the files again."
            )
        rows = np.arange(len(images))
        split = np.where(rows < TRAIN, 0, 1) if part == "train" else np.full(len(rows), 2)
        for start in range(0, len(images), GROUP):
            piece = slice(start, start + GROUP)
            names = [f"{part}-{row:05d}" for row in rows[piece]]
            writer.add(_enlarge(images[piece], writer.size), names, split[piece], label=labels[piece])
            done += len(names)
            progress(done, total)


def _enlarge(digits: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """(n, 28, 28) → (n, 3, size, size)."""
    sized = [np.asarray(Image.fromarray(digit).resize((size, size), Image.Resampling.BICUBIC)) for digit in digits]
    return np.repeat(np.stack(sized)[:, None], 3, axis=1)


def _images(root: Path, part: str) -> NDArray[np.uint8]:
    return _read_idx(root, f"{part}-images-idx3-ubyte", 3)


def _labels(root: Path, part: str) -> NDArray[np.uint8]:
    return _read_idx(root, f"{part}-labels-idx1-ubyte", 1)


def _read_idx(root: Path, name: str, axes: int) -> NDArray[np.uint8]:
    """An idx file of unsigned bytes: 0, 0, 8, number of axes, each length as a big-endian int32, then the values."""
    places = [root / folder / (name + end) for folder in ("", "raw", "MNIST/raw") for end in ("", ".gz")]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise UserError(f"{root} has no {name}; mnist needs {EXPECTS}.")
    try:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{file} cannot be read ({error}): fetch it again.") from error
    start = 4 + 4 * axes
    if data[:4] != bytes([0, 0, 8, axes]) or len(data) < start:
        raise UserError(f"{file} is not an idx file of {axes}-dimensional bytes: fetch it again.")
    shape = np.frombuffer(data, ">i4", axes, 4)
    if len(data) - start != int(np.prod(shape, dtype=np.int64)):
        raise UserError(f"{file} is truncated: {len(data) - start:,} values where {tuple(map(int, shape))} belong.")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
