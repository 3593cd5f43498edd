"""Telea's fill: from the rim inward, each pixel the weighted mean of what is known near it, its gradients followed.

Telea, "An Image Inpainting Technique Based on the Fast Marching Method", 2004; OpenCV's, with a neighbourhood of
`radius` pixels (Telea's own 3 to 10). OpenCV fills bytes, so that what is filled has 256 steps. Nothing was changed for
small images. It needs the extra: `pip install 'mdebench[opencv]'`.
Command: `mdebench occlusion --preset all` adds it to every table by itself, where OpenCV is installed.
Expected: near the biharmonic fill; streaks in wide holes.
"""

from dataclasses import dataclass

from mdebench.settings import Count

from ._opencv import OpenCVFill


@dataclass(frozen=True)
class Settings:
    """``radius`` of the neighbourhood that a pixel is filled from, in pixels."""

    radius: Count = 3


class Method(OpenCVFill):
    """Completes by fast marching."""

    FLAG = "INPAINT_TELEA"
