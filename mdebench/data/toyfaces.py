"""The embedded data set: toy faces with CelebA's 40 attributes, five exact landmarks, identities and splits, drawn by numpy.

A person is random numbers, in three steps. (1) Attributes: sex and age first, then every other attribute by thresholding a
Gaussian at CelebA's rate among people of that sex and age; a few common factors (a smile, weight, grooming, beard) make
attributes go together, and some exclude each other. (2) Traits: lengths, curvatures and light, each a mean, a spread, and
what an attribute adds. (3) Colours. `toyfaces_draw` turns the three into a picture. An identity keeps its share of these
numbers over all its pictures; the rest is drawn anew for each picture.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from mdebench.data.pack import ATTRIBUTES
from mdebench.data.toyfaces_draw import Array, Face, render

IDENTITIES, PICTURES = 100, 5  # a block holds 100 identities with 5 pictures each
BLOCK = IDENTITIES * PICTURES
BATCH = 25  # pictures drawn at once: small enough for a processor's cache

# CelebA's share of each attribute in per cent among older women, young women, older men, young men (from its public
# annotation); the share of the remaining chance that belongs to the identity; loadings on the common factors. The smile
# belongs to a picture, the other factors to the identity, so what an identity fixes (share 1) does not load on the smile.
P_MALE, P_YOUNG = 0.417, (0.874, 0.633)  # of women, of men
FACTORS = ("smile", "weight", "groomed", "beard", "whiskers")
TABLE = """
5_o_Clock_Shadow     0.0   0.0  15.2  33.3  0.8  beard=.8
Arched_Eyebrows     38.1  42.5   3.5   6.4  1.0  groomed=.6
Attractive          32.7  73.0   7.1  40.0  1.0  groomed=.65 weight=-.4
Bags_Under_Eyes     18.9   8.9  46.7  27.9  0.5  weight=.4 groomed=-.3
Bald                 0.0   0.0  11.3   1.9  1.0  weight=.4
Bangs               36.6  17.7   3.1  11.2  0.5
Big_Lips            25.8  30.8  10.6  18.5  1.0  groomed=.2
Big_Nose            21.2   8.6  57.5  32.9  1.0  weight=.6 groomed=-.2
Black_Hair          10.7  21.0  16.1  37.7  1.0
Blond_Hair          31.0  22.9   1.9   2.2  1.0
Blurry               9.3   4.0   7.1   4.9  0.0  groomed=-.4
Brown_Hair          21.2  24.8   8.8  18.8  1.0
Bushy_Eyebrows       1.7   7.7  12.1  31.6  1.0  weight=-.2
Chubby               4.6   0.7  25.1   4.6  1.0  weight=.9
Double_Chin          5.3   0.3  22.3   2.7  1.0  weight=.9
Eyeglasses           6.7   1.7  21.6   7.1  0.6  groomed=-.5
Goatee               0.0   0.0  16.3  14.3  0.8  whiskers=.7
Gray_Hair            7.5   0.1  22.6   0.4  1.0  weight=.2
Heavy_Makeup        51.6  68.2   0.1   0.4  0.5  groomed=.93
High_Cheekbones     72.2  53.7  35.0  28.3  0.3  smile=.93
Mouth_Slightly_Open 63.0  51.0  43.2  42.0  0.0  smile=.8
Mustache             0.0   0.0  13.6   7.8  0.8  whiskers=.7
Narrow_Eyes         13.2  10.9  13.6  11.1  0.6  smile=.2
No_Beard            99.7  99.9  63.7  58.8  0.9  beard=-.95
Oval_Face           20.8  34.8  18.2  24.2  1.0  weight=-.3 groomed=.3
Pale_Skin            5.0   5.7   1.6   2.9  1.0  groomed=.1
Pointy_Nose         32.0  36.5  14.6  17.2  1.0  groomed=.4 weight=-.4
Receding_Hairline    5.1   5.3  23.6   4.9  0.8  weight=.3
Rosy_Cheeks         13.3  10.7   0.5   0.2  0.4  smile=.45 groomed=.6
Sideburns            0.0   0.0  14.0  13.3  0.8  whiskers=.7
Smiling             68.5  52.0  43.0  38.3  0.0  smile=.95
Straight_Hair       10.5  19.5  19.9  26.8  0.6
Wavy_Hair           51.1  43.8  11.3  15.7  0.6  groomed=.4
Wearing_Earrings    49.5  28.6   1.0   2.0  0.4  groomed=.4 smile=.2
Wearing_Hat          2.2   2.5   8.2   8.1  0.3  groomed=-.2
Wearing_Lipstick    73.8  81.5   0.1   0.9  0.5  groomed=.95
Wearing_Necklace    32.7  18.0   1.2   2.1  0.2  groomed=.3
Wearing_Necktie      0.1   0.0  28.7  10.9  0.3
"""
# What cannot be (or could not be seen) beside what; an attribute stands below those that exclude it.
EXCLUDED_BY: dict[str, tuple[str, ...]] = {
    "Goatee": ("No_Beard",),
    "Mustache": ("No_Beard",),
    "Sideburns": ("No_Beard",),
    "Wearing_Hat": ("Bald",),
    "Bangs": ("Bald", "Wearing_Hat"),
    "Receding_Hairline": ("Bald", "Wearing_Hat", "Bangs"),
    "Wavy_Hair": ("Bald", "Wearing_Hat"),
    "Straight_Hair": ("Bald", "Wearing_Hat", "Wavy_Hair"),
    "Gray_Hair": ("Bald",),
    "Blond_Hair": ("Bald", "Gray_Hair"),
    "Black_Hair": ("Bald", "Gray_Hair", "Blond_Hair"),
    "Brown_Hair": ("Bald", "Gray_Hair", "Blond_Hair", "Black_Hair"),
    "Wearing_Necklace": ("Wearing_Necktie",),
}


@dataclass(frozen=True)
class Chunk:
    """Some pictures: images (n, 3, H, W) uint8, attributes (n, 40) int8 of 0/1, landmarks (n, 5, 2) in [0, 1], identity (n,)."""

    images: NDArray[np.uint8]
    attributes: NDArray[np.int8]
    landmarks: Array
    identity: NDArray[np.int32]


class Draws:
    """Standard normals of a block: `identity(k)` are repeated over an identity's pictures, `picture(k)` are not."""

    def __init__(self, seed: int, block: int) -> None:
        self._rng = np.random.default_rng([seed, block])

    def identity(self) -> Array:
        """(BLOCK,) numbers, the same in all pictures of an identity."""
        return np.tile(self._rng.standard_normal(IDENTITIES, np.float32), PICTURES)

    def picture(self) -> Array:
        """(BLOCK,) numbers, one per picture."""
        return self._rng.standard_normal(BLOCK, np.float32)


