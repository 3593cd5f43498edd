"""FFHQ (Karras, Laine and Aila, CVPR 2019): 70,000 aligned squares from Flickr, numbered, a folder for each thousand.

The official validation images are test here, as there are no others: numbers from 60,000 on. A tenth of the official
training images is val, by a hash of the number. `ffhq-dataset-v2.json`, if it is there, says as much of each image, and
where 68 points of the face are: five of them become landmarks. They are predictions of dlib, not annotations. The crop
is the whole square.
"""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdebench import files
from mdebench.data import labels
from mdebench.data.decode import RESIZE, whole_square
from mdebench.data.faces.marked import FIVE_OF_68
from mdebench.data.pack import NO_LANDMARKS, PSEUDO, outside_crop
from mdebench.data.report import Report
from mdebench.data.store import ARCHIVES, PICTURES, ImageStore, by_name, open_store
from mdebench.data.store.official import find, holds, tell_link
from mdebench.data.workers import decoding
from mdebench.data.writer import PackWriter, Progress
from mdebench.errors import UserError

IMAGES = ("images1024x1024", "thumbnails128x128", "images")
JSON = "ffhq-dataset-v2.json"
EXPECTS = f"images1024x1024/ or thumbnails128x128/ (folders or archives of numbered squares), if possible {JSON}"
FOLDERS = ("", "ffhq", "ffhq-dataset")
TRAINING, ALL = 60_000, 70_000  # README of NVlabs/ffhq-dataset: "the first 60,000 images to be used for training"
SPLITS = {"training": 0, "validation": 2}  # category → index into SPLITS of the pack
# Its 68 points are dlib's: the eye that recreate_aligned_images of NVlabs/ffhq-dataset (download_ffhq.py) calls left is
# on the left of the picture, as CelebA's is, so the person's right one.
# "00123.png"; in archives of StyleGAN2-ADA and its followers "img00000123.png" (NVlabs/stylegan2-ada-pytorch, issue
# 18), where folders are no classes either.
_NUMBER = re.compile(r"(?:img)?([0-9]{1,8})", re.IGNORECASE)


def write(writer: PackWriter, root: Path, progress: Progress) -> None:
    """Read FFHQ below `root` into `writer`."""
    report, notes = writer.report, writer.info["notes"]
    where = _images_of(root, notes)
    tell_link(root, where, notes)
    store = open_store(where, report)
    of_number = _numbered(store, report)
    numbers = sorted(of_number)
    keys = [of_number[number] for number in numbers]
    file = find(root, (JSON,), FOLDERS)
    described = read_json(file) if file is not None else {}
    if file is None:
        notes.append(f"no {JSON}: no landmarks, and the partition is by the number of the image")
    split = _split(numbers, described, keys, report)
    official = [number for number, part in zip(numbers, split) if part == 0]
    split[split == 0] = labels.divided([str(number) for number in official], labels.OF_TRAIN)
    five = np.array([_five(described.get(number, {})) for number in numbers]).reshape(-1, 5, 2)
    known = np.isfinite(five).all(axis=(1, 2))
    if file is not None:
        for kind, which in (("no_landmarks", ~known), ("outside_crop", outside_crop(five))):
            for row in np.flatnonzero(which & (split < 3)):
                report.add(kind, keys[row])
        notes.append("landmarks are predictions of dlib, not annotations")
    placed = np.flatnonzero(split < 3)
    keys, split, five, known = [keys[row] for row in placed], split[placed], five[placed], known[placed]
    writer.info |= {
        "source": "ffhq",
        "options": {},
        "of": ALL,
        "crop": "none: the whole square",
        "resize": RESIZE,
    }
    notes.append(
        "test is the official validation images; a tenth of the official training images, chosen by a hash, is val"
    )
    with decoding(store, keys, whole_square, writer.size, report, progress) as parts:
        for part in parts:
            rows = part.rows
            writer.add(
                part.images,
                [by_name(keys[row]) for row in rows],
                split[rows],
                landmarks=five[rows],
                landmark_source=np.where(known[rows], PSEUDO, NO_LANDMARKS),
            )


