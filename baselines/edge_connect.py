"""EdgeConnect: lines first, colour next. One network draws the edges that the hole hides, another paints between them.

Paper: Nazeri et al. 2019, "EdgeConnect: Generative Image Inpainting with Adversarial Edge Learning". Each of the two
generators is an encoder, eight dilated residual blocks and a decoder, and plays against a critic of patches. Edges are
Canny's with σ = 2. ``phases`` are shares of a run: edges alone; colour, led by the true edges; colour, led by the
predicted ones; both generators end to end, without the critic of edges, at a hundredth of the learning rate.
As in the paper, where the authors' code differs: holes are black (there white), the critic of images sees the edges,
too, and the perceptual network gets the range that it expects. The L1 of the whole image is divided by the share that
is missing, as in both. The known edges are those of the seen part, as in the code when it tests: edges of the whole
image, less those in the hole (the paper's), would tell of the hole what nobody knows who completes an image.
Left open by the paper, and chosen: the shares of the phases; a learning rate that stays (there it falls when losses no
longer do). Biases that instance normalisation takes away again are left out, and masks are free-form.
Changed for small images (256 pixels there): nothing; a side has at least 24 pixels, for the critics' last map.
Perceptual and style terms use those of the paper's layers of VGG-19 that the perceptual network has.
Representation: the encoder of the second stage, which completes the image, led by the image's own edges: the map after
the residual blocks, averaged over 4×4 cells (4096 numbers). With ``backbone=mde`` both stages are that network, and the
representation is the second one's code. Canny is computed outside of torch: encoders are exported as weights alone.
Command: ``mdebench pretrain edge_connect`` (``--set backbone=mde``: the same on the network of the MDE).
Expected: no number for small faces is published. 16 drawn faces of 32 pixels are learned by heart at width 16 with
``generator_lr=2e-3``, ``adv_weight=0.01`` and ``phases=1,0,7,1``: 28.8 dB in the hole after 700 updates.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, conv_transpose2d
from torch.nn.utils.parametrizations import spectral_norm

from mdebench.compute.machine import at_least_float32
from mdebench.errors import UserError
from mdebench.methods import appearance
from mdebench.methods import losses as L
from mdebench.methods.adversaries import feature_matching
from mdebench.methods.contract import Batch, Loss, Player, phase
from mdebench.methods.masks import draw_strokes
from mdebench.methods.networks import Generator, stage_maps
from mdebench.methods.perceptual import Looking
from mdebench.settings import Count, Rate, Share, Weight, check_phases, choose
from mdebench.variants import FREE_FORM, STROKES

from ._canny import canny, grey
from ._two_stage import hole_of

BACKBONES = {"native": "the paper's network", "mde": "the Missing Data Encoder's, in both stages"}
PERCEPTUAL_LAYERS = tuple(f"relu{block}_1" for block in range(1, 6))  # section 3.2
STYLE_LAYERS = ("relu2_2", "relu3_4", "relu4_4", "relu5_2")
BLOCKS = 8  # residual ones, per generator
CELLS = 4  # per side, of the representation
SMALLEST = 24  # pixels: after three strides of 2 and two kernels of 4, one place of a critic's map
END_TO_END = 0.01  # of the learning rate: 1e-6 after 1e-4 (section 4.2)


@dataclass(frozen=True)
class Settings:
    """The paper's values (sections 3 and 4): weights of the losses, Adam, critics a tenth as fast as generators.

    ``phases`` shares of the run: edges, colour with true edges, colour with predicted edges, end to end.
    ``adv_weight`` is that of the images; that of the edges weighs 1. ``code``, numbers of the representation, is for
    ``backbone`` mde only. ``masks`` trained on: DeepFill v2's ("free_form") or where VCNet's damage lies ("damage").
    """

    width: Count = 64
    code: Count = 4000
    backbone: str = "native"
    perceptual: str = "imagenet"
    phases: tuple[int, ...] = (3, 3, 3, 1)
    matching_weight: Weight = 10.0
    l1_weight: Weight = 1.0
    adv_weight: Weight = 0.1
    perceptual_weight: Weight = 0.1
    style_weight: Weight = 250.0
    generator_lr: Rate = 1e-4
    critic_lr: Rate = 1e-5
    beta1: Share = 0.0
    beta2: Share = 0.9
    masks: str = FREE_FORM

    def __post_init__(self) -> None:
        choose(self.backbone, BACKBONES, "backbone")
        choose(self.masks, dict.fromkeys(STROKES), "masks")
        check_phases(self.phases, "3,3,3,1")


class Spectral(nn.Conv2d):
    """A convolution whose weight is divided by its largest singular value, found in full precision always."""

    def __init__(self, channels: int, out: int, kernel: int, **options: Any):
        super().__init__(channels, out, kernel, **options)
        spectral_norm(self)

    def forward(self, x: Tensor) -> Tensor:
        """Convolve."""
        with torch.autocast(x.device.type, enabled=False):
            weight = self.weight
        convolved: Tensor = self._conv_forward(x, weight, self.bias)
        return convolved


class SpectralUp(nn.ConvTranspose2d):
    """The same of a transposed convolution without bias or dilation."""

    def __init__(self, channels: int, out: int, kernel: int, **options: Any):
        super().__init__(channels, out, kernel, **options)
        spectral_norm(self)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Convolve."""
        with torch.autocast(x.device.type, enabled=False):
            weight = self.weight
        return conv_transpose2d(x, weight, stride=self.stride, padding=self.padding)  # type: ignore[arg-type]


