"""From bytes of strangers to (3, size, size) uint8: finding, reading, checking, cropping and shrinking images.

Images come from a folder, a zip or a tar through one `ImageStore`; nothing is ever extracted to disk. Whatever is odd
about an image either converts it or leaves it out, and is added to the report either way. One way to resize, for all
sources: Pillow's bicubic filter with antialiasing, straight from the (fractional) crop box.
"""

import io
import os
import tarfile
import zipfile
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path, PurePosixPath

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from mdebench.data.report import Report
from mdebench.errors import UserError

MAX_PIXELS = 64_000_000  # a larger image is a mistake or a decompression bomb
MAX_BYTES = 64 * 2**20  # of one compressed image
MAX_TAR_BYTES = 4 * 2**30  # a tar has no random access, so its images wait in memory
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
RESIZE = "Pillow bicubic with antialiasing, from a fractional box"
CHUNK, CHUNK_BYTES = 512, 2**23  # images of a chunk at most, and their pixels
TASK = 16  # images that a thread takes at a time
AHEAD = 6  # chunks: what is decoded while CelebA's labels are read

Box = tuple[float, float, float, float]  # left, top, right, bottom in pixels of the image
Crop = Callable[[int, int], Box]  # (width, height) → box; may raise BadImage
Progress = Callable[[int, int], None]  # (done, total)


class BadImage(Exception):
    """Why an image is left out: a kind of `report.KINDS`."""


@dataclass(frozen=True)
class ImageStore:
    """Images by key; `read` gives the file's bytes or raises BadImage."""

    where: Path
    members: dict[str, str]  # key → path inside the folder or archive
    read_member: Callable[[str], bytes]

    def read(self, key: str) -> bytes:
        """The bytes of one image."""
        if key not in self.members:
            raise BadImage("missing_file")
        try:
            return self.read_member(self.members[key])
        except (OSError, RuntimeError, zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError) as error:
            raise BadImage("unreadable") from error


