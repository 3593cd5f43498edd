"""A square hole of half the image's side, a quarter of its area, anywhere in the image: what GFC and PGGAN train on."""

import torch
from torch import Tensor


def hole_side(size: int) -> int:
    """Side of the hole in pixels, of an image of ``size`` pixels."""
    return size // 2


def draw_corners(count: int, size: int, generator: torch.Generator) -> Tensor:
    """The first column and row of a hole per image, every place as likely: (count, 2) int64."""
    return torch.randint(size - hole_side(size) + 1, (count, 2), generator=generator)


def outside(corners: Tensor, size: int) -> Tensor:
    """What holes at ``corners`` (N, 2) leave to see: (N, 1, size, size) float32, 0 in the hole and 1 around it."""
    place = torch.arange(size, device=corners.device) - corners[..., None]  # in the hole from 0 to its side
    inside = (place >= 0) & (place < hole_side(size))
    return (~(inside[:, 1, :, None] & inside[:, 0, None, :])).float()[:, None]


def cut(images: Tensor, corners: Tensor) -> Tensor:
    """The holes' content: (N, C, size, size) and ``corners`` (N, 2) → (N, C, side, side)."""
    side = hole_side(images.shape[-1])
    return torch.stack([image[:, y : y + side, x : x + side] for image, (x, y) in zip(images, corners.tolist())])
