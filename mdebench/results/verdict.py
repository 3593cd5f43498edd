"""Which readout is the verdict on a code: fixed for each family of methods before any was measured by all of them.

Several readouts ask several questions, and each ranks methods otherwise; whoever chooses afterwards chooses a winner.
So it stands here, in words, and the others stand beside it:

- A method that learns from patches of an image (a vision transformer's tokens) promises no code: what it knows lies in
  the tokens, where a mean of them hides it ("Attention, please!", Psomas et al.). Its verdict is the attentive probe.
- A task between patches is solved by the last layers, and read below them, as its papers do (Doersch et al. 2015,
  Noroozi and Favaro 2016): the verdict of the family context is the best layer, chosen on validation images.
- All others promise a code, which the paper reads after the fully connected layer: their verdict is the converged
  linear probe of that code, which leaves nothing to how a head is trained.

k nearest neighbours, the paper's head and the fusion of layers are no method's verdict: they say where else a code
holds what it knows.
"""

from collections.abc import Mapping
from typing import Any

from mdebench.results.displays import PROBE

CODE, NEIGHBOURS, TOKENS, LAYER, FUSION = "linear", "neighbours", "attentive", "best layer", "fusion"
OF_FAMILY = {"context": LAYER}  # of all other families the code
PATCHES = "patches"  # the setting of a method whose images are patches
# Readout → the (protocol, setting) that it is measured by, for attributes and for landmarks.
READOUTS = {
    CODE: {"attribute_error": ("attributes", PROBE), "landmark_distance": ("landmarks", PROBE)},
    NEIGHBOURS: dict.fromkeys(("attribute_error", "landmark_distance"), ("knn", "knn")),
    TOKENS: dict.fromkeys(("attribute_error", "landmark_distance"), ("attentive", "attentive")),
    LAYER: dict.fromkeys(("attribute_error", "landmark_distance"), ("depth", "best layer")),
    FUSION: dict.fromkeys(("attribute_error", "landmark_distance"), ("depth", "fusion")),
}


def verdict_of(family: str, settings: Mapping[str, Any]) -> str:
    """The readout that is the verdict on a method of a family with such settings, one of `READOUTS`."""
    tokens = PATCHES in settings and settings.get("backbone", "native") == "native"
    return TOKENS if tokens else OF_FAMILY.get(family, CODE)


IN_WORDS = (
    f"The verdict (●) was fixed for each family before any was measured by all: {TOKENS} for methods whose images are "
    f"patches, {LAYER} (chosen on validation images) for tasks between patches (context), else the {CODE} probe of the "
    "code; the other readouts stand beside it."
)
