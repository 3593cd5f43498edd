"""Drawing toy faces: every part of a face paints its colour and its relief on one canvas; one light at the end shades all.

A canvas holds planes in face coordinates: x to the right of the face's midline, y downwards, both in image widths, as if
every face looked straight ahead. A part is a function `part(canvas, face)` made of smooth distance fields, so it works at
any picture size with antialiased edges. PARTS, at the end, lists all parts from back to front, each with the window in
which it draws and the people who have it. Pose is a property of the coordinates alone: a pixel looks up the face point
that it sees (`locate`), and a landmark finds its pixel by the inverse (`project`); so landmarks are exact by construction.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]
EYE_X, EYE_Y, MIDLINE, HEAD_Y = 0.1475, 0.425, 0.4975, 0.44  # of a mean aligned CelebA face, in image widths
EYE_DEPTH = 0.8  # heads turn about the eyes: aligned pictures keep these in place
R, HEIGHT, GLOSS, HEAD, X, Y = slice(0, 3), 3, 4, 5, 6, 7  # planes of a canvas


@dataclass(frozen=True)
class Face:
    """What is to be drawn, for n people: attributes (0/1), traits (numbers) and colours, by name, as (n, 1, 1) or (n, 3, 1, 1)."""

    values: Mapping[str, Array]

    def __getitem__(self, name: str) -> Array:
        return self.values[name]

    def rows(self, rows: NDArray[np.intp]) -> Face:
        """Only these people."""
        return Face({name: value[rows] for name, value in self.values.items()})


class Canvas:
    """Planes (n, 8, H, W): red, green, blue, height (image widths), gloss, share of head, x, y. `pixel`: a pixel's width."""

    def __init__(self, planes: Array, pixel: float) -> None:
        self.planes, self.pixel = planes, pixel
        self.x, self.y, self.height, self.head = planes[:, X], planes[:, Y], planes[:, HEIGHT], planes[:, HEAD]
        self.side = np.abs(self.x)  # both halves of a face are drawn at once

    def cover(self, distance: Array, soft: float = 0.0) -> Array:
        """Share of each pixel inside a shape, given the signed distance to its edge (negative inside)."""
        return np.clip(0.5 - distance / np.float32(self.pixel + soft), 0, 1)

    def paint(self, share: Array, colour: Array, relief: Array | None = None, gloss: float | None = None) -> None:
        """Lay a colour (n, 3, 1, 1) or (n, 3, h, w), and with it a height and a gloss, over `share` (n, h, w)."""
        rgb = self.planes[:, R]
        rgb += share[:, None] * (colour - rgb)
        if relief is not None:
            self.height += share * (relief - self.height)
        if gloss is not None:
            self.planes[:, GLOSS] += share * (np.float32(gloss) - self.planes[:, GLOSS])

    def tint(self, share: Array, factor: tuple[float, float, float]) -> None:
        """Multiply colours by a factor per channel, over `share`: shadows, folds, blush."""
        self.planes[:, R] *= 1 + share[:, None] * (np.array(factor, np.float32).reshape(3, 1, 1) - 1)


def bump(u: Array, v: Array) -> Array:
    """A smooth hill: 1 at the origin, 0 outside the unit circle."""
    return np.square(np.maximum(1 - u * u - v * v, 0))


def ellipse(x: Array, y: Array, rx: Array | float, ry: Array | float) -> Array:
    """Signed distance, to first order, to the ellipse x²/rx² + y²/ry² = 1."""
    u, v = x / rx, y / ry
    r = np.sqrt(u * u + v * v) + np.float32(1e-4)
    return (r * r - r) / (np.sqrt(np.square(u / rx) + np.square(v / ry)) + np.float32(1e-4))


def smooth(low: float, high: float, value: Array) -> Array:
    """0 below `low`, 1 above `high`, smooth between."""
    t = np.clip((value - np.float32(low)) / np.float32(high - low), 0, 1)
    return t * t * (3 - 2 * t)


# ---------------------------------------------------------------- pose


def _depth(x: Array, y: Array) -> Array:
    """How far each point of the image stands towards the viewer: a dome and a nose (1 at the top of the dome)."""
    dome = np.maximum(1 - np.square(x / np.float32(0.37)) - np.square((y - np.float32(0.5)) / np.float32(0.5)), 0)
    return dome + np.float32(0.45) * bump(x / np.float32(0.16), (y - np.float32(0.57)) / np.float32(0.2))


def locate(x: Array, y: Array, face: Face) -> tuple[Array, Array]:
    """The face points seen at image points x, y in [0, 1]: undo shift, scale and roll, then turn the head (yaw, pitch)."""
    x, y = x - MIDLINE - face["shift_x"], y - 0.5 - face["shift_y"]
    c, s = np.cos(face["roll"]) / face["zoom"], np.sin(face["roll"]) / face["zoom"]
    x, y = c * x + s * y, c * y - s * x + 0.5
    depth = _depth(x, y)
    return x - face["yaw"] * (depth - EYE_DEPTH), y - face["pitch"] * (depth - EYE_DEPTH)