def _normed(conv: nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
    return nn.Sequential(conv, nn.InstanceNorm2d(conv.out_channels), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """x + what two convolutions, the first of dilation 2, make of it: (N, channels, h, w) → the same."""

    def __init__(self, channels: int, conv: type[nn.Conv2d]):
        super().__init__()
        first, second = (
            conv(channels, channels, 3, padding=d, dilation=d, padding_mode="reflect", bias=False) for d in (2, 1)
        )
        self.layers = nn.Sequential(_normed(first), second, nn.InstanceNorm2d(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Add."""
        change: Tensor = self.layers(x)
        return x + change


class Encoder(nn.Module):
    """(N, channels, h, w) → map (N, 4·width, h / 4, w / 4)."""

    def __init__(self, channels: int, width: int, conv: type[nn.Conv2d]):
        super().__init__()
        stem = conv(channels, width, 7, padding=3, padding_mode="reflect", bias=False)
        half, quarter = (conv(n, 2 * n, 4, stride=2, padding=1, bias=False) for n in (width, 2 * width))
        residual = nn.Sequential(*(Residual(4 * width, conv) for _ in range(BLOCKS)))
        self.stages = nn.ModuleList([nn.Sequential(_normed(stem), _normed(half)), _normed(quarter), residual])

    def maps(self, x: Tensor) -> dict[str, Tensor]:
        """The maps at half the size ("stage1"), at a quarter ("stage2"), after the residual blocks ("stage3")."""
        return stage_maps(self.stages, x)


class Painter(nn.Module):
    """(N, channels, h, w), sides multiples of 4 → (N, outputs, h, w) in (0, 1); with ``spectral`` normalised weights.

    The last layer is a plain one, as in the authors' code.
    """

    def __init__(self, channels: int, outputs: int, width: int, spectral: bool):
        super().__init__()
        self.encoder = Encoder(channels, width, Spectral if spectral else nn.Conv2d)
        up = SpectralUp if spectral else nn.ConvTranspose2d
        ups = (_normed(up(2 * n, n, 4, stride=2, padding=1, bias=False)) for n in (2 * width, width))
        last = nn.Conv2d(width, outputs, 7, padding=3, padding_mode="reflect")
        self.decoder = nn.Sequential(*ups, last, nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        """Paint."""
        image: Tensor = self.decoder(self.encoder.maps(x)["stage3"])
        return image


class Critic(nn.Module):
    """(N, channels, h, w) → the maps of its five layers; the last one has a logit for each patch of 70×70 pixels."""

    def __init__(self, channels: int, width: int):
        super().__init__()
        widths = [channels, *(width * widening for widening in (1, 2, 4, 8)), 1]
        convolutions = [
            Spectral(before, after, 4, stride=stride, padding=1, bias=False)
            for (before, after), stride in zip(pairwise(widths), (2, 2, 2, 1, 1))
        ]
        hidden = (nn.Sequential(each, nn.LeakyReLU(0.2)) for each in convolutions[:-1])
        self.layers = nn.ModuleList([*hidden, convolutions[-1]])

    def forward(self, x: Tensor) -> list[Tensor]:
        """Judge."""
        return list(stage_maps(self.layers, x).values())


class Method(Looking):
    """Two generators and their critics; ``complete`` draws its own edges, then paints."""

    PAPER = "Nazeri et al. 2019"
    settings: Settings

    def __init__(self, settings: Settings, size: int):
        super().__init__(settings, size)
        s, width = settings, settings.width
        native = s.backbone == "native"
        if size < SMALLEST or (native and size % 4):
            what = f"a side of at least {SMALLEST} pixels" + (" that 4 divides" if native else "")
            raise UserError(f"edge_connect takes {what}, not {size} pixels; make a pack of another --size")
        self.edge_generator: Painter | Generator  # of grey image, known edges and hole
        self.image_generator: Painter | Generator  # of image and edges
        if native:
            self.edge_generator = Painter(3, 1, width, spectral=True)
            self.image_generator = Painter(4, 3, width, spectral=False)
            self.feature_dim = 4 * width * CELLS**2
        else:
            self.edge_generator = Generator(size, width, s.code, channels=3, outputs=1)
            self.image_generator = Generator(size, width, s.code, channels=4)
            self.feature_dim = s.code
        self.edge_critic, self.image_critic = Critic(2, width), Critic(4, width)
        self.losses = "adv+fm+l1+perceptual+style"
        if s.perceptual == "none":
            self.losses = "adv+fm+l1"
            self.notes.append("the perceptual and the style term are left out, as perceptual=none")
        self._edge_turn: tuple[Tensor, Tensor, Tensor] | None = None
        self._image_turn: tuple[Tensor, Tensor, Tensor] | None = None

    def players(self) -> dict[str, Player]:
        """Generators and critics of either stage, and ``both`` generators end to end; Adam."""
        s = self.settings
        edge, image = (list(each.parameters()) for each in (self.edge_generator, self.image_generator))
        options = {"betas": (s.beta1, s.beta2)}
        return {
            "edge_critic": Player(list(self.edge_critic.parameters()), s.critic_lr, options),
            "edge_generator": Player(edge, s.generator_lr, options),
            "image_critic": Player(list(self.image_critic.parameters()), s.critic_lr, options),
            "image_generator": Player(image, s.generator_lr, options),
            "both": Player([*edge, *image], END_TO_END * s.generator_lr, options),
        }

    def phase(self, step: int, updates: int) -> int:
        """0 edges, 1 colour with true edges, 2 with predicted ones, 3 end to end; they end at their shares."""
        return phase(self.settings.phases, step, updates)

    def turns(self, step: int, updates: int) -> tuple[str, ...]:
        """The critic of the phase, then its generator."""
        colour = ("image_critic", "image_generator")
        return (("edge_critic", "edge_generator"), colour, colour, ("image_critic", "both"))[self.phase(step, updates)]

    def loss(self, player: str, batch: Batch) -> Loss:
        """The adversarial game of either stage, with what else its generator minimises (equations 1–6)."""
        if player == "edge_critic":
            self._edge_turn = self._draw(batch)
            image, true, drawn = self._edge_turn
            return self._tell_apart(self.edge_critic, torch.cat([image, true], 1), torch.cat([image, drawn], 1))
        if player == "edge_generator":
            # The generators have not moved since their critics' turns: what they made then serves, once.
            drawing, self._edge_turn = self._edge_turn or self._draw(batch), None
            return self._mislead_about_edges(*drawing)
        if player == "image_critic":
            self._image_turn = self._paint(batch)
            edges, image, _ = self._image_turn
            return self._tell_apart(
                self.image_critic, torch.cat([batch.images, edges], 1), torch.cat([image, edges], 1)
            )
        painting, self._image_turn = self._image_turn or self._paint(batch), None
        return self._complete_truly(batch, *painting)

    @staticmethod
    def _tell_apart(critic: Critic, real: Tensor, fake: Tensor) -> Loss:
        logits = (at_least_float32(critic(each.detach())[-1]) for each in (real, fake))
        adversarial = L.discriminator_adversarial(*logits)
        return Loss(adversarial, {"adv": adversarial})

    def _mislead_about_edges(self, image: Tensor, true: Tensor, drawn: Tensor) -> Loss:
        with torch.no_grad():
            real = self.edge_critic(torch.cat([image, true], 1))
        fake = self.edge_critic(torch.cat([image, drawn], 1))
        parts = {"adv": L.generator_adversarial(at_least_float32(fake[-1])), "fm": feature_matching(fake, real)}
        return Loss(parts["adv"] + self.settings.matching_weight * parts["fm"], parts)

    def _complete_truly(self, batch: Batch, edges: Tensor, image: Tensor, hole: Tensor) -> Loss:
        s, logits = self.settings, self.image_critic(torch.cat([image, edges], 1))[-1]
        parts = {
            "l1": (image - batch.images).abs().mean() / batch.mean(hole.mean()),
            "adv": L.generator_adversarial(at_least_float32(logits)),
        }
        total = s.l1_weight * parts["l1"] + s.adv_weight * parts["adv"]
        if self.vgg:
            vgg = self.vgg.to(batch.images)
            layers = (*PERCEPTUAL_LAYERS, *STYLE_LAYERS)
            with torch.no_grad():
                true = appearance.activations(vgg, batch.images, layers)
            made = appearance.activations(vgg, image, layers)
            for name, weight, term, chosen in (
                ("perceptual", s.perceptual_weight, appearance.feature_l1, PERCEPTUAL_LAYERS),
                ("style", s.style_weight, appearance.style, STYLE_LAYERS),
            ):
                if there := [layer for layer in chosen if layer in made]:
                    parts[name] = term([made[layer] for layer in there], [true[layer] for layer in there])
                    total = total + weight * parts[name]
        return Loss(total, parts)

    def _draw(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """The whole image in grey, its true edges, those that are drawn from its seen part: (N, 1, H, W) each."""
        image = grey(batch.images)
        drawn = self._drawn(batch.images, self.draw_seen(batch).to(batch.images))[1]
        return image, canny(image, torch.ones_like(image)), drawn

    def _paint(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Edges that lead the colour (N, 1, H, W), the image completed by them (N, 3, H, W), the hole (N, 1, H, W)."""
        phase, seen = self.phase(batch.step, batch.updates), self.draw_seen(batch).to(batch.images)
        if phase < 2:
            edges = canny(grey(batch.images), torch.ones_like(seen[:, :1]))
        else:
            with torch.set_grad_enabled(phase == 3):
                edges = self._edges(batch.images, seen)
        return edges, self._painted(batch.images * seen, edges), hole_of(seen)

    def _drawn(self, images: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
        """Canny's edges of the seen part, and those that the generator draws everywhere: (N, 1, H, W) each."""
        hole = hole_of(seen)
        image = grey(images * seen) * (1 - hole)
        known = canny(image, 1 - hole)
        return known, at_least_float32(self.edge_generator(torch.cat([image, known, hole], dim=1)))

    def _edges(self, images: Tensor, seen: Tensor) -> Tensor:
        """The known edges, and in the hole the drawn ones (section 3.1)."""
        known, drawn = self._drawn(images, seen)
        return known + hole_of(seen) * drawn

    def _painted(self, masked: Tensor, edges: Tensor) -> Tensor:
        return at_least_float32(self.image_generator(torch.cat([masked, edges], dim=1)))

    def draw_seen(self, batch: Batch) -> Tensor:
        """Masks of the kind trained on, brush strokes with or without a rectangle: (N, 3, H, W)."""
        return batch.own(draw_strokes(self.settings.masks, batch.count, self.size, batch.generator)).expand(
            -1, 3, -1, -1
        )

    def encode(self, images: Tensor) -> Tensor:
        """Whole images (N, 3, H, W) in [0, 1], led by their own edges → (N, feature_dim)."""
        if isinstance(self.image_generator, Painter):
            return adaptive_avg_pool2d(self.stages(images)["stage3"], CELLS).flatten(1)
        code: Tensor = self.image_generator.encoder(self._whole(images))[0]
        return code

    def stages(self, images: Tensor) -> dict[str, Tensor]:
        """The map after each stage of the second generator's encoder, for whole images (N, 3, H, W) in [0, 1]."""
        return self.image_generator.encoder.maps(self._whole(images))

    @staticmethod
    def _whole(images: Tensor) -> Tensor:
        return torch.cat([images, canny(grey(images), torch.ones_like(images[:, :1]))], dim=1)

    def complete(self, images: Tensor, seen: Tensor) -> Tensor:
        """The second generator's image, by edges of its own: images (N, 3, H, W), seen broadcastable → (N, 3, H, W)."""
        seen = seen.expand_as(images)
        return self._painted(images * seen, self._edges(images, seen))
