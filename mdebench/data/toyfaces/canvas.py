"""The canvas on which toy faces are drawn: face coordinates, signed distances, pose, light and lens.

A canvas holds planes in face coordinates: x to the right of the face's midline, y downwards, both in image widths, as
if every face looked straight ahead. Shapes are smooth distance fields: their edges are antialiased at any picture size.
Pose is a property of the coordinates alone: a pixel looks up the face point that it sees (`locate`), and a landmark
finds its pixel by the inverse (`project`): landmarks are exact by construction. `shade` lights the finished relief.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]
EYE_X, EYE_Y, MIDLINE, HEAD_Y = 0.1475, 0.425, 0.4975, 0.44  # of a mean aligned CelebA face, in image widths
EYE_DEPTH = 0.8  # heads turn about the eyes: aligned pictures keep these in place
RGB, HEIGHT, GLOSS, HEAD, X, Y, CLASS = slice(0, 3), 3, 4, 5, 6, 7, 8  # planes of a canvas


@dataclass(frozen=True)
class Face:
    """What to draw of n people: attributes (0/1), traits (numbers) and colours, by name, (n, 1, 1) or (n, 3, 1, 1)."""

    values: Mapping[str, Array]

    def __getitem__(self, name: str) -> Array:
        return self.values[name]

    def rows(self, rows: NDArray[np.intp]) -> Face:
        """Only these people."""
        return Face({name: value[rows] for name, value in self.values.items()})


class Canvas:
    """Planes (n, 8, H, W): red, green, blue, height (image widths), gloss, share of head, x, y; and a pixel's width.

    Where there is a ninth, it holds the class of each pixel: that of the last part to be painted over most of it.
    `paints`: the class of the part that is painted now.
    """

    def __init__(self, planes: Array, pixel: float, paints: int = 0) -> None:
        self.planes, self.pixel, self.paints = planes, pixel, paints
        self.x, self.y, self.height, self.head = planes[:, X], planes[:, Y], planes[:, HEIGHT], planes[:, HEAD]
        self.side = np.abs(self.x)  # both halves of a face are drawn at once

    def cover(self, distance: Array, soft: float = 0.0) -> Array:
        """Share of each pixel inside a shape, given the signed distance to its edge (negative inside)."""
        share: Array = np.minimum(np.maximum(0.5 - distance / (self.pixel + soft), 0), 1)
        return share

    def paint(self, share: Array, colour: Array, relief: Array | None = None, gloss: float | None = None) -> None:
        """Lay a colour (n, 3, 1, 1) or (n, 3, h, w), and with it a height and a gloss, over `share` (n, h, w)."""
        self.planes[:, RGB] += share[:, None] * (colour - self.planes[:, RGB])
        self.mark(share > 0.5)
        if relief is not None:
            self.height += share * (relief - self.height)
        if gloss is not None:
            self.planes[:, GLOSS] += share * (gloss - self.planes[:, GLOSS])

    def mark(self, inside: NDArray[np.bool_]) -> None:
        """What is `inside` (n, h, w) belongs to the part that is painted now."""
        if self.planes.shape[1] > CLASS:
            self.planes[:, CLASS][inside] = self.paints

    def tint(self, share: Array, *factor: float) -> None:
        """Multiply red, green, blue by a factor each, over `share`: shadows, folds, blush."""
        self.planes[:, RGB] *= 1 + share[:, None] * (rgb(*factor) - 1)

    def skin_tint(self, share: Array, *factor: float) -> None:
        """`tint` on the head alone."""
        self.tint(share * self.head, *factor)


def rgb(*channels: float) -> Array:
    """A colour (3, 1, 1)."""
    return np.array(channels, np.float32).reshape(3, 1, 1)


def bump(u: Array, v: Array | float = 0.0) -> Array:
    """A smooth hill: 1 at the origin, 0 outside the unit circle."""
    hill: Array = np.maximum(1 - u * u - v * v, 0)
    return hill * hill


def ellipse(x: Array, y: Array, rx: Array | float, ry: Array | float) -> Array:
    """Signed distance, to first order, to the ellipse x²/rx² + y²/ry² = 1."""
    u, v = x / rx, y / ry
    r = np.sqrt(u * u + v * v) + 1e-4
    distance: Array = (r * r - r) / (np.hypot(u / rx, v / ry) + 1e-4)
    return distance


def smooth(low: float, high: float, value: Array) -> Array:
    """0 at `low`, 1 at `high`, smooth between and constant beyond."""
    t: Array = np.clip((value - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def arch(distance: Array) -> Array:
    """Height of a half-round profile over a shape 1 wide: 0 at its edge (distance 0), 1 at its middle."""
    height: Array = np.sqrt(np.maximum(1 - distance * distance, 0))
    return height


# ---------------------------------------------------------------- pose


def _depth(x: Array, y: Array) -> Array:
    """How far each point of the image stands towards the viewer: a dome and a nose (1 at the top of the dome)."""
    u, v = x / 0.37, (y - 0.5) / 0.5
    dome: Array = np.maximum(1 - u * u - v * v, 0)
    return dome + 0.45 * bump(x / 0.16, (y - 0.57) / 0.2)


def locate(x: Array, y: Array, face: Face) -> tuple[Array, Array]:
    """The face points seen at image points x, y in [0, 1]: undo shift, scale, roll, then turn the head (yaw, pitch)."""
    x, y = x - MIDLINE - face["shift_x"], y - 0.5 - face["shift_y"]
    c, s = np.cos(face["roll"]) / face["zoom"], np.sin(face["roll"]) / face["zoom"]
    x, y = c * x + s * y, c * y - s * x + 0.5
    depth = _depth(x, y) - EYE_DEPTH
    return x - face["yaw"] * depth, y - face["pitch"] * depth


def project(x: Array, y: Array, face: Face) -> tuple[Array, Array]:
    """Inverse of `locate`: where face points appear. Turning is inverted by fixed-point steps (it is a contraction)."""
    u, v = x, y
    for _ in range(30):
        depth = _depth(u, v) - EYE_DEPTH
        u, v = x + face["yaw"] * depth, y + face["pitch"] * depth
    c, s, v = np.cos(face["roll"]) * face["zoom"], np.sin(face["roll"]) * face["zoom"], v - 0.5
    return c * u - s * v + MIDLINE + face["shift_x"], s * u + c * v + 0.5 + face["shift_y"]


def landmarks(face: Face) -> Array:
    """(n, 5, 2) positions x, y in [0, 1] of the pupils, the tip of the nose and the corners of the mouth, as drawn."""
    gaze, wry, width = face["gaze"], face["asymmetry"], face["mouth_width"]
    x = [gaze - EYE_X, gaze + EYE_X, 0 * gaze, -width, width]
    y = [EYE_Y - wry, EYE_Y + wry, face["nose_tip"], face["mouth_y"] - wry, face["mouth_y"] + wry]
    return np.stack(project(np.concatenate(x, 2), np.concatenate(y, 2), face), 3)[:, 0]


# ---------------------------------------------------------------- light and lens


def shade(c: Canvas, f: Face) -> Array:
    """(n, 3, H, W) colours under one light: Lambert's law and a gloss (Blinn) on the normals of the relief."""
    gx, gy = np.zeros_like(c.height), np.zeros_like(c.height)
    gx[:, :, 1:-1] = (c.height[:, :, :-2] - c.height[:, :, 2:]) / (2 * c.pixel)
    gy[:, 1:-1] = (c.height[:, :-2] - c.height[:, 2:]) / (2 * c.pixel)
    gx, gy = np.clip(gx, -0.8, 0.8), np.clip(gy, -0.8, 0.8)  # cliffs between parts are no surfaces
    lx, ly = f["light_x"], f["light_y"]
    lz = np.sqrt(1 - lx * lx - ly * ly)
    norm = 1 / np.sqrt(1 + gx * gx + gy * gy)
    facing = gx * lx + gy * ly + lz
    lambert = np.maximum(facing * norm, 0)
    gloss = np.maximum((facing + 1) * norm / np.sqrt(2 + 2 * lz), 0)
    for _ in range(4):  # to the power 16
        gloss = gloss * gloss
    light = f["light"] * (f["ambient"] + (1.1 - f["ambient"]) * lambert)[:, None]
    lit: Array = c.planes[:, RGB] * light + (c.planes[:, GLOSS] * gloss)[:, None]
    return lit


def blur(images: Array, sigma: float) -> Array:
    """Gaussian blur of (n, 3, H, W), edges repeated; sigma in pixels."""
    radius = int(np.ceil(3 * sigma))
    taps = np.exp(-0.5 * np.square(np.arange(-radius, radius + 1, dtype=np.float32) / sigma))
    for axis in (2, 3):
        wide = np.pad(images, [(radius, radius) if a == axis else (0, 0) for a in range(4)], mode="edge")
        windows = np.lib.stride_tricks.sliding_window_view(wide, len(taps), axis=axis)
        images = windows @ (taps / taps.sum())
    return images