def project(x: Array, y: Array, face: Face) -> tuple[Array, Array]:
    """Inverse of `locate`: where face points appear in the image. Turning is inverted by fixed-point steps (a contraction)."""
    u, v = x, y
    for _ in range(30):
        depth = _depth(u, v)
        u, v = x + face["yaw"] * (depth - EYE_DEPTH), y + face["pitch"] * (depth - EYE_DEPTH)
    c, s, v = np.cos(face["roll"]) * face["zoom"], np.sin(face["roll"]) * face["zoom"], v - 0.5
    return c * u - s * v + MIDLINE + face["shift_x"], s * u + c * v + 0.5 + face["shift_y"]


def landmarks(face: Face) -> Array:
    """(n, 5, 2) positions x, y in [0, 1] of the pupils, the tip of the nose and the corners of the mouth, as drawn."""
    gaze, wry = face["gaze"], face["asymmetry"]
    x = [gaze - EYE_X, gaze + EYE_X, 0 * gaze, -face["mouth_width"], face["mouth_width"]]
    y = [EYE_Y - wry, EYE_Y + wry, face["nose_tip"], face["mouth_y"] - wry, face["mouth_y"] + wry]
    points = project(np.concatenate(x, 2), np.concatenate(y, 2), face)
    return np.stack(points, 3)[:, 0].astype(np.float32)


# ---------------------------------------------------------------- behind the face


def background(c: Canvas, f: Face) -> None:
    """A slanted gradient between two colours, with two discs out of focus."""
    t = np.clip(0.5 + f["slant"] * c.x + 0.6 * (c.y - 0.5), 0, 1)
    c.planes[:, R] = f["wall"] + t[:, None] * (f["wall2"] - f["wall"])
    for k, colour in ((1, "wall3"), (-1, "wall")):
        d = np.hypot(c.x - k * f["disc_x"], c.y - 0.35 + k * f["disc_y"]) - (0.16 - 0.05 * k)
        c.paint(0.6 * c.cover(d, 0.06), f[colour])


def _hair_texture(c: Canvas, f: Face) -> Array:
    """Strands: arcs over the crown, hanging down at the sides; swinging where wavy, fine and parallel where straight."""
    swing = f["Wavy_Hair"] * 0.022 * np.sin(30 * c.y + f["phase"])
    s = np.hypot(c.x, np.minimum(c.y - 0.4, 0)) + swing
    strand = np.sin(150 * s + 3 * f["phase"]) + 0.7 * np.sin(87 * s + f["phase"])
    curl = np.sin(75 * s) * np.sin(34 * c.y + 60 * s * 0.3 + f["phase"])
    return (0.25 + 0.75 * f["Straight_Hair"]) * (1 - f["Wavy_Hair"]) * strand * 0.5 + f["Wavy_Hair"] * (
        curl + 0.3 * strand
    )


def _paint_hair(c: Canvas, f: Face, share: Array, lift: float) -> None:
    texture = _hair_texture(c, f)
    dome = np.sqrt(np.maximum(1 - np.square(c.x / 0.44) - np.square(np.minimum(c.y - 0.42, 0) / 0.5), 0.02))
    ring = bump((np.hypot(c.x, c.y - 0.45) - 0.40) / 0.09, 0 * c.x)  # the sheen around a crown
    c.paint(share, f["hair"] * (1 + 0.22 * texture + 0.25 * ring)[:, None], 0.22 * dome + lift + 0.004 * texture, 0.05)


def _hair_outline(c: Canvas, f: Face) -> Array:
    """Signed distance to the hair's outer edge: a dome over the skull that ends at the ears or falls to the shoulders."""
    edge = f["Wavy_Hair"] * 0.018 * np.sin(38 * c.y + 22 * c.side + f["phase"])
    top = ellipse(c.x, c.y - 0.42, f["hair_width"], f["hair_top"])
    fall = c.side - f["hair_width"] - 0.05 * f["Long_Hair"] * smooth(0.4, 1.0, c.y) * (1 - f["Straight_Hair"])
    return np.where(c.y < 0.42, top, fall) + edge


def back_hair(c: Canvas, f: Face) -> None:
    """Hair behind the neck, where it is long."""
    share = c.cover(_hair_outline(c, f)) * f["Long_Hair"]
    _paint_hair(c, f, share, -0.1)
    c.tint(share * smooth(0.5, 0.8, c.y) * smooth(0.05, -0.1, c.side - 0.3), (0.6, 0.6, 0.6))


def neck(c: Canvas, f: Face) -> None:
    """The neck, in the shadow of the chin."""
    d = c.side - f["neck_width"] - 0.25 * np.square(np.maximum(c.y - 0.9, 0) / 0.1) * 0.1
    bend = np.sqrt(np.maximum(1 - np.square(c.side / (f["neck_width"] + 0.02)), 0))
    share = c.cover(np.maximum(d, 0.6 - c.y))
    c.paint(share, f["skin"], 0.16 * bend - 0.1, 0.1)
    c.tint(share * smooth(1.02, 0.86, c.y), (0.62, 0.55, 0.53))


