"""Who has which of the 40 attributes: random people with CelebA's rates and its main correlations.

Sex and age come first. Every other attribute cuts a Gaussian at CelebA's rate among people of that sex and age (a
Gaussian copula). A few common factors (a smile, weight, grooming, beards) make some go together; some exclude others.
"""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from mdebench.data.toyfaces.canvas import Array

Has = dict[str, NDArray[np.bool_]]  # attribute → who has it, (n,)
P_MALE, P_YOUNG = 0.417, (0.874, 0.633)  # shares in CelebA; of the young among women, among men
FACTORS = ("smile", "weight", "groomed", "beard", "whiskers")
# Each attribute's share in CelebA, in per cent, among older women, young women, older men, young men (counted in its
# public annotation); how much of its remaining chance belongs to the identity; its loadings on the common factors.
# The smile is a picture's, the other factors an identity's: so what an identity fixes (1.0) must not load on the smile.
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
# What cannot be, or could not be seen, beside what. An attribute stands below those that exclude it.
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


class Draws:
    """The random numbers of one block: standard normals (identities · pictures · frames,), picture after picture.

    A picture that moves is a clip of frames. Its first frame is the picture that does not, and a longer clip goes on
    where a shorter one ends: what moves it comes from random numbers of its own.
    """

    def __init__(self, seed: int, block: int, identities: int, pictures: int, frames: int = 1) -> None:
        self._rng = np.random.default_rng([seed, block])
        self._paths = np.random.default_rng([seed, block, 0, 1])
        self._identities, self._pictures, self._frames = identities, pictures, frames

    def identity(self) -> Array:
        """Numbers that are the same in all pictures of an identity."""
        return self._held(np.tile(self._rng.standard_normal(self._identities, np.float32), self._pictures))

    def picture(self) -> Array:
        """Numbers of the pictures, each its own."""
        return self._held(self._rng.standard_normal(self._identities * self._pictures, np.float32))

    def frame(self) -> Array:
        """Numbers of the frames: from that of the picture along a smooth path to others that are as likely."""
        begin = self.picture()
        onward, angle = self._held(self._paths.standard_normal(len(begin) // self._frames, np.float32)), self._angle()
        path: Array = begin * np.cos(angle) + onward * np.sin(angle)
        return path

    def swing(self) -> Array:
        """Numbers in [-1, 1] that swing to and fro, and begin at 0."""
        swung: Array = np.sin(self._angle())
        return swung

    def _held(self, numbers: Array) -> Array:
        return np.repeat(numbers, self._frames)

    def _angle(self) -> Array:
        """How far each frame is on its way, in radians: a whole turn takes 12 to 24 frames, to either side."""
        turns = self._paths.uniform(1 / 24, 1 / 12, self._identities * self._pictures).astype(np.float32)
        turns *= np.sign(self._paths.standard_normal(len(turns), np.float32))
        frame = np.tile(np.arange(self._frames, dtype=np.float32), len(turns))
        angle: Array = 2 * np.float32(np.pi) * self._held(turns) * frame
        return angle


def draw_attributes(draws: Draws) -> Has:
    """Who has what: (n,) bool for each of the 40 attributes."""
    quantile = np.vectorize(NormalDist().inv_cdf)
    factors = {name: draws.picture() if name == "smile" else draws.identity() for name in FACTORS}
    male = draws.identity() < quantile(P_MALE)
    young = draws.identity() < quantile(np.where(male, P_YOUNG[1], P_YOUNG[0]))
    has: Has = {"Male": male, "Young": young}
    rates, latent = {}, {}
    for line in TABLE.strip().splitlines():
        name, *rate, share = line.split()[:6]
        rates[name] = np.array(rate, float) / 100
        loads = {factor: float(load) for factor, load in (word.split("=") for word in line.split()[6:])}
        own = np.sqrt(float(share)) * draws.identity() + np.sqrt(1 - float(share)) * draws.picture()
        own *= np.sqrt(1 - sum(load * load for load in loads.values()))
        latent[name] = own + sum(load * factors[factor] for factor, load in loads.items())
    for name in [*(name for name in rates if name not in EXCLUDED_BY), *EXCLUDED_BY]:
        rivals = EXCLUDED_BY.get(name, ())
        room = 1 - sum(rates[rival] for rival in rivals)  # a higher rate among the rest makes up for the excluded
        cut = quantile(np.clip(rates[name] / np.maximum(room, 0.01), 1e-6, 1 - 1e-6))
        has[name] = latent[name] < cut[2 * male + young]
        for rival in rivals:
            has[name] &= ~has[rival]
    return has