def _attributes(draws: Draws) -> dict[str, NDArray[np.bool_]]:
    """Who has what, (BLOCK,) each."""
    quantile = NormalDist().inv_cdf
    factors = {name: draws.picture() if name == "smile" else draws.identity() for name in FACTORS}
    male = draws.identity() < quantile(P_MALE)
    young = draws.identity() < np.where(male, quantile(P_YOUNG[1]), quantile(P_YOUNG[0]))
    group = 2 * male + young
    has = {"Male": male, "Young": young}
    rates: dict[str, Array] = {}
    rows = {line.split()[0]: line.split()[1:] for line in TABLE.strip().splitlines()}
    z: dict[str, Array] = {}
    for name, (*percent, share, _) in ((n, [*r[:5], r[5:]]) for n, r in rows.items()):
        loadings = {k: float(v) for k, v in (word.split("=") for word in rows[name][5:])}
        own = np.sqrt(float(share)) * draws.identity() + np.sqrt(1 - float(share)) * draws.picture()
        common = sum((v * factors[k] for k, v in loadings.items()), np.float32(0))
        z[name] = common + np.sqrt(1 - sum(v * v for v in loadings.values())) * own
        rates[name] = np.array([float(p) / 100 for p in percent], np.float32)
    for name in [n for n in rows if n not in EXCLUDED_BY] + list(EXCLUDED_BY):
        rivals = EXCLUDED_BY.get(name, ())
        room = 1 - sum((rates[r] for r in rivals), np.zeros(4, np.float32))
        rate = np.clip(rates[name] / np.maximum(room, 0.01), 1e-6, 1 - 1e-6)
        has[name] = z[name] < np.array([quantile(float(p)) for p in rate])[group]
        for rival in rivals:
            has[name] &= ~has[rival]
    return has


