"""A pack: one data set at one size in one folder, images memory-mapped, labels beside them, a manifest that vouches.

A folder holds `images.npy` and one .npy per label, `names.json`, and `pack.json`, written last, with every array's
dtype, shape and SHA-256, and a checksum of its own. Labels are held to theirs when a pack is opened, images when they
are first used. The pack's hash is the SHA-256 of what is inside, and depends on nothing else: not on time, machine,
path, or whether the images came from a folder or an archive.
"""

import hashlib
import json
import math
import os
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mdebench import files
from mdebench.data.report import report_lines
from mdebench.errors import UserError
from mdebench.words import shown, words

if TYPE_CHECKING:
    import torch

FORMAT = 1
WAY_ON = "prepare the pack again with --replace"
SPLITS = ("train", "val", "test")
LANDMARKS = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
NO_LANDMARKS, ANNOTATED, PSEUDO = 0, 1, 2
NO_SEGMENT = 255
_NAMES = """
    5_o_Clock_Shadow Arched_Eyebrows Attractive Bags_Under_Eyes Bald Bangs Big_Lips Big_Nose Black_Hair Blond_Hair
    Blurry Brown_Hair Bushy_Eyebrows Chubby Double_Chin Eyeglasses Goatee Gray_Hair Heavy_Makeup High_Cheekbones Male
    Mouth_Slightly_Open Mustache Narrow_Eyes No_Beard Oval_Face Pale_Skin Pointy_Nose Receding_Hairline Rosy_Cheeks
    Sideburns Smiling Straight_Hair Wavy_Hair Wearing_Earrings Wearing_Hat Wearing_Lipstick Wearing_Necklace
    Wearing_Necktie Young"""
ATTRIBUTES: tuple[str, ...] = tuple(_NAMES.split())

# Array → dtype on disk and the value of a row that says nothing.
ARRAYS: dict[str, tuple[str, float]] = {
    "images": ("|u1", 0),
    "attributes": ("|i1", -1),
    "landmarks": ("<f4", np.nan),
    "landmark_source": ("|u1", NO_LANDMARKS),
    "identity": ("<i4", -1),
    "label": ("<i4", -1),
    "split": ("|u1", 0),
}
# What few packs have: those without them hold nothing of it, and their hashes are as they were before there was any.
FURTHER: dict[str, tuple[str, float]] = {
    "clip": ("<i4", -1),
    "segments": ("|u1", NO_SEGMENT),
    "age": ("<f4", np.nan),
    "pairs": ("<i4", -1),
}


