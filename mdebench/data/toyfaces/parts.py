"""The parts of a toy face, from back to front: each paints its colour and its relief on the canvas.

A part is a function `part(canvas, face)`. PARTS, at the end, lists all of them with the class of what each draws, the
people who have it and the window in which it draws; `render` goes through that list, then lights the whole. Lengths are
in image widths.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from mdebench.data.toyfaces.canvas import (
    CLASS,
    EYE_X,
    EYE_Y,
    HEAD_Y,
    MIDLINE,
    RGB,
    Array,
    Canvas,
    Face,
    X,
    Y,
    arch,
    blur,
    bump,
    ellipse,
    landmarks,
    locate,
    rgb,
    shade,
    smooth,
)

# ---------------------------------------------------------------- behind the face


def background(c: Canvas, f: Face) -> None:
    """A slanted gradient between two colours, with two discs out of focus."""
    t = np.clip(0.5 + f["slant"] * c.x + 0.6 * (c.y - 0.5), 0, 1)
    c.planes[:, RGB] = f["wall"] + t[:, None] * (f["wall2"] - f["wall"])
    for k, colour in ((1, "wall3"), (-1, "wall")):
        disc = np.hypot(c.x - k * f["disc_x"], c.y - 0.35 + k * f["disc_y"]) - (0.16 - 0.05 * k)
        c.paint(0.6 * c.cover(disc, 0.06), f[colour])


def _paint_hair(c: Canvas, f: Face, share: Array, lift: float) -> None:
    """Strands over a dome: long hair runs in arcs from the parting and hangs; short hair fans out; waves swing."""
    wavy, straight, p = f["Wavy_Hair"], f["Straight_Hair"], f["phase"]
    dome = np.sqrt(np.maximum(1 - (c.x / 0.45) ** 2 - (np.minimum(c.y - 0.42, 0) / 0.52) ** 2, 0.02))
    crown, parting = np.hypot(c.x, np.minimum(c.y - 0.42, 0)), c.x - 0.4 * f["part"]
    s = np.where(f["Long_Hair"] > 0, crown, 0.35 * parting / (c.y + 0.30)) + wavy * 0.020 * np.sin(30 * c.y + p)
    strands = 0.5 * np.sin(150 * s + 3 * p) + 0.35 * np.sin(87 * s + p)
    curls = np.sin(72 * s) * np.sin(34 * c.y + 18 * s + p)
    texture = (0.35 + 1.3 * straight) * (1 - wavy) * strands + wavy * (curls + 0.2 * strands)
    sheen = bump((crown - 0.36) / 0.07, (c.y - 0.10) / 0.28) - 0.7 * bump(parting / 0.016, (c.y - 0.05) / 0.16)
    colour = f["hair"] * (0.92 + 0.20 * texture + 0.30 * sheen)[:, None]
    c.paint(share, colour, 0.22 * dome + lift + (0.002 + 0.002 * wavy) * texture, 0.04)


def _hair_outline(c: Canvas, f: Face) -> Array:
    """Signed distance to the hair's outer edge: a dome over the skull, then straight down to the hair's length."""
    ragged = f["Wavy_Hair"] * 0.016 * np.sin(38 * c.y + 22 * c.side + f["phase"])
    curve = 0.05 * (1 - f["Straight_Hair"]) * np.sin(4.5 * np.maximum(c.y - 0.42, 0))
    sides = c.side - f["hair_width"] - f["Long_Hair"] * curve
    dome = ellipse(c.x, c.y - 0.42, f["hair_width"], 0.455)
    nape = 1.3 * (1 - f["Long_Hair"]) * (c.side - f["face_width"])  # cut short, it rises behind the ear
    end = c.y - f["hair_length"] + nape + 0.8 * ragged
    outline: Array = np.maximum(np.where(c.y < 0.42, dome, sides) + ragged, end)
    return outline


def back_hair(c: Canvas, f: Face) -> None:
    """Long hair behind the neck, in the shadow of the head."""
    share = c.cover(_hair_outline(c, f))
    _paint_hair(c, f, share, -0.16)
    c.tint(share * smooth(0.5, 0.8, c.y) * smooth(0.35, 0.2, c.side), 0.55, 0.55, 0.55)


def neck(c: Canvas, f: Face) -> None:
    """The neck, in the shadow of the chin."""
    d = c.side - f["neck_width"] - 2.5 * np.square(np.maximum(c.y - 0.9, 0))
    share = c.cover(np.maximum(d, 0.6 - c.y))
    c.paint(share, f["skin"], 0.12 * arch(c.side / (f["neck_width"] + 0.03)) - 0.14, 0.1)
    c.tint(share * smooth(1.04, 0.86, c.y), 0.60, 0.52, 0.50)


def clothes(c: Canvas, f: Face) -> None:
    """Shoulders below a round neckline."""
    slope = 0.95 - c.y - 0.22 * (c.side - f["neck_width"])
    neckline = ellipse(c.x, c.y - 0.88, f["neck_width"] * 1.02, 0.125)
    d = np.maximum(slope, -neckline)
    weave = 1 + 0.05 * np.sin(95 * c.x + f["phase"])
    c.paint(c.cover(d), f["cloth"] * (weave - 0.3 * c.cover(d + 0.02, 0.01) + 0.3)[:, None], -0.1 + 0 * d, 0.0)


def double_chin(c: Canvas, f: Face) -> None:
    """A second roll below the chin."""
    d = ellipse(c.x, c.y - 0.80, 0.235, f["chin"] + 0.062 - 0.80)
    c.paint(c.cover(d, 0.01), f["skin"] * 0.93, 0.1 * np.sqrt(np.maximum(-d, 0) * 8) - 0.05, 0.1)
    c.tint(bump((d + 0.055) / 0.022) * smooth(0.8, 0.86, c.y), 0.55, 0.45, 0.43)
    c.tint(bump(d / 0.018) * smooth(0.8, 0.86, c.y), 0.65, 0.55, 0.53)


def necklace(c: Canvas, f: Face) -> None:
    """A string of beads around the neck."""
    y = c.y - 0.965 + 1.3 * c.x * c.x
    ends = c.side - 0.24
    bead = np.hypot(np.mod(c.x + 0.022, 0.044) - 0.022, y) - 0.018
    c.tint(c.cover(np.maximum(np.abs(y - 0.014) - 0.012, ends), 0.01), 0.66, 0.6, 0.58)
    c.paint(c.cover(np.maximum(bead, ends)), f["jewel"] * (1.1 - 14 * y)[:, None], None, 0.6)


def necktie(c: Canvas, f: Face) -> None:
    """The lapels of a suit, a shirt's collar, the knot of a tie."""
    d = 0.90 - c.y + 0.12 * (c.side - 0.1)
    c.paint(c.cover(np.maximum(d, 0.93 - c.y - 0.2 * (c.side - 0.2))), f["suit"], -0.1 + 0 * d, 0.0)
    collar = np.maximum(np.maximum(0.985 - 0.55 * c.side - c.y, c.y - 1.12 + 0.55 * c.side), c.side - 0.24)
    c.paint(c.cover(collar), f["shirt"], -0.08 + 0 * d, 0.0)
    knot = np.maximum(c.side - 0.055 + 0.3 * (c.y - 0.94), 0.925 - c.y)
    c.tint(c.cover(knot - 0.012, 0.02), 0.6, 0.6, 0.62)
    c.paint(c.cover(knot), f["tie"] * (1 + 0.2 * np.sin(110 * (c.y + c.x)))[:, None], 0.03 * arch(c.x / 0.08), 0.1)


