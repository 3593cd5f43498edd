"""OpenCV's two fills, of images of this suite: given bytes, as Telea's is garbage for numbers in [0, 1].

OpenCV is an extra. With 5.0.0.93 `inpaint` of float32 in [0, 1] by Telea is off by more than the image's whole range;
and Telea's looks at what lies in the hole, so that here the mean colour does.
"""

from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

from mdebench.errors import UserError
from mdebench.methods import fills
from mdebench.methods.contract import Method as BaseMethod


class OpenCVFill(BaseMethod):
    """Completes channel by channel, on the CPU; it has no players and no encoder."""

    REFERENCE = True
    FLAG: str  # the name of the way to fill, in OpenCV

    @classmethod
    def lacking(cls) -> str:
        """OpenCV, where it is not installed."""
        return "" if find_spec("cv2") else "OpenCV is not installed here: pip install 'mdebench[opencv]'"

    def complete(self, images: Tensor, seen: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [0, 1] and `seen` (broadcastable) of 1 and 0 → the images with their holes filled.

        UserError without OpenCV. A channel of which nothing is seen gets the mean of all the image's seen values.
        """
        if lack := self.lacking():
            raise UserError(lack)
        import cv2  # an extra, and slow to import

        seen = seen.expand_as(images) > 0
        filled = fills.mean_colour(images, seen.to(images))
        planes = (255 * filled).round().clamp(0, 255).byte().flatten(0, 1).cpu().numpy()
        for plane, hole in zip(planes, ~seen.flatten(0, 1).cpu().numpy()):
            if hole.any() and not hole.all():
                plane[:] = cv2.inpaint(plane, hole.astype(np.uint8), self.settings.radius, getattr(cv2, self.FLAG))
        found = torch.from_numpy(planes).view(images.shape).to(images) / 255
        return torch.where(seen, images, torch.where(seen.flatten(2).any(2)[..., None, None], found, filled))