@dataclass(frozen=True)
class Trait:
    """A number of a person or of a picture: mean, standard deviation (cut at two), and what each attribute adds to it."""

    mean: float
    std: float
    adds: dict[str, float]
    of_identity: bool


def _fixed(mean: float, std: float, **adds: float) -> Trait:
    return Trait(mean, std, adds, True)


def _varying(mean: float, std: float, **adds: float) -> Trait:
    return Trait(mean, std, adds, False)


# Lengths in image widths.
TRAITS: dict[str, Trait] = {
    "face_width": _fixed(0.305, 0.006, Male=0.008, Chubby=0.035, Oval_Face=-0.022),
    "chin": _fixed(0.872, 0.006, Oval_Face=0.018, Male=0.006),
    "taper": _fixed(0.10, 0.02, Male=-0.07, Oval_Face=0.16, Chubby=-0.08),
    "square": _fixed(0.42, 0.08, Male=0.25, Oval_Face=-0.42),
    "brow_ridge": _fixed(0.2, 0.1, Male=0.8),
    "neck_width": _fixed(0.165, 0.008, Male=0.045, Chubby=0.02),
    "hair_width": _fixed(0.395, 0.012, Wavy_Hair=0.02, Chubby=0.015),
    "hair_top": _fixed(0.46, 0.012),
    "hairline": _fixed(0.165, 0.010, Receding_Hairline=-0.085),
    "opening": _fixed(0.272, 0.008, Chubby=0.02, Male=0.015),
    "part": _fixed(0.0, 0.12),
    "eye_width": _fixed(0.068, 0.003, Attractive=0.006),
    "eye_height": _varying(0.027, 0.0015, Attractive=0.008, Narrow_Eyes=-0.016, Smiling=-0.003),
    "eye_slant": _fixed(0.06, 0.05),
    "lash": _fixed(0.006, 0.0007, Male=-0.002, Heavy_Makeup=0.007),
    "brow_y": _varying(0.352, 0.004, Male=0.010, Arched_Eyebrows=-0.006),
    "brow_arch": _fixed(0.008, 0.003, Arched_Eyebrows=0.034),
    "brow_thick": _fixed(0.0095, 0.001, Bushy_Eyebrows=0.012, Male=0.002),
    "brow_tilt": _varying(0.02, 0.05),
    "nose_tip": _fixed(0.588, 0.010, Big_Nose=0.012),
    "nose_width": _fixed(0.062, 0.003, Big_Nose=0.028, Pointy_Nose=-0.012, Male=0.004),
    "nose_bulb": _fixed(0.050, 0.003, Big_Nose=0.025, Pointy_Nose=-0.018),
    "nose_height": _fixed(0.055, 0.005, Pointy_Nose=0.022, Big_Nose=0.012),
    "mouth_y": _varying(0.732, 0.010, Smiling=-0.006),
    "mouth_width": _varying(0.117, 0.005, Smiling=0.016),
    "lip": _fixed(0.021, 0.002, Big_Lips=0.020, Male=-0.003, Young=0.003),
    "smile": _varying(-0.004, 0.003, Smiling=0.036),
    "gap": _varying(0.034, 0.005, Smiling=0.008),
    "asymmetry": _fixed(0.0, 0.006),
    "brim": _varying(0.44, 0.05),
    "lens": _fixed(0.075, 0.008),
    "drop": _fixed(0.065, 0.012),
    "hoop": _fixed(0.0, 1.0),
    "phase": _fixed(0.0, 3.0),
    "gaze": _varying(0.0, 0.006),
    "shift_x": _varying(0.0, 0.006),
    "shift_y": _varying(0.0, 0.006),
    "zoom": _varying(1.0, 0.015),
    "roll": _varying(0.0, 0.025),
    "yaw": _varying(0.0, 0.032),
    "pitch": _varying(0.0, 0.016),
    "light_x": _varying(0.0, 0.3),
    "light_y": _varying(-0.35, 0.12),
    "ambient": _varying(0.42, 0.07),
    "slant": _varying(0.0, 0.5),
    "disc_x": _varying(0.42, 0.05),
    "disc_y": _varying(0.0, 0.2),
}


