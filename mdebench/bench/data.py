"""How fast packs are made and read: against decoding alone, and how much memory making one takes."""

import io
import zipfile
from collections.abc import Callable
from functools import partial
from itertools import count as count_from
from itertools import cycle
from pathlib import Path

import numpy as np
from PIL import Image
from rich.console import Console

from mdebench.bench.clock import Measured, alternate, over_rounds, resident_peak
from mdebench.bench.decoding import decode_alone
from mdebench.bench.record import Record, say
from mdebench.data import prepare, toyfaces
from mdebench.data.decode import centre_square
from mdebench.data.faces import celeba
from mdebench.data.pack import open_pack
from mdebench.errors import UserError
from mdebench.files import scratch
from mdebench.settings import SCALES

PICTURE = (178, 218)  # width and height of the generated pictures: CelebA's
DRAWN = 200  # different generated pictures; an archive of more repeats them
BATCHES = 200  # read in a round


def measure_data(root: Path | None, size: int, count: int, rounds: int) -> list[Measured]:
    """Pack the CelebA archive in ``root``, or ``count`` generated pictures, and read batches of the pack.

    UserError when ``root`` holds no CelebA archive.
    """
    with scratch() as folder:
        packs, crop = folder / "packs", centre_square if root is None else celeba.crop
        archive = generated_archive(folder / "pictures", count) if root is None else celeba.images_of(root)
        if archive.is_dir():
            raise UserError(f"{archive} is a folder: decoding is timed on an archive")
        source, names = ("folder", archive.parent) if root is None else ("celeba", root), count_from()

        def pack() -> Path:
            # An archive of more than `DRAWN` pictures repeats them.
            return prepare(*source, size, packs, name=f"pack{next(names)}", keep_duplicates=root is None)

        memory = resident_peak(pack)
        alone = partial(decode_alone, archive, crop, size)
        jobs: dict[str, Callable[[], object]] = {
            "decode": alone,
            "threads": partial(alone, in_threads=True),
            "pack": pack,
        }
        times = alternate(jobs, rounds, warm_up=0)
        images = len(open_pack(packs / "pack0").images)
        rates = read_batches(packs / "pack0", rounds)
    return [
        over_rounds("decoding alone", "images/s", images / times["decode"]),
        over_rounds("decoding alone in threads", "images/s", images / times["threads"]),
        over_rounds("packing", "images/s", images / times["pack"]),
        over_rounds("packing, of what decoding alone allows", "%", 100 * times["decode"] / times["pack"]),
        over_rounds("packing, of decoding alone in threads", "%", 100 * times["threads"] / times["pack"]),
        Measured("peak memory of packing", "MB", memory / 1e6, memory / 1e6, memory / 1e6, 1),
        *rates,
    ]


def read_batches(pack_path: Path, rounds: int) -> list[Measured]:
    """Images per second in random batches of 24, as bytes and as floats in [0, 1]; copying them is the bound."""
    pack, batch = open_pack(pack_path), SCALES["small"].batch
    rng = np.random.default_rng(0)
    order = [np.sort(rng.integers(0, len(pack.images), batch)) for _ in range(BATCHES)]
    jobs: dict[str, Callable[[], object]] = {
        "random batches of 24": lambda: [pack.batch(rows) for rows in order],
        "random batches of 24, as floats": lambda: [pack.batch(rows).float().div_(255) for rows in order],
    }
    times = alternate(jobs, rounds)
    return [over_rounds(name, "images/s", batch * BATCHES / taken) for name, taken in times.items()]


def generated_archive(folder: Path, count: int) -> Path:
    """A zip of ``count`` drawn faces as JPEG files of CelebA's size, and the list that the source `folder` needs."""
    pictures = []
    for chunk in toyfaces.generate(min(count, DRAWN), 64):
        for image in chunk.images:
            data = io.BytesIO()
            Image.fromarray(image.transpose(1, 2, 0)).resize(PICTURE).save(data, "JPEG", quality=90)
            pictures.append(data.getvalue())
    folder.mkdir()
    files = [f"{number:06d}.jpg" for number in range(count)]
    (folder / "pictures.csv").write_text("\n".join(["path", *files]))
    with zipfile.ZipFile(folder / "pictures.zip", "w") as archive:
        for file, picture in zip(files, cycle(pictures)):
            archive.writestr(file, picture)
    return folder / "pictures.zip"


def bench_data(root: Path | None, size: int, count: int, rounds: int, console: Console) -> Record:
    """Measure packs and say it."""
    what = f"{count:,} generated pictures" if root is None else "the CelebA archive"
    settings = {"size": size, **({"count": count} if root is None else {})}
    record = Record("data", f"{what} at {size}×{size}", settings, measure_data(root, size, count, rounds))
    say(record, console)
    return record
