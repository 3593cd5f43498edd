"""The paper's tables and figures as data: which runs each of them needs, and by which protocols they are measured.

The suite turns an experiment into a plan and does what is missing. Beside the paper's own, `all` measures what a
careful reader asks next: hide-and-seek, classes, few labels, layers and robustness; `families` sets everything that can
be learned from beside one another, by whatever method there is.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mdebench.settings import Scale
from mdebench.variants import FIGURE8

VARIANTS = tuple(variant if S is None else f"{variant} {S:g}" for variant, S in FIGURE8)
BEST = "rec 0.1"
KINDS = ("colorization1", "inpainting 0.25", "re 0.33", BEST)  # one of each, where all ten would crowd a chart
# Figure 5: what the paper shows of each data set; of faces by default.
SHOWN = {
    "flowers": ("reverse_inpainting 0.25", "re 0.33", "rec 0.2"),
    "mnist": ("re 0.25",),
}
SHOWN_FACES = ("reverse_inpainting 0.25", "re 0.33", BEST)
# Figure 9 (Figure 1 shows some of them), and what stands in for it where a scale has no perceptual network.
LOSS_SETS = ("compl", "compl+adv", "vgg+adv", "vgg+adv+hns", "vgg+adv+hns_coord")
PLAIN_LOSS_SETS = ("compl", "compl+adv", "compl+adv+hns", "compl+adv+hns_coord")


# The reference where every image has a mask of its own: the biharmonic fill, which then solves a system of equations
# for each of them, takes minutes there (`mdebench measure completion` takes it along).
CONTROL = ("mean_colour",)


@dataclass(frozen=True)
class Wanted:
    """A run in words: a variant with its ratio ("rec 0.1"), and what is changed against the scale."""

    label: str
    overrides: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Measure:
    """A protocol with its settings; `own`: each run is tested on the scenario that it was trained for.

    `references` names the untrained methods measured beside the runs; None: all that can.
    """

    protocol: str
    overrides: Mapping[str, str] = field(default_factory=dict)
    own: bool = False
    references: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Part:
    """Runs, and how each of them is measured."""

    runs: tuple[Wanted, ...]
    measures: tuple[Measure, ...]


def loss_sets(scale: Scale, perceptual: str) -> tuple[str, ...]:
    """The loss sets of Figure 9 that can be trained with this perceptual network ("none": those without one)."""
    return PLAIN_LOSS_SETS if perceptual == "none" else LOSS_SETS


def parts(what: str, source: str, scale: Scale, perceptual: str) -> list[Part]:
    """What an experiment of `WHAT` needs on a pack of this source, at this scale and with this perceptual network."""
    variants = tuple(Wanted(name) for name in VARIANTS)
    ablation = tuple(
        Wanted(BEST, {} if losses == scale.losses else {"losses": losses}) for losses in loss_sets(scale, perceptual)
    )
    best = (Wanted(BEST),)
    shown = tuple(Wanted(name) for name in SHOWN.get(source, SHOWN_FACES))
    one = {"scenario": BEST}
    transfer = (Measure("attributes"), Measure("landmarks"))
    resampling = Measure("resampling", references=CONTROL)
    experiments = {
        "table1": [Part(variants, transfer)],
        "families": [Part((), transfer)],
        "table2": [Part(best, (Measure("attributes", {"updates": "50000"}),))],
        "table3": [Part(best, (Measure("occlusion"),))],
        "figure1": [Part(ablation, (Measure("completion", one, references=()),))],
        "figure5": [Part(shown, (Measure("completion", own=True, references=()),))],
        "figure6": [Part(best, (Measure("completion", one, references=()),))],
        "figure7": [Part(best, (resampling,))],
        "figure8": [Part(variants, (Measure("completion", references=CONTROL),))],
        "figure9": [Part(ablation, (Measure("completion", one, references=CONTROL),))],
    }
    beyond = (Measure("classes"), Measure("robustness"))
    few = (Measure("attributes", {"setting": "few-labels"}), Measure("landmarks", {"setting": "few-labels"}))
    seek = Measure("hide_and_seek", references=CONTROL)
    if what != "all":
        return experiments[what]
    everything = [part for name, listed in experiments.items() for part in listed if name != "families"]
    kinds = tuple(Wanted(name) for name in KINDS)
    return [*everything, Part(variants, (*beyond, *few)), Part(kinds, (Measure("layers"),)), Part(ablation, (seek,))]
