"""The six variants of the Missing Data Encoder (Figure 3) as names for settings, readable without loading torch."""

from typing import Any

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
ALIASES = {"i": "inpainting", "ri": "reverse_inpainting", "c1": "colorization1", "c2": "colorization2"}
RANDOM_BOX = ("re", "rec")  # the variants whose box moves: only there is something to seek
