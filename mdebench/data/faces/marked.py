"""Faces marked by dozens of points: each is cut to a square around its own, and five of its points are kept.

The square shows about as much of a face as CelebA's crop does; it is moved into the picture where it would leave it,
and made smaller where the picture is.
"""

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mdebench.data import labels
from mdebench.data.decode import RESIZE, Box
from mdebench.data.pack import ANNOTATED, NO_LANDMARKS, outside_crop
from mdebench.data.store import BadImage, ImageStore
from mdebench.data.workers import decoding
from mdebench.data.writer import PackWriter, Progress

SHOWN = 1.4  # the side of the square, by the larger side of the box around the points
CROP = f"square of {SHOWN} times the larger side of the box around the face's points, inside the picture"
# Of the 68 points of 300-W and dlib, from 0: those whose means are the five of `pack.LANDMARKS`.
FIVE_OF_68 = (slice(36, 42), slice(42, 48), slice(30, 31), slice(48, 49), slice(54, 55))

Points = NDArray[np.float64]


@dataclass(frozen=True)
class Face:
    """A face of a picture: a name that no other has, the picture's key in a store, all of its points (k, 2) in pixels,
    counted from 0, the five of `pack.LANDMARKS` (5, 2), its partition, and its attributes (A,) of 1, 0 and -1."""

    name: str
    picture: str
    points: Points
    five: Points
    split: int
    attributes: tuple[int, ...] = field(default=())


@dataclass(frozen=True)
class Around:
    """The crop of a face whose points lie in this box, in pixels."""

    left: float
    top: float
    right: float
    bottom: float

    def __call__(self, width: int, height: int) -> Box:
        """The square; BadImage('no_face') when the middle of the points lies outside the picture."""
        x, y = (self.left + self.right) / 2, (self.top + self.bottom) / 2
        if not (0 <= x <= width and 0 <= y <= height):
            raise BadImage("no_face")
        side = min(SHOWN * max(self.right - self.left, self.bottom - self.top), width, height)
        left, top = (min(max(middle - side / 2, 0), most - side) for middle, most in ((x, width), (y, height)))
        return (left, top, left + side, top + side)


def around(points: Points) -> Around:
    """The crop of a face with these points (k, 2)."""
    return Around(*points.min(axis=0), *points.max(axis=0))


def write_faces(
    writer: PackWriter,
    source: str,
    store: ImageStore,
    faces: list[Face],
    progress: Progress,
    attribute_names: tuple[str, ...] = (),
) -> None:
    """Cut the faces out of the pictures of a store and write them, by name; what is odd about one is told."""
    faces = sorted(faces, key=lambda face: face.name)
    names = [face.name for face in faces]
    crops = {face.name: around(face.points) for face in faces}
    own = ImageStore(store.where, {face.name: store.member(face.picture) for face in faces}, store.read, store.hold)
    writer.attribute_names = attribute_names
    writer.info |= {"source": source, "options": {}, "of": len(faces), "crop": CROP, "resize": RESIZE}
    with decoding(own, names, crops, writer.size, writer.report, progress) as parts:
        for part in parts:
            chosen = [faces[row] for row in part.rows]
            side = (part.boxes[:, 2] - part.boxes[:, 0])[:, None, None]
            five = (np.array([face.five for face in chosen]) - part.boxes[:, None, :2]) / side
            known = np.isfinite(five).all(axis=(1, 2))
            for face, kinds, out in zip(chosen, part.kinds, outside_crop(five)):
                if out:
                    writer.report.add("outside_crop", face.name)
                if "exif_orientation" in kinds:
                    writer.report.add("turned_landmarks", face.name)
            writer.add(
                part.images,
                [face.name for face in chosen],
                np.array([face.split for face in chosen], np.uint8),
                landmarks=five,
                landmark_source=np.where(known, ANNOTATED, NO_LANDMARKS),
                attributes=np.array([face.attributes for face in chosen], np.int8).reshape(len(chosen), -1),
            )


def val_of_train(faces: list[Face], groups: list[str], notes: list[str]) -> list[Face]:
    """The faces with a tenth of those of train as val, chosen by a hash of the group, which stays whole."""
    train = [place for place, face in enumerate(faces) if face.split == 0]
    parts = labels.divided([groups[place] for place in train], labels.OF_TRAIN)
    moved = dict(zip(train, parts.tolist()))
    notes.append("no official validation images: a tenth of train, chosen by a hash of the photograph, is val")
    return [
        Face(f.name, f.picture, f.points, f.five, moved.get(place, f.split), f.attributes)
        for place, f in enumerate(faces)
    ]


def numbers(texts: list[str]) -> list[float] | None:
    """The texts as finite numbers; None where one is none."""
    try:
        found = [float(text) for text in texts]
    except ValueError:
        return None
    return found if all(math.isfinite(number) for number in found) else None
