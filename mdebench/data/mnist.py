"""MNIST (LeCun et al.): the four raw idx files, enlarged to the pack's size in three equal channels.

They are plain or gzipped, loose or in one archive, and called as LeCun has them or as mirrors do
(``train-images.idx3-ubyte``). Splits after the paper: 55,000 train and 10,000 test images. Of the official 60,000 the
last 5,000 are val.
"""

import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mdebench import files
from mdebench.data.decode import RESIZE
from mdebench.data.report import Report
from mdebench.data.store import BadImage, is_archive, open_store, read_member
from mdebench.data.store.official import holds
from mdebench.data.workers import GROUP
from mdebench.data.writer import PackWriter, Progress
from mdebench.errors import UserError

EXPECTS = "train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte"
EXPECTS += " (plain or .gz; also in raw/ or MNIST/raw/)"
TRAIN = 55_000
OFFICIAL = {"train": 60_000, "t10k": 10_000}  # images
MAX_BYTES = 256 * 2**20  # of one unpacked file, five times what the largest official one has
_TYPES = {8: "unsigned bytes", 9: "signed bytes", 11: "16-bit integers", 12: "32-bit integers"}
_TYPES |= {13: "32-bit floats", 14: "64-bit floats"}

Files = dict[str, tuple[str, Callable[[], bytes]]]  # official name → where it is, for people, and its bytes


def write(writer: PackWriter, root: Path, progress: Progress) -> None:
    """Read MNIST below `root` into `writer`; names are 'train-00000' and 't10k-00000', labels the digits."""
    found = _files(root, writer.report)
    parts = {
        part: (_read(root, found, f"{part}-images-idx3-ubyte", 3), _read(root, found, f"{part}-labels-idx1-ubyte", 1))
        for part in OFFICIAL
    }
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
        if len(images) != OFFICIAL[part]:
            writer.info["notes"].append(f"{len(images):,} of {OFFICIAL[part]:,} {part} images present")
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


def _files(root: Path, report: Report) -> Files:
    """The idx files below `root`, which may be an archive or hold one."""
    loose: dict[str, Path] = {}
    folders = [root / folder for folder in ("", "raw", "MNIST/raw") if (root / folder).is_dir()]
    for path in (path for folder in folders for path in sorted(folder.iterdir())):
        # One mirror has each file once more in a folder of its own name.
        for file in sorted(path.iterdir()) if path.is_dir() and _official(path.name).endswith("-ubyte") else [path]:
            if not file.is_dir():
                loose.setdefault(_official(file.name), file)
    archives = [root] if root.is_file() else [path for path in sorted(root.iterdir()) if is_archive(path)]
    if any(name.endswith("-ubyte") for name in loose) or not archives:
        return {name: (str(file), partial(files.read_bytes, file)) for name, file in loose.items()}
    store, found = open_store(archives[0], report), Files()
    for key in sorted(store.members, key=lambda key: (key.count("/"), key)):
        bytes_of = partial(read_member, store.read, store.members[key])
        found.setdefault(_official(key.rpartition("/")[2]), (f"{archives[0]}: {key}", bytes_of))
    return found


def _official(name: str) -> str:
    """'Train-Images.idx3-ubyte.gz' → 'train-images-idx3-ubyte'."""
    return name.lower().removesuffix(".gz").replace(".", "-")


def _read(root: Path, found: Files, name: str, axes: int) -> NDArray[np.uint8]:
    """An idx file of unsigned bytes: 0, 0, 8, number of axes, each length as a big-endian int32, then the values."""
    if name not in found:
        raise UserError(f"{root} has no {name} {holds(root)}; mnist needs {EXPECTS}.")
    file, bytes_of = found[name]
    try:
        data = bytes_of()
        if data[:2] == b"\x1f\x8b":  # whatever it is called: browsers unpack files, and keep the name
            unpacking = zlib.decompressobj(wbits=31)
            data = unpacking.decompress(data, MAX_BYTES)
            if not unpacking.eof:
                raise EOFError("it ends too early, or holds far more than MNIST has")
    except BadImage as verdict:
        raise UserError(f"{file} cannot be read: {verdict.told()}.") from verdict
    except (OSError, EOFError, zlib.error) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise UserError(f"{file} cannot be read: {files.said(error)}.") from error
        raise UserError(f"{file} cannot be read ({error}): fetch it again.") from error
    start = 4 + 4 * axes
    kind = _TYPES.get(data[2]) if data[:2] == b"\0\0" and len(data) > 3 else None
    if kind is None:
        raise UserError(f"{file} is no idx file: it does not begin as one. Fetch it again.")
    if data[2] != 8 or data[3] != axes or len(data) < start:
        raise UserError(
            f"{file} is an idx file of {kind} in {data[3]} dimensions, where {_TYPES[8]} in {axes} belong: "
            "fetch the official one."
        )
    shape = np.frombuffer(data, ">i4", axes, 4)
    if len(data) - start != int(np.prod(shape, dtype=np.int64)):
        raise UserError(f"{file} is truncated: {len(data) - start:,} values where {tuple(map(int, shape))} belong.")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
