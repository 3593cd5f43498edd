"""UTKFace (Zhang, Song and Qi, CVPR 2017): faces whose age, sex and group of origin stand in the file's name.

The pictures are the aligned and cropped ones, `AGE_SEX_RACE_TIME.jpg.chip.jpg`, loose or in an archive. Age is in years
(0 to 116), the attribute `Male` is 1 where the sex is 0, and the label is what the data set calls race (0 White, 1
Black, 2 Asian, 3 Indian, 4 Others). There are no official partitions: 80 % train, 10 % val, 10 % test by a hash of the
time. Who the people are is not known, so that one of them may be in two partitions.
"""

import math
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mdebench.data import labels
from mdebench.data.decode import RESIZE, centre_square
from mdebench.data.store import ARCHIVES, PICTURES, by_name, open_store
from mdebench.data.store.official import find, holds, tell_link
from mdebench.data.workers import decoding
from mdebench.data.writer import PackWriter, Progress
from mdebench.errors import UserError

EXPECTS = "UTKFace/ or UTKFace.tar.gz (the aligned and cropped faces, named AGE_SEX_RACE_TIME.jpg.chip.jpg)"
# As the archive of aligned faces is called, and its copy on Kaggle. `part1` to `part3` hold the uncut pictures.
IMAGES = ("UTKFace", *(f"UTKFace{end}" for end in ARCHIVES), "utkface_aligned_cropped/UTKFace")
OLDEST = 116
# The sex is 0 for men and 1 for women, the other way round than in IMDB-WIKI (yu4u/age-gender-estimation, issue 99).
SEXES, RACES = ("Male", "Female"), ("White", "Black", "Asian", "Indian", "Others")
# The names of some pictures lack a part (aicip/UTKFace, issue 1: "61_1_20170109142408075.jpg", of which nobody can say
# whether 1 is the sex or the race; "53__0_20170116184028385.jpg"), and one has a space before its ending in the lists
# (issue 2: "24_0_1_20170116220224657 .jpg").
_NAME = re.compile(r"([0-9]{1,3})_(?:([0-9]*)_([0-9]*)_|([0-9]*)_)?([0-9]{8,})\s*\..+")


@dataclass(frozen=True)
class Name:
    """What a file's name says: the age in years (NaN unknown), whether a man (1, 0, -1 unknown), the race (index into
    RACES, -1 unknown), the time, and whether all of it was there and in its range.
    """

    age: float
    male: int
    race: int
    time: str
    whole: bool


def write(writer: PackWriter, root: Path, progress: Progress) -> None:
    """Read UTKFace below `root` into `writer`."""
    report, notes = writer.report, writer.info["notes"]
    where = images_of(root)
    tell_link(root, where, notes)
    store = open_store(where, report, by_name)
    found = {key: read_name(key) for key in sorted(store.members)}
    for key, name in found.items():
        if name is None and key.lower().endswith(PICTURES):
            report.add("odd_name", key)
        elif name is not None and not name.whole:
            report.add("bad_name", key)
    named = {key: name for key, name in found.items() if name is not None}
    keys, names = list(named), list(named.values())
    # One time stands in two names of different ages ("53__0_20170116184028385", "62_1_0_20170116184028385":
    # liuyugeng/ML-Doctor, issue 2): whatever shares it stays in one partition.
    split = labels.divided([name.time for name in names], labels.ALL)
    age = np.array([name.age for name in names], np.float32)
    male = np.array([name.male for name in names], np.int8)
    race = np.array([name.race for name in names], np.int32)
    writer.attribute_names = ("Male",)
    writer.info |= {
        "source": "utkface",
        "options": {},
        "label_names": list(RACES),
        "crop": "largest centred square",
        "resize": RESIZE,
    }
    notes.append("no official partitions: 80 % train, 10 % val, 10 % test by a hash of the time in the name")
    notes.append("who the people are is not known: one of them may be in two partitions")
    uncut = 0
    with decoding(store, keys, centre_square, writer.size, report, progress) as parts:
        for part in parts:
            uncut += int((part.boxes[:, :2] > 0).any(axis=1).sum())
            rows = part.rows
            writer.add(
                part.images,
                [keys[row] for row in rows],
                split[rows],
                attributes=male[rows, None],
                label=race[rows],
                age=age[rows],
            )
    if uncut:
        notes.append(
            f"{uncut:,} pictures are no squares, so not the aligned and cropped ones: of those the square in the "
            "middle was taken, in which the face need not be"
        )


def read_name(key: str) -> Name | None:
    """What a file's name says, None where it is none of UTKFace's. Where a part is missing, the age alone is sure, and
    of the others those that stand in their own place.
    """
    match = _NAME.fullmatch(key)
    if match is None:
        return None
    age, sex, race, _, time = match.groups()
    years = float(age) if int(age) <= OLDEST else math.nan
    code, group = _within(sex, len(SEXES)), _within(race, len(RACES))
    whole = not math.isnan(years) and code >= 0 and group >= 0
    return Name(years, 1 - code if code >= 0 else -1, group, time, whole)


def _within(cell: str | None, count: int) -> int:
    """A code from 0 to count, -1 for anything else."""
    return int(cell) if cell and int(cell) < count else -1


def images_of(root: Path) -> Path:
    """The folder or archive of the faces: one of the official names, or else `root` itself if it holds such faces."""
    if root.is_file():
        return root
    if (found := find(root, IMAGES)) is not None:
        return found
    if any(read_name(path.name) for path in root.iterdir()):
        return root
    raise UserError(f"{root} has neither UTKFace/ nor UTKFace.tar.gz {holds(root)}; utkface needs {EXPECTS}.")
