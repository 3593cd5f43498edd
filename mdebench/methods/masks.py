"""Masks: what the network sees of an image. 1 is seen, 0 is missing, in every tensor of this suite.

The six variants of Figure 3 are special cases of one rectangle per channel (equation 6). Boxes are real-valued; a pixel
at integer coordinate x (numbered 1…W) is inside when x_c < x ≤ x_c + w.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from mdebench.errors import UserError
from mdebench.variants import FREE_FORM, STROKES, check_ratio

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
    missing channel of colorization has the empty box, a seen one the whole image. Masks of strokes have empty boxes.
    """
    check_ratio(variant, S)
    if variant in STROKES:
        seen = draw_strokes(variant, count, size, generator)
        return seen.expand(-1, 3, -1, -1), torch.zeros(count, 3, 4, dtype=torch.float64)
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


def draw_strokes(kind: str, count: int, size: int, generator: torch.Generator) -> Tensor:
    """Masks of one of `STROKES`, by `draw_free_form` or of `draw_damage`: (count, 1, size, size) float of 0 and 1."""
    free = kind == FREE_FORM
    return draw_free_form(count, size, generator) if free else intact(draw_damage(count, size, generator))


def draw_free_form(count: int, size: int, generator: torch.Generator) -> Tensor:
    """DeepFill v2's training masks: (count, 1, size, size) float, 0 under one to three brush strokes and a rectangle.

    The rectangle's sides are a quarter to a half of the image's (Yu et al. 2019, section 4.4).
    """
    strokes = _draw_strokes(count, size, generator)
    side = 0.25 + 0.25 * torch.rand((count, 2), generator=generator, dtype=torch.float64)
    corner = (1 - side) * torch.rand((count, 2), generator=generator, dtype=torch.float64)
    rectangle = rasterize(torch.cat([corner, corner + side], dim=1), size, size) > 0
    return (~(strokes | rectangle)).float()[:, None]


def draw_damage(count: int, size: int, generator: torch.Generator) -> Tensor:
    """VCNet's damage: how much of each pixel is left, (count, 1, size, size) in [0, 1]; 1 is intact.

    0 under one to three brush strokes, whose rims fade out: what is damaged is smoothed again and again, and set to 1
    under the strokes each time (Wang et al. 2020, section 3.1, after Wang et al. 2018). Four times with a Gaussian of
    4 pixels, cut off at 7, where the image has 256, as in the authors' code.
    """
    strokes = _draw_strokes(count, size, generator).float()[:, None]
    reach = max(1, round(7 / 256 * size))
    bell = [math.exp(-0.5 * (256 / 4 / size * offset) ** 2) for offset in range(-reach, reach + 1)]
    damaged = strokes
    for _ in range(4):
        smooth = damaged
        for axis in (2, 3):  # sums written out: those of a convolution are rounded as its threads share them
            padded = pad(smooth, (0, 0, reach, reach) if axis == 2 else (reach, reach))
            shifted = (padded.narrow(axis, i, size) * weight for i, weight in enumerate(bell))
            smooth = sum(shifted, torch.zeros(())) / sum(bell)
        damaged = torch.where(strokes > 0, strokes, smooth)
    return 1 - damaged


def intact(alpha: Tensor) -> Tensor:
    """The mask that is to be found: ``alpha`` of `draw_damage`, (N, 1, H, W) → 1 where at least half is left, else 0.

    The paper's mask ends with the strokes, where the fading begins; there one more pixel is still mostly damage.
    """
    return (alpha >= 0.5).to(alpha)


def damage(images: Tensor, alpha: Tensor, others: Tensor) -> Tensor:
    """Damaged images: I = O ⊙ α + N ⊙ (1 − α) (Wang et al. 2020, equation 1, with α = 1 − M), in [0, 1].

    ``images`` O and ``others`` N (N, 3, H, W), such as `strange` gives, ``alpha`` (N, 1, H, W) of `draw_damage`.
    """
    alpha = alpha.to(images)
    return images * alpha + others * (1 - alpha)


