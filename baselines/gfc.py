"""Generative face completion: an autoencoder fills a square of noise; a judge of the square, then one of the whole face
and a face parser join in when its rough shape is there.

Paper: Li, Liu, Yang and Yang, CVPR 2017; the layers are those of the authors' networks (the decoder is narrower than
the encoder that it mirrors, nothing is normalised), as are the weights of the losses and Adam's rates. The training is
staged: the absolute error alone, then the local judge as well, then the global judge and the parser. As in the paper,
and other than in the authors' code, a judge's gradient reaches no pixel outside the hole but through what is in it. The
error is L1 as in that code, to which its weights belong; the paper's text speaks of L2.
Changed for small images (the paper's have 128 pixels): the judges have as many of their last stages as leave a map of
at least 3×3, and the authors' sum of absolute errors is their mean times the 3·128² values of the paper's images, so
that the weights say the same at all sizes.
Left open by our sources, and chosen: the first two of the three stages take a tenth of the run each; at test time the
noise is the same for all images, so that an image is completed in one way; the judges' weights start by He's rule, too,
as the signal of narrow layers without normalisation dies out from N(0, 0.02); where channels are missing one by one,
noise stands in the values that are missing.
Face parsing: without ``--set parser=FILE`` (a segmentation network of torchvision that knows such images, see
``_parser.py``) the term is left out, and the run says so. It needs no labels: the target is what the parser says of
the whole image.
Representation: the code after the fully connected layer and its ReLU, 4096 numbers in the paper (the scales set
``code``, as they do for other methods); with ``backbone=mde``, that network's code.
Command: ``mdebench pretrain gfc`` (``--set phases=1,0,0``: the absolute error alone).
Expected: by the MDE paper's Table 3, 19.3 dB with the left half of the face covered, 2.5 dB behind the MDE.
It learns slowly: of 16 drawn faces of 32 pixels, at width 16 and a rate of 1e-3, 18.7 dB in the hole after 800 updates
of the error alone, 21.4 dB after 4,800; with ``backbone=mde`` 26.7 dB after 480, at 2e-3.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, max_pool2d_with_indices, max_unpool2d

from mdebench.compute.machine import at_least_float32
from mdebench.errors import UserError
from mdebench.methods import losses as L
from mdebench.methods.checkpoints import file_hash, path_of
from mdebench.methods.contract import Batch, Loss, Player, phase
from mdebench.methods.contract import Method as BaseMethod
from mdebench.methods.networks import Generator
from mdebench.settings import Count, Rate, Share, Weight, check_phases, choose

from ._parser import Parser, load_parser
from ._squares import cut, draw_corners, hole_side, outside

BACKBONES = {"native": "the paper's network", "mde": "the Missing Data Encoder's"}
SHRINKS = 16  # times, through the encoder's four poolings
PIXELS = 128**2  # of the paper's images, over which its absolute error and its parsing loss are summed
LEAST_MAP = 3  # pixels per side of what a judge's last layer sees


@dataclass(frozen=True)
class Settings:
    """The values of the authors' training code: the judges weigh 300, the parser 0.05, beside a sum of absolute errors;
    Adam, the judges twice as fast.

    ``width`` 64 stands for the paper's widths, 32 in the first layer. ``phases`` shares of the run: the error alone,
    with the local judge, with all. ``parser`` a file, or none. ``backbone`` native or mde.
    """

    width: Count = 64
    code: Count = 4096
    backbone: str = "native"
    phases: tuple[int, ...] = (1, 1, 8)
    local_weight: Weight = 300.0
    global_weight: Weight = 300.0
    parsing_weight: Weight = 0.05
    parser: str = "none"
    generator_lr: Rate = 1e-4
    generator_beta1: Share = 0.9
    judge_lr: Rate = 2e-4
    judge_beta1: Share = 0.5

    def __post_init__(self) -> None:
        choose(self.backbone, BACKBONES, "backbone")
        check_phases(self.phases, "1,1,8")
        if self.parser != "none" and not self.phases[2]:
            raise UserError(f"parser={self.parser} has no part in phases={self.phases}: it joins in the third")


def he(layer: nn.Conv2d | nn.Linear, slope: float = 0.0) -> nn.Conv2d | nn.Linear:
    """The layer with weights that keep the variance before a (leaky) ReLU, and no bias."""
    nn.init.kaiming_normal_(layer.weight, a=slope)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer


def convolutions(*channels: int) -> nn.Sequential:
    """3×3 convolutions with ReLU between so many ``channels``: (N, channels[0], h, w) → (N, channels[-1], h, w)."""
    layers: list[nn.Module] = []
    for before, after in pairwise(channels):
        layers += [he(nn.Conv2d(before, after, 3, padding=1)), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


def unpool(x: Tensor, places: Tensor) -> Tensor:
    """Each number back to where the pooling found its own, 0 elsewhere: (N, C, h, w) twice → (N, C, 2 h, 2 w)."""
    with torch.autocast(x.device.type, enabled=False):  # autocast would make it float32; nothing is computed here
        return max_unpool2d(x, places, (2, 2))


class Encoder(nn.Module):
    """Filled image (N, 3, size, size) in [-1, 1] → code (N, code); ``c`` channels in the first layer."""

    def __init__(self, size: int, c: int, code: int):
        super().__init__()
        eight = (8 * c,) * 4
        self.stages = nn.ModuleList(
            convolutions(*channels)
            for channels in ((3, c, c), (c, 2 * c, 2 * c), (2 * c, 4 * c, 4 * c), (4 * c, *eight))
        )
        flat = 8 * c * (size // SHRINKS) ** 2
        self.to_code = nn.Sequential(nn.Flatten(), he(nn.Linear(flat, code)), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the code and, for each pooling, the place that each number came from."""
        pooled = self._pooled(x)
        return self.to_code(pooled[-1][0]), [places for _, places in pooled]

    def maps(self, x: Tensor) -> dict[str, Tensor]:
        """The map after each pooling: "stage1" to "stage4" → (N, c to 8 c, size / 2 to size / 16, the same)."""
        return {f"stage{number}": each for number, (each, _) in enumerate(self._pooled(x), start=1)}

    def _pooled(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        found = []
        for stage in self.stages:
            x, places = max_pool2d_with_indices(stage(x), (2, 2))
            found.append((x, places))
        return found


class Decoder(nn.Module):
    """Code (N, code) and the places of the poolings → image (N, 3, size, size), about [-1, 1] and without a bound."""

    def __init__(self, size: int, c: int, code: int):
        super().__init__()
        side = size // SHRINKS
        self.from_code = nn.Sequential(
            he(nn.Linear(code, 8 * c * side**2)), nn.ReLU(inplace=True), nn.Unflatten(1, (8 * c, side, side))
        )
        c2, c4, c8 = 2 * c, 4 * c, 8 * c
        widths = ((c8, c2, c2, c2, c4), (c4, c2, c2), (c2, c2, c), (c, c, c))
        self.stages = nn.ModuleList(convolutions(*channels) for channels in widths)
        self.last = he(nn.Conv2d(c, 3, 3, padding=1))
        nn.init.normal_(self.last.weight, std=0.001)  # begins with grey

    def forward(self, code: Tensor, places: Sequence[Tensor]) -> Tensor:
        """Decode; ``places`` as the encoder gives them, finest first."""
        x = self.from_code(code)
        for stage, each in zip(self.stages, reversed(places)):
            x = stage(unpool(x, each))
        image: Tensor = self.last(x)
        return image


class CompletionNetwork(nn.Module):
    """Image (N, 3, size, size) in [-1, 1] with noise where it is missing → a complete one of the same shape."""

    def __init__(self, size: int, c: int, code: int):
        super().__init__()
        self.encoder, self.decoder = Encoder(size, c, code), Decoder(size, c, code)

    def forward(self, filled: Tensor) -> Tensor:
        """Complete an image."""
        image: Tensor = self.decoder(*self.encoder(filled))
        return image


class Judge(nn.Module):
    """Image (N, 3, side, side) in [-1, 1] → one real/fake logit (N,), in float32.

    A stage keeps the size (3×3) and then halves it (4×4); ``widths`` are those of all stages, of which the last are
    used that leave a map of at least 3×3.
    """

    def __init__(self, side: int, widths: Sequence[int]):
        super().__init__()
        used = widths[-max(1, min(len(widths), int(math.log2(side / LEAST_MAP)))) :]
        layers: list[nn.Module] = []
        for before, after in pairwise((3, *used)):
            for conv in (nn.Conv2d(before, after, 3, padding=1), nn.Conv2d(after, after, 4, stride=2, padding=1)):
                layers += [he(conv, 0.2), nn.LeakyReLU(0.2, inplace=True)]
        self.trunk = nn.Sequential(*layers, nn.Flatten())
        self.head = nn.Linear(used[-1] * (side >> len(used)) ** 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Judge images."""
        features = self.trunk(images)
        with torch.autocast(images.device.type, enabled=False):
            logit: Tensor = self.head(features.to(self.head.weight))[:, 0]
        return logit


class Method(BaseMethod):
    """Completes squares of noise; ``encode`` gives the code of whole images."""

    PAPER = "Li et al. 2017"
    FILES = ("parser",)
    settings: Settings
    noise: Tensor

    def __init__(self, settings: Settings, size: int):
        super().__init__(settings, size)
        s, c = settings, max(1, settings.width // 2)
        if s.backbone == "native" and size % SHRINKS:
            raise UserError(
                f"gfc takes a side that {SHRINKS} divides, not {size} pixels; make a pack of another --size"
            )
        self.feature_dim = s.code
        self.generator: CompletionNetwork | Generator = (
            CompletionNetwork(size, c, s.code)
            if s.backbone == "native"
            else Generator(size, s.width, s.code, last=nn.Tanh())
        )
        widths = [c * widening for widening in (1, 2, 4, 8, 16)]
        self.judges = nn.ModuleDict({"local": Judge(hole_side(size), widths[1:]), "global": Judge(size, widths)})
        terms = ["l1"] + ["local"] * any(s.phases[1:]) + ["global"] * bool(s.phases[2])
        if s.phases[2] and s.parser == "none":
            self.notes.append("the face parsing loss is left out: no parser is given (--set parser=FILE)")
        elif s.phases[2]:
            terms.append("parsing")
            if (path := path_of(s.parser)).is_file():  # gone, perhaps, when a finished run is measured
                self.told = {"parser": f"{path.name}:{file_hash(path)[:8]}"}
        self.losses = "+".join(terms)
        drawn = torch.rand((1, 3, size, size), generator=torch.Generator().manual_seed(0), device="cpu")
        self.register_buffer("noise", 2 * drawn - 1, persistent=False)
        self._turn: tuple[Tensor, Tensor] | None = None

    @cached_property
    def _parser(self) -> list[Parser]:
        """The parser, loaded when training asks for it; in a list, so that its weights stay out of state_dict."""
        return [] if self.settings.parser == "none" else [load_parser(self.settings.parser)]

    def players(self) -> dict[str, Player]:
        """The judges, which take their turn together, and the generator."""
        s = self.settings
        _ = self._parser  # what is wrong with its file is told before training begins, not at its last stage
        judges, generator = list(self.judges.parameters()), list(self.generator.parameters())
        return {
            "judges": Player(judges, s.judge_lr, {"betas": (s.judge_beta1, 0.999)}),
            "generator": Player(generator, s.generator_lr, {"betas": (s.generator_beta1, 0.999)}),
        }

    def turns(self, step: int, updates: int) -> tuple[str, ...]:
        """Stage one: the generator; two and three: judges and generator."""
        return ("judges", "generator") if self.judging(step, updates) else ("generator",)

    def judging(self, step: int, updates: int) -> tuple[str, ...]:
        """Which judges there are: none in stage one, local in two, both in three; shares of the run, rounded down."""
        return ("local", "global")[: phase(self.settings.phases, step, updates)]

    def loss(self, player: str, batch: Batch) -> Loss:
        """The judges' cross-entropies; the generator's absolute error, and what judges and parser of its stage say."""
        real = 2 * batch.images - 1
        judges = self.judging(batch.step, batch.updates)
        if player == "judges":
            self._turn = output, corners = self._complete_batch(batch)
            fake = self._composite(real, output.detach(), corners)
            parts = {}
            for judge in judges:
                logits = self.judges[judge](torch.cat([self._part(judge, each, corners) for each in (real, fake)]))
                parts[judge] = L.discriminator_adversarial(*logits.chunk(2))
            return Loss(torch.stack(list(parts.values())).sum(), parts)
        # The generator has not moved since the judges' turn: the same completions serve, once.
        (output, corners), self._turn = self._turn or self._complete_batch(batch), None
        return self._fill(real, output, corners, judges)

    def _complete_batch(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The generator's raw output (N, 3, H, W), about [-1, 1], and the corners of the holes (N, 2)."""
        corners = batch.own(draw_corners(batch.count, self.size, batch.generator))
        noise = torch.rand((batch.count, 3, self.size, self.size), generator=batch.generator)
        filled = self._filled(batch.images, outside(corners, self.size), 2 * batch.own(noise) - 1)
        return at_least_float32(self.generator(filled)), corners

    def _fill(self, real: Tensor, output: Tensor, corners: Tensor, judges: tuple[str, ...]) -> Loss:
        s = self.settings
        weights = {"local": s.local_weight, "global": s.global_weight}
        parts = {"l1": (output - real).abs().mean()}
        total = 3 * PIXELS * parts["l1"]
        fake = self._composite(real, output, corners)
        for judge in judges:
            parts[judge] = L.generator_adversarial(self.judges[judge](self._part(judge, fake, corners)))
            total = total + weights[judge] * parts[judge]
        if "global" in judges and self._parser:
            parser = self._parser[0].to(real.device)
            with torch.no_grad():
                target = parser((real + 1) / 2).argmax(1)
            parts["parsing"] = cross_entropy(parser((fake + 1) / 2), target)
            total = total + s.parsing_weight * PIXELS * parts["parsing"]
        return Loss(total, parts)

    def _composite(self, real: Tensor, output: Tensor, corners: Tensor) -> Tensor:
        return real.where(outside(corners, self.size) > 0, output)

    def _part(self, judge: str, images: Tensor, corners: Tensor) -> Tensor:
        """What a judge looks at: the hole or the whole image."""
        return cut(images, corners) if judge == "local" else images

    def _filled(self, images: Tensor, seen: Tensor, noise: Tensor) -> Tensor:
        """Images (N, 3, H, W) in [0, 1], in [-1, 1] with noise where not ``seen``."""
        return (2 * images - 1).where(seen > 0, noise.to(images))

    def draw_seen(self, batch: Batch) -> Tensor:
        """A training mask: a square is missing in all channels, (N, 3, H, W)."""
        corners = batch.own(draw_corners(batch.count, self.size, batch.generator))
        return outside(corners, self.size).expand(-1, 3, -1, -1)

    def encode(self, images: Tensor) -> Tensor:
        """The code of whole images: (N, 3, H, W) in [0, 1] → (N, code)."""
        code: Tensor = self.generator.encoder(2 * images - 1)[0]
        return code

    def stages(self, images: Tensor) -> dict[str, Tensor]:
        """The map after each stage of the encoder, whole images (N, 3, H, W) in [0, 1] → (N, C, h, w) each."""
        return self.generator.encoder.maps(2 * images - 1)

    def complete(self, images: Tensor, seen: Tensor) -> Tensor:
        """The generator's output, cut to [0, 1]: images (N, 3, H, W), seen broadcastable → (N, 3, H, W)."""
        output = self.generator(self._filled(images, seen, self.noise))
        return ((at_least_float32(output) + 1) / 2).clamp(0, 1)
