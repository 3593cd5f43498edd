"""Masks: what the network sees of an image. 1 is seen, 0 is missing, in every tensor of this suite.

The six variants of Figure 3 are special cases of one rectangle per channel (equation 6). Boxes are real-valued; a pixel
at integer coordinate x (numbered 1…W) is inside when x_c < x ≤ x_c + w.
"""

import torch
from torch import Tensor

from mdebench.errors import UserError
from mdebench.variants import check_ratio

# After GFC: rectangles (top, left, height, width) on a face of 128 pixels, given as offsets from the mean of the
# landmarks they cover and divided by 128. `_ANCHORS` are the means of our CelebA crop (the alignment fixes the eyes).
_ANCHORS = {"eyes": (0.496, 0.427), "lefteye": (0.353, 0.427), "righteye": (0.640, 0.427), "mouth": (0.496, 0.733)}
_RECTANGLES = {
    "left_half": ("eyes", -11, -31, 64, 38),
    "right_half": ("eyes", -11, -7, 64, 38),
    "both_eyes": ("eyes", -11, -35, 22, 70),
    "left_eye": ("lefteye", -11, -19, 22, 38),
    "right_eye": ("righteye", -11, -19, 22, 38),
    "mouth": ("mouth", -19, -24, 38, 48),
}
PRESETS = tuple(_RECTANGLES)


def draw_boxes(count: tuple[int, ...], S: float, generator: torch.Generator) -> Tensor:
    """Boxes (*count, 4) as (x1, y1, x2, y2) relative to the image, each of area S (equation 6 with W = H = 1).

    h ~ U(S, 1), w = S/h, x ~ U(0, 1 − w), y ~ U(0, 1 − h).
    """
    u = torch.rand((*count, 3), generator=generator, dtype=torch.float64)
    return boxes_from_uniform(u, S)


def boxes_from_uniform(u: Tensor, S: float) -> Tensor:
    """Equation (6) as a map of three uniform numbers in [0, 1): (..., 3) → boxes (..., 4)."""
    h = S + (1 - S) * u[..., 0]
    w = S / h
    x, y = (1 - w) * u[..., 1], (1 - h) * u[..., 2]
    return torch.stack([x, y, x + w, y + h], dim=-1)


def rasterize(boxes: Tensor, height: int, width: int) -> Tensor:
    """Boxes (..., 4) relative to the image → masks (..., height, width) float, 1 inside (equation 6, last line)."""
    x = torch.arange(1, width + 1, dtype=boxes.dtype)
    y = torch.arange(1, height + 1, dtype=boxes.dtype)
    x1, y1, x2, y2 = (boxes * torch.tensor([width, height, width, height], dtype=boxes.dtype)).unbind(-1)
    inside_x = (x > x1[..., None]) & (x <= x2[..., None])
    inside_y = (y > y1[..., None]) & (y <= y2[..., None])
    return (inside_y[..., :, None] & inside_x[..., None, :]).float()


def draw(variant: str, S: float | None, count: int, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Masks of one variant for ``count`` images (Figure 3).

    Returns ``seen`` (count, 3, size, size) float of 0 and 1, and the boxes (count, 3, 4) relative to the image; a
    missing channel of colorization has the empty box, a seen one the whole image.
    """
    check_ratio(variant, S)
    if variant.startswith("colorization"):
        missing = int(variant[-1])
        order = torch.rand((count, 3), generator=generator).argsort(dim=1)
        boxes = torch.tensor([0.0, 0.0, 1.0, 1.0], dtype=torch.float64) * (order >= missing)[..., None]
        return rasterize(boxes, size, size), boxes
    assert S is not None
    if variant == "rec":
        boxes = draw_boxes((count, 3), S, generator)
    elif variant == "re":
        boxes = draw_boxes((count, 1), S, generator).expand(-1, 3, -1)
    else:  # the box of RE with its place and shape fixed: a centred square
        low, high = (1 - S**0.5) / 2, (1 + S**0.5) / 2
        boxes = torch.tensor([low, low, high, high], dtype=torch.float64).expand(count, 3, 4)
    seen = rasterize(boxes, size, size)
    return (1 - seen if variant == "inpainting" else seen), boxes


def preset_box(name: str) -> tuple[float, float, float, float]:
    """The occlusion rectangle (x1, y1, x2, y2) of a preset, relative to our face crop; UserError if unknown."""
    if name not in _RECTANGLES:
        raise UserError(f"there is no occlusion preset {name!r}; choose among {', '.join(PRESETS)}")
    anchor, top, left, height, width = _RECTANGLES[name]
    x, y = _ANCHORS[anchor]
    return x + left / 128, y + top / 128, x + (left + width) / 128, y + (top + height) / 128


def preset(name: str, size: int) -> Tensor:
    """What is seen under an occlusion preset (Table 3): (1, 1, size, size) float, 0 inside the rectangle."""
    return 1 - rasterize(torch.tensor(preset_box(name), dtype=torch.float64), size, size)[None, None]