def clothes(c: Canvas, f: Face) -> None:
    """Shoulders and a round neckline."""
    line = 0.985 - 0.22 * np.maximum(c.side - f["neck_width"] * 0.8, 0) - 0.02 * f["Wearing_Necktie"]
    opening = ellipse(c.x, c.y - 0.9, f["neck_width"] * 0.95, 0.1 - 0.0 * line)
    d = np.maximum(line - c.y, np.where(c.y > 0.85, -opening, -1))
    c.paint(c.cover(d), f["cloth"] * (1 + 0.06 * np.sin(90 * c.x + f["phase"]))[:, None], 0.1 + 0 * d, 0.0)


def double_chin(c: Canvas, f: Face) -> None:
    """A second roll below the chin."""
    d = ellipse(c.x, c.y - 0.80, 0.235, f["chin"] + 0.062 - 0.80)
    c.paint(c.cover(d, 0.01), f["skin"] * 0.93, 0.1 * np.sqrt(np.maximum(-d, 0) * 8), 0.1)


def necklace(c: Canvas, f: Face) -> None:
    """A chain of beads around the neck."""
    y = c.y - 0.985 + 1.6 * np.square(c.x)
    bead = np.abs(np.mod(c.x + 0.0225, 0.045) - 0.0225)
    share = c.cover(np.hypot(bead, y) - 0.019) * c.cover(c.side - 0.24)
    c.tint(c.cover(np.abs(y - 0.012) - 0.012, 0.01) * c.cover(c.side - 0.24), (0.7, 0.65, 0.62))
    c.paint(share, f["jewel"] * (1.15 - 12 * y)[:, None], None, 0.6)


def necktie(c: Canvas, f: Face) -> None:
    """A white collar, dark lapels and the knot of a tie."""
    c.paint(
        c.cover(np.maximum(0.90 + 0.25 * (c.side - 0.15) - c.y, c.side - 0.3))
        * smooth(0.0, 0.01, c.y - 0.99 + 0.55 * c.side),
        f["shirt"],
        None,
        0.0,
    )
    c.paint(c.cover(1.13 - 0.9 * c.side - c.y + 0 * c.x), f["suit"], None, 0.0)
    knot = np.maximum(c.side - 0.055 + 0.25 * (c.y - 0.93), np.abs(c.y - 0.97) - 0.05)
    c.paint(c.cover(knot), f["tie"] * (1 + 0.25 * np.sin(120 * (c.y + c.x)))[:, None], 0.12 + 0 * knot, 0.15)


# ---------------------------------------------------------------- head


def ears(c: Canvas, f: Face) -> None:
    """Two ears with a darker shell."""
    x, y = c.side - f["face_width"] - 0.012, c.y - 0.5
    c.paint(c.cover(ellipse(x - 0.1 * -y, y, 0.038, 0.085)), f["skin"] * 0.95, 0.03 + 0 * x, 0.05)
    c.tint(c.cover(ellipse(x - 0.1 * -y, y + 0.005, 0.02, 0.055), 0.02), (0.72, 0.6, 0.56))


def _head_norm(c: Canvas, f: Face) -> Array:
    """1 on the outline of the head, less inside: an ellipse that tapers to the chin, its jaw squared off."""
    v = np.where(c.y < HEAD_Y, (c.y - HEAD_Y) / 0.43, (c.y - HEAD_Y) / (f["chin"] - HEAD_Y))
    low = np.maximum(v, 0)
    u = c.side / (f["face_width"] * (1 - f["taper"] * low * low))
    u2, v2 = u * u, v * v
    return np.sqrt(np.maximum(u2 + v2 - f["square"] * u2 * v2 * (v > 0), 0))


def head(c: Canvas, f: Face) -> None:
    """Skin over the relief of the skull: dome, sockets, cheeks, chin, brow ridge."""
    norm = _head_norm(c, f)
    c.head[:] = c.cover((norm - 1) * 0.3)
    eye = c.side - EYE_X
    relief = 0.25 * np.sqrt(np.maximum(1 - norm * norm, 0.0))
    relief -= 0.030 * bump(eye / 0.12, (c.y - EYE_Y) / 0.085)  # sockets
    relief += (
        0.018 * bump((c.side - 0.19) / 0.13, (c.y - 0.575) / 0.12) * (1 + 0.8 * f["Smiling"] + f["Chubby"])
    )  # cheeks
    relief += 0.022 * bump(c.x / 0.11, (c.y - f["chin"] + 0.06) / 0.07)  # chin
    relief += 0.012 * f["brow_ridge"] * bump(eye / 0.17, (c.y - 0.36) / 0.05)
    blood = bump((c.side - 0.19) / 0.16, (c.y - 0.58) / 0.13) + bump(c.x / 0.08, (c.y - 0.6) / 0.09)
    c.paint(c.head, f["skin"], relief, 0.16)
    c.tint(c.head * blood * 0.5, (1.0, 0.9, 0.88))
    c.tint(c.head * bump(eye / 0.13, (c.y - EYE_Y + 0.015) / 0.08) * 0.5, (0.78, 0.7, 0.7))


