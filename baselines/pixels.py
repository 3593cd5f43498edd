"""Raw pixels: the image itself, shrunk to 21×21, as the representation.

Not in the papers, and missed there: a representation is worth something where it beats pixels (PAPER.md, Transfer). At
any working size the image is shrunk to the same 21×21×3 = 1,323 numbers (bilinear, antialiased).
Command: `mdebench transfer attributes` adds it to every table by itself.
Expected: about 12 % attribute error and 1 px with the converged probe on some 14,000 CelebA images.
"""

from dataclasses import dataclass

from torch import Tensor
from torch.nn.functional import interpolate

from mdebench.errors import UserError
from mdebench.methods.contract import Method as BaseMethod
from mdebench.settings import Count


@dataclass(frozen=True)
class Settings:
    """`side` of the shrunk image in pixels (PAPER.md, Transfer)."""

    side: Count = 21

    def __post_init__(self) -> None:
        if self.side < 1:
            raise UserError(f"side={self.side}: the shrunk image needs at least 1 pixel.")


class Method(BaseMethod):
    """Encodes an image as its own shrunk pixels; it has no players, and it cannot complete."""

    REFERENCE = True

    def __init__(self, settings: Settings, size: int) -> None:
        super().__init__(settings, size)
        self.side = settings.side
        self.feature_dim = 3 * settings.side**2

    def encode(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) in [0, 1] → (N, 3·side²) in [0, 1]."""
        small = interpolate(images, (self.side, self.side), mode="bilinear", align_corners=False, antialias=True)
        return small.flatten(1)
