"""GMCNN: three columns of convolutions, each with a larger field of view, complete a square from its rim inwards.

Paper: Wang, Tao, Qi, Shen and Jia, NeurIPS 2018, "Image Inpainting via Generative Multi-column Convolutional Neural
Networks". The columns' maps are joined at full size; a missing value counts the more in the L1 error the closer it is
to what is known (confidence, spread by repeated blurring); implicit diversified Markov random fields want every texture
of the true hole used; two Wasserstein critics with gradient penalty look at the image and at the hole. First the L1
error alone, then all.
Changed for small images (256 pixels there): the hole keeps half of the image's side, and the blur its share of the
image (a window of 1/4 of the side, a deviation of 5/32). Padding is with zeros, as mirrored padding of 48 pixels is
impossible on a map of 24. Taps of a dilated kernel that lie outside of the map wherever it stands meet zeros only, and
are left out, which changes nothing: at dilation 16 on a 24×24 map these are 40 of 49. Texture layers whose map of the
hole is a single place are left out. The paper's equations hold where the authors' code differs (a blur that is nearly a
box, a hinge called Wasserstein, distances in the Markov random field, summed over the batch).
Left open by our sources, and chosen: the seen values' L1 error has weight 1 as their confidence has; phases of equal
length; the critics of the authors' PyTorch code, with leaky ReLU; weights that keep the variance.
Representation: the three columns' maps after the dilated convolutions, averaged over a grid of 4×4 (6144 numbers): all
that the image is painted from. With ``backbone=mde``, that network's code.
Command: ``mdebench pretrain gmcnn`` (``--set phases=1,0``: the confidence-driven error alone).
Expected: 16 drawn faces of 16 pixels are learned by heart at width 16 and ``lr=1e-3``: 27.5 dB in the hole after 500
updates with ``phases=95,5``, 31.8 dB after 900.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, conv2d, hardtanh

from mdebench.compute.machine import at_least_float32
from mdebench.errors import UserError
from mdebench.methods.adversaries import gradient_penalty, wasserstein_critic, wasserstein_generator
from mdebench.methods.appearance import activations, id_mrf
from mdebench.methods.contract import Batch, Loss, Player, phase
from mdebench.methods.networks import Generator, stage_maps
from mdebench.methods.perceptual import Looking, Perceptual
from mdebench.settings import Count, Rate, Share, Weight, check_phases, choose

from ._elu import elu

BACKBONES = {"native": "the paper's columns", "mde": "the generator of the Missing Data Encoder"}
KERNELS = (7, 5, 3)  # of the columns
GRID = 4  # the representation is averaged over GRID × GRID cells
BLUR, DEVIATION, TIMES = 1 / 4, 40 / 256, 7  # of the image's side: window and deviation (section 3.3); the code's times
TURNS = 5  # of the critics for one of the generator
# Section 3.2, conv4_2 for the structure and both for the texture: layer → its weight, and image pixels for one of its.
TEXTURES = {"relu3_2": (1, 4), "relu4_2": (2, 8)}


@dataclass(frozen=True)
class Settings:
    """The paper's values (section 4: weights, Adam).

    ``width`` 64 stands for the paper's widths: 32 channels in each column's first layer, 64 in the critics'. ``phases``
    shares of the run: the L1 error alone, then with textures and critics. ``perceptual`` the network that knows
    textures, see ``perceptual.py``. ``code``, numbers of the representation, is for ``backbone`` mde only.
    """

    width: Count = 64
    code: Count = 4000
    backbone: str = "native"
    perceptual: str = "imagenet"
    mrf_weight: Weight = 0.05
    adv_weight: Weight = 1e-3
    penalty_weight: Weight = 10.0
    phases: tuple[int, ...] = (1, 1)
    lr: Rate = 1e-4
    beta1: Share = 0.5
    beta2: Share = 0.9

    def __post_init__(self) -> None:
        choose(self.backbone, BACKBONES, "backbone")
        check_phases(self.phases, "1,1")


class Convolution(nn.Conv2d):
    """Convolution and ELU, zeros around: (N, inputs, h, w) → (N, outputs, h / stride, w / stride), rounded up."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, dilation: int = 1):
        super().__init__(inputs, outputs, kernel, stride, dilation * (kernel // 2), dilation)
        # For a ~ N(0, 1.65) E[ELU(a)²] ≈ 1: what goes in with variance 1 comes out with it.
        nn.init.normal_(self.weight, std=math.sqrt(1.65 / (inputs * kernel**2)))
        assert self.bias is not None
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve with the taps that reach the map from within it."""
        kernel, dilation = self.kernel_size[0], self.dilation[0]
        cut = max(0, kernel // 2 - (max(x.shape[2:]) - 1) // dilation)
        weight = self.weight[..., cut : kernel - cut, cut : kernel - cut] if cut else self.weight
        padding = dilation * (kernel // 2 - cut)
        return elu(conv2d(x, weight, self.bias, self.stride, padding, self.dilation))


class Column(nn.Module):
    """Image and hole (N, 4, h, w), sides multiples of 4 → map (N, outputs, h, w), all with kernels of one size."""

    def __init__(self, n: int, kernel: int):
        super().__init__()

        def same(inputs: int, outputs: int, stride: int = 1, dilation: int = 1) -> Convolution:
            return Convolution(inputs, outputs, kernel, stride, dilation)

        half = (same(4, n), same(n, 2 * n, stride=2), same(2 * n, 2 * n))
        quarter = (same(2 * n, 4 * n, stride=2), same(4 * n, 4 * n), same(4 * n, 4 * n))
        dilated = [same(4 * n, 4 * n, dilation=dilation) for dilation in (2, 4, 8, 16, 1, 1)]
        self.stages = nn.ModuleList(nn.Sequential(*layers) for layers in (half, quarter, dilated))
        nearest, up = nn.Upsample(scale_factor=2), (same(4 * n, 2 * n), same(2 * n, 2 * n))
        layers: dict[int, tuple[int, tuple[nn.Module, ...]]] = {
            7: (4 * n, (nn.Upsample(scale_factor=4, mode="bilinear"),)),
            5: (2 * n, (nearest, *up, nn.Upsample(scale_factor=2, mode="bilinear"))),
            3: (n, (nearest, *up, nearest, same(2 * n, n), same(n, n))),
        }
        self.outputs, decoder = layers[kernel]
        self.decoder = nn.Sequential(*decoder)


class Columns(nn.Module):
    """Image and hole (N, 4, h, w), sides multiples of 4 → a complete image (N, 3, h, w) in [-1, 1]."""

    def __init__(self, n: int):
        super().__init__()
        self.columns = nn.ModuleList(Column(n, kernel) for kernel in KERNELS)
        joined = sum(column.outputs for column in self._each())
        self.paint = nn.Sequential(Convolution(joined, max(2, n // 2), 3), nn.Conv2d(max(2, n // 2), 3, 3, padding=1))

    def _each(self) -> list[Column]:
        return [column for column in self.columns if isinstance(column, Column)]

    def forward(self, x: Tensor) -> Tensor:
        """Complete an image whose hole is grey (0)."""
        maps = [column.decoder(list(stage_maps(column.stages, x).values())[-1]) for column in self._each()]
        return hardtanh(self.paint(torch.cat(maps, dim=1)))

    def encode(self, x: Tensor) -> Tensor:
        """The representation, (N, 12·n·GRID²)."""
        *_, last = self.maps(x).values()
        return adaptive_avg_pool2d(last, GRID).flatten(1)

    def maps(self, x: Tensor) -> dict[str, Tensor]:
        """All columns' maps at half the size ("stage1"), at a quarter ("stage2"), after the dilated ones ("stage3")."""
        found = [stage_maps(column.stages, x) for column in self._each()]
        return {name: torch.cat([each[name] for each in found], dim=1) for name in found[0]}


class Critic(nn.Module):
    """Image (N, 3, side, side) in [-1, 1] → how real it is, (N,) in float32, any number."""

    def __init__(self, side: int, width: int):
        super().__init__()
        channels = (3, width, 2 * width, 4 * width, 4 * width)
        self.layers = nn.ModuleList(nn.Conv2d(a, b, 5, stride=2, padding=2) for a, b in pairwise(channels))
        self.head = nn.Linear(4 * width * math.ceil(side / 2 ** len(self.layers)) ** 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        """Judge images."""
        x, device = image, image.device.type
        bf16 = torch.is_autocast_enabled(device)
        for layer in self.layers:
            # Of a single pixel, torch 2.14's bf16 convolution on the CPU leaves parts of the gradient unset.
            lone = bf16 and x.shape[2:] == (1, 1)
            with torch.autocast(device, enabled=bf16 and not lone):
                x = nn.functional.leaky_relu(layer(x.float() if lone else x), 0.2)
        with torch.autocast(device, enabled=False):
            score: Tensor = self.head(x.flatten(1).to(self.head.weight))[:, 0]
        return score


def confidence(hole: Tensor) -> Tensor:
    """How much a missing value counts (section 3.3): ``hole`` (N, 1, H, W) of 1 and 0 → (N, 1, H, W) in [0, 1].

    M_w = (g ∗ (1 − M + M_w)) ⊙ M from M_w = 0, TIMES times, with a Gaussian window g; outside the image nothing is
    known.
    """
    half = round(BLUR * hole.shape[-1]) // 2
    offsets = torch.arange(-half, half + 1, dtype=hole.dtype, device=hole.device)
    window = torch.exp(-(offsets**2) / (2 * (DEVIATION * hole.shape[-1]) ** 2))
    window = window / window.sum()
    weights = torch.zeros_like(hole)
    with torch.autocast(hole.device.type, enabled=False):
        for _ in range(TIMES):
            blurred = conv2d(1 - hole + weights, window[None, None, :, None], padding=(half, 0))
            weights = conv2d(blurred, window[None, None, None, :], padding=(0, half)) * hole
    return weights


def draw_corners(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Row and column of the first pixel of each image's hole, size // 2 pixels high and wide: (count, 2) int64."""
    u = torch.rand((count, 2), generator=generator, dtype=torch.float64)
    return (u * (size - size // 2 + 1)).long()


def cut(images: Tensor, corners: Tensor) -> Tensor:
    """What lies where the holes are, (N, C, size, size) → (N, C, size // 2, size // 2)."""
    side = images.shape[-1] // 2
    return torch.stack([image[:, y : y + side, x : x + side] for image, (y, x) in zip(images, corners.tolist())])


@dataclass(frozen=True)
class Turn:
    """What all turns of an update share: the batch it is of, holes, and completions."""

    batch: Batch
    output: Tensor  # (N, 3, H, W) in [-1, 1]
    composite: Tensor  # the same with what is seen as it was
    hole: Tensor  # (N, 1, H, W)
    weights: Tensor  # the confidence there
    corners: Tensor  # (N, 2)


class Method(Looking):
    """A generator that completes squares, and two critics."""

    PAPER = "Wang et al. 2018"
    settings: Settings

    def __init__(self, settings: Settings, size: int):
        super().__init__(settings, size)
        s, n = settings, max(2, settings.width // 2)
        if size % 4 or size < 8:
            way = "make a pack of another --size"
            raise UserError(f"gmcnn takes a side of 8 pixels or more that 4 divides, not {size}; {way}")
        self.generator: Columns | Generator
        if s.backbone == "native":
            self.generator = Columns(n)
            self.feature_dim = 4 * n * len(KERNELS) * GRID**2
        else:
            self.generator = Generator(size, s.width, s.code, channels=4, last=nn.Tanh())
            self.feature_dim = s.code
        self.critics = nn.ModuleDict({"image": Critic(size, s.width), "hole": Critic(size // 2, s.width)})
        self.textures = self._textures()
        self.losses = "l1" if not s.phases[1] else "l1+adv+mrf" if self.textures else "l1+adv"
        self._turn: Turn | None = None

    def _textures(self) -> list[str]:
        """The layers whose textures are compared; which are not, and why, goes into the notes."""
        if not self.settings.phases[1]:
            return []
        if self.settings.perceptual == "none":
            self.notes.append("ID-MRF left out: perceptual=none, and it compares textures in a perceptual network")
            return []
        side = self.size // 2
        small = [name for name, (_, pixels) in TEXTURES.items() if side // pixels < 2]
        if small:
            self.notes.append(f"ID-MRF without {' and '.join(small)}: of a hole of {side} pixels these see one place")
        return [name for name in TEXTURES if name not in small]

    def looks(self) -> bool:
        """Whether textures are compared."""
        return bool(self.textures)

    def fit(self, network: Perceptual) -> None:
        """Textures of layers that the network lacks are not compared, which the notes say."""
        with torch.no_grad():
            found = activations(network, torch.zeros(1, 3, 32, 32), self.textures)
        if missing := [name for name in self.textures if name not in found]:
            self.textures = list(found)
            self.notes.append(f"ID-MRF without {' and '.join(missing)}: {network.name} is not that deep")

    def players(self) -> dict[str, Player]:
        """Critics (both are one player) and generator; Adam without annealing."""
        s, options = self.settings, {"betas": (self.settings.beta1, self.settings.beta2)}
        networks = {"critics": self.critics, "generator": self.generator}
        return {name: Player(list(each.parameters()), s.lr, options) for name, each in networks.items()}

    def turns(self, step: int, updates: int) -> tuple[str, ...]:
        """Phase one: the generator; two: five turns of the critics first. It begins at its share, rounded down."""
        if not phase(self.settings.phases, step, updates):
            return ("generator",)
        return (*["critics"] * TURNS, "generator")

    def loss(self, player: str, batch: Batch) -> Loss:
        """The critics' Wasserstein distances and penalties; the generator's L1 error, in phase two with all the rest.

        The generator stands still while the critics move: all turns of an update take the same completions.
        """
        if self._turn is None or self._turn.batch is not batch:
            self._turn = self._complete_batch(batch)
        turn = self._turn
        if player == "critics":
            return self._tell_apart(turn)
        self._turn = None
        return self._fill(turn, alone="critics" not in self.turns(batch.step, batch.updates))

    def _complete_batch(self, batch: Batch) -> Turn:
        corners = batch.own(draw_corners(batch.count, self.size, batch.generator))
        hole = self._hole(corners).to(batch.images)
        output = at_least_float32(self.generator(self._masked(batch.images, 1 - hole)))
        composite = torch.where(hole > 0, output, 2 * batch.images - 1)
        return Turn(batch, output, composite, hole, confidence(hole), corners)

    def _tell_apart(self, turn: Turn) -> Loss:
        """Each critic's distance E[D(composite)] − E[D(real)], and its penalty where confidence weighs the gradient."""
        batch = turn.batch
        whole = (2 * batch.images - 1, turn.composite.detach(), turn.weights)
        windows = tuple(cut(each, turn.corners) for each in whole)
        distances, penalties = [], []
        for critic, (real, fake, weights) in zip(self.critics.values(), (whole, windows), strict=True):
            mix = batch.own(torch.rand(batch.count, 1, 1, 1, generator=batch.generator))
            distances.append(wasserstein_critic(*critic(torch.cat([real, fake])).chunk(2)))
            penalties.append(gradient_penalty(critic, real, fake, mix, weights))
        distance, penalty = torch.stack(distances).sum(), torch.stack(penalties).sum()
        return Loss(distance + self.settings.penalty_weight * penalty, {"distance": distance, "penalty": penalty})

    def _fill(self, turn: Turn, alone: bool) -> Loss:
        s, real = self.settings, 2 * turn.batch.images - 1
        error = (turn.output - real).abs().mean(dim=1, keepdim=True)
        seen = 1 - turn.hole  # each image has as many of them: sums over the batch are means over its images
        parts = {
            "seen": (error * seen).sum() / seen.sum(),
            "hole": (error * turn.weights).sum() / turn.hole.sum(),
        }
        total = parts["seen"] + parts["hole"]
        if alone:
            return Loss(total, parts)
        windows = cut(turn.composite, turn.corners)
        judged = zip(self.critics.values(), (turn.composite, windows), strict=True)
        parts["adv"] = torch.stack([wasserstein_generator(critic(images)) for critic, images in judged]).sum()
        total = total + s.adv_weight * parts["adv"]
        if self.vgg:
            vgg = self.vgg.to(real)
            parts["mrf"] = self._compare_textures(vgg, windows, cut(real, turn.corners))
            total = total + s.mrf_weight * parts["mrf"]
        return Loss(total, parts)

    def _compare_textures(self, vgg: Perceptual, made: Tensor, true: Tensor) -> Tensor:
        """Between windows in [-1, 1]: L_M(conv4_2) for the structure, L_M(conv3_2) + L_M(conv4_2) for the texture."""
        with torch.no_grad():
            wanted = activations(vgg, (true + 1) / 2, self.textures)
        found = activations(vgg, (made + 1) / 2, self.textures)
        return torch.stack([TEXTURES[name][0] * id_mrf(found[name], wanted[name]) for name in found]).sum()

    def _hole(self, corners: Tensor) -> Tensor:
        """1 in the squares whose first row and column are given, (N, 2) → (N, 1, H, W)."""
        place = torch.arange(self.size, device=corners.device)
        first = corners[..., None]
        y, x = ((place >= first) & (place < first + self.size // 2)).unbind(1)
        return (y[:, None, :, None] & x[:, None, None, :]).float()

    def _masked(self, images: Tensor, seen: Tensor) -> Tensor:
        """What is seen, in [-1, 1] and 0 elsewhere, and a channel that is 1 where a value is missing: (N, 4, H, W).

        With a mask per channel, the values that are seen at a marked pixel keep theirs.
        """
        seen = seen.expand_as(images)
        return torch.cat([(2 * images - 1) * seen, 1 - seen.amin(1, keepdim=True)], dim=1)

    def draw_seen(self, batch: Batch) -> Tensor:
        """A training mask: a square of half the side is missing in all channels, (N, 3, H, W)."""
        hole = self._hole(batch.own(draw_corners(batch.count, self.size, batch.generator)))
        return (1 - hole).expand(-1, 3, -1, -1)

    def encode(self, images: Tensor) -> Tensor:
        """The representation of whole images: (N, 3, H, W) in [0, 1] → (N, feature_dim)."""
        x = self._masked(images, torch.ones_like(images))
        if isinstance(self.generator, Columns):
            return self.generator.encode(x)
        code: Tensor = self.generator.encoder(x)[0]
        return code

    def stages(self, images: Tensor) -> dict[str, Tensor]:
        """The maps of `Columns.maps` (or of the MDE's encoder) for whole images (N, 3, H, W) in [0, 1]."""
        x = self._masked(images, torch.ones_like(images))
        return self.generator.maps(x) if isinstance(self.generator, Columns) else self.generator.encoder.maps(x)

    def complete(self, images: Tensor, seen: Tensor) -> Tensor:
        """The generator's raw output: images (N, 3, H, W), seen broadcastable → (N, 3, H, W) in [0, 1]."""
        return (at_least_float32(self.generator(self._masked(images, seen))) + 1) / 2
