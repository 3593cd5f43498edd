"""Whatever dialect and layout a data set has, every label stays with its picture: read from the pack's own pixels.

A hundred data sets are drawn here, always the same; ``make dialects`` draws 2,000.
"""

import io
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from drawn_dialects import hold, hold_in_processes, told, try_batch
from drawn_layouts import CelebALayout, Dialect, FolderLayout, Holder, Layout, centred, on_grid
from drawn_pictures import FORMATS, NEAR, PLACES, WITH_EXIF, draw, encoded, read, stored
from drawn_truth import Picture, Wrong, compare, compare_report
from hypothesis import Phase, note
from PIL import Image, ImageOps

from mdebench.data.pack import SPLITS, Pack


@pytest.mark.parametrize("batch", range(5))
def test_labels_are_what_the_pictures_show(batch: int) -> None:
    def held(layout: Layout) -> None:
        note(told(layout))
        hold(layout)

    try_batch(batch, held, Phase.shrink)


def shown(*paths: str, **labels: Sequence[int | None]) -> tuple[Picture, ...]:
    """Pictures of these paths with these labels."""
    rows = [dict(zip(labels, values)) for values in zip(*labels.values())] if labels else [{}] * len(paths)
    return tuple(Picture(number, path, **row) for number, (path, row) in enumerate(zip(paths, rows)))