def _ramp(t: Array, *stops: tuple[float, float, float]) -> Array:
    """(n, 3) colours between equally spaced stops, at t in [0, 1]."""
    at = np.linspace(0, 1, len(stops))
    return np.stack([np.interp(t, at, [s[k] for s in stops]) for k in range(3)], 1).astype(np.float32)


def _uniform(z: Array) -> Array:
    """Standard normals to numbers in [0, 1] (logistic approximation)."""
    return (1 / (1 + np.exp(-1.702 * z))).astype(np.float32)


def _colours(draws: Draws, has: dict[str, NDArray[np.bool_]]) -> dict[str, Array]:
    """(BLOCK, 3) colours."""
    fixed, varying = (lambda: _uniform(draws.identity())), (lambda: _uniform(draws.picture()))

    def choose(colour: Array, **cases: Array) -> Array:
        for name, case in cases.items():
            colour = np.where(has[name][:, None], case, colour)
        return colour

    tone = fixed() ** 1.8
    skin = _ramp(tone, (0.93, 0.74, 0.62), (0.88, 0.66, 0.52), (0.72, 0.50, 0.37), (0.42, 0.27, 0.19))
    skin = choose(skin, Pale_Skin=_ramp(fixed(), (1.02, 0.93, 0.90), (1.0, 0.90, 0.86)))
    hair = choose(
        _ramp(fixed(), (0.68, 0.34, 0.16), (0.52, 0.17, 0.10), (0.42, 0.12, 0.14), (0.36, 0.14, 0.26)),
        Black_Hair=_ramp(fixed(), (0.05, 0.05, 0.06), (0.10, 0.09, 0.09)),
        Brown_Hair=_ramp(fixed(), (0.27, 0.18, 0.11), (0.40, 0.27, 0.16)),
        Blond_Hair=_ramp(fixed(), (0.93, 0.80, 0.52), (0.80, 0.63, 0.33)),
        Gray_Hair=_ramp(fixed(), (0.55, 0.56, 0.58), (0.80, 0.80, 0.82)),
    )
    lips = skin * np.float32([0.86, 0.62, 0.62])
    rouge = _ramp(varying(), (0.80, 0.06, 0.12), (0.86, 0.18, 0.36), (0.55, 0.05, 0.18))
    iris = _ramp(fixed(), (0.20, 0.11, 0.06), (0.30, 0.18, 0.09), (0.25, 0.35, 0.22), (0.25, 0.42, 0.60))
    bright = ((0.75, 0.16, 0.16), (0.85, 0.55, 0.15), (0.15, 0.45, 0.35), (0.12, 0.25, 0.55), (0.45, 0.18, 0.45))
    wall = _ramp(varying(), (0.20, 0.24, 0.32), (0.45, 0.52, 0.50), (0.62, 0.50, 0.40), (0.85, 0.83, 0.78))
    wall2 = _ramp(varying(), (0.12, 0.14, 0.18), (0.35, 0.45, 0.58), (0.66, 0.60, 0.45), (0.90, 0.90, 0.92))
    warm = varying()
    return {
        "skin": skin,
        "hair": hair,
        "brow": 0.75 * hair * np.float32([0.9, 0.85, 0.85]) + 0.02,
        "beard": 0.8 * hair + 0.01,
        "lips": choose(lips, Wearing_Lipstick=rouge),
        "iris": iris,
        "lash_colour": np.where(has["Male"][:, None], 0.45 * skin * np.float32([0.6, 0.5, 0.45]), np.float32(0.05)),
        "shadow": _ramp(varying(), (0.42, 0.22, 0.32), (0.30, 0.30, 0.48), (0.38, 0.24, 0.18)) * (0.5 + 0.5 * skin),
        "cloth": _ramp(varying(), (0.12, 0.13, 0.18), (0.55, 0.20, 0.22), (0.25, 0.40, 0.50), (0.86, 0.84, 0.80)),
        "shirt": _ramp(varying(), (0.95, 0.95, 0.95), (0.75, 0.83, 0.93)),
        "suit": _ramp(varying(), (0.10, 0.10, 0.12), (0.16, 0.19, 0.28), (0.30, 0.29, 0.28)),
        "tie": _ramp(varying(), *bright),
        "hat": _ramp(varying(), *bright) * 0.85,
        "hat_band": _ramp(varying(), (0.10, 0.10, 0.12), (0.90, 0.86, 0.75)),
        "frame": _ramp(fixed(), (0.05, 0.05, 0.06), (0.28, 0.14, 0.08)),
        "glass": _ramp(fixed(), (0.70, 0.80, 0.85), (0.25, 0.25, 0.28)),
        "jewel": _ramp(varying(), (0.98, 0.80, 0.32), (0.96, 0.95, 0.92)),
        "wall": wall,
        "wall2": wall2,
        "wall3": _ramp(varying(), *bright) * 0.5 + 0.5 * wall2,
        "light": (0.98 + 0.10 * varying())[:, None] * _ramp(warm, (1.04, 1.0, 0.95), (0.97, 1.0, 1.05)),
    }