# ---------------------------------------------------------------- head


def ears(c: Canvas, f: Face) -> None:
    """Two ears, each a shell with a darker hollow."""
    x, y = c.side - f["face_width"] - 0.008 + 0.1 * (c.y - 0.5), c.y - 0.5
    c.paint(c.cover(ellipse(x, y, 0.036, 0.082)), f["skin"] * 0.95, -0.02 + 0 * x, 0.05)
    c.tint(c.cover(ellipse(x, y + 0.008, 0.018, 0.05), 0.02), 0.72, 0.6, 0.56)


def _head_norm(c: Canvas, f: Face) -> Array:
    """1 on the outline of the head, less inside: an ellipse that tapers to the chin, its jaw squared off."""
    v = (c.y - HEAD_Y) / np.where(c.y < HEAD_Y, 0.43, f["chin"] - HEAD_Y)
    low = np.clip(v, 0, 1) ** 2
    u = c.side / (f["face_width"] * (1 - f["taper"] * low))
    norm: Array = np.sqrt(np.maximum(u * u + v * v - f["square"] * u * u * low, 0))
    return norm


def head(c: Canvas, f: Face) -> None:
    """Skin over the relief of the skull: dome, sockets, cheeks, chin, brow ridge."""
    norm, eye = _head_norm(c, f), c.side - EYE_X
    c.head[:] = c.cover((norm - 1) * 0.3)
    relief = 0.24 * arch(norm)
    relief -= 0.028 * bump(eye / 0.12, (c.y - EYE_Y) / 0.085)
    cheek = bump((c.side - 0.19) / 0.13, (c.y - 0.575) / 0.12)
    relief += 0.016 * (1 + 0.8 * f["Smiling"] + f["Chubby"]) * cheek
    relief += 0.020 * bump(c.x / 0.11, (c.y - f["chin"] + 0.06) / 0.07)
    relief += 0.012 * f["brow_ridge"] * bump(eye / 0.17, (c.y - 0.36) / 0.05)
    c.paint(c.head, f["skin"], relief, 0.14)
    c.skin_tint(0.5 * (cheek + bump(c.x / 0.08, (c.y - 0.6) / 0.09)), 1.0, 0.91, 0.89)
    c.skin_tint(0.5 * bump(eye / 0.13, (c.y - EYE_Y + 0.015) / 0.08), 0.80, 0.72, 0.72)


