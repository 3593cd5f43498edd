"""The six variants of the Missing Data Encoder (Figure 3) and the test scenarios of Figure 8, by name.

Names for settings, readable without loading torch.
"""

from typing import Any, NamedTuple

from mdebench.errors import UserError
from mdebench.settings import suggest

# S as in Figure 5 (CelebA), and Table 1 for re; inpainting's hole is the centred quarter of the context encoder.
# Colorization masks whole channels and has no S.
VARIANTS: dict[str, dict[str, Any]] = {
    "inpainting": {"variant": "inpainting", "S": 0.25},
    "reverse_inpainting": {"variant": "reverse_inpainting", "S": 0.25},
    "colorization1": {"variant": "colorization1", "S": None},
    "colorization2": {"variant": "colorization2", "S": None},
    "re": {"variant": "re", "S": 0.33},
    "rec": {"variant": "rec", "S": 0.1},
}
ALIASES = {
    "i": "inpainting",
    "ri": "reverse_inpainting",
    "c1": "colorization1",
    "c2": "colorization2",
    "timm": "timm_encoder",  # timm:resnet18
}
# The ten variants that Table 1 and Figure 8 train, and on which Figure 8 tests each of them, in its order.
FIGURE8: tuple[tuple[str, float | None], ...] = (
    ("inpainting", 0.25),
    ("reverse_inpainting", 0.25),
    ("colorization1", None),
    ("colorization2", None),
    *(("re", S) for S in (0.25, 0.33, 0.5)),
    *(("rec", S) for S in (0.1, 0.3, 0.5)),
)
FREE_FORM = "free_form"  # brush strokes and a rectangle (DeepFill v2): a mask, and no variant of the MDE
DAMAGE = "damage"  # brush strokes alone, with their rims where half is left (VCNet): a mask as well
STROKES = (FREE_FORM, DAMAGE)
MASKS = (*VARIANTS, *STROKES)
RANDOM_BOX = ("re", "rec")  # the variants whose box moves: only there is something to seek


def check_ratio(variant: str, S: float | None) -> None:
    """UserError unless ``variant`` is one of MASKS and S is in (0, 1) where it applies, None where it does not."""
    if variant not in MASKS:
        raise UserError(f"there is no variant {variant!r}; choose among {', '.join(MASKS)}")
    if variant.startswith("colorization") or variant in STROKES:
        if S is not None:
            what = "draws strokes" if variant in STROKES else "masks whole channels"
            raise UserError(f"{variant} {what} and has no ratio S; leave --S out")
    elif S is None or not 0 < S < 1:
        raise UserError(f"S is the share of the image inside the box and must lie in (0, 1), not {S}")


class Scenario(NamedTuple):
    """A variant of `MASKS` and its ratio S in (0, 1), None where it has none (colorization, strokes)."""

    variant: str
    S: float | None

    @property
    def name(self) -> str:
        """As in rows, figures and settings: "rec 0.1", "colorization1"."""
        return self.variant if self.S is None else f"{self.variant} {self.S:g}"

    @property
    def slug(self) -> str:
        """As in file names: "rec-S0.1"."""
        return self.name.replace(" ", "-S")


SCENARIOS = tuple(Scenario(variant, S) for variant, S in FIGURE8)


def parse(text: str) -> Scenario:
    """The scenario called ``text``: a variant or its short name, and a ratio ("rec 0.2", "c1", "ri").

    Without a ratio it is the variant's own of `VARIANTS`. UserError for another variant or an S that it cannot have.
    """
    word, _, ratio = text.strip().partition(" ")
    variant = ALIASES.get(word, word)
    if variant not in MASKS:
        near = suggest(word, MASKS)
        raise UserError(f"there is no test scenario {text!r}.{near} Name one like 'rec 0.1': {', '.join(MASKS)}.")
    try:
        if not ratio.isascii():  # Python reads the digits of every script
            raise ValueError(ratio)
        S = float(ratio) if ratio else VARIANTS.get(variant, {"S": None})["S"]
    except ValueError as error:
        raise UserError(f"the ratio of the test scenario {text!r} is no number; name one like 'rec 0.1'") from error
    check_ratio(variant, S)
    return Scenario(variant, S)


def parse_all(text: str) -> list[Scenario]:
    """The scenarios of a comma-separated list, each once; "all" stands for the ten of Figure 8."""
    found: list[Scenario] = []
    for part in text.split(","):
        found += SCENARIOS if part.strip() == "all" else (parse(part),)
    return list(dict.fromkeys(found))
