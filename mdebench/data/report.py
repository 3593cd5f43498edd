"""What was wrong with the images and labels of a source, and what was done about it: nothing is passed over in silence.

Every reader adds (kind, name) to one `Report`; it is stored in pack.json and decides whether `--strict` refuses. The
kinds, their outcome and their meaning are the table below.
"""

from collections import Counter
from typing import Any

from mdebench.errors import UserError
from mdebench.words import shown

LEFT_OUT, CONVERTED, UNLABELLED, DOUBTFUL = "left out", "converted", "label missing", "in doubt"
NOTED = "noted"

KINDS: dict[str, tuple[str, str]] = {
    "empty": (LEFT_OUT, "zero bytes"),
    "not_an_image": (LEFT_OUT, "not a JPEG, PNG, BMP, GIF, TIFF, WebP or PPM image"),
    "truncated": (LEFT_OUT, "the image ends before its last row"),
    "damaged": (LEFT_OUT, "the image cannot be decoded"),
    "too_large": (LEFT_OUT, "more than 64 million pixels or 64 MiB"),
    "unsupported_mode": (LEFT_OUT, "floating-point or 32-bit pixels, whose range is unknown"),
    "wrong_shape": (LEFT_OUT, "height to width is not that of the source's images"),
    "unreadable": (LEFT_OUT, "the file or archive member cannot be read"),
    "outside": (LEFT_OUT, "the path is absolute or leaves its folder"),
    "not_a_file": (LEFT_OUT, "a link in an archive, a device or a pipe"),
    "duplicate": (LEFT_OUT, "the name occurred before; the first one stands"),
    "no_path": (LEFT_OUT, "the row names no file"),
    "missing_file": (LEFT_OUT, "listed, but no such file"),
    "unlisted": (LEFT_OUT, "no row in the source's list, so no split"),
    "no_split": (LEFT_OUT, "the row names no known split"),
    "encrypted": (LEFT_OUT, "encrypted in the archive: unpack it with its password, and give the folder"),
    "packed": (
        LEFT_OUT,
        "packed by a method that Python cannot read: unpack the archive by another program, and give the folder",
    ),
    "link_outside": (
        LEFT_OUT,
        "a link that leads out of the folder that was given, so not followed: give a folder that holds both, or copies",
    ),
    "link_to_nothing": (LEFT_OUT, "a link to nothing"),
    "twin": (LEFT_OUT, "of val or test, with the same pixels as an image of train (or of val)"),
    "pair": (LEFT_OUT, "a pair of images of which one at least is not in the pack"),
    "grey": (CONVERTED, "grey, repeated in three channels"),
    "palette": (CONVERTED, "palette colours to RGB"),
    "alpha": (CONVERTED, "transparency laid over white"),
    "cmyk": (CONVERTED, "CMYK to RGB"),
    "sixteen_bit": (CONVERTED, "16 bits a channel to 8"),
    "colour_space": (CONVERTED, "another colour space to RGB"),
    "several_frames": (CONVERTED, "several frames, of which the first"),
    "no_attributes": (UNLABELLED, "no readable attribute row"),
    "no_landmarks": (UNLABELLED, "no readable landmark row"),
    "no_identity": (UNLABELLED, "no identity"),
    "no_label": (UNLABELLED, "no class"),
    "bad_value": (UNLABELLED, "a label that is not a number of the expected range, taken as unknown"),
    "some_landmarks": (UNLABELLED, "only some of the five landmarks"),
    "no_place": (UNLABELLED, "landmarks that are no place in the picture, taken as unknown"),
    "outside_crop": (
        DOUBTFUL,
        "landmarks outside the crop, kept; better cut the pictures to the faces first",
    ),
    "shares": (DOUBTFUL, "landmarks within 0 and 1, taken as shares of the picture's width and height"),
    "turned_landmarks": (DOUBTFUL, "landmarks of a picture that EXIF turns, taken as of the upright picture"),
    "after_end": (DOUBTFUL, "an archive goes on after what marks its end, and that was not read"),
    "upscaled": (NOTED, "the crop has fewer pixels than the pack's size and was enlarged"),
    "exif_orientation": (NOTED, "turned upright, as its EXIF orientation asks for"),
    "kept_twin": (NOTED, "of val or test, with the same pixels as an image of train (or of val); kept, as asked for"),
    "repeated": (NOTED, "the same pixels as another image of the same partition"),
    "litter": (NOTED, "put there by an operating system, ignored"),
    "guessed_name": (
        NOTED,
        "a name whose encoding the zip does not say, read as UTF-8 if it can be that, else as code page 437",
    ),
    "link_circle": (NOTED, "a link to a folder that it lies in, not followed"),
}


FIRST = 10  # so many names are kept for each kind


class Report:
    """Counts per kind, with the first names of each."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.names: dict[str, list[str]] = {}

    def add(self, kind: str, name: str) -> None:
        """Record one image (or row) under a kind of `KINDS`."""
        self.counts[kind] += 1
        first = self.names.setdefault(kind, [])
        if len(first) < FIRST:
            first.append(shown(name))

    def as_json(self) -> dict[str, dict[str, Any]]:
        """Kind → {"outcome", "meaning", "count", "names" (the first ten)}, in the order of `KINDS`."""
        return {
            kind: {"outcome": outcome, "meaning": meaning, "count": self.counts[kind], "names": self.names[kind]}
            for kind, (outcome, meaning) in KINDS.items()
            if self.counts[kind]
        }

    def refuse(self, source: str) -> None:
        """What `--strict` does: UserError unless every image was taken as it is and has all its labels."""
        bad = [line for kind, line in zip(self.as_json(), self.lines()) if KINDS[kind][0] != NOTED]
        if bad:
            raise UserError(f"strict: {source} is not clean: {'; '.join(bad)}. Mend the source or leave --strict out.")

    def lines(self) -> list[str]:
        """One phrase per kind: '3 left out: zero bytes (a.jpg, b.jpg, …)'."""
        return report_lines(self.as_json())


def report_lines(report: dict[str, dict[str, Any]]) -> list[str]:
    """The phrases of a report as it is stored in pack.json."""
    lines = []
    for entry in report.values():
        shown = ", ".join(entry["names"][:3]) + (", …" if entry["count"] > 3 else "")
        lines.append(f"{entry['count']:,} {entry['outcome']}: {entry['meaning']} ({shown})")
    return lines
