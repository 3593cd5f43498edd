"""Multi-task baseline: one encoder, supervised, that learns all attributes at once.

Paper: the baseline of He, Wang, Fu, Feng, Jiang and Xue, "Adaptively Weighted Multi-task Deep Network for Person
Attribute Classification", 2017, as the MDE paper's Table 2 cites it: the tasks share all but their heads and weigh the
same. Loss and start are those of `_supervised.py`, as for all supervised rows.
Changed for small images: the MDE's encoder in the place of a ResNet-50 (`encoder=timm:resnet50` is that, untrained).
Representation: the code that the heads read.

Command: ``mdebench pretrain multi_task``, ``--set landmarks=true``, ``--set identity=true`` for these tasks, too.
Expected: by Table 2 9.58 % attribute error, where a network of its own for each attribute has 10.37 %. On 6,000
toyfaces the converged probe has 7.5 % error and a balanced accuracy of 80.6 % after 400 updates at `tiny`, a constant
19.8 % and 50 %.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from ._supervised import Shared, SharedSettings


@dataclass(frozen=True)
class Settings(SharedSettings):
    """See `SharedSettings`."""


class Method(Shared):
    """Every head reads the code."""

    PAPER = "He et al. 2017"
    settings: Settings

    def __init__(self, settings: Settings, size: int):
        super().__init__(settings, size)
        self.heads = self.heads_for(settings.code)

    def streams(self, images: Tensor) -> Sequence[Tensor]:
        """The code, for every task."""
        return [self.encode(images)] * self.tasks