def spots(c: Canvas, f: Face) -> None:
    """Uneven skin: blotches and a few spots."""
    p = f["phase"]
    blotch = np.sin(31 * c.x + 5 * p) * np.sin(37 * c.y + 3 * p) + np.sin(53 * c.x - 41 * c.y + 7 * p)
    c.tint(c.head * (0.5 + 0.5 * np.clip(blotch, -1, 1)) * 0.8, (0.93, 0.86, 0.84))
    for k in range(7):
        x, y = 0.22 * np.sin(p * (k + 2) + 2 * k), 0.5 + 0.24 * np.sin(p * (k + 3) * 1.7 + k)
        c.tint(c.head * bump((c.x - x) / 0.024, (c.y - y) / 0.024), (0.68, 0.42, 0.40))


def cheekbones(c: Canvas, f: Face) -> None:
    """A light ridge below the outer corner of the eye, a hollow below it."""
    x, y = c.side - 0.21, c.y - 0.535 + 0.35 * (c.side - 0.21)
    c.height += c.head * 0.02 * bump(x / 0.12, y / 0.055)
    c.tint(bump(x / 0.11, y / 0.042) * c.head, (1.16, 1.14, 1.12))
    c.tint(bump((x - 0.01) / 0.11, (y - 0.10) / 0.06) * c.head, (0.74, 0.66, 0.64))


def rosy_cheeks(c: Canvas, f: Face) -> None:
    """Blush."""
    c.tint(c.head * bump((c.side - 0.19) / 0.13, (c.y - 0.6) / 0.11), (1.06, 0.66, 0.70))


def wrinkles(c: Canvas, f: Face) -> None:
    """Age: lines across the forehead, crow's feet, folds beside mouth and nose."""
    lines = c.y + 0.25 * np.square(c.x)
    wave = np.maximum(np.sin((lines - 0.205) * (2 * np.pi / 0.052)), 0)
    forehead = np.square(wave) * smooth(0.19, 0.14, c.side) * smooth(0.17, 0.19, lines) * smooth(0.325, 0.30, lines)
    fan = np.arctan2(c.y - EYE_Y, c.side - 0.19)
    feet = np.maximum(np.sin(9 * fan), 0) * bump((c.side - 0.255) / 0.05, (c.y - EYE_Y) / 0.07)
    fold = _fold(c, f)
    c.height -= c.head * (0.006 * forehead + 0.008 * fold)
    c.tint(c.head * np.clip(forehead * 0.75 + feet + 0.8 * fold, 0, 1), (0.68, 0.56, 0.53))


def _fold(c: Canvas, f: Face) -> Array:
    """The line from the wing of the nose around the corner of the mouth."""
    line = f["nose_width"] + 0.02 + 0.75 * np.maximum(c.y - 0.61, 0) - 1.6 * np.square(np.maximum(c.y - 0.63, 0))
    return bump((c.side - line) / 0.022, (c.y - 0.685) / 0.085)


def smile_folds(c: Canvas, f: Face) -> None:
    """Cheeks pushed up by a smile."""
    c.tint(c.head * _fold(c, f) * 0.8, (0.78, 0.66, 0.64))
    c.tint(
        c.head * bump((c.side - f["mouth_width"] - 0.015) / 0.03, (c.y - f["mouth_y"]) / 0.04) * 0.7, (0.72, 0.6, 0.58)
    )


# ---------------------------------------------------------------- beard


def _beard_zone(c: Canvas, f: Face) -> Array:
    """Where a beard grows: jaw, chin, around the mouth; 1 inside, soft at the edge."""
    jaw = smooth(0.70, 0.80, _head_norm(c, f)) * smooth(0.50, 0.60, c.y)
    chin = smooth(0.785, 0.815, c.y)
    around = c.cover(ellipse(c.x, c.y - 0.745, 0.185, 0.095), 0.03) * c.cover(0.645 - c.y, 0.02)
    return np.maximum(np.maximum(jaw, chin), around) * c.head


def _whiskers(c: Canvas, f: Face) -> Array:
    return np.sin(210 * c.x + f["phase"]) * np.sin(170 * c.y + 60 * c.x)


def stubble(c: Canvas, f: Face) -> None:
    """The shadow of a shaved beard."""
    c.tint(_beard_zone(c, f) * (0.85 + 0.25 * _whiskers(c, f)), (0.62, 0.66, 0.72))


def full_beard(c: Canvas, f: Face) -> None:
    """A short beard over the whole jaw."""
    hair = f["beard"] * (1 + 0.25 * _whiskers(c, f))[:, None]
    c.paint(0.92 * _beard_zone(c, f), hair, c.height + 0.012, 0.03)


def goatee(c: Canvas, f: Face) -> None:
    """A beard on the chin alone."""
    d = ellipse(c.x, c.y - f["chin"] + 0.045, 0.085, 0.075)
    c.paint(0.95 * c.cover(d, 0.015), f["beard"] * (1 + 0.25 * _whiskers(c, f))[:, None], c.height + 0.015, 0.03)


