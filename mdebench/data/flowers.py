"""Oxford-102 flowers (Nilsback & Zisserman 2008): the official jpg/ or 102flowers.tgz, imagelabels.mat and setid.mat.

Splits after the paper (PAPER.md): it trains on the official train and test images (7,169) and applies the models to the
official validation images (1,020). So the pack's train is trnid + tstid, its test is valid, and its val is empty. Two
of the validation images are also in tstid, pixel for pixel: as in any pack, they are left out.
"""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mdebench.data.decode import RESIZE, centre_square
from mdebench.data.store import ARCHIVES, by_name, open_store
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
    labels = _matrix(root, "imagelabels.mat", "labels") - 1
    split = np.full(len(labels), 255, np.uint8)
    for name, index in PACK_SPLIT.items():
        ids = _matrix(root, "setid.mat", name)
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


def _matrix(root: Path, name: str, key: str) -> NDArray[np.int64]:
    from scipy.io import loadmat

    file = find(root, (name,), FOLDERS)
    if file is None or not file.is_file():
        raise UserError(f"{root} has no {name} {holds(root)}; flowers needs {EXPECTS}.")
    try:
        values = loadmat(file, variable_names=[key])[key]
        return np.asarray(values).ravel().astype(np.int64)
    except NotImplementedError as error:
        raise UserError(
            f"{file} is a file of MATLAB 7.3 (HDF5), the official one is of MATLAB 5: fetch that, or save it with -v7."
        ) from error
    except Exception as error:  # loadmat raises many kinds on a damaged file
        raise UserError(f"{file} is damaged or has no '{key}': fetch it again.") from error