def read_json(file: Path) -> dict[int, dict[str, Any]]:
    """Number → {"category", "image": {"pixel_size", "face_landmarks" (68, 2)}} of the official description.

    Points stand there twice, of the square and of the photograph it was cut from (`in_the_wild`): only the first are
    kept, as the file has 255 MB of text, which would be many times that in memory.
    """
    try:
        found = json.loads(files.read_bytes(file), object_hook=_slim)
        return {int(number): item for number, item in found.items() if isinstance(item, dict)}
    except (ValueError, RecursionError, AttributeError) as error:
        raise UserError(f"{file} is not the official description ({type(error).__name__}): fetch it again.") from error


def _slim(item: dict[str, Any]) -> Any:
    """What is needed of an object of the description."""
    if "face_quad" in item:  # of the photograph
        return None
    if "face_landmarks" in item:
        item["face_landmarks"] = np.array(item["face_landmarks"], np.float32)
    return {key: value for key, value in item.items() if key not in ("metadata", "thumbnail", "file_url")}


def _five(item: dict[str, Any]) -> NDArray[np.float64]:
    """(5, 2) landmarks relative to the square, NaN unknown. They are in pixels of the 1024×1024 square, also where the
    thumbnails are read, of which the description has no points of their own.
    """
    image = item.get("image") or {}
    points, size = image.get("face_landmarks"), image.get("pixel_size", (1024, 1024))
    if points is None or points.shape != (68, 2):
        return np.full((5, 2), np.nan)
    return np.stack([points[part].mean(axis=0) for part in FIVE_OF_68]) / np.array(size, np.float64)


def _split(
    numbers: list[int], described: dict[int, dict[str, Any]], keys: list[str], report: Report
) -> NDArray[np.uint8]:
    """(n,) 0 for official training images, 2 for validation, 255 for numbers that FFHQ does not have."""
    split = np.array([0 if number < TRAINING else 2 if number < ALL else 255 for number in numbers], np.uint8)
    for row, number in enumerate(numbers):
        if described:
            split[row] = SPLITS.get(described.get(number, {}).get("category", ""), 255)
        if split[row] == 255:
            report.add("unlisted", keys[row])
    return split


def _numbered(store: ImageStore, report: Report) -> dict[int, str]:
    """Number → key of each picture of a store; UserError where two have the same one."""
    found: dict[int, str] = {}
    for key in sorted(store.members):
        name = key.rpartition("/")[2]
        match = _NUMBER.fullmatch(name.rpartition(".")[0])
        if not name.lower().endswith(PICTURES):
            continue  # LICENSE.txt lies among them
        if match is None:
            report.add("odd_name", key)
        elif int(match[1]) in found:
            raise UserError(
                f"{store.where} has two images of number {int(match[1])} ({found[int(match[1])]}, {key}): give the "
                "folder of one size."
            )
        else:
            found[int(match[1])] = key
    return found


def _images_of(root: Path, notes: list[str]) -> Path:
    """The folder or archive of the squares: an official name, or `root` itself if it holds numbered pictures."""
    if root.is_file():
        return root
    found = [each for name in IMAGES for end in ("", *ARCHIVES) if (each := find(root, (name + end,), FOLDERS))]
    if len(found) > 1:
        notes.append(f"{found[0].name} was read, not {found[1].name}")
    if found:
        return found[0]
    thousands = [path for path in sorted(root.iterdir()) if re.fullmatch("[0-9]{5}", path.name.partition(".")[0])]
    if thousands:
        return root
    raise UserError(f"{root} has neither images1024x1024/ nor thumbnails128x128/ {holds(root)}; ffhq needs {EXPECTS}.")
