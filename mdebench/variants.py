"""The six variants of the Missing Data Encoder (Figure 3) as names for settings, readable without loading torch."""

from typing import Any

from mdebench.errors import UserError

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
MASKS = (*VARIANTS, FREE_FORM)
RANDOM_BOX = ("re", "rec")  # the variants whose box moves: only there is something to seek


def check_ratio(variant: str, S: float | None) -> None:
    """UserError unless ``variant`` is one of MASKS and S is in (0, 1) where it applies, None where it does not."""
    if variant not in MASKS:
        raise UserError(f"there is no variant {variant!r}; choose among {', '.join(MASKS)}")
    if variant.startswith("colorization") or variant == FREE_FORM:
        if S is not None:
            what = "draws strokes" if variant == FREE_FORM else "masks whole channels"
            raise UserError(f"{variant} {what} and has no ratio S; leave --S out")
    elif S is None or not 0 < S < 1:
        raise UserError(f"S is the share of the image inside the box and must lie in (0, 1), not {S}")