def spots(c: Canvas, f: Face) -> None:
    """Uneven skin: blotches and freckles."""
    p = f["phase"]
    blotch = np.sin(31 * c.x + 5 * p) * np.sin(37 * c.y + 3 * p) + np.sin(53 * c.x - 41 * c.y + 7 * p)
    c.skin_tint(np.clip(0.5 + 0.5 * blotch, 0, 1), 0.95, 0.88, 0.86)
    for k in range(6):
        x, y = 0.20 * np.sin(p * (k + 2) + 2 * k), 0.53 + 0.13 * np.sin(p * (k + 3) * 1.7 + k)
        c.skin_tint(bump((c.x - x) / 0.022, (c.y - y) / 0.022), 0.80, 0.66, 0.62)


def cheekbones(c: Canvas, f: Face) -> None:
    """A light ridge below the outer corner of the eye, a hollow below it."""
    x, y = c.side - 0.21, c.y - 0.535 + 0.35 * (c.side - 0.21)
    c.height += c.head * 0.018 * bump(x / 0.12, y / 0.055)
    c.skin_tint(bump(x / 0.11, y / 0.042), 1.10, 1.09, 1.08)
    c.skin_tint(bump((x - 0.01) / 0.11, (y - 0.10) / 0.06), 0.88, 0.82, 0.80)


def rosy_cheeks(c: Canvas, f: Face) -> None:
    """Blush."""
    c.skin_tint(bump((c.side - 0.19) / 0.14, (c.y - 0.6) / 0.12), 1.04, 0.76, 0.78)


def _fold(c: Canvas, f: Face) -> Array:
    """The line from the wing of the nose around the corner of the mouth."""
    line = f["nose_width"] + 0.02 + 0.75 * np.maximum(c.y - 0.61, 0) - 1.6 * np.square(np.maximum(c.y - 0.63, 0))
    return bump((c.side - line) / 0.022, (c.y - 0.685) / 0.085)


def wrinkles(c: Canvas, f: Face) -> None:
    """Age: lines across the forehead, crow's feet, folds beside mouth and nose."""
    y = c.y + 0.25 * c.x * c.x
    forehead = np.maximum(np.sin((y - 0.205) * 120), 0) ** 2 * bump(c.x / 0.21, (y - 0.25) / 0.09)
    feet = np.maximum(np.sin(9 * np.arctan2(c.y - EYE_Y, c.side - 0.19)), 0)
    feet = feet * bump((c.side - 0.258) / 0.05, (c.y - EYE_Y) / 0.07)
    lines = np.minimum(1.3 * forehead + feet + 0.8 * _fold(c, f), 1)
    c.height -= c.head * 0.006 * lines
    c.skin_tint(lines, 0.74, 0.63, 0.60)


