"""A pack: one data set at one size in one folder, images memory-mapped, labels beside them, a manifest that vouches.

A folder holds `images.npy` and one .npy per label, `names.json`, and `pack.json`, written last, with every array's
dtype, shape and SHA-256. The pack's hash is the SHA-256 of that manifest, so it says what is inside and depends on
nothing else: not on time, machine, path, or whether the images came from a folder or an archive.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mdebench.data.report import report_lines
from mdebench.errors import UserError

if TYPE_CHECKING:
    import torch

FORMAT = 1
SPLITS = ("train", "val", "test")
LANDMARKS = ("lefteye", "righteye", "nose", "leftmouth", "rightmouth")
NO_LANDMARKS, ANNOTATED, PSEUDO = 0, 1, 2
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

    @cached_property
    def names(self) -> list[str]:
        """The N original file names, read when first asked for."""
        return _read_names(self.path, len(self.images))

    def indices(self, split: str) -> NDArray[np.int64]:
        """Rows of one split, ascending; UserError for a name that is none of SPLITS."""
        if split not in SPLITS:
            raise UserError(f"There is no split '{split}': choose one of {', '.join(SPLITS)}.")
        return np.flatnonzero(self.split == SPLITS.index(split)).astype(np.int64)

    def digests(self, rows: NDArray[np.int64]) -> NDArray[np.uint64]:
        """A digest of the pixels of each of these images, (n,): see `image_digests`."""
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

        A GPU that has room for all images keeps them from the first call on.
        """
        import torch

        from mdebench.compute.devices import sent

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
        line = f"{name}: {images} ({splits}), {self.size}×{self.size}, pack {self.hash[:8]}"
        known = {"annotated": ANNOTATED, "pseudo": PSEUDO}
        whole = np.isfinite(self.landmarks).all(axis=(1, 2))
        counts = {word: int((whole & (self.landmark_source == source)).sum()) for word, source in known.items()}
        counts["with only some of the five points"] = int((~whole & (self.landmark_source != NO_LANDMARKS)).sum())
        parts = [f"{n:,} {word}" for word, n in counts.items() if n]
        parts += [f"{n:,} with points outside the crop"] if (n := int(outside_crop(self.landmarks).sum())) else []
        line = f"{line}; landmarks: {', '.join(parts)}" if parts else line
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
        if not (self.split == SPLITS.index("test")).any():
            lines.append("no test images: protocols measure on them, so nothing can be measured with this pack")
        lines += [f"crop: {self.info['crop']}; resize: {self.info['resize']}"]
        return lines + list(self.info["notes"]) + report_lines(self.info["report"])


def open_pack(path: Path | str) -> Pack:
    """Open a pack after cheap checks (manifest, shapes, file sizes); UserError says in one sentence what is wrong."""
    path = Path(path)
    info = _read_manifest(path)
    arrays = {name: _open_array(path, name, info["arrays"][name]) for name in ARRAYS}
    return Pack(path, info, **arrays)


def verify_pack(path: Path | str) -> list[str]:
    """Recompute every hash; returns the problems in words, empty when the pack is whole."""
    path = Path(path)
    try:
        pack = open_pack(path)
        names = pack.names
    except UserError as error:
        return [str(error)]
    problems = []
    for name in ARRAYS:
        if digest(getattr(pack, name)) != pack.info["arrays"][name]["sha256"]:
            problems.append(f"{path / name}.npy: the content is not what was written")
    if names_digest(names) != pack.info["names_sha256"]:
        problems.append(f"{path / 'names.json'}: the content is not what was written")
    return problems


def content_hash(info: dict[str, Any]) -> str:
    """SHA-256 over what a pack holds: its arrays' dtypes, shapes and digests, its file names and attribute names."""
    content = {key: info[key] for key in ("arrays", "names_sha256", "attribute_names")}
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _damaged(path: Path, what: str) -> UserError:
    return UserError(f"The pack {path} is damaged: {what}; prepare it again with --replace.")


def _read_manifest(path: Path) -> dict[str, Any]:
    file = path / "pack.json"
    if not path.is_dir():
        raise UserError(f"There is no pack at {path}: make one with `mdebench data prepare`.")
    if not file.is_file():
        raise UserError(f"{path} is not a pack: it has no pack.json (half-written, or another kind of folder).")
    try:
        info: dict[str, Any] = json.loads(file.read_text("utf-8"))
        version = info["format"]
        if version != FORMAT:
            raise UserError(
                f"The pack {path} has format {version!r}, this mdebench reads format {FORMAT}; prepare it again."
            )
        if set(info["arrays"]) != set(ARRAYS) or info["hash"] != content_hash(info):
            raise _damaged(path, "pack.json was altered")
        shape = info["arrays"]["images"]["shape"]
        expected = array_shapes(shape[0], shape[-1], len(info["attribute_names"]))
        if any(tuple(info["arrays"][name]["shape"]) != expected[name] for name in ARRAYS):
            raise _damaged(path, "its arrays do not fit together")
        if not all(isinstance(info[key], kind) for key, kind in (("notes", list), ("report", dict), ("crop", str))):
            raise _damaged(path, "pack.json was altered")
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise _damaged(path, f"pack.json cannot be read ({type(error).__name__})") from error
    except OSError as error:
        raise UserError(f"The pack {path} cannot be read: {error.strerror}.") from error
    return info


def array_shapes(count: int, size: int, attributes: int) -> dict[str, tuple[int, ...]]:
    """Shape of every array of a pack of `count` images with so many attributes."""
    tails: dict[str, tuple[int, ...]] = {"images": (3, size, size), "attributes": (attributes,), "landmarks": (5, 2)}
    return {name: (count, *tails.get(name, ())) for name in ARRAYS}


def _open_array(path: Path, name: str, entry: dict[str, Any]) -> NDArray[Any]:
    file = path / f"{name}.npy"
    try:
        with file.open("rb") as stream:
            np.lib.format.read_magic(stream)
            shape, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
            offset = stream.tell()
        if (list(shape), dtype.str, fortran) != (entry["shape"], ARRAYS[name][0], False):
            raise _damaged(path, f"{file.name} holds {dtype} {shape}, the manifest says {tuple(entry['shape'])}")
        expected = offset + dtype.itemsize * int(np.prod(shape))
        if file.stat().st_size != expected:
            raise _damaged(path, f"{file.name} has {file.stat().st_size:,} bytes where {expected:,} belong")
        array: NDArray[Any] = np.load(file, mmap_mode="r" if name == "images" else None)
    except FileNotFoundError as error:
        raise _damaged(path, f"{file.name} is missing") from error
    except ValueError as error:
        raise _damaged(path, f"{file.name} is not a numpy array") from error
    except OSError as error:
        raise UserError(f"The pack {path} cannot be read: {file.name}: {error.strerror}.") from error
    array.setflags(write=False)
    return array


def _read_names(path: Path, count: int) -> list[str]:
    try:
        names = json.loads((path / "names.json").read_text("utf-8"))
    except (OSError, ValueError) as error:
        raise _damaged(path, "names.json cannot be read") from error
    if not isinstance(names, list) or len(names) != count:
        raise _damaged(path, f"names.json does not hold {count:,} names")
    return [str(name) for name in names]


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
