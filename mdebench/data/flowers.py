"""Oxford-102 flowers (Nilsback & Zisserman 2008): the official jpg/ or 102flowers.tgz, imagelabels.mat and setid.mat.

Splits after the paper (PAPER.md): it trains on the official train and test images (7,169) and applies the models to the
official validation images (1,020). So the pack's train is trnid + tstid, its test is valid, and its val is empty. Two
of the validation images are also in tstid, pixel for pixel: as in any pack, they are left out.
"""

from pathlib import Path

import numpy as np

from mdebench.data.decode import RESIZE, centre_square
from mdebench.data.store import ARCHIVES, by_name, open_store
from mdebench.data.store.matlab import read_matrices
from mdebench.data.store.official import as_listed, find, holds, tell_link
from mdebench.data.workers import decoding
from mdebench.data.writer import PackWriter, Progress
from mdebench.errors import UserError

EXPECTS = "jpg/ or 102flowers.tgz, imagelabels.mat and setid.mat (the official Oxford-102 files)"
FOLDERS = ("", "flowers-102", "102flowers")  # the second is torchvision's
PACK_SPLIT = {"trnid": 0, "tstid": 0, "valid": 2}  # official list → index into SPLITS


def write(writer: PackWriter, root: Path, progress: Progress) -> None:
    """Read Oxford-102 below `root` into `writer`; labels are the official 1…102 less one."""
    report, notes = writer.report, writer.info["notes"]
    found = read_matrices({_need(root, "imagelabels.mat"): ["labels"], _need(root, "setid.mat"): list(PACK_SPLIT)})
    labels = found["labels"] - 1
    if not ((labels >= 0) & (labels < 2**31)).all():
        raise UserError(f"{root / 'imagelabels.mat'} holds labels below 1 or above {2**31:,}: fetch it again.")
    split = np.full(len(labels), 255, np.uint8)
    for name, index in PACK_SPLIT.items():
        ids = found[name]
        if not ((ids >= 1) & (ids <= len(labels))).all():
            raise UserError(f"{root / 'setid.mat'} names images that imagelabels.mat does not have.")
        split[ids - 1] = index
    listed = {f"image_{row + 1:05d}.jpg": row for row in range(len(labels))}
    where = _images(root)
    tell_link(root, where, notes)
    store = as_listed(open_store(where, report, by_name), listed, notes)
    for stray in sorted(store.members.keys() - listed.keys()):
        report.add("unlisted", stray)
    keys = sorted(listed.keys() & store.members.keys())
    for key in keys:
        if split[listed[key]] == 255:
            report.add("no_split", key)
    keys = [key for key in keys if split[listed[key]] != 255]
    places = np.array([listed[key] for key in keys], np.int64)
    writer.info |= {
        "source": "flowers",
        "options": {},
        "of": len(labels),
        "classes": int(labels.max()) + 1,
        "crop": "largest centred square",
        "resize": RESIZE,
    }
    if (there := len(listed.keys() & store.members.keys())) < len(labels):
        notes.append(f"{there:,} of {len(labels):,} listed images present in {where.name}")
    notes.append(
        "train is the official train + test lists, test the official validation list, as the paper uses them; no val"
    )
    with decoding(store, keys, centre_square, writer.size, report, progress) as parts:
        for part in parts:
            rows = places[part.rows]
            writer.add(part.images, [keys[row] for row in part.rows], split[rows], label=labels[rows])


def _images(root: Path) -> Path:
    names = ("jpg", *(f"102flowers{end}" for end in ARCHIVES), *(f"jpg{end}" for end in ARCHIVES), "102flowers")
    found = find(root, names, FOLDERS)
    if found is None:
        raise UserError(f"{root} has neither jpg/ nor 102flowers.tgz {holds(root)}; flowers needs {EXPECTS}.")
    return found


def _need(root: Path, name: str) -> Path:
    file = find(root, (name,), FOLDERS)
    if file is None or file.is_dir():
        raise UserError(f"{root} has no {name} {holds(root)}; flowers needs {EXPECTS}.")
    return file