def smile_folds(c: Canvas, f: Face) -> None:
    """Cheeks pushed up and dimples beside the mouth."""
    c.skin_tint(_fold(c, f) * 0.7, 0.80, 0.69, 0.67)
    c.skin_tint(bump((c.side - f["mouth_width"] - 0.018) / 0.026, (c.y - f["mouth_y"]) / 0.035) * 0.6, 0.74, 0.6, 0.58)


# ---------------------------------------------------------------- beard


def _beard_zone(c: Canvas, f: Face) -> Array:
    """Where a beard grows: jaw, chin and around the mouth; 1 inside, soft at the edge."""
    jaw = smooth(0.70, 0.80, _head_norm(c, f)) * smooth(0.50, 0.60, c.y)
    around = c.cover(ellipse(c.x, c.y - 0.745, 0.185, 0.095), 0.03) * c.cover(0.645 - c.y, 0.02)
    return np.maximum(np.maximum(jaw, smooth(0.785, 0.815, c.y)), around)


def _whiskers(c: Canvas, f: Face) -> Array:
    whiskers: Array = np.sin(190 * c.x + 4 * np.sin(70 * c.y)) * np.sin(230 * c.y + 5 * np.sin(60 * c.x))
    return whiskers


def _paint_beard(c: Canvas, f: Face, share: Array) -> None:
    c.paint(0.93 * share, f["beard"] * (1 + 0.25 * _whiskers(c, f))[:, None], c.height + 0.012, 0.03)


def stubble(c: Canvas, f: Face) -> None:
    """The shadow of a shaved beard."""
    c.skin_tint(_beard_zone(c, f) * (0.9 + 0.1 * _whiskers(c, f)), 0.64, 0.67, 0.72)


def full_beard(c: Canvas, f: Face) -> None:
    """A short beard over the whole jaw."""
    _paint_beard(c, f, _beard_zone(c, f) * c.head)


def goatee(c: Canvas, f: Face) -> None:
    """A beard on the chin alone."""
    _paint_beard(c, f, c.cover(ellipse(c.x, c.y - f["chin"] + 0.045, 0.085, 0.075), 0.015))


def mustache(c: Canvas, f: Face) -> None:
    """Two wings above the upper lip."""
    y = c.y - f["mouth_y"] + 0.046 - 0.9 * c.x * c.x - 0.004 * np.cos(60 * c.x)
    _paint_beard(c, f, c.cover(np.maximum(np.abs(y) - 0.028 + 0.17 * c.side, c.side - 0.135), 0.006))


def sideburns(c: Canvas, f: Face) -> None:
    """Strips of beard in front of the ears."""
    strip = np.maximum(f["face_width"] - 0.062 - c.side, np.abs(c.y - 0.50) - 0.13)
    _paint_beard(c, f, c.cover(strip, 0.012) * c.head)


# ---------------------------------------------------------------- eyes, nose, mouth


def bags(c: Canvas, f: Face) -> None:
    """Dark crescents below the eyes."""
    u = c.side - EYE_X + 0.005
    y = c.y - EYE_Y - 0.056 + 2.2 * u * u
    c.skin_tint(bump(u / 0.085, y / 0.026), 0.62, 0.52, 0.57)
    c.height += c.head * 0.006 * bump(u / 0.08, (y + 0.012) / 0.02)


def makeup(c: Canvas, f: Face) -> None:
    """Eye shadow up to the brow."""
    share = bump((c.side - EYE_X - 0.01) / 0.115, (c.y - EYE_Y + 0.030) / 0.06)
    c.paint(np.minimum(1.2 * share, 0.8) * c.head, f["shadow"], None, 0.2)


