"""Codes of a folder of pictures: each cropped as the encoder's training pictures were, encoded, and named in a list."""

import csv
import io
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from mdebench.data.decode import Box, centre_square, decode
from mdebench.data.faces.celeba import crop as celeba_crop
from mdebench.data.report import KINDS
from mdebench.data.store import MAX_BYTES, BadImage
from mdebench.errors import UserError
from mdebench.evaluation.encoders.encoder import Encoder
from mdebench.evaluation.encoders.own_pictures import ENDINGS, cut_on_faces
from mdebench.evaluation.passes import CHUNK, chunks, watched
from mdebench.files import read_bytes as read_file
from mdebench.files import said, wanting, write_atomically
from mdebench.words import tell

OTHER = "of another shape than CelebA's aligned pictures: the square in the middle was taken"


def embed(encoder: Encoder, folder: Path, out: Path, console: Console) -> tuple[Path, Path]:
    """Encode every picture under a folder; returns the paths of the codes (n, feature_dim) float32 and of the list.

    The list ``<out>.csv`` names the file of each row. Pictures that cannot be read are left out, counted and named.
    UserError where there is none, or the disk is full.
    """
    paths = _pictures(folder)
    if not paths:
        raise UserError(f"there is no picture under {folder} (endings: {', '.join(ENDINGS)})")
    codes: list[NDArray[np.float32]] = []
    names: list[str] = []
    told: Counter[str] = Counter()
    with watched(console, f"encoding by {encoder.name}"):
        for piece in chunks(np.arange(len(paths)), CHUNK):
            read = list(_read([paths[i] for i in piece], encoder, told, console))
            if read:
                images = torch.from_numpy(np.stack([pixels for _, pixels in read])).float().div_(255)
                codes.append(encoder.encode(images).cpu().numpy())
                names += [path.relative_to(folder).as_posix() for path, _ in read]
    for kind, count in sorted(told.items()):
        tell(console, "note", f"{count:,} {'picture' if count == 1 else 'pictures'}: {kind}")
    if not names:
        raise UserError(f"none of the {len(paths)} pictures under {folder} can be read")
    data, lines = io.BytesIO(), io.StringIO()
    np.save(data, np.concatenate(codes))
    writer = csv.writer(lines, lineterminator="\n")
    writer.writerows([("row", "file"), *enumerate(names)])
    listed = out.with_suffix(".csv")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(listed, lines.getvalue().encode("utf-8", "surrogateescape"))  # names as the disk has them
    write_atomically(out, data.getvalue())
    lost = f"; {len(paths) - len(names):,} of {len(paths):,} pictures left out" if len(names) < len(paths) else ""
    console.print(f"{len(names):,} codes of {encoder.feature_dim:,} numbers{lost}")
    return out, listed


def _pictures(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}")
    found = [Path(root) / name for root, _, files in os.walk(folder) for name in files]
    return sorted(path for path in found if path.suffix.lower() in ENDINGS and not path.name.startswith("."))


def _read(
    paths: list[Path], encoder: Encoder, told: Counter[str], console: Console
) -> Iterator[tuple[Path, NDArray[np.uint8]]]:
    """The pictures that can be read, as (3, size, size); what is done to them, and why others are left out, is told."""
    as_celeba = cut_on_faces(encoder.info)

    def crop(width: int, height: int) -> Box:
        if not as_celeba:
            return centre_square(width, height)
        try:
            return celeba_crop(width, height)
        except BadImage:
            told[OTHER] += 1
            return centre_square(width, height)

    for path in paths:
        try:
            if path.stat().st_size > MAX_BYTES:
                raise BadImage("too_large")
            data = read_file(path)
        except BadImage as error:
            tell(console, "left out", f"{path}: {KINDS[str(error)][1]}")
            continue
        except UserError as error:  # a pipe, a device
            tell(console, "left out", str(error))
            continue
        except OSError as error:
            if wanting(error):
                raise
            tell(console, "left out", f"{path}: {said(error)}")
            continue
        try:
            pixels, _, kinds = decode(data, crop, encoder.size)
        except BadImage as error:
            tell(console, "left out", f"{path}: {KINDS[str(error)][1]}")
            continue
        for kind in kinds:
            told[KINDS[kind][1]] += 1
        yield path, pixels
