"""300-W (Sagonas et al. 2013 and 2016): 68 points a face, each face a picture with a .pts file beside it.

The folder holds the parts as they are unpacked: `afw/`, `helen/` and `lfpw/` with `trainset/` and `testset/`, `ibug/`,
and, if it is there, the challenge's own test set `300W/` with `01_Indoor/` and `02_Outdoor/`; any of them will do.
Split after Ren et al. (CVPR 2014), whom everybody followed: train is afw and the two training sets (3,148), test the
two test sets ("common", 554) and ibug ("challenging", 135). The challenge's own 600 are test, too; a tenth of train is
val.

A face's file says where its points are: an eye is the mean of its six, the nose is its tip.
"""

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mdebench.data.faces.marked import FIVE_OF_68, Face, Points, numbers, val_of_train, write_faces
from mdebench.data.report import Report
from mdebench.data.store import PICTURES, BadImage, ImageStore, is_archive, open_store, read_member
from mdebench.data.store.official import holds
from mdebench.data.writer import PackWriter, Progress
from mdebench.errors import UserError

EXPECTS = "afw/, helen/, lfpw/, ibug/ or 300W/ with pictures and a .pts file beside each (the official 300-W files)"
POINTS = 68
# Which parts are which: the training and test sets of helen and lfpw are folders of these names.
_TRAIN, _TEST = {"afw", "trainset"}, {"ibug", "testset", "01_indoor", "02_outdoor"}
# Files as 300-W has them: "version: 1", "n_points:  68", and the points between braces, one a line. The space after the
# colon is one or two, lines may end in tabs, and tools pass over whatever stands before the brace
# (menpo/menpo: menpo/io/input/landmark.py; opencv/opencv_contrib: face/facemark.hpp).
_BODY = re.compile(r"\{([^{}]*)\}")
_COUNT = re.compile(r"n_points\s*:\s*(\d+)", re.IGNORECASE)
# helen and afw name a picture PHOTO_FACE, and have the same photograph once for each of its annotated faces
# ("134212_1.jpg", "134212_2.jpg"): 337 pictures of AFW's 205 photographs (yinguobing/facial-landmark-dataset, issue 4;
# the-house-of-black-and-white/morghulis, issue 1). A hash of the name would part them. lfpw's "image_0001" and ibug's
# "image_003_1" begin with no number of a photograph.
_PHOTO = re.compile(r"(\d{4,})_\d+")


def write(writer: PackWriter, root: Path, progress: Progress) -> None:
    """Read 300-W below `root` into `writer`."""
    report, notes = writer.report, writer.info["notes"]
    if root.is_dir() and (packed := sorted(path.name for path in root.iterdir() if is_archive(path))):
        raise UserError(f"{root} holds {', '.join(packed)}: unpack them there, each into a folder of its name.")
    store = open_store(root, report)
    every = {picture: points for picture, points in _pairs(store, report).items() if _split(picture) is not None}
    if not every:
        raise UserError(f"{root} has no pictures with .pts files of 300-W {holds(root)}; 300w needs {EXPECTS}.")
    faces = []
    for picture, file in sorted(every.items()):
        try:
            points = read_points(read_member(store.read, store.member(file)))
        except BadImage as verdict:
            report.add(str(verdict), f"{file} ({verdict.detail})" if verdict.detail else file)
            continue
        split = _split(picture)
        assert split is not None
        five = np.stack([points[part].mean(axis=0) for part in FIVE_OF_68])
        faces.append(Face(picture, picture, points, five, split))
    counts = [f"{sum(_part(face.picture) == part for face in faces):,} {part}" for part in _parts(faces)]
    notes.append(f"parts: {', '.join(counts)}")
    faces = val_of_train(faces, [_photo(face.picture) for face in faces], notes)
    write_faces(writer, "300w", store, faces, progress)


def read_points(data: bytes) -> Points:
    """The 68 points (68, 2) of a .pts file, in pixels counted from 0; BadImage('bad_points') says what is wrong.

    The file counts pixels from 1, as Matlab does: menpo subtracts 1 and says so, while the lists (.csv) by which many
    networks are trained are one further pixel off (FacePerceiver/FaRL, farl/datasets/ibug300w.py subtracts 2).
    """
    text = data.decode("utf-8-sig", errors="replace")
    body, said = _BODY.search(text), _COUNT.search(text)
    if body is None:
        raise BadImage("bad_points", "no points between braces")
    values = numbers(body[1].split())
    if values is None:
        raise BadImage("bad_points", "a point is no pair of numbers")
    count = len(values) / 2
    if said is not None and int(said[1]) != count:
        raise BadImage("bad_points", f"{count:g} points where it announces {said[1]}")
    if count != POINTS:
        raise BadImage("bad_points", f"{count:g} points and not {POINTS}")
    return np.array(values).reshape(POINTS, 2) - 1


@dataclass(frozen=True)
class _Files:
    pictures: dict[str, str]  # name without ending → key
    points: dict[str, str]


def _pairs(store: ImageStore, report: Report) -> dict[str, str]:
    """Picture → the file of its points; pictures without, files without, and mirrored copies are told."""
    found = _Files({}, {})
    for key in sorted(store.members):
        stem, ending = _stem(key)
        if ending == ".pts":
            found.points[stem] = key
        elif ending in PICTURES:  # lfpw's are PNG, all others JPEG (yinguobing/facial-landmark-dataset, issue 2)
            # dlib's edition of 300-W holds a mirrored copy of each training picture, "…_mirror.jpg", made to train its
            # predictor (davisking/dlib, issue 1003); the data set itself has none.
            if stem.endswith("_mirror"):
                report.add("mirrored", key)
            elif stem in found.pictures:
                report.add("duplicate", key)
            else:
                found.pictures[stem] = key
    for stem, key in found.pictures.items():
        if _split(key) is None:
            report.add("no_split", key)
        elif stem not in found.points:
            report.add("bad_points", f"{key} (no .pts file beside it)")
    for stem, key in found.points.items():
        if stem not in found.pictures and not stem.endswith("_mirror"):
            report.add("missing_file", f"the picture of {key}")
    return {key: found.points[stem] for stem, key in found.pictures.items() if stem in found.points}


def _stem(key: str) -> tuple[str, str]:
    """A file's path without its ending and without spaces before a number, in small letters, and the ending.

    One name of the official ibug has a space, "image_092 _01"; copies without it are about, and a picture of either
    name meets its points of the other (FacePerceiver/FaRL, farl/datasets/ibug300w.py).
    """
    stem, dot, ending = key.lower().rpartition(".")
    return stem.replace(" _", "_"), dot + ending


def _split(picture: str) -> int | None:
    """0 train, 2 test; None for a picture that lies in no known part."""
    folders = set(picture.lower().split("/")[:-1])
    return 0 if folders & _TRAIN else 2 if folders & _TEST else None


def _part(picture: str) -> str:
    """The folder that decides, with the one around it where that is a training or test set: 'helen/testset'."""
    *folders, _ = picture.lower().split("/")
    place = next(place for place, folder in enumerate(folders) if folder in _TRAIN | _TEST)
    return "/".join(folders[max(0, place - folders[place].endswith("set")) : place + 1])


def _parts(faces: list[Face]) -> list[str]:
    return sorted({_part(face.picture) for face in faces})


def _photo(picture: str) -> str:
    name = picture.rpartition("/")[2].rpartition(".")[0]
    photo = _PHOTO.fullmatch(name)
    return f"photograph {photo[1]}" if photo else picture