def eyes(c: Canvas, f: Face) -> None:
    """Almond eyes: white, iris, pupil at the landmark, a catch light; lashes along the upper lid and a crease above."""
    sign = np.sign(c.x)
    u, low = c.side - EYE_X, c.y - EYE_Y - sign * f["asymmetry"]
    y = low + f["eye_slant"] * u
    bow = 1 - np.square(u / f["eye_width"])
    upper, lower = -f["eye_height"] * bow, 0.72 * f["eye_height"] * bow
    inside = c.cover(np.maximum(upper - y, y - lower))
    c.paint(inside, rgb(0.94, 0.93, 0.92) * (0.72 + 0.28 * smooth(-0.03, 0.005, y))[:, None], c.height + 0.01, 0.05)
    gx = c.x - sign * EYE_X - f["gaze"]
    r = np.hypot(gx, low)
    c.paint(inside * c.cover(r - 0.032), f["iris"] * (0.5 + 16 * r)[:, None])
    c.paint(inside * c.cover(r - 0.014), rgb(0.03, 0.03, 0.03))
    c.paint(inside * c.cover(np.hypot(gx + 0.011, low + 0.011) - 0.006), rgb(1, 1, 1))
    ends = np.maximum(np.abs(u) - f["eye_width"] - 0.008, 0)
    lashes = np.abs(y - upper + 0.25 * np.maximum(u - 0.03, 0)) - f["lash"] * (0.7 + 6 * np.maximum(u, 0)) + ends
    c.paint(c.cover(lashes), f["lash_colour"])
    c.tint(c.cover(np.abs(y - lower) - 0.003 + ends, 0.006) * 0.6, 0.6, 0.5, 0.5)
    c.tint(c.cover(np.abs(y - upper + 0.022) - 0.003 + ends, 0.012) * 0.7, 0.70, 0.6, 0.58)


def brows(c: Canvas, f: Face) -> None:
    """Eyebrows: a bow, or a high arch; thick inside, thin outside."""
    u = c.side - EYE_X - 0.005
    y = c.y - f["brow_y"] - 1.5 * np.sign(c.x) * f["asymmetry"] + f["brow_tilt"] * u
    y = y + f["brow_arch"] * (1 - np.square((u - 0.025) / 0.085))
    d = np.maximum(np.abs(y) - f["brow_thick"] * np.clip(1.0 - 5 * u, 0.35, 1.25), np.abs(u) - 0.088)
    hair = f["brow"] * (1 + 0.2 * f["Bushy_Eyebrows"] * np.sin(220 * c.side + 80 * c.y))[:, None]
    c.paint(0.9 * c.cover(d, 0.006), hair, c.height + 0.004, 0.03)


def nose(c: Canvas, f: Face) -> None:
    """A ridge that rises to the tip, wings beside it, nostrils and a shadow below."""
    tip, width = f["nose_tip"], f["nose_width"]
    t = np.clip((c.y - 0.40) / (tip - 0.40), 0, 1)
    ridge = t * bump(c.x / (0.035 + (f["nose_bulb"] - 0.005) * t * t)) * smooth(0.035, -0.005, c.y - tip)
    wings = bump((c.side - 0.72 * width) / (0.55 * width), (c.y - tip - 0.012) / 0.042)
    rise = c.head * (f["nose_height"] * ridge + 0.025 * wings)
    c.height += rise
    c.mark(rise > 0.008)
    c.skin_tint(bump((c.side - 0.02 - 0.8 * width * t) / 0.03, (c.y - 0.53) / 0.14) * 0.35, 0.74, 0.64, 0.62)
    c.skin_tint(bump(c.x / (width * 1.5), (c.y - tip - 0.048) / 0.026) * 0.8, 0.66, 0.54, 0.52)
    nostrils = ellipse(c.side - 0.52 * width, c.y - tip - 0.030, 0.26 * width, 0.010)
    c.tint(c.cover(nostrils, 0.008) * 0.85, 0.40, 0.28, 0.27)
    c.tint(bump(c.x / (0.4 * f["nose_bulb"]), (c.y - tip + 0.01) / 0.03), 1.12, 1.11, 1.11)