def mustache(c: Canvas, f: Face) -> None:
    """Two wings above the upper lip."""
    y = f["mouth_y"] - 0.045 + 0.9 * np.square(c.side) + 0.004 * np.cos(60 * c.x)
    d = np.maximum(np.abs(c.y - y) - 0.024 * (1.2 - c.side / 0.14), c.side - 0.135)
    c.paint(0.95 * c.cover(d, 0.006), f["beard"] * (1 + 0.25 * _whiskers(c, f))[:, None], c.height + 0.012, 0.03)


def sideburns(c: Canvas, f: Face) -> None:
    """Strips of beard in front of the ears."""
    d = np.maximum(f["face_width"] - 0.062 - c.side, np.abs(c.y - 0.50) - 0.13)
    c.paint(
        0.95 * c.head * c.cover(d, 0.012), f["beard"] * (1 + 0.25 * _whiskers(c, f))[:, None], c.height + 0.01, 0.03
    )


# ---------------------------------------------------------------- eyes, nose, mouth


def _sign(c: Canvas) -> Array:
    return np.sign(c.x)


def bags(c: Canvas, f: Face) -> None:
    """Dark crescents below the eyes."""
    u = c.side - EYE_X + 0.005
    y = c.y - EYE_Y - 0.052 + 2.2 * np.square(u)
    c.tint(c.head * bump(u / 0.085, y / 0.026), (0.60, 0.50, 0.56))
    c.height += c.head * 0.006 * bump(u / 0.08, (y + 0.012) / 0.02)


def makeup(c: Canvas, f: Face) -> None:
    """Eye shadow up to the brow."""
    u = c.side - EYE_X - 0.01
    share = bump(u / 0.11, (c.y - EYE_Y + 0.030) / 0.06)
    c.paint(np.clip(1.2 * share, 0, 0.8) * c.head, f["shadow"], None, 0.2)


def eyes(c: Canvas, f: Face) -> None:
    """Almond eyes: white, iris, pupil at the landmark, a catch light; lashes along the upper lid and a crease above."""
    u = c.side - EYE_X
    y = c.y - EYE_Y - _sign(c) * f["asymmetry"] + f["eye_slant"] * u
    bow = 1 - np.square(u / f["eye_width"])
    upper, lower = -f["eye_height"] * bow, 0.72 * f["eye_height"] * bow
    inside = c.cover(np.maximum(upper - y, y - lower))
    white = np.float32([0.93, 0.92, 0.91]).reshape(3, 1, 1) * (0.72 + 0.28 * smooth(-0.03, 0.005, y - 0))[:, None]
    c.paint(inside, white, c.height + 0.01, 0.05)
    gx, gy = c.x - _sign(c) * EYE_X - f["gaze"], c.y - EYE_Y - _sign(c) * f["asymmetry"]
    r = np.hypot(gx, gy)
    iris = np.float32(0.030)
    c.paint(inside * c.cover(r - iris), f["iris"] * (0.55 + 14 * r)[:, None])
    c.paint(inside * c.cover(r - 0.014), 0 * f["iris"] + 0.03)
    c.paint(inside * c.cover(np.hypot(gx + 0.010, gy + 0.010) - 0.006), 0 * f["iris"] + 1.0)
    wing = np.maximum(np.abs(u) - f["eye_width"] - 0.008, 0)
    lash = np.abs(y - upper + 0.25 * np.maximum(u - 0.03, 0)) - f["lash"] * (0.7 + 6 * np.maximum(u, 0)) + wing
    c.paint(c.cover(lash), f["lash_colour"])
    c.tint(c.cover(np.abs(y - lower) - 0.003 + wing, 0.006) * 0.6, (0.6, 0.5, 0.5))
    c.tint(c.cover(np.abs(y - upper + 0.022) - 0.003 + wing, 0.012) * 0.7, (0.70, 0.6, 0.58))


def brows(c: Canvas, f: Face) -> None:
    """Eyebrows: a bow, or a high arch; thick inside, thin outside."""
    u = c.side - EYE_X - 0.005
    bow = 1 - np.square((u - 0.025) / 0.085)
    y = c.y - f["brow_y"] - 1.5 * _sign(c) * f["asymmetry"] + f["brow_arch"] * bow + f["brow_tilt"] * u
    thick = f["brow_thick"] * np.clip(1.0 - 5 * u, 0.35, 1.25)
    d = np.maximum(np.abs(y) - thick, np.abs(u) - 0.088)
    hair = f["brow"] * (1 + 0.2 * f["Bushy_Eyebrows"] * np.sin(220 * c.side + 80 * c.y))[:, None]
    c.paint(0.9 * c.cover(d, 0.006), hair, c.height + 0.004, 0.03)


