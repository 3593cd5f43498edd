"""COFW (Burgos-Artizzu, Perona and Dollár, ICCV 2013): faces occluded by hands, hair and cups, 29 points each.

The folder holds `COFW_train_color.mat` and `COFW_test_color.mat` (or the grey ones without `_color`), whose cells are
the pictures: 1,345 to train, 507 to test; a tenth of train is val. The official files are of MATLAB 7.3, that is HDF5:
they are to be saved again with -v7 first.
"""

from pathlib import Path

import numpy as np

from mdebench.data.faces.marked import Face, val_of_train, write_faces
from mdebench.data.store import ImageStore
from mdebench.data.store.matlab import read_pictures
from mdebench.data.store.official import find, holds
from mdebench.data.writer import PackWriter, Progress
from mdebench.errors import UserError

FILES = {0: ("COFW_train_color.mat", "COFW_train.mat"), 2: ("COFW_test_color.mat", "COFW_test.mat")}  # by partition
CELLS = {0: ("IsTr", "phisTr"), 2: ("IsT", "phisT")}  # of partition: the variables of pictures and of points
EXPECTS = "COFW_train_color.mat and COFW_test_color.mat, saved with -v7"
POINTS = 29
# Of `pack.LANDMARKS`: the pupils, the tip of the nose, the corners of the mouth, in the order of LFPW's 29 points
# (open-mmlab/mmpose: configs/_base_/datasets/cofw.py pairs 16 with 17 and 22 with 23, and leaves 20 alone).
FIVE = (16, 17, 20, 22, 23)


def write(writer: PackWriter, root: Path, progress: Progress) -> None:
    """Read COFW below `root` into `writer`."""
    report, notes = writer.report, writer.info["notes"]
    pictures: dict[str, bytes] = {}
    faces: list[Face] = []
    for split, (cells, rows) in CELLS.items():
        file = _need(root, FILES[split])
        images, values = read_pictures(file, cells, rows)
        if values.ndim != 2 or values.shape[1] != 3 * POINTS:
            raise UserError(f"{file}: {rows} has the shape {values.shape}, not {3 * POINTS} numbers for each picture.")
        for number, (image, row) in enumerate(zip(images, values), start=1):
            name = f"{'train' if split == 0 else 'test'}_{number:04d}"
            if not np.isfinite(row).all():
                report.add("bad_points", name)
                continue
            # A row is all x, then all y, then whether each point is occluded (HRNet/HRNet-Facial-Landmark-Detection,
            # lib/datasets/cofw.py), counted from 1 as in Matlab.
            points = row[: 2 * POINTS].reshape(2, POINTS).T - 1
            pictures[name] = image
            faces.append(Face(name, name, points, points[list(FIVE)], split))
    faces = val_of_train(faces, [face.name for face in faces], notes)
    write_faces(writer, "cofw", ImageStore(root, pictures, _itself), faces, progress)


def _itself(picture: bytes) -> bytes:
    return picture


def _need(root: Path, names: tuple[str, ...]) -> Path:
    file = find(root, names)
    if file is None:
        raise UserError(f"{root} has neither {' nor '.join(names)} {holds(root)}; cofw needs {EXPECTS}.")
    return file
