"""Random weights: the encoder of the Missing Data Encoder as it is before any training.

Paper: Table 1, first row (9.753 px, 19.79 %), section 3.2.3. Nothing was changed for small images: the encoder has the
width and code of the scale it stands beside.
Command: ``mdebench pretrain random`` (the protocols add it to every table by themselves).
Expected: by a converged probe better than the majority value, and than the paper's row suggests.
"""

from dataclasses import dataclass

from torch import Tensor

from mdebench.methods.contract import Method as BaseMethod
from mdebench.methods.networks import Encoder
from mdebench.settings import Count


@dataclass(frozen=True)
class Settings:
    """``width`` channels of the first stage and ``code`` numbers in the representation, as in section 2.5."""

    width: Count = 64
    code: Count = 4000


class Method(BaseMethod):
    """An untrained encoder: it has no players, and it cannot complete."""

    REFERENCE = True

    def __init__(self, settings: Settings, size: int):
        super().__init__(settings, size)
        self.encoder = Encoder(size, settings.width, settings.code)
        self.feature_dim = settings.code

    def encode(self, images: Tensor) -> Tensor:
        """The code of whole images: (N, 3, H, W) in [0, 1] → (N, code)."""
        code: Tensor = self.encoder(images)[0]
        return code

    def stages(self, images: Tensor) -> dict[str, Tensor]:
        """The map after each stage, whole images (N, 3, H, W) in [0, 1] → (N, C, h, w) each."""
        return self.encoder.maps(images)
