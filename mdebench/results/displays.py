"""How rows are shown: settings in words and in order, and the lines that others are compared with."""

import re
from typing import NamedTuple

import pandas as pd

from mdebench.variants import VARIANTS


class Reference(NamedTuple):
    """A line that others are compared with: its method, its name in a sentence, and whether each column compares with
    this line in its own setting, where there is a choice (else in that of `Column.reference`)."""

    method: str
    called: str
    same_setting: bool = False


PROBE = "frozen-probe"  # the readout that serves raw pixels best, and so the one others are compared with
PIXELS = Reference("pixels", "raw pixels")
RANDOM = Reference("random", "random weights", same_setting=True)
BIHARMONIC = Reference("biharmonic", "the biharmonic fill")
MEAN_COLOUR = Reference("mean_colour", "the mean colour")

ORDER = ("clean", "probe", "knn", *VARIANTS, "step", "stage", "code")  # of settings, by their first word
FEW = ("frozen-probe-1%", "frozen-probe-10%", PROBE)


def with_few(rows: pd.DataFrame) -> pd.DataFrame:
    """Those of the lines that were read with few labels, too."""
    return rows[rows["line"].isin(rows.loc[rows["setting"].str.endswith("%"), "line"])]


def setting_order(setting: str) -> tuple[int, float, str]:
    """Sorts settings: by their first word as in `ORDER`, then by their number ("rec 0.1" before "rec 0.5")."""
    word = next((word for word in sorted(ORDER, key=len, reverse=True) if setting.startswith(word)), "")
    number = re.search(r"\d*\.?\d+", setting.removeprefix(word))
    return ORDER.index(word) if word else len(ORDER), float(number[0]) if number else 0.0, setting


def spoken(setting: str) -> str:
    """A setting in words: "frozen-probe-1%" → "1 % of the labels", "left_half" → "left half"."""
    if few := re.fullmatch(r".*probe-(\d+)%", setting):
        return f"{few[1]} % of the labels"
    return "all labels" if setting == PROBE else setting.replace("_", " ")