def _people(draws: Draws) -> tuple[NDArray[np.int8], Face]:
    """Attributes (BLOCK, 40) and all that the drawing needs, for one block."""
    has = _attributes(draws)
    table = np.stack([has[name] for name in ATTRIBUTES], 1).astype(np.int8)
    values: dict[str, Array] = {}
    for name, trait in TRAITS.items():
        z = np.clip(draws.identity() if trait.of_identity else draws.picture(), -2, 2)
        values[name] = trait.mean + trait.std * z + sum(v * has[k] for k, v in trait.adds.items())
    values["gap"] = values["gap"] * has["Mouth_Slightly_Open"]
    values["asymmetry"] = values["asymmetry"] * ~has["Attractive"]
    colours = _colours(draws, has)
    has["Long_Hair"] = (draws.identity() < np.where(has["Male"], -1.7, 1.1)) & ~has["Bald"]
    has["Full_Beard"] = ~(has["No_Beard"] | has["Goatee"] | has["Mustache"] | has["Sideburns"])
    flat = {**values, **has}
    return table, Face(
        {k: np.float32(v).reshape(-1, 1, 1) for k, v in flat.items()}
        | {k: np.float32(v).reshape(-1, 3, 1, 1) for k, v in colours.items()}
    )


def generate(count: int, size: int, seed: int = 0) -> Iterator[Chunk]:
    """Draw `count` pictures of size × size, in order, as chunks of at most 25.

    The same seed gives the same pictures, and a shorter set is the beginning of a longer one. Pictures 500 b … 500 b + 499
    show identities 100 b … 100 b + 99, five times each in turn.
    """
    for start in range(0, count, BATCH):
        block, first = divmod(start, BLOCK)
        if first == 0:
            attributes, people = _people(Draws(seed, block))
        # A full batch is drawn even where fewer are wanted, so that a picture never depends on `count`.
        rows, keep = np.arange(first, first + BATCH), slice(0, count - start)
        noise = np.random.default_rng([seed, block, first]).standard_normal((BATCH, 3, size, size), np.float32)
        images, points = render(people.rows(rows), size, noise)
        identity = (block * IDENTITIES + rows % IDENTITIES).astype(np.int32)
        yield Chunk(images[keep], attributes[rows][keep], points[keep], identity[keep])


def split_of(identity: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Split of each identity, (n,) index into ("train", "val", "test"): of every ten people eight, one and one."""
    return np.array([0] * 8 + [1, 2], np.uint8)[np.asarray(identity) % 10]
