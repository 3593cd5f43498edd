"""What a readout is asked (attributes, landmarks, classes), and how its answer is scored: the same in every protocol.

Each kind of labels is a class with `lacking(pack)`, why a pack has not enough of them, and `of(pack)`; an instance
holds the task that a readout is trained on (`probes.Task`) and turns predictions into measurements.
"""

from mdebench.evaluation.tasks.attributes import Attributes, mean_error
from mdebench.evaluation.tasks.classes import Classes
from mdebench.evaluation.tasks.landmarks import Landmarks
from mdebench.evaluation.tasks.scored import Scored, join, known, lacking

__all__ = ["Attributes", "Classes", "Landmarks", "Scored", "join", "known", "lacking", "mean_error"]