def strange(images: Tensor, drawn: Tensor) -> Tensor:
    """Content for `damage`: for each image (N, 3, H, W) another one of them, mirrored and moved; the same shape.

    ``drawn`` (N, 3) in [0, 1) says which other image, and how far it is moved down and right over a plane that is
    tiled with it and its mirror images, so that nothing tells a place from its surroundings. A single image gets
    itself, moved.
    """
    count, _, height, width = images.shape
    which, down, right = drawn.to(images.device, torch.float64).unbind(1)
    place = torch.arange(count, device=images.device)
    other = (place + 1 + (which * (count - 1)).long()) % count

    def tiled(moved: Tensor, side: int) -> Tensor:
        """Where each of ``side`` places takes from: (N, side), 0…side − 1 and back."""
        position = ((moved * 2 * side).long()[:, None] + torch.arange(side, device=images.device)) % (2 * side)
        return torch.minimum(position, 2 * side - 1 - position)

    rows, columns = tiled(down, height), tiled(right, width)
    channels = torch.arange(images.shape[1], device=images.device)
    return images[other[:, None, None, None], channels[:, None, None], rows[:, None, :, None], columns[:, None, None]]


def _draw_strokes(count: int, size: int, generator: torch.Generator) -> Tensor:
    """One to three brush strokes for each of ``count`` images: (count, size, size) bool, True underneath.

    A stroke zigzags through 4 to 12 vertices and is 12 to 40 pixels wide where the image has 256 (Yu et al. 2019,
    section 4.4).
    """

    def uniform(*shape: int, low: float = 0.0, high: float = 1.0) -> Tensor:
        return low + (high - low) * torch.rand((count, *shape), generator=generator, dtype=torch.float64)

    strokes, vertices = 3, 12  # at most; the shorter ones stand still at their last vertex
    length = (uniform(strokes, vertices) + uniform(strokes, vertices)) * math.sqrt(2) / 8  # around a mean radius
    angle = uniform(strokes, vertices, low=2 * math.pi * 2 / 15, high=2 * math.pi * 4 / 15)
    angle[..., 1::2] *= -1  # up and down, drifting to one side
    mirrored = uniform(strokes, 1, 2).round() * 2 - 1
    steps = torch.stack([length * angle.cos(), length * angle.sin()], dim=-1) * mirrored
    used = torch.floor(uniform(strokes, 1, low=4, high=vertices + 1))
    steps = steps * (torch.arange(vertices) < used - 1)[..., None]  # one step less than vertices
    points = uniform(strokes, 1, 2)
    path = [points[:, :, 0]]
    for i in range(vertices):
        path.append((path[-1] + steps[:, :, i]).clamp(0, 1))
    drawn = torch.arange(strokes) < torch.floor(uniform(1, low=1, high=strokes + 1))
    half = uniform(strokes, low=12 / 512, high=40 / 512)
    line = torch.stack(path, dim=2)  # (count, strokes, vertices + 1, 2)
    under = _near(line[:, :, :-1], line[:, :, 1:], half[..., None].expand(-1, -1, vertices), size).any(2)
    hole: Tensor = (under & drawn[..., None, None]).any(1)
    return hole


def _near(start: Tensor, end: Tensor, reach: Tensor, size: int) -> Tensor:
    """Pixels whose centres are within ``reach`` (...) of the segments start–end (..., 2) → (..., size, size) bool."""
    axis = (torch.arange(size) + 0.5) / size
    start, along = start.float()[..., None, None], (end - start).float()[..., None, None]
    x, y = axis - start[..., 0, :, :], axis[:, None] - start[..., 1, :, :]  # from the start, a line and a column
    across, down = along[..., 0, :, :], along[..., 1, :, :]
    share = ((x * across + y * down) / (across**2 + down**2).clamp(min=1e-12)).clamp_(0, 1)
    near: Tensor = (x - share * across).square_() + (y - share * down).square_() <= reach.float()[..., None, None] ** 2
    return near


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