@dataclass(frozen=True, eq=False)
class Pack:
    """An open pack; every array is read only."""

    path: Path
    info: dict[str, Any]  # pack.json
    images: NDArray[np.uint8]  # (N, 3, size, size), memory-mapped
    attributes: NDArray[np.int8]  # (N, A): 1, 0, or -1 unknown
    landmarks: NDArray[np.float32]  # (N, 5, 2): x, y relative to the crop, [0, 1] inside it; NaN unknown
    landmark_source: NDArray[np.uint8]  # (N,): 0 none, 1 annotated, 2 pseudo (predicted)
    identity: NDArray[np.int32]  # (N,): -1 unknown
    label: NDArray[np.int32]  # (N,): class, -1 unknown
    split: NDArray[np.uint8]  # (N,): index into SPLITS
    clip: NDArray[np.int32]  # (N,): the clip it is a frame of, its frames one after the other; -1 none
    segments: NDArray[np.uint8]  # (N, size, size): the class of each pixel in `segment_names`; 255 unknown
    age: NDArray[np.float32]  # (N,): in years; NaN unknown
    pairs: NDArray[np.int32]  # (P, 4): two rows, whether they show one person (1, 0), the fold (0 to 9); P may be 0

    @property
    def name(self) -> str:
        """The folder's name, such as 'celeba64'."""
        return self.path.name

    @property
    def size(self) -> int:
        """Height and width of the images in pixels."""
        return int(self.images.shape[-1])

    @property
    def hash(self) -> str:
        """SHA-256 (hex) of the content."""
        return str(self.info["hash"])

    @property
    def attribute_names(self) -> tuple[str, ...]:
        """Names of the columns of `attributes`."""
        return tuple(self.info["attribute_names"])

    @property
    def segment_names(self) -> tuple[str, ...]:
        """What the classes of `segments` are called; empty where there are none."""
        return tuple(self.info.get("segment_names", ()))

    @cached_property
    def names(self) -> list[str]:
        """The N original file names, read when first asked for."""
        return _read_names(self.path, self.info)

    def indices(self, split: str) -> NDArray[np.int64]:
        """Rows of one split, ascending; UserError for a name that is none of SPLITS."""
        if split not in SPLITS:
            raise UserError(f"There is no split '{split}': choose one of {', '.join(SPLITS)}.")
        return np.flatnonzero(self.split == SPLITS.index(split)).astype(np.int64)

    def hold_images(self) -> None:
        """Hold the images to their SHA-256, once in a process, which reads them all; Damaged when they are others.

        Whoever asks for images has it done; a command that makes something first does better to ask before.
        """
        if "arrays" not in self.info:  # never written: noise to time something with
            return
        file, expected = self.path / "images.npy", self.info["arrays"]["images"]["sha256"]
        state = file.stat() if file.exists() else None  # whoever replaces a pack leaves the old one to its readers
        content = (str(file.absolute()), expected, state and (state.st_ino, state.st_size, state.st_mtime_ns))
        if content not in _HELD:
            _hold(file, self.images, expected)
            _HELD.add(content)

    def digests(self, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
        """A digest of the pixels of each of these images, (n,): see `image_digests`."""
        self.hold_images()
        pieces = [image_digests(self.images[rows[i : i + 1024]]) for i in range(0, len(rows), 1024)]
        return np.concatenate([np.empty(0, np.uint64), *pieces])

    def split_digests(self, split: str) -> NDArray[np.uint64]:
        """Those of one split, in its order, made when first asked for."""
        if split not in self._digests:
            self._digests[split] = self.digests(self.indices(split))
        return self._digests[split]

    @cached_property
    def _digests(self) -> dict[str, NDArray[np.uint64]]:
        return {}

    def batch(self, idx: NDArray[np.int64], device: "torch.device | None" = None) -> "torch.Tensor":
        """Images of the given rows as a (n, 3, size, size) uint8 tensor of its own memory, on a device (the CPU).

        A GPU that has room for all images keeps them from the first call on. Damaged, as `hold_images` has it.
        """
        import torch

        from mdebench.compute.devices import sent

        self.hold_images()
        if device is None or device.type == "cpu":
            return torch.from_numpy(np.take(self.images, idx, axis=0))
        if (whole := self._whole(device)) is not None:
            return whole[sent(torch.from_numpy(idx), device)]
        return sent(torch.from_numpy(np.take(self.images, idx, axis=0)), device)

    def _whole(self, device: "torch.device") -> "torch.Tensor | None":
        """All images on a GPU, moved there once; None where they would take more than half of its free memory."""
        import torch

        if device not in self._on_device:
            fits = self.images.nbytes <= torch.cuda.mem_get_info(device)[0] / 2
            self._on_device[device] = torch.from_numpy(np.array(self.images)).to(device) if fits else None
        return self._on_device[device]

    @cached_property
    def _on_device(self) -> "dict[torch.device, torch.Tensor | None]":
        return {}

    def footnote(self) -> str:
        """What every table made from this pack must say about it, in one line."""
        count, of = len(self.images), self.info.get("of")
        images = f"{count:,} of {of:,} images" if of else f"{count:,} images"
        splits = ", ".join(f"{len(self.indices(split)):,} {split}" for split in SPLITS)
        source = self.info.get("source", "")  # what the name does not say
        name = self.name if self.name.startswith(source) else f"{self.name} (from {source})"
        if moved := self.info.get("extra_test"):
            splits += f", {moved['images']:,} of {moved['people']:,} people moved there from train by --extra-test"
        line = f"{name}: {images} ({splits}), {self.size}×{self.size}, pack {self.hash[:8]}"
        known = {"annotated": ANNOTATED, "pseudo": PSEUDO}
        whole = np.isfinite(self.landmarks).all(axis=(1, 2))
        counts = {word: int((whole & (self.landmark_source == source)).sum()) for word, source in known.items()}
        counts["with only some of the five points"] = int((~whole & (self.landmark_source != NO_LANDMARKS)).sum())
        parts = [f"{n:,} {word}" for word, n in counts.items() if n]
        parts += [f"{n:,} with points outside the crop"] if (n := int(outside_crop(self.landmarks).sum())) else []
        line = shown(f"{line}; landmarks: {', '.join(parts)}" if parts else line)
        kept = self.info.get("report", {}).get("kept_twin", {}).get("count", 0)
        return f"{line}; {kept:,} images of val or test are also in train or val (--keep-duplicates)" if kept else line

    @property
    def keeps_duplicates(self) -> bool:
        """Whether it was made to keep images of val and test that are in train or val as well."""
        return bool(self.info.get("options", {}).get("keep_duplicates"))

    def summary(self) -> list[str]:
        """The pack in sentences for a person: footnote, splits, labels, how it was cut, notes, and what was wrong."""
        lines = [self.footnote()]
        if self.attribute_names:
            lines.append(f"attributes: {len(self.attribute_names)}, {(self.attributes >= 0).mean():.1%} known")
        for word, values in (("identities", self.identity), ("classes", self.label)):
            if (values >= 0).any():
                lines.append(f"{word}: {len(np.unique(values[values >= 0])):,}")
        if self.landmark_source.any():
            whole = int(np.isfinite(self.landmarks).all(axis=(1, 2)).sum())
            lines.append(f"landmarks: {whole:,} face{'s' * (whole != 1)} with all five points")
        if (framed := self.clip[self.clip >= 0]).size:
            lines.append(f"clips: {len(np.unique(framed)):,}, of {len(framed):,} frames")
        if self.segment_names:
            lines.append(f"segments: {words(self.segment_names)}")
        if (ages := self.age[np.isfinite(self.age)]).size:
            lines.append(f"ages: {len(ages):,}, from {ages.min():g} to {ages.max():g} years")
        if len(self.pairs):
            same, folds = int(self.pairs[:, 2].sum()), len(np.unique(self.pairs[:, 3]))
            lines.append(f"pairs: {len(self.pairs):,} in {folds} folds, {same:,} of them of one person")
        if not (self.split == SPLITS.index("test")).any():
            lines.append("no test images: protocols measure on them, so nothing can be measured with this pack")
        lines += [f"crop: {self.info['crop']}; resize: {self.info['resize']}"]
        return [shown(line) for line in lines + self.info["notes"] + report_lines(self.info["report"])]


def open_pack(path: Path | str) -> Pack:
    """Open a pack whose manifest, shapes, file sizes and labels are what was written; UserError says what is wrong.

    Its images are only held to their digest when they are used.
    """
    path = Path(path)
    info = read_manifest(path)
    arrays = {name: _open_array(path, name, entry) for name, entry in info["arrays"].items()}
    count, _, size, _ = arrays["images"].shape
    return Pack(path, info, **{**unlabelled(count, size, len(info["attribute_names"])), **arrays})


def verify_pack(path: Path | str) -> list[str]:
    """Recompute every hash; returns the problems in sentences, empty when the pack is whole."""
    path = Path(path)
    problems, arrays = [], {}
    try:
        info = read_manifest(path)
    except UserError as error:
        return [str(error)]
    for name, entry in info["arrays"].items():
        try:
            arrays[name] = _open_array(path, name, entry, whole=True)
        except UserError as error:
            problems.append(str(error))
    try:
        _read_names(path, info)
    except UserError as error:
        problems.append(str(error))
    counts = [int((arrays["split"] == i).sum()) for i in range(len(SPLITS))] if "split" in arrays else None
    if counts and list(info.get("splits", dict(zip(SPLITS, counts))).values()) != counts:
        problems.append(str(_damaged(path, "pack.json counts other splits than it has")))
    return problems


def content_hash(info: dict[str, Any]) -> str:
    """SHA-256 over what a pack holds: its arrays' dtypes, shapes and digests, its file names and attribute names."""
    content = {key: info[key] for key in ("arrays", "names_sha256", "attribute_names")}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _damaged(path: Path, what: str) -> files.Damaged:
    return files.Damaged(f"The pack {path} is damaged: {what}; {WAY_ON}")


def read_manifest(path: Path) -> dict[str, Any]:
    """pack.json, with the checksum of its fields if it has one."""
    file = path / "pack.json"
    if not path.is_dir():
        old = path.with_name(f".{path.name}.old")
        cut_short = f" (its replacement was cut short: what it replaced is {old})" if old.is_dir() else ""
        raise UserError(f"There is no pack at {path}{cut_short}: make one with `mdebench data prepare`.")
    if not file.exists():
        raise UserError(f"{path} is not a pack: it has no pack.json (half-written, or another kind of folder).")
    with files.reading(file, WAY_ON):
        info: dict[str, Any] = _read_json(file)
        try:
            if info["format"] != FORMAT:
                raise UserError(
                    f"The pack {path} has format {info['format']!r}, this mdebench reads format {FORMAT}; prepare it "
                    "again."
                )
            _check_manifest(path, info)
        except (LookupError, TypeError, AttributeError) as error:
            raise ValueError("it cannot be read as what a pack says of itself") from error
    return info


def _check_manifest(path: Path, info: dict[str, Any]) -> None:
    """Damaged unless it is what was written; a LookupError, TypeError or AttributeError says as much."""
    with suppress(ValueError):
        files.unsealed(info)
        fits = ARRAYS.keys() <= info["arrays"].keys() <= ARRAYS.keys() | FURTHER.keys()
        if fits and info["hash"] == content_hash(info) and _says_what_it_should(info):
            shape = info["arrays"]["images"]["shape"]
            pairs = info["arrays"].get("pairs", {"shape": [0]})["shape"][0]
            expected = array_shapes(shape[0], shape[-1], len(info["attribute_names"]), pairs)
            if any(tuple(entry["shape"]) != expected[name] for name, entry in info["arrays"].items()):
                raise _damaged(path, "its arrays do not fit together")
            return
    raise _damaged(path, "pack.json was altered")


def _says_what_it_should(info: dict[str, Any]) -> bool:
    """Whether the fields that are shown are of their kinds: older packs have no checksum of them."""
    kinds = {"notes": list, "report": dict, "crop": str, "resize": str, "source": str, "options": dict, "splits": dict}
    counts = {"images": 0, "people": 0}
    entries = {"outcome": str, "meaning": str, "count": int, "names": list}
    return (
        all(isinstance(info.get(key, kind()), kind) for key, kind in kinds.items())
        and {"notes", "report", "crop", "resize"} <= info.keys()
        and isinstance(info.get("of", 0), int)
        and all(isinstance(info.get("extra_test", counts)[key], int) for key in counts)
        and all(isinstance(text, str) for text in [*info["notes"], *info["attribute_names"]])
        and all(isinstance(text, str) for text in info.get("segment_names", []))
        and all(isinstance(entry[key], kind) for entry in info["report"].values() for key, kind in entries.items())
    )


def array_shapes(count: int, size: int, attributes: int, pairs: int = 0) -> dict[str, tuple[int, ...]]:
    """Shape of every array of a pack of `count` images with so many attributes, and so many pairs of them."""
    tails: dict[str, tuple[int, ...]] = {"images": (3, size, size), "attributes": (attributes,), "landmarks": (5, 2)}
    tails["segments"] = (size, size)
    return {name: (count, *tails.get(name, ())) for name in (*ARRAYS, *FURTHER)} | {"pairs": (pairs, 4)}


def unlabelled(count: int, size: int, attributes: int = 0) -> dict[str, NDArray[Any]]:
    """Every array of a pack that says nothing, the images among them; they take no room."""
    shapes = array_shapes(count, size, attributes)
    return {
        name: np.broadcast_to(np.array(unknown, dtype), shapes[name])
        for name, (dtype, unknown) in (ARRAYS | FURTHER).items()
    }


def _open_array(path: Path, name: str, entry: dict[str, Any], whole: bool = False) -> NDArray[Any]:
    """One of the arrays, held to what the manifest says of it; of the images to all but their digest, unless whole."""
    file = path / f"{name}.npy"
    try:
        with files.reading(file, WAY_ON), files.regular(file) as stream:
            shape, fortran, dtype = _header(stream)
            if (list(shape), dtype.str, fortran) != (entry["shape"], (ARRAYS | FURTHER)[name][0], False):
                raise _damaged(path, f"{file.name} holds {dtype} {shape}, the manifest says {tuple(entry['shape'])}")
            offset, size = stream.tell(), os.fstat(stream.fileno()).st_size
            expected = offset + dtype.itemsize * math.prod(shape)
            if size != expected:
                raise _damaged(path, f"{file.name} has {size:,} bytes where {expected:,} belong")
            if name == "images":
                array: NDArray[Any] = np.memmap(stream, dtype, "r", offset, tuple(shape))
            else:
                array = np.frombuffer(stream.read(), dtype).reshape(shape)
            array.setflags(write=False)
    except FileNotFoundError as error:
        raise _damaged(path, f"{file.name} is missing") from error
    if whole or name != "images":
        _hold(file, array, entry["sha256"])
    return array


def _header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Shape, order and dtype at the beginning of an .npy file; of a damaged one numpy raises almost anything."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a header that numpy has to guess at is none of ours
        np.lib.format.read_magic(stream)
        return np.lib.format.read_array_header_1_0(stream)


_HELD: set[tuple[object, ...]] = set()  # the images that were held to their digests in this process


def _hold(file: Path, array: NDArray[Any], expected: str) -> None:
    if digest(array) != expected:
        raise files.Damaged(f"{file} is damaged (the content is not what its checksum says); {WAY_ON}")


def _read_json(file: Path) -> Any:
    try:
        return json.loads(files.read_bytes(file).decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"it cannot be read: {str(error) or type(error).__name__}") from error


def _read_names(path: Path, info: dict[str, Any]) -> list[str]:
    file = path / "names.json"
    try:
        with files.reading(file, WAY_ON):
            names: list[str] = _read_json(file)
            if len(names) != info["arrays"]["images"]["shape"][0] or names_digest(names) != info["names_sha256"]:
                raise ValueError("the content is not what its checksum says")
    except FileNotFoundError as error:
        raise _damaged(path, f"{file.name} is missing") from error
    return names


def digest(array: NDArray[Any]) -> str:
    """SHA-256 (hex) of an array's bytes, read piece by piece."""
    total = hashlib.sha256()
    for start in range(0, len(array), 1024):
        total.update(np.ascontiguousarray(array[start : start + 1024]).data)
    return total.hexdigest()


def image_digests(images: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """The first 64 bits of the SHA-256 of each image's pixels (n, 3, H, W) → (n,).

    Equal pixels have equal digests; two different images of a million share one with a probability of 3e-8.
    """
    found = b"".join(hashlib.sha256(image.data).digest()[:8] for image in np.ascontiguousarray(images, np.uint8))
    return np.frombuffer(found, np.dtype("<u8")).astype(np.uint64)


def find_twins(
    digests: NDArray[np.uint64], split: NDArray[np.integer]
) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.bool_]]:
    """Of each image (N,): the first of its twins in the earliest split (itself where it is that), whether it leaks
    (that one stands in an earlier split), and whether it repeats one of its own.

    Splits stand in the order in which they are used: train learns, val chooses, test judges.
    """
    order = np.lexsort((np.arange(len(split)), split, digests))  # equal digests together, the earliest first
    begins = np.r_[True, digests[order][1:] != digests[order][:-1]][: len(order)]
    earliest = np.empty(len(order), np.int64)
    earliest[order] = order[begins][np.cumsum(begins) - 1]
    leaks = split[earliest] < split
    return earliest, leaks, ~leaks & (earliest != np.arange(len(split)))


def outside_crop(landmarks: NDArray[np.floating]) -> NDArray[np.bool_]:
    """Which of the images (N,) have a known landmark outside the crop, of (N, 5, 2) relative to it."""
    return np.asarray(((landmarks < 0) | (landmarks > 1)).any(axis=(1, 2)))


def names_digest(names: Sequence[str]) -> str:
    """SHA-256 (hex) of the file names."""
    return hashlib.sha256(json.dumps(names).encode()).hexdigest()