def nose(c: Canvas, f: Face) -> None:
    """A ridge that rises to the tip, wings beside it, nostrils and a shadow below; narrow and high where pointed."""
    tip, width = f["nose_tip"], f["nose_width"]
    t = np.clip((c.y - 0.40) / (tip - 0.40), 0, 1)
    ridge = t * bump(c.x / (0.035 + (f["nose_bulb"] - 0.005) * t * t), 0 * c.x) * smooth(0.035, -0.005, c.y - tip)
    wings = bump((c.side - 0.72 * width) / (0.55 * width), (c.y - tip - 0.012) / 0.042)
    c.height += c.head * (f["nose_height"] * ridge + 0.028 * wings)
    c.tint(c.head * bump((c.side - 0.02 - 0.8 * width * t) / 0.03, (c.y - 0.53) / 0.14) * 0.35, (0.72, 0.62, 0.6))
    c.tint(c.head * bump(c.x / (width * 1.5), (c.y - tip - 0.048) / 0.026) * 0.8, (0.62, 0.5, 0.48))
    c.tint(
        c.cover(ellipse(c.side - 0.52 * width, c.y - tip - 0.030, 0.26 * width, 0.011), 0.008) * 0.9, (0.35, 0.25, 0.24)
    )
    c.tint(bump(c.x / (0.4 * f["nose_bulb"]), (c.y - tip + 0.01) / 0.03), (1.13, 1.12, 1.12))


def point(c: Canvas, f: Face) -> None:
    """A pointed nose: a bright thin ridge and the wedge of its shadow."""
    t = np.clip((c.y - 0.42) / (f["nose_tip"] - 0.42), 0, 1)
    c.tint(c.cover(np.maximum(c.side - 0.011, np.abs(c.y - 0.51) - 0.09), 0.012) * 0.9, (1.22, 1.2, 1.18))
    c.tint(
        c.cover(np.abs(c.side - 0.016 - 0.030 * t) - 0.006, 0.014) * t * (c.y < f["nose_tip"] + 0.02),
        (0.66, 0.56, 0.54),
    )


def mouth(c: Canvas, f: Face) -> None:
    """Lips around a line between the two corners; a smile lets its middle hang; teeth and a dark gap where open."""
    w = f["mouth_width"]
    my = f["mouth_y"] + f["asymmetry"] * c.x / w
    bow = np.maximum(1 - np.square(c.x / w), 0)
    line = c.y - my - f["smile"] * bow
    gap = f["gap"] * np.sqrt(bow)
    top, bottom = -0.4 * gap, 0.6 * gap
    cupid = 1 - 0.30 * bump(c.x / (0.3 * w), 0 * c.x)
    upper = top - f["lip"] * 0.8 * bow * cupid - 0.003
    lower = bottom + f["lip"] * 1.05 * np.sqrt(bow) * bow + 0.003
    ends = c.side - w
    lips = c.cover(np.maximum(np.maximum(upper - line, line - lower), ends))
    puff = (
        0.5
        * f["lip"]
        * (bump(c.x / w, (line - upper * 0.5) / 0.02) + 1.2 * bump(c.x / (w * 0.9), (line - lower * 0.6) / 0.025))
    )
    c.paint(lips, f["lips"] * (1 - 0.12 * (line < 0))[:, None], c.height + puff, 0.35)
    inside = c.cover(np.maximum(np.maximum(top - line, line - bottom), ends)) * (f["gap"] > 0.005)
    c.paint(inside, 0 * f["lips"] + np.float32([0.25, 0.07, 0.07]).reshape(3, 1, 1), None, 0.0)
    teeth = c.cover(np.maximum(line - top - 0.62 * f["gap"], c.side - 0.8 * w))
    c.paint(inside * teeth, 0 * f["lips"] + np.float32([0.93, 0.91, 0.87]).reshape(3, 1, 1))
    seam = c.cover(np.maximum(np.abs(line) - 0.004, ends)) * (f["gap"] < 0.005)
    c.tint(seam, (0.42, 0.32, 0.32))
    c.tint(bump((c.side - w) / 0.022, (c.y - my) / 0.02) * 0.9, (0.5, 0.4, 0.4))
    c.tint(c.head * bump(c.x / (0.7 * w), (line - lower - 0.018) / 0.02) * 0.6, (0.74, 0.64, 0.62))


# ---------------------------------------------------------------- in front of the face


def front_hair(c: Canvas, f: Face) -> None:
    """Hair over the skull, outside the opening for the face; a parting leans the opening to one side."""
    line = f["hairline"] + f["part"] * c.x * (1 - f["Receding_Hairline"])
    line = line - 0.35 * f["Receding_Hairline"] * np.square(np.maximum(0.2 - np.abs(c.side - 0.15), 0))
    opening = ellipse(c.x, c.y - 0.5, f["opening"], 0.5 - line)
    low = smooth(0.0, 0.03, c.y - 0.5) * (1 - f["Long_Hair"])
    d = np.maximum(_hair_outline(c, f), np.where(c.y < 0.5, -opening, f["opening"] - c.side))
    d = np.maximum(d, (c.y - 0.44 - 10 * f["Long_Hair"]))
    share = c.cover(d) * (1 - low)
    c.tint(c.cover(d - 0.025, 0.03) * c.head * 0.6, (0.62, 0.54, 0.52))
    _paint_hair(c, f, share, 0.06)


