"""The looks of toy faces: traits (lengths, curvatures, light) and colours, given attributes.

A trait is a Gaussian whose mean the attributes move: TRAITS is where attributes become visible in a face's geometry.
What an identity fixes is drawn once for all its pictures; pose, gaze, mouth and light move within a clip, along smooth
paths, and no attribute changes on the way. Colours lie on ramps, and attributes choose the ramp.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mdebench.data.toyfaces.attributes import Draws, Has
from mdebench.data.toyfaces.canvas import Array, Face

Colour = tuple[float, float, float]


@dataclass(frozen=True)
class Trait:
    """A number of an identity, a picture or a frame: mean, standard deviation (cut at two of them), what each attribute
    adds, and which of the `Draws` it is.
    """

    mean: float
    std: float
    adds: dict[str, float]
    drawn: Callable[[Draws], Array]


def _fixed(mean: float, std: float, **adds: float) -> Trait:
    return Trait(mean, std, adds, Draws.identity)


def _varying(mean: float, std: float, **adds: float) -> Trait:
    return Trait(mean, std, adds, Draws.picture)


def _moving(mean: float, std: float, **adds: float) -> Trait:
    return Trait(mean, std, adds, Draws.frame)


# Lengths in image widths.
TRAITS: dict[str, Trait] = {
    "face_width": _fixed(0.302, 0.008, Male=0.008, Chubby=0.035, Oval_Face=-0.022),
    "chin": _fixed(0.872, 0.006, Oval_Face=0.018, Male=0.006),
    "taper": _fixed(0.14, 0.03, Male=-0.11, Oval_Face=0.16, Chubby=-0.08),
    "square": _fixed(0.34, 0.10, Male=0.30, Oval_Face=-0.40),
    "brow_ridge": _fixed(0.2, 0.1, Male=0.8),
    "neck_width": _fixed(0.165, 0.008, Male=0.045, Chubby=0.02),
    "hair_width": _fixed(0.352, 0.008, Long_Hair=0.045, Wavy_Hair=0.012, Chubby=0.03),
    "hair_length": _fixed(0.455, 0.012, Long_Hair=0.6, Bob=-0.3),
    "hairline": _fixed(0.165, 0.010, Receding_Hairline=-0.085),
    "opening": _fixed(0.272, 0.008, Chubby=0.02, Male=0.015),
    "part": _fixed(0.0, 0.12),
    "eye_width": _fixed(0.072, 0.003, Attractive=0.006),
    "eye_height": _varying(0.029, 0.0015, Attractive=0.008, Narrow_Eyes=-0.016, Smiling=-0.003),
    "eye_slant": _fixed(0.06, 0.05),
    "lash": _fixed(0.006, 0.0007, Male=-0.002, Heavy_Makeup=0.007),
    "brow_y": _moving(0.352, 0.004, Male=0.010, Arched_Eyebrows=-0.006),
    "brow_arch": _fixed(0.007, 0.003, Arched_Eyebrows=0.022),
    "brow_thick": _fixed(0.0092, 0.0012, Bushy_Eyebrows=0.009, Male=0.002),
    "brow_tilt": _varying(0.02, 0.05),
    "nose_tip": _fixed(0.588, 0.010, Big_Nose=0.012),
    "nose_width": _fixed(0.060, 0.004, Big_Nose=0.025, Pointy_Nose=-0.012, Male=0.004),
    "nose_bulb": _fixed(0.050, 0.003, Big_Nose=0.025, Pointy_Nose=-0.018),
    "nose_height": _fixed(0.055, 0.005, Pointy_Nose=0.022, Big_Nose=0.012),
    "mouth_y": _moving(0.732, 0.010, Smiling=-0.006),
    "mouth_width": _moving(0.117, 0.005, Smiling=0.016),
    "lip": _fixed(0.022, 0.003, Big_Lips=0.016, Male=-0.004, Young=0.003),
    "smile": _moving(0.008, 0.003, Smiling=0.026),
    "gap": _moving(0.034, 0.005, Smiling=0.008),
    "asymmetry": _fixed(0.0, 0.005),
    "brim": _varying(0.44, 0.05),
    "lens": _fixed(0.075, 0.008),
    "drop": _fixed(0.065, 0.012),
    "hoop": _fixed(0.0, 1.0),
    "phase": _fixed(0.0, 3.0),
    "gaze": _moving(0.0, 0.006),
    "shift_x": _moving(0.0, 0.006),
    "shift_y": _moving(0.0, 0.006),
    "zoom": _moving(1.0, 0.015),
    "roll": _moving(0.0, 0.025),
    "yaw": _moving(0.0, 0.032),
    "pitch": _moving(0.0, 0.016),
    "light_x": _moving(0.0, 0.3),
    "light_y": _moving(-0.35, 0.12),
    "ambient": _moving(0.52, 0.07),
    "slant": _varying(0.0, 0.5),
    "disc_x": _varying(0.42, 0.05),
    "disc_y": _varying(0.0, 0.2),
}


def _ramp(z: Array, *stops: Colour) -> Array:
    """(n, 3) colours between equally likely stops, for standard normals z."""
    t = 1 / (1 + np.exp(-1.702 * z))  # uniform, nearly
    at = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(t, at, channel) for channel in zip(*stops)], 1)


BRIGHT: tuple[Colour, ...] = (
    (0.75, 0.16, 0.16),
    (0.85, 0.55, 0.15),
    (0.15, 0.45, 0.35),
    (0.12, 0.25, 0.55),
    (0.45, 0.18, 0.45),
)


def _body_colours(draws: Draws, has: Has) -> dict[str, Array]:
    """Skin, hair, eyes, lips: (n, 3) each. Attributes choose among ramps."""

    def one_of(default: Array, **ramps: Array) -> Array:
        for name, ramp in ramps.items():
            default = np.where(has[name][:, None], ramp, default)
        return default

    tone = draws.identity() - 0.5 - 0.9 * has["Blond_Hair"] + 0.4 * has["Black_Hair"]
    skin = one_of(
        _ramp(tone, (0.93, 0.74, 0.62), (0.88, 0.66, 0.52), (0.72, 0.50, 0.37), (0.42, 0.27, 0.19)),
        Pale_Skin=_ramp(draws.identity(), (1.00, 0.90, 0.86), (0.98, 0.87, 0.82)),
    )
    hair = one_of(
        _ramp(draws.identity(), (0.54, 0.32, 0.20), (0.42, 0.22, 0.14), (0.28, 0.14, 0.12)),
        Black_Hair=_ramp(draws.identity(), (0.05, 0.05, 0.06), (0.10, 0.09, 0.09)),
        Brown_Hair=_ramp(draws.identity(), (0.26, 0.18, 0.11), (0.39, 0.27, 0.16)),
        Blond_Hair=_ramp(draws.identity(), (0.92, 0.78, 0.50), (0.78, 0.61, 0.33)),
        Gray_Hair=_ramp(draws.identity(), (0.55, 0.56, 0.58), (0.80, 0.80, 0.82)),
    )
    rouge = _ramp(draws.picture(), (0.80, 0.08, 0.13), (0.86, 0.20, 0.36), (0.55, 0.06, 0.18))
    return {
        "skin": skin,
        "hair": hair,
        "brow": hair * (0.68, 0.64, 0.64) + 0.02,
        "beard": 0.8 * hair + 0.01,
        "lips": one_of(skin * (0.88, 0.66, 0.66), Wearing_Lipstick=rouge),
        "lash_colour": one_of(np.full_like(skin, 0.05), Male=skin * (0.27, 0.22, 0.20)),
        "iris": _ramp(
            draws.identity() - tone - 0.8,
            (0.20, 0.11, 0.06),
            (0.30, 0.18, 0.09),
            (0.25, 0.35, 0.22),
            (0.25, 0.42, 0.60),
        ),
        "shadow": _ramp(draws.picture(), (0.42, 0.22, 0.32), (0.30, 0.30, 0.48), (0.38, 0.24, 0.18))
        * (0.5 + 0.5 * skin),
    }


def _other_colours(draws: Draws) -> dict[str, Array]:
    """Clothes, glasses, background, light: (n, 3) each."""
    wall2 = _ramp(draws.picture(), (0.12, 0.14, 0.18), (0.35, 0.45, 0.58), (0.66, 0.60, 0.45), (0.90, 0.90, 0.92))
    return {
        "cloth": _ramp(draws.picture(), (0.12, 0.13, 0.18), (0.55, 0.20, 0.22), (0.25, 0.40, 0.50), (0.86, 0.84, 0.80)),
        "shirt": _ramp(draws.picture(), (0.95, 0.95, 0.95), (0.75, 0.83, 0.93)),
        "suit": _ramp(draws.picture(), (0.10, 0.10, 0.12), (0.16, 0.19, 0.28), (0.30, 0.29, 0.28)),
        "tie": _ramp(draws.picture(), *BRIGHT),
        "hat": _ramp(draws.picture(), *BRIGHT) * 0.85,
        "hat_band": _ramp(draws.picture(), (0.10, 0.10, 0.12), (0.90, 0.86, 0.75)),
        "frame": _ramp(draws.identity(), (0.05, 0.05, 0.06), (0.28, 0.14, 0.08)),
        "glass": _ramp(draws.identity(), (0.70, 0.80, 0.85), (0.25, 0.25, 0.28)),
        "jewel": _ramp(draws.picture(), (0.98, 0.80, 0.32), (0.96, 0.95, 0.92)),
        "wall": _ramp(draws.picture(), (0.20, 0.24, 0.32), (0.45, 0.52, 0.50), (0.62, 0.50, 0.40), (0.85, 0.83, 0.78)),
        "wall2": wall2,
        "wall3": 0.5 * _ramp(draws.picture(), *BRIGHT) + 0.5 * wall2,
        "light": _ramp(draws.picture(), (1.05, 1.01, 0.96), (1.08, 1.08, 1.08), (0.94, 0.97, 1.02)),
    }


def looks(draws: Draws, has: Has) -> Face:
    """All that the drawing needs to know of the people with these attributes."""
    long = (draws.identity() < np.where(has["Male"], -1.7, 1.2)) & ~has["Bald"]
    has = has | {
        "Long_Hair": long,
        "Bob": long & ~has["Male"] & (draws.identity() < -0.7),
        "Full_Beard": ~(has["No_Beard"] | has["Goatee"] | has["Mustache"] | has["Sideburns"]),
    }
    values: dict[str, Array] = {}
    for name, trait in TRAITS.items():
        z = np.clip(trait.drawn(draws), -2, 2)
        values[name] = (
            trait.mean + trait.std * z + sum(added * has[attribute] for attribute, added in trait.adds.items())
        )
    values["gap"] = values["gap"] * has["Mouth_Slightly_Open"] * (1 - 0.65 * np.square(draws.swing()))  # never closes
    values["smile"] = values["smile"] + 0.007 * draws.swing()
    values["gaze"] = values["gaze"] + 0.018 * draws.swing()
    values["asymmetry"] = values["asymmetry"] * ~has["Attractive"]
    colours = _body_colours(draws, has) | _other_colours(draws)
    numbers = {name: np.float32(value).reshape(-1, 1, 1) for name, value in (values | has).items()}
    return Face(numbers | {name: np.float32(value).reshape(-1, 3, 1, 1) for name, value in colours.items()})