def safe_path(path: str) -> str:
    """The path in normal form with '/'; BadImage('outside') if it is absolute or leaves its folder."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    if not parts or parts[0] == "/" or ".." in parts or parts[0].endswith(":"):
        raise BadImage("outside")
    return "/".join(parts)


def by_path(path: str) -> str:
    """Key of sources that list images by their path."""
    return path


def by_name(path: str) -> str:
    """Key of sources that list images by their bare file name."""
    return PurePosixPath(path).name


def open_store(where: Path, report: Report, key: Callable[[str], str] = by_path) -> ImageStore:
    """A folder, .zip, .tar, .tgz or .tar.gz as a store; members that point outside and duplicates are reported."""
    try:
        if where.is_dir():
            found = sorted(p.relative_to(where).as_posix() for p in where.rglob("*") if p.is_file())
            return ImageStore(where, _index(found, report, key), lambda member: _read_file(where / member))
        if where.suffix == ".zip":
            archive = zipfile.ZipFile(where)
            found = [entry.filename for entry in archive.infolist() if not entry.is_dir()]
            return ImageStore(where, _index(found, report, key), lambda member: _read_zip(archive, member))
        contents = _read_tar(where, report)
        members = _index([name for name, _ in contents], report, key)
        by_member = dict(reversed(contents))  # of a repeated name the first stands
        return ImageStore(where, members, lambda member: _limited(by_member[member]))
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error) as error:
        raise UserError(f"{where} is not a whole archive ({error}): fetch it again.") from error
    except OSError as error:
        raise UserError(f"{where} cannot be read: {error.strerror or error}.") from error


def _index(found: Sequence[str], report: Report, key: Callable[[str], str]) -> dict[str, str]:
    members: dict[str, str] = {}
    for member in found:
        try:
            name = key(safe_path(member))
        except BadImage as verdict:
            report.add(str(verdict), member)
            continue
        if name in members:
            report.add("duplicate", member)
        else:
            members[name] = member
    return members


def _limited(data: bytes | None) -> bytes:
    if data is None:
        raise BadImage("too_large")
    return data


def _read_file(file: Path) -> bytes:
    if file.stat().st_size > MAX_BYTES:
        raise BadImage("too_large")
    return file.read_bytes()


def _read_zip(archive: zipfile.ZipFile, member: str) -> bytes:
    if archive.getinfo(member).file_size > MAX_BYTES:
        raise BadImage("too_large")
    return archive.read(member)


def _read_tar(where: Path, report: Report) -> list[tuple[str, bytes | None]]:
    contents: list[tuple[str, bytes | None]] = []
    total = 0
    with tarfile.open(where, "r:*") as archive:
        for entry in archive:
            if entry.isdir():
                continue
            stream = archive.extractfile(entry) if entry.isfile() else None
            if stream is None:
                report.add("not_a_file", entry.name)
                continue
            total += entry.size
            if total > MAX_TAR_BYTES:
                raise UserError(f"{where} holds more than 4 GiB: unpack it and prepare from the folder.")
            contents.append((entry.name, stream.read() if entry.size <= MAX_BYTES else None))
    return contents


def centre_square(width: int, height: int) -> Box:
    """The largest square in the middle."""
    side = min(width, height)
    return ((width - side) / 2, (height - side) / 2, (width + side) / 2, (height + side) / 2)


def decode(data: bytes, crop: Crop, size: int) -> tuple[NDArray[np.uint8], Box, set[str]]:
    """One image as (3, size, size) uint8, the box it was cut from, and the kinds of what had to be converted.

    Raises BadImage with the kind when it must be left out.
    """
    if not data:
        raise BadImage("empty")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            if image.width * image.height > MAX_PIXELS:
                raise BadImage("too_large")
            box = crop(image.width, image.height)
            kinds = _oddities(image)
            if box[2] - box[0] < size:
                kinds.add("upscaled")
            rgb = _to_rgb(image, kinds)
            small = rgb.resize((size, size), Image.Resampling.BICUBIC, box=box)
    except BadImage:
        raise
    except UnidentifiedImageError as error:
        raise BadImage("not_an_image") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadImage("too_large") from error
    except Exception as error:  # decoders of hostile bytes raise almost anything (struct.error, IndexError, …)
        raise BadImage("truncated" if "truncated" in str(error).lower() else "damaged") from error
    return np.asarray(small).transpose(2, 0, 1), box, kinds


def _oddities(image: Image.Image) -> set[str]:
    kinds = set()
    if any(";16" in str(tile[3]) for tile in getattr(image, "tile", ())):
        kinds.add("sixteen_bit")
    if getattr(image, "n_frames", 1) > 1:
        kinds.add("several_frames")
    with suppress(Exception):  # broken EXIF is no reason to leave a good image out
        if "exif" in image.info and image.getexif().get(0x0112, 1) != 1:
            kinds.add("exif_orientation")
    return kinds


def _to_rgb(image: Image.Image, kinds: set[str]) -> Image.Image:
    """`image` in mode RGB; adds to `kinds` what was done to it."""
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "F":
        raise BadImage("unsupported_mode")
    if image.mode.startswith("I"):  # grey of 16 bits; Pillow's own conversion would clip it at 255
        values = np.asarray(image).astype(np.int64)
        if values.min() < 0 or values.max() > 65535:
            raise BadImage("unsupported_mode")
        image = Image.fromarray(np.round(values / 257).astype(np.uint8))
        kinds.add("sixteen_bit")
    names = {"1": "grey", "L": "grey", "LA": "grey", "La": "grey", "P": "palette", "PA": "palette", "CMYK": "cmyk"}
    if image.mode in names:
        kinds.add(names[image.mode])
    elif image.mode not in ("RGB", "RGBA", "RGBa"):
        kinds.add("colour_space")
    if image.has_transparency_data:
        kinds.add("alpha")
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer).convert("RGB")
    return image.convert("RGB")


@dataclass(frozen=True)
class Decoded:
    """Some images of a list: their rows in it, ascending, and for each the pixels and the box they were cut from."""

    rows: NDArray[np.int64]  # (n,)
    images: NDArray[np.uint8]  # (n, 3, size, size)
    boxes: NDArray[np.float64]  # (n, 4)


def in_tasks(keys: Sequence[str]) -> list[Sequence[str]]:
    """Keys in groups for threads to decode: handing out every image by itself makes threads wait for each other."""
    return [keys[start : start + TASK] for start in range(0, len(keys), TASK)]


@contextmanager
def decoding(
    store: ImageStore, keys: Sequence[str], crop: Crop, size: int, report: Report, progress: Progress
) -> Iterator[Iterator[Decoded]]:
    """The images of `keys` in order, in chunks, decoded in threads; those left out are missing from `rows`.

    Threads begin when the block is entered and stay a few chunks ahead: labels are read, and images hashed and written,
    beside them.
    """

    def one(key: str) -> tuple[NDArray[np.uint8], Box, set[str]] | str:
        try:
            return decode(store.read(key), crop, size)
        except BadImage as verdict:
            return str(verdict)

    def submit(start: int) -> Iterator[tuple[NDArray[np.uint8], Box, set[str]] | str]:
        return chain.from_iterable(
            pool.map(lambda some: [one(key) for key in some], in_tasks(keys[start : start + chunk]))
        )

    def decoded() -> Iterator[Decoded]:
        for start in range(0, len(keys), chunk):
            ahead.append(submit(start + AHEAD * chunk))
            rows, images, boxes = [], [], []
            for row, result in enumerate(ahead.popleft(), start):
                if isinstance(result, str):
                    report.add(result, keys[row])
                    continue
                pixels, box, kinds = result
                for kind in sorted(kinds):
                    report.add(kind, keys[row])
                rows.append(row)
                images.append(pixels)
                boxes.append(box)
            if rows:
                yield Decoded(np.array(rows), np.stack(images), np.array(boxes))
            progress(min(start + chunk, len(keys)), len(keys))

    chunk = max(1, min(CHUNK, CHUNK_BYTES // (3 * size**2)))
    pool = ThreadPoolExecutor(min(16, os.cpu_count() or 1))
    ahead = deque(submit(start) for start in range(0, AHEAD * chunk, chunk))
    try:
        yield decoded()
    finally:
        pool.shutdown(cancel_futures=True)