def bangs(c: Canvas, f: Face) -> None:
    """A fringe down to the brows, cut slightly ragged."""
    edge = 0.335 + 0.012 * np.sin(60 * c.x + f["phase"]) + 0.25 * np.square(c.x)
    d = np.maximum(c.y - edge, c.side - f["opening"] - 0.02)
    d = np.maximum(d, 0.05 - c.y)
    c.tint(c.cover(d - 0.02, 0.03) * c.head * 0.6, (0.6, 0.52, 0.5))
    texture = np.sin(130 * c.x + f["phase"]) + 0.6 * np.sin(77 * c.x + 2 * f["phase"])
    c.paint(
        c.cover(d), f["hair"] * (1.04 + 0.16 * texture)[:, None], 0.26 - 0.5 * np.square(c.x) + 0.004 * texture, 0.05
    )


def hat(c: Canvas, f: Face) -> None:
    """A crown with a band, and a brim that may be wide."""
    y = c.y - 0.17 - 0.10 * np.square(c.x / 0.4) * -1
    crown = np.maximum(ellipse(c.x, c.y - 0.20, 0.40, 0.36), y)
    dome = 0.3 * np.sqrt(np.maximum(1 - np.square(c.x / 0.42), 0))
    c.tint(c.cover(y - 0.07, 0.05) * c.head * 0.8, (0.55, 0.5, 0.5))
    c.paint(c.cover(crown), f["hat"], dome, 0.02)
    c.paint(c.cover(np.maximum(crown, -0.075 - y)), f["hat_band"], dome, 0.02)
    brim = ellipse(c.x, y - 0.005, f["brim"], 0.035)
    c.paint(c.cover(brim), f["hat"] * 0.85, dome + 0.1 * (c.y - 0.1), 0.02)


def eyeglasses(c: Canvas, f: Face) -> None:
    """Two round lenses, a bridge, temples; a glint on the glass."""
    u, y = c.side - EYE_X - 0.003, c.y - EYE_Y - 0.012
    lens = ellipse(u, y, 0.108, f["lens"])
    c.paint(0.16 * c.cover(lens), f["glass"], None, 0.5)
    frame = np.abs(lens) - 0.009
    bridge = np.maximum(np.abs(y + 0.02 - 0.5 * np.square(c.x)) - 0.008, c.side - 0.045)
    temple = np.maximum(np.abs(y + 0.018) - 0.008, np.maximum(0.255 - c.side, c.side - 0.33))
    c.paint(c.cover(np.minimum(np.minimum(frame, bridge), temple)), f["frame"], None, 0.3)
    glint = np.maximum(lens + 0.02, np.abs(c.x - _sign(c) * EYE_X + y * 0.7 + 0.045) - 0.012)
    c.paint(0.55 * c.cover(glint, 0.01), 0 * f["glass"] + 1)


def earrings(c: Canvas, f: Face) -> None:
    """A stud and a drop, or a hoop, at the ear lobes."""
    x, y = c.side - f["face_width"] - 0.025, c.y - 0.60
    drop = np.hypot(x, y - f["drop"]) - 0.030
    hoop = np.abs(np.hypot(x, y - 0.04) - 0.036) - 0.009
    d = np.where(f["hoop"] > 0, hoop, np.minimum(drop, np.maximum(np.abs(x) - 0.006, np.abs(y - 0.03) - 0.04)))
    c.tint(c.cover(d - 0.012, 0.02) * 0.6, (0.6, 0.6, 0.6))
    c.paint(c.cover(d), f["jewel"] * (1.1 - 6 * x * np.sign(c.x))[:, None], None, 0.6)


# ---------------------------------------------------------------- light and lens


def shade(c: Canvas, f: Face) -> Array:
    """(n, 3, H, W) colours under one light: Lambert's law and a gloss on the normals of the relief."""
    h, flat = c.height, np.float32(0.5 / c.pixel)
    gx, gy = np.zeros_like(h), np.zeros_like(h)
    np.subtract(h[:, :, 2:], h[:, :, :-2], out=gx[:, :, 1:-1])
    np.subtract(h[:, 2:], h[:, :-2], out=gy[:, 1:-1])
    gx, gy = np.clip(gx * -flat, -1.6, 1.6), np.clip(gy * -flat, -1.6, 1.6)
    norm = 1 / np.sqrt(1 + gx * gx + gy * gy)
    lx, ly, lz = f["light_x"], f["light_y"], np.sqrt(1 - np.square(f["light_x"]) - np.square(f["light_y"]))
    lambert = np.maximum((gx * lx + gy * ly + lz) * norm, 0)
    half = np.sqrt((1 + lz) * 2)
    gloss = np.maximum((gx * lx + gy * ly + lz + 1) * norm / half, 0)
    for _ in range(4):
        gloss = gloss * gloss
    light = f["light"] * (f["ambient"] + (1 - f["ambient"]) * lambert / 0.9)[:, None]
    return c.planes[:, R] * light + (c.planes[:, GLOSS] * gloss)[:, None]


def blur(images: Array, sigma: float) -> Array:
    """Gaussian blur of (n, 3, H, W), edges repeated; sigma in pixels."""
    radius = int(np.ceil(3 * sigma))
    taps = np.exp(-0.5 * np.square(np.arange(-radius, radius + 1) / sigma)).astype(np.float32)
    taps /= taps.sum()
    for axis in (2, 3):
        pad = np.pad(images, [(radius, radius) if a == axis else (0, 0) for a in range(4)], mode="edge")
        n = images.shape[axis]
        images = sum(
            (w * (pad[:, :, k : k + n] if axis == 2 else pad[..., k : k + n]) for k, w in enumerate(taps)),
            np.float32(0),
        )
    return images


