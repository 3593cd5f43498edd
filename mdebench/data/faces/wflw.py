"""WFLW (Wu et al., CVPR 2018): 98 points a face, one face a line of a list, with a box and six flags.

The folder holds `WFLW_images/` (or `WFLW_images.tar.gz`) and `WFLW_annotations/`. A line of
`list_98pt_rect_attr_train.txt` and `…_test.txt` is 98 pairs x y, the corners of a rectangle, six flags of 0 and 1
(pose, expression, illumination, make-up, occlusion, blur), and the picture's path. Train 7,500 faces, test 2,500; a
tenth of train is val. The flags become attributes.
"""

from collections import Counter
from pathlib import Path

import numpy as np

from mdebench import files
from mdebench.data.faces.marked import Face, numbers, val_of_train, write_faces
from mdebench.data.report import Report
from mdebench.data.store import ARCHIVES, BadImage, open_store, safe_path
from mdebench.data.store.official import find, holds, tell_link
from mdebench.data.tables import decoded_text
from mdebench.data.writer import PackWriter, Progress
from mdebench.errors import UserError

LISTS = {0: "list_98pt_rect_attr_train.txt", 2: "list_98pt_rect_attr_test.txt"}  # index into SPLITS → its list
IMAGES = "WFLW_images"
EXPECTS = f"{IMAGES}/ (or {IMAGES}.tar.gz) and WFLW_annotations/ with {' and '.join(LISTS.values())}"
FLAGS = ("Pose", "Expression", "Illumination", "Makeup", "Occlusion", "Blur")  # in the order of a line
POINTS = 98
# Of `pack.LANDMARKS`. The eyes are the pupils, the last two of the 98, and no corners
# (openvinotoolkit/open_model_zoo, pull request 1782), left and right as one sees them.
FIVE = (96, 97, 54, 76, 82)
_ANNOTATIONS = "WFLW_annotations"
_FOLDERS = ("", _ANNOTATIONS, "list_98pt_rect_attr_train_test", f"{_ANNOTATIONS}/list_98pt_rect_attr_train_test")
_CELLS = 2 * POINTS + 4 + len(FLAGS) + 1


def write(writer: PackWriter, root: Path, progress: Progress) -> None:
    """Read WFLW below `root` into `writer`."""
    report, notes = writer.report, writer.info["notes"]
    where = find(root, (IMAGES, *(f"{IMAGES}{end}" for end in ARCHIVES)), ("", "WFLW"))
    if where is None:
        raise UserError(f"{root} has no {IMAGES}/ {holds(root)}; wflw needs {EXPECTS}.")
    tell_link(root, where, notes)
    faces: list[Face] = []
    met: Counter[str] = Counter()
    for split, name in LISTS.items():
        faces += _read_list(_need(root, name), split, met, report)
    store = open_store(where, report).meeting([face.picture for face in faces])
    for stray in sorted(store.members.keys() - {face.picture for face in faces}):
        report.add("unlisted", stray)
    # 10,000 faces lie in 6,551 pictures (wywu/LAB, issue 17): a picture has a line for each of its faces.
    notes.append(f"{len(faces):,} faces in {len(met):,} pictures, each cut out by its points")
    both = {face.picture for face in faces if face.split == 0} & {face.picture for face in faces if face.split == 2}
    if both:
        notes.append(f"{len(both):,} pictures have faces in train and in test, as the official lists have it")
    faces = val_of_train(faces, [face.picture for face in faces], notes)
    write_faces(writer, "wflw", store, faces, progress, FLAGS)


def _need(root: Path, name: str) -> Path:
    file = find(root, (name,), (*_FOLDERS, *(f"WFLW/{folder}" for folder in _FOLDERS if folder)))
    if file is None:
        raise UserError(f"{root} has no {name} {holds(root)}; wflw needs {EXPECTS}.")
    return file


def _read_list(file: Path, split: int, met: Counter[str], report: Report) -> list[Face]:
    """The faces of a list; lines that are none are told. ``met`` counts the faces of each picture.

    A face is named by its picture, the second one of it "…#2". Lines of `list_98pt_test/` have no rectangle and no
    flags, which is why those lists are not read: their faces are the same.
    """
    faces = []
    text, _ = decoded_text(files.read_bytes(file), str(file))
    for number, line in enumerate(text.splitlines(), start=1):
        cells = line.split()
        if not cells:
            continue
        values = numbers(cells[:-1])
        if len(cells) != _CELLS or values is None:
            report.add("bad_points", f"{file.name}, line {number}")
            continue
        try:
            picture = safe_path(cells[-1])
        except BadImage as verdict:
            report.add(str(verdict), cells[-1])
            continue
        # Points may lie beyond the picture, and are kept there. The rectangle is not the box around the points, which
        # networks are commonly given instead (open-mmlab/mmpose, issue 1415), as here.
        points = np.array(values[: 2 * POINTS]).reshape(POINTS, 2)
        flags = values[2 * POINTS + 4 :]
        if not set(flags) <= {0, 1}:
            report.add("bad_value", f"{picture} (flags of {file.name}, line {number})")
        marks = tuple(int(flag) if flag in (0, 1) else -1 for flag in flags)
        met[picture] += 1
        name = picture if met[picture] == 1 else f"{picture}#{met[picture]}"
        faces.append(Face(name, picture, points, points[list(FIVE)], split, marks))
    return faces
