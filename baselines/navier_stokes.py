"""Navier–Stokes fill: lines of equal brightness go on into the hole, as a fluid's stream lines would.

Bertalmio, Bertozzi and Sapiro, "Navier–Stokes, Fluid Dynamics, and Image and Video Inpainting", 2001; OpenCV's, with a
neighbourhood of `radius` pixels. OpenCV fills bytes, so that what is filled has 256 steps. Nothing was changed for
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
    """Completes along the lines of equal brightness."""

    FLAG = "INPAINT_NS"