def point(c: Canvas, f: Face) -> None:
    """A pointed nose: a bright thin ridge between two thin shadows."""
    t = np.clip((c.y - 0.42) / (f["nose_tip"] - 0.42), 0, 1)
    c.tint(c.cover(np.maximum(c.side - 0.011, np.abs(c.y - 0.51) - 0.09), 0.012) * 0.8, 1.16, 1.15, 1.14)
    c.tint(
        c.cover(np.abs(c.side - 0.016 - 0.030 * t) - 0.006, 0.014) * t * (c.y < f["nose_tip"] + 0.02), 0.7, 0.6, 0.58
    )


def mouth(c: Canvas, f: Face) -> None:
    """Lips around a bowed line between the two corners; teeth and a dark gap where open."""
    w, lip, gap = f["mouth_width"], f["lip"], f["gap"]
    my, ends = f["mouth_y"] + f["asymmetry"] * c.x / w, c.side - w
    bow = np.maximum(1 - np.square(c.x / w), 0)
    line = c.y - my - f["smile"] * bow
    top, bottom = -0.4 * gap * np.sqrt(bow), 0.6 * gap * np.sqrt(bow)
    upper = top - 0.8 * lip * bow * (1 - 0.3 * bump(c.x / (0.3 * w))) - 0.003
    lower = bottom + 1.05 * lip * np.sqrt(bow) * bow + 0.003
    lips = c.cover(np.maximum(np.maximum(upper - line, line - lower), ends))
    puff = bump(c.x / w, (line - 0.5 * upper) / 0.02) + 1.2 * bump(c.x / (0.9 * w), (line - 0.6 * lower) / 0.025)
    c.paint(lips, f["lips"] * (1 - 0.12 * (line < 0))[:, None], c.height + 0.5 * lip * puff, 0.35)
    is_open = gap > 0.005
    inside = c.cover(np.maximum(np.maximum(top - line, line - bottom), ends)) * is_open
    c.paint(inside, rgb(0.25, 0.07, 0.07), None, 0.0)
    c.paint(inside * c.cover(np.maximum(line - top - 0.62 * gap, c.side - 0.8 * w)), rgb(0.93, 0.91, 0.87))
    c.tint(c.cover(np.maximum(np.abs(line) - 0.004, ends)) * ~is_open, 0.45, 0.33, 0.33)
    c.tint(bump(ends / 0.022, (c.y - my) / 0.02) * 0.8, 0.55, 0.43, 0.43)
    c.skin_tint(bump(c.x / (0.7 * w), (line - lower - 0.018) / 0.02) * 0.6, 0.76, 0.66, 0.64)


# ---------------------------------------------------------------- in front of the face


def front_hair(c: Canvas, f: Face) -> None:
    """Hair over the skull, outside the opening for the face; a parting leans the opening to one side."""
    receding = f["Receding_Hairline"]
    line = f["hairline"] + f["part"] * c.x * (1 - receding) - receding * 0.06 * bump((c.side - 0.15) / 0.1)
    line = line + 0.016 * f["Straight_Hair"] * np.sin(72 * c.x + f["phase"])
    opening = ellipse(c.x, c.y - 0.5, f["opening"], 0.5 - line)
    d = np.maximum(_hair_outline(c, f), np.where(c.y < 0.5, -opening, f["opening"] - c.side))
    c.skin_tint(c.cover(d - 0.025, 0.03) * 0.6, 0.64, 0.56, 0.54)
    _paint_hair(c, f, c.cover(d), 0.05)


def bangs(c: Canvas, f: Face) -> None:
    """A fringe down to the brows, cut slightly ragged."""
    edge = 0.335 + 0.010 * np.sin(60 * c.x + f["phase"]) + 0.3 * c.x * c.x
    d = np.maximum(np.maximum(c.y - edge, c.side - f["opening"] - 0.02), _hair_outline(c, f) + 0.03)
    c.skin_tint(c.cover(d - 0.02, 0.03) * 0.6, 0.62, 0.54, 0.52)
    strands = np.sin(115 * c.x + f["phase"]) + 0.6 * np.sin(67 * c.x + 2 * f["phase"])
    light = 0.98 + 0.10 * strands + 0.22 * bump((c.y - 0.2) / 0.09)
    c.paint(c.cover(d), f["hair"] * light[:, None], 0.26 - 0.5 * c.x * c.x + 0.001 * strands, 0.04)