NINE = tuple(f"{number}.png" for number in range(9))
# What drawn layouts met, at its smallest.
FOUND: dict[str, Layout] = {
    "3 and 3.0 are one person": FolderLayout(
        shown(*NINE, identity=[0, 0, 0, 1, 1, 1, 2, 2, 2]), Dialect(identity="mixed", split_words=())
    ),
    "a list of paths with commas": FolderLayout(shown("a,b.png", "c.png"), Dialect(delimiter=";", split_words=())),
    "a blank line comes first": FolderLayout(shown("a.png"), Dialect(empty_rows="first")),
    "a list of landmarks without a row": CelebALayout(
        (Picture(0, "000001.jpg", attributes=(0,) * 40, size=(178, 218), format="jpg"),)
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_was_found(name: str) -> None:
    hold(FOUND[name])


# Small enough to be read by a person: every mistake below must be seen in it.
DIALECT = Dialect(identity="{}", label="words", attributes=("yes/no", "1/0"), landmarks=tuple(PLACES))
LAYOUT = FolderLayout(
    (
        Picture(0, "a.png", "test", 1, 3, (1, 0), PLACES, (60, 80)),
        Picture(1, "b.jpg", "train", 2, None, (0, 1), PLACES, (90, 60), "jpg", orientation=6),
        Picture(2, "c.png", "val", None, 0, (None, 1), {}, (50, 50)),
        Picture(3, "d.png", "train", 0, 5, (0, None), PLACES, (50, 70)),
    ),
    DIALECT,
)


@pytest.fixture(scope="module")
def pack(tmp_path_factory: pytest.TempPathFactory) -> Pack:
    return LAYOUT.prepare(tmp_path_factory.mktemp("drawn"))


def sideways(pack: Pack) -> Pack:
    """The points of b.jpg as they are in the file that stores it sideways: its first row is the right-hand side."""
    points = pack.landmarks.copy()
    points[1] = np.stack([pack.landmarks[1, :, 1], 1 - pack.landmarks[1, :, 0]], axis=1)
    return replace(pack, landmarks=points)


def no_for_unknown(name: str) -> Callable[[Pack], Pack]:
    return lambda pack: replace(pack, **{name: np.maximum(getattr(pack, name), 0)})


def a_row_on(name: str) -> Callable[[Pack], Pack]:
    return lambda pack: replace(pack, **{name: np.roll(getattr(pack, name), 1, axis=0)})


ARRAYS = ("images", "identity", "label", "attributes", "landmarks", "split")
MISTAKES: dict[str, Callable[[Pack], Pack]] = {
    **{f"{name} a row on": a_row_on(name) for name in ARRAYS},
    **{f"{name}: no for unknown": no_for_unknown(name) for name in ("identity", "label", "attributes")},
    "landmarks: a place for unknown": lambda pack: replace(pack, landmarks=np.nan_to_num(pack.landmarks)),
    "landmarks not turned": sideways,
    "x for y": lambda pack: replace(pack, landmarks=pack.landmarks[..., ::-1]),
    "points mirrored": lambda pack: replace(pack, landmarks=np.abs([1, 0] - pack.landmarks)),
    "left eye for right": lambda pack: replace(pack, landmarks=pack.landmarks[:, [1, 0, 2, 3, 4]]),
    "points a pixel aside": lambda pack: replace(pack, landmarks=pack.landmarks + np.float32(1 / pack.size)),
    "attributes exchanged": lambda pack: replace(pack, attributes=pack.attributes[:, ::-1]),
    "yes for no": lambda pack: replace(pack, attributes=np.where(pack.attributes < 0, -1, 1 - pack.attributes)),
    "a picture left out": lambda pack: replace(pack, **{name: getattr(pack, name)[:3] for name in ARRAYS}),
    **{
        f"pictures turned as orientation {turn}": lambda pack, turn=turn: replace(
            pack, images=np.stack([stored(image.transpose(1, 2, 0), turn).transpose(2, 0, 1) for image in pack.images])
        )
        for turn in range(2, 9)
    },
}


def test_a_pack_without_a_mistake_is_right(pack: Pack) -> None:
    compare(pack, LAYOUT.pictures, LAYOUT.truth())


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_seen(pack: Pack, mistake: str) -> None:
    wrong = MISTAKES[mistake](pack)
    wrong.__dict__["names"] = pack.names[: len(wrong.images)]
    with pytest.raises(Wrong):
        compare(wrong, LAYOUT.pictures, LAYOUT.truth())


def test_names_a_row_on_are_seen(pack: Pack) -> None:
    wrong = replace(pack)
    wrong.__dict__["names"] = [*pack.names[1:], pack.names[0]]
    with pytest.raises(Wrong, match="name of picture 0"):
        compare(wrong, LAYOUT.pictures, LAYOUT.truth())


@pytest.mark.parametrize("kind", FORMATS)
def test_drawn_pictures_are_read_as_pillow_turns_them(kind: str, rng: np.random.Generator) -> None:
    """That the truth is one: without the product, in every format, orientation and some sizes."""
    widths = {"number": 40, "label": 13}
    for orientation in range(1, 9) if kind in WITH_EXIF else (1,):
        values = {name: int(rng.integers(2**width)) for name, width in widths.items()}
        size = (int(rng.integers(50, 91)), int(rng.integers(50, 91)))
        data = encoded(draw(values, widths, PLACES, size, centred(size)), kind, orientation)
        with Image.open(io.BytesIO(data)) as image:
            upright = ImageOps.exif_transpose(image).convert("RGB")
        assert upright.size == size
        small = upright.resize((40, 40), Image.Resampling.BICUBIC, box=centred(size))
        told, dots = read(np.asarray(small).transpose(2, 0, 1), widths)
        assert told == values and dots.keys() == PLACES.keys()
        np.testing.assert_allclose([dots[name] for name in PLACES], list(PLACES.values()), atol=NEAR)


def test_labels_stay_with_many_pictures(tmp_path: Path, rng: np.random.Generator) -> None:
    """Workers take several at a time from some hundred on; those without a file leave gaps between the others."""

    def some(highest: int) -> int | None:
        return int(rng.integers(highest)) if rng.random() < 0.8 else None

    pictures = tuple(
        Picture(
            number=int(number),
            path=f"{place}.png",
            split=SPLITS[rng.integers(3)],
            identity=some(7),
            label=some(7),
            attributes=(some(2), some(2)),
            dots={name: (x + 0.04 * rng.random() - 0.02, y) for name, (x, y) in PLACES.items()},
            size=(60, 50),
            has_file=rng.random() < 0.9,
            has_row=rng.random() < 0.9,
        )
        for place, number in enumerate(rng.permutation(400))
    )
    layout = FolderLayout(tuple(on_grid(each, centred(each.size), 2) for each in pictures), replace(DIALECT, digits=2))
    pack = layout.prepare(tmp_path)
    compare(pack, layout.pictures, layout.truth())
    compare_report(pack, layout.pictures, layout.truth())


def test_archives_do_not_change_a_bit(pack: Pack, tmp_path: Path) -> None:
    holders = [
        Holder("zip", order=1),
        Holder("zip", zipfile.ZIP_LZMA, top="photos", macosx=True),
        Holder("tgz", order=2),
    ]
    for place, holder in enumerate(holders):
        where = tmp_path / str(place)
        where.mkdir()
        assert replace(LAYOUT, holder=holder).prepare(where).hash == pack.hash


@pytest.mark.parametrize("holder", [Holder(), Holder("zip", zipfile.ZIP_DEFLATED)], ids=["folder", "zip"])
def test_processes_do_not_change_a_bit(holder: Holder) -> None:
    hold_in_processes(replace(LAYOUT, holder=holder))