# ---------------------------------------------------------------- the whole

Part = Callable[[Canvas, Face], None]
ALL = (-0.5, 0.5, 0.0, 1.0)
# From back to front: part, who has it ("" everybody, "!" those who lack it), window x0, x1, y0, y1 in image widths.
PARTS: tuple[tuple[Part, str, tuple[float, float, float, float]], ...] = (
    (background, "", ALL),
    (back_hair, "Long_Hair", ALL),
    (neck, "", (-0.34, 0.34, 0.55, 1.0)),
    (clothes, "", (-0.5, 0.5, 0.78, 1.0)),
    (double_chin, "Double_Chin", (-0.3, 0.3, 0.6, 1.0)),
    (necktie, "Wearing_Necktie", (-0.5, 0.5, 0.78, 1.0)),
    (necklace, "Wearing_Necklace", (-0.3, 0.3, 0.8, 1.0)),
    (ears, "", (-0.45, 0.45, 0.35, 0.66)),
    (head, "", (-0.42, 0.42, 0.0, 1.0)),
    (spots, "!Attractive", (-0.38, 0.38, 0.05, 0.9)),
    (cheekbones, "High_Cheekbones", (-0.4, 0.4, 0.4, 0.8)),
    (rosy_cheeks, "Rosy_Cheeks", (-0.4, 0.4, 0.45, 0.75)),
    (wrinkles, "!Young", (-0.38, 0.38, 0.1, 0.84)),
    (smile_folds, "Smiling", (-0.25, 0.25, 0.55, 0.84)),
    (stubble, "5_o_Clock_Shadow", (-0.4, 0.4, 0.45, 0.95)),
    (full_beard, "Full_Beard", (-0.4, 0.4, 0.45, 0.95)),
    (sideburns, "Sideburns", (-0.4, 0.4, 0.33, 0.68)),
    (goatee, "Goatee", (-0.16, 0.16, 0.7, 0.96)),
    (bags, "Bags_Under_Eyes", (-0.3, 0.3, 0.4, 0.56)),
    (makeup, "Heavy_Makeup", (-0.32, 0.32, 0.3, 0.5)),
    (eyes, "", (-0.3, 0.3, 0.34, 0.52)),
    (brows, "", (-0.31, 0.31, 0.22, 0.46)),
    (nose, "", (-0.18, 0.18, 0.36, 0.74)),
    (point, "Pointy_Nose", (-0.12, 0.12, 0.38, 0.7)),
    (mouth, "", (-0.24, 0.24, 0.62, 0.88)),
    (mustache, "Mustache", (-0.2, 0.2, 0.58, 0.8)),
    (front_hair, "!Bald", ALL),
    (bangs, "Bangs", (-0.42, 0.42, 0.0, 0.48)),
    (hat, "Wearing_Hat", (-0.5, 0.5, 0.0, 0.42)),
    (eyeglasses, "Eyeglasses", (-0.42, 0.42, 0.28, 0.58)),
    (earrings, "Wearing_Earrings", (-0.5, 0.5, 0.5, 0.8)),
)
MARGIN = 0.07  # pose moves a face by no more than this


def render(face: Face, size: int, noise: Array) -> tuple[NDArray[np.uint8], Array]:
    """Draw n faces: images (n, 3, size, size) and their landmarks (n, 5, 2). `noise` (n, 3, size, size): of the sensor, std 1."""
    n = len(noise)
    centres = (np.arange(size, dtype=np.float32) + np.float32(0.5)) / np.float32(size)
    planes = np.zeros((n, 8, size, size), np.float32)
    planes[:, X], planes[:, Y] = locate(centres[None, None, :], centres[None, :, None], face)
    for part, who, (x0, x1, y0, y1) in PARTS:
        has = np.ones(n, bool) if not who else (face[who.lstrip("!")][:, 0, 0] > 0.5) != who.startswith("!")
        rows = np.flatnonzero(has)
        if len(rows) == 0:
            continue
        left, right = (int(np.clip(size * (MIDLINE + v), 0, size)) for v in (x0 - MARGIN, x1 + MARGIN + 1 / size))
        top, bottom = (int(np.clip(size * v, 0, size)) for v in (y0 - MARGIN, y1 + MARGIN + 1 / size))
        patch = planes[rows, :, top:bottom, left:right]
        part(Canvas(patch, 1 / size), face.rows(rows))
        planes[rows, :6, top:bottom, left:right] = patch[:, :6]
    images = shade(Canvas(planes, 1 / size), face)
    fuzzy = np.flatnonzero(face["Blurry"][:, 0, 0] > 0.5)
    images[fuzzy] = blur(images[fuzzy], 0.028 * size)
    images += np.float32(0.012) * noise
    return np.clip(images * 255 + np.float32(0.5), 0, 255).astype(np.uint8), landmarks(face)
