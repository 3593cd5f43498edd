"""What a readout is asked (attributes, landmarks, classes), and how its answer is scored: the same in every protocol.

Each kind of labels is a class with `lacking(pack)`, why a pack has not enough of them, and `of(pack)`; an instance
holds the task that a readout is trained on (`readouts.Task`) and turns predictions into measurements.
"""

from mdebench.evaluation.tasks.attributes import ATTRIBUTE_ERROR, Attributes, mean_error
from mdebench.evaluation.tasks.classes import Classes
from mdebench.evaluation.tasks.landmarks import LANDMARK_DISTANCE, Landmarks
from mdebench.evaluation.tasks.scored import Scored, join, known, lacking

__all__ = [
    "ATTRIBUTE_ERROR",
    "LANDMARK_DISTANCE",
    "Attributes",
    "Classes",
    "Landmarks",
    "Scored",
    "join",
    "known",
    "lacking",
    "mean_error",
]