def hat(c: Canvas, f: Face) -> None:
    """A crown with a band, and a brim that may be wide."""
    y = c.y - 0.17 + 0.6 * c.x * c.x
    crown = np.maximum(ellipse(c.x, c.y - 0.20, 0.40, 0.36), y)
    dome = 0.3 * arch(c.x / 0.42)
    c.skin_tint(c.cover(y - 0.07, 0.05) * 0.8, 0.55, 0.5, 0.5)
    c.paint(c.cover(crown), f["hat"], dome, 0.02)
    c.paint(c.cover(np.maximum(crown, -0.075 - y)), f["hat_band"], dome, 0.02)
    c.paint(c.cover(ellipse(c.x, y - 0.005, f["brim"], 0.035)), f["hat"] * 0.85, dome + 0.1 * (c.y - 0.1), 0.02)


def eyeglasses(c: Canvas, f: Face) -> None:
    """Two round lenses, a bridge, temples; a glint on the glass."""
    u, y = c.side - EYE_X - 0.003, c.y - EYE_Y - 0.012
    lens = ellipse(u, y, 0.110, f["lens"])
    c.paint(0.16 * c.cover(lens), f["glass"], None, 0.5)
    bridge = np.maximum(np.abs(y + 0.02 - 0.5 * c.x * c.x) - 0.008, c.side - 0.045)
    temple = np.maximum(np.abs(y + 0.018) - 0.008, np.maximum(0.255 - c.side, c.side - 0.33))
    c.paint(c.cover(np.minimum(np.minimum(np.abs(lens) - 0.009, bridge), temple)), f["frame"], None, 0.3)
    glint = np.maximum(lens + 0.02, np.abs(c.x - np.sign(c.x) * EYE_X + y * 0.7 + 0.045) - 0.012)
    c.paint(0.5 * c.cover(glint, 0.01), rgb(1, 1, 1))


def earrings(c: Canvas, f: Face) -> None:
    """A ball on a thread, or a hoop, at each ear lobe."""
    x, y = c.side - f["face_width"] - 0.025, c.y - 0.60
    thread = np.maximum(np.abs(x) - 0.006, np.abs(y - 0.03) - 0.04)
    hoop = np.abs(np.hypot(x, y - 0.04) - 0.036) - 0.009
    d = np.where(f["hoop"] > 0, hoop, np.minimum(np.hypot(x, y - f["drop"]) - 0.030, thread))
    c.tint(c.cover(d - 0.012, 0.02) * 0.6, 0.6, 0.6, 0.6)
    c.paint(c.cover(d), f["jewel"] * (1.1 - 6 * x * np.sign(c.x))[:, None], None, 0.6)


# ---------------------------------------------------------------- the whole

ALL = (-0.5, 0.5, 0.0, 1.0)
# From back to front: part, class, who has it ("" everybody, "!" those who lack it), window x0, x1, y0, y1.
PARTS: tuple[tuple[Callable[[Canvas, Face], None], str, str, tuple[float, float, float, float]], ...] = (
    (background, "background", "", ALL),
    (back_hair, "hair", "Long_Hair", ALL),
    (neck, "neck", "", (-0.34, 0.34, 0.55, 1.0)),
    (clothes, "clothes", "", (-0.5, 0.5, 0.78, 1.0)),
    (double_chin, "skin", "Double_Chin", (-0.3, 0.3, 0.6, 1.0)),
    (necktie, "clothes", "Wearing_Necktie", (-0.5, 0.5, 0.78, 1.0)),
    (necklace, "jewellery", "Wearing_Necklace", (-0.3, 0.3, 0.8, 1.0)),
    (ears, "ears", "", (-0.45, 0.45, 0.35, 0.66)),
    (head, "skin", "", (-0.42, 0.42, 0.0, 1.0)),
    (spots, "skin", "!Attractive", (-0.38, 0.38, 0.05, 0.9)),
    (cheekbones, "skin", "High_Cheekbones", (-0.4, 0.4, 0.4, 0.8)),
    (rosy_cheeks, "skin", "Rosy_Cheeks", (-0.4, 0.4, 0.45, 0.75)),
    (wrinkles, "skin", "!Young", (-0.38, 0.38, 0.1, 0.84)),
    (smile_folds, "skin", "Smiling", (-0.25, 0.25, 0.55, 0.84)),
    (stubble, "skin", "5_o_Clock_Shadow", (-0.4, 0.4, 0.45, 0.95)),
    (full_beard, "beard", "Full_Beard", (-0.4, 0.4, 0.45, 0.95)),
    (sideburns, "beard", "Sideburns", (-0.4, 0.4, 0.33, 0.68)),
    (goatee, "beard", "Goatee", (-0.16, 0.16, 0.7, 0.96)),
    (bags, "skin", "Bags_Under_Eyes", (-0.3, 0.3, 0.4, 0.56)),
    (makeup, "skin", "Heavy_Makeup", (-0.32, 0.32, 0.3, 0.5)),
    (eyes, "eyes", "", (-0.3, 0.3, 0.34, 0.52)),
    (brows, "brows", "", (-0.31, 0.31, 0.22, 0.46)),
    (nose, "nose", "", (-0.18, 0.18, 0.36, 0.74)),
    (point, "nose", "Pointy_Nose", (-0.12, 0.12, 0.38, 0.7)),
    (mouth, "mouth", "", (-0.24, 0.24, 0.62, 0.88)),
    (mustache, "beard", "Mustache", (-0.2, 0.2, 0.58, 0.8)),
    (front_hair, "hair", "!Bald", ALL),
    (bangs, "hair", "Bangs", (-0.42, 0.42, 0.0, 0.48)),
    (hat, "hat", "Wearing_Hat", (-0.5, 0.5, 0.0, 0.42)),
    (eyeglasses, "glasses", "Eyeglasses", (-0.42, 0.42, 0.28, 0.58)),
    (earrings, "jewellery", "Wearing_Earrings", (-0.5, 0.5, 0.5, 0.8)),
)
SEGMENTS = tuple(dict.fromkeys(name for _, name, _, _ in PARTS))  # the classes, from back to front
MARGIN = 0.07  # pose moves no point by more


def render(
    face: Face, size: int, noise: Array, segments: bool = False
) -> tuple[NDArray[np.uint8], Array, NDArray[np.uint8] | None]:
    """Draw n faces: images (n, 3, size, size), landmarks (n, 5, 2), and where `segments` are wanted, for each pixel the
    place in SEGMENTS of what it shows (n, size, size). `noise` (n, 3, size, size): the sensor's, std 1.
    """
    pixel = 1 / size
    centres = (np.arange(size, dtype=np.float32) + 0.5) * pixel
    planes = np.zeros((len(noise), CLASS + segments, size, size), np.float32)
    planes[:, X], planes[:, Y] = locate(centres[None, None, :], centres[None, :, None], face)
    for part, name, who, (x0, x1, y0, y1) in PARTS:
        paints = SEGMENTS.index(name)
        left, top = (max(int((v - MARGIN) * size), 0) for v in (MIDLINE + x0, y0))
        right, bottom = (int((v + MARGIN) * size) + 1 for v in (MIDLINE + x1, y1))
        window = planes[:, :, top:bottom, left:right]
        if not who:
            part(Canvas(window, pixel, paints), face)
            continue
        rows = np.flatnonzero((face[who.lstrip("!")][:, 0, 0] > 0.5) != who.startswith("!"))
        if len(rows):
            patch = window[rows]
            part(Canvas(patch, pixel, paints), face.rows(rows))
            window[rows] = patch
    images = shade(Canvas(planes, pixel), face)
    blurry = np.flatnonzero(face["Blurry"][:, 0, 0] > 0.5)
    images[blurry] = blur(images[blurry], 0.025 * size)
    images += 0.012 * noise
    classes = planes[:, CLASS].astype(np.uint8) if segments else None
    return np.clip(images * 255 + 0.5, 0, 255).astype(np.uint8), landmarks(face), classes
