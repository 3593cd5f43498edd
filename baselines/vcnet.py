"""VCNet: nobody says where an image is damaged. One network finds it, another repairs it, and forgives the first.

Paper: Wang, Chen, Tao and Jia 2020, "VCNet: A Robust Approach to Blind Image Inpainting". Images are damaged by strokes
of other images (`masks.damage`). The mask network finds them, under a cross-entropy that weighs both classes by the
other's share; the inpainting network is given the damaged image, and in each of its blocks what the mask network found:
it moves the statistics of damaged places to those of intact ones, as far as they are damaged (probabilistic context
normalisation, PCN). Both are trained apart, the second with the true masks, then together.
Followed, where public codes differ: the variance of PCN is that of its region (the authors' counts all places); masks
are probabilities (theirs are clipped hard); the patch critic scores what is damaged (in a port, the rest).
Left open by our sources, and chosen: widths, shortcuts and critics as in the public reimplementation, and the shares of
the phases; the critics' turns of one update see the same repairs, whole outputs with nothing pasted in; norms are means
over pixels or activations, of images in [-1, 1]; semantic and texture terms at VGG's relu3_2. The other images are of
the batch, mirrored and moved.
Changed for small images: a critic halves its map while it is wider than a pixel, at most five times.
Told where the damage is (``complete``), it has the true mask in the place of the found one, and grey in the hole.
Representation: what the inpainting network paints from, of a whole image: its last map before the decoder and, fused
with it, the mask network's, averaged over a grid of 4×4 (4096 numbers); with ``backbone=mde`` (which has the mask as a
channel in place of PCN, and no fusion), that network's code.
Command: ``mdebench pretrain vcnet`` (its ablation: ``--set mask_network=false``, ``fusion=false``,
``semantic_weight=0``, ``remove=true``).
Expected: 16 drawn faces of 16 pixels are learned by heart at width 16: 27 dB in the hole, told where it is, after 400
updates; the mask network alone finds the damage of 16 faces of 32 pixels (intersection over union 0.97 after 240).
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, adaptive_max_pool2d, interpolate, leaky_relu, softplus

from mdebench.compute.machine import at_least_float32
from mdebench.errors import UserError
from mdebench.methods.adversaries import gradient_penalty, wasserstein_critic, wasserstein_generator
from mdebench.methods.appearance import activations, feature_l1, id_mrf
from mdebench.methods.contract import Batch, Loss, Player, phase
from mdebench.methods.masks import damage, draw_damage, intact, strange
from mdebench.methods.networks import Generator
from mdebench.methods.perceptual import WAYS_ON, Looking, Perceptual
from mdebench.settings import Count, Rate, Share, Weight, check_phases, choose

from ._elu import ELU, elu

BACKBONES = {"native": "the paper's inpainting network", "mde": "the generator of the Missing Data Encoder"}
LAYER = "relu3_2"  # of the perceptual network
CELLS = 4  # per side, of the representation
SHRINKING = 16  # of the channels, in squeeze and excitation


@dataclass(frozen=True)
class Settings:
    """The paper's weights (section 3.3), and the authors' of the mask and the gradient penalty.

    ``width`` 64 stands for the paper's widths: the mask network starts with 64 channels, the inpainting network with
    32, the critics with 64. ``phases``, shares of the run: apart, together. ``mask_network``, ``fusion`` (of its last
    map with the inpainting network's) and ``remove`` (what it found is blanked first) are the paper's ablation, as is
    ``semantic_weight`` 0. ``code``, numbers of the representation, is for ``backbone`` mde only.
    """

    width: Count = 64
    code: Count = 4000
    backbone: str = "native"
    perceptual: str = "imagenet"
    mask_network: bool = True
    fusion: bool = True
    remove: bool = False
    mask_weight: Weight = 2.0
    l1_weight: Weight = 1.4
    semantic_weight: Weight = 1e-4
    mrf_weight: Weight = 1e-3
    adv_weight: Weight = 1e-3
    penalty_weight: Weight = 10.0
    critic_turns: Count = 5
    phases: tuple[int, ...] = (80, 150)
    lr: Rate = 1e-4
    beta1: Share = 0.5
    beta2: Share = 0.9

    def __post_init__(self) -> None:
        choose(self.backbone, BACKBONES, "backbone")
        check_phases(self.phases, "80,150")


class Residual(nn.Module):
    """ELU(two convolutions + shortcut): (N, channels, h, w) → (N, out, h / stride, w / stride), rounded up.

    With ``context`` PCN follows the convolutions where a hole is given.
    """

    def __init__(
        self, channels: int, out: int, kernel: int = 3, stride: int = 1, dilation: int = 1, context: bool = False
    ):
        super().__init__()
        padding = dilation * (kernel // 2)
        self.first = nn.Conv2d(channels, out, kernel, stride, padding, dilation)
        self.second = nn.Conv2d(out, out, kernel, 1, padding, dilation)
        self.norm = ContextNorm(out) if context else None
        self.stride = stride
        self.shortcut = nn.Identity() if channels == out and stride == 1 else nn.Conv2d(channels, out, 1)

    def forward(self, x: Tensor, hole: Tensor | None = None) -> Tensor:
        """The block's map; ``hole`` (N, 1, H, W) in [0, 1] of whatever size."""
        inner = self.second(elu(self.first(x)))
        if self.norm is not None and hole is not None:
            inner = self.norm(inner, interpolate(hole, inner.shape[2:], mode="nearest"))
        # Every other place, then a 1×1 convolution: of one that strides itself, from 3 or 4 to 8 channels, channels
        # last on a CPU, torch 2.14 writes beyond the gradient of the kernel, and the process dies.
        out: Tensor = elu(inner + self.shortcut(x[..., :: self.stride, :: self.stride]))
        return out


class ContextNorm(nn.Module):
    """PCN(X, H) = [β·T(X, H) + (1 − β) X ⊙ H] ⊙ H + X ⊙ (1 − H), H how damaged each place is (section 3.2).

    β, of each channel, is squeezed and excited from X; T moves what is damaged to the statistics of what is intact.
    """

    def __init__(self, channels: int):
        super().__init__()
        hidden = max(2, channels // SHRINKING)
        self.share = nn.Sequential(nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels), nn.Sigmoid())

    def forward(self, x: Tensor, hole: Tensor) -> Tensor:
        """Normalise (N, C, h, w) under ``hole`` (N, 1, h, w) in [0, 1]."""
        wide, hole = at_least_float32(x), at_least_float32(hole)
        with torch.autocast(x.device.type, enabled=False):
            share = self.share(wide.mean((2, 3)))[..., None, None]
        mixed = share * moved(wide, hole) + (1 - share) * wide * hole
        out: Tensor = mixed * hole + wide * (1 - hole)
        return out.to(x)


def moved(x: Tensor, hole: Tensor) -> Tensor:
    """T(X, H) = (X − μ(X, H)) / σ(X, H) · σ(X, 1 − H) + μ(X, 1 − H), of each channel (section 3.2).

    μ and σ are weighted by the region. Map (N, C, h, w), hole (N, 1, h, w) in [0, 1] → (N, C, h, w).
    """
    mean, deviation = _moments(x, hole)
    target_mean, target_deviation = _moments(x, 1 - hole)
    scale = target_deviation / deviation
    return x * scale + (target_mean - mean * scale)


def _moments(x: Tensor, weight: Tensor, epsilon: float = 1e-5) -> tuple[Tensor, Tensor]:
    weight = weight / (weight.sum((2, 3), keepdim=True) + epsilon)
    mean = (x * weight).sum((2, 3), keepdim=True)
    variance = ((x - mean).square() * weight).sum((2, 3), keepdim=True)
    return mean, (variance + epsilon).sqrt()


class MaskNetwork(nn.Module):
    """Image (N, 3, h, w) in [-1, 1] → logits of damage (N, 1, h, w), and the last map, (N, 2·width, h / 4, w / 4)."""

    def __init__(self, width: int):
        super().__init__()
        w, w2, half, quarter = width, 2 * width, max(4, width // 2), max(4, width // 4)
        down = (Residual(3, w, kernel=5, stride=2), Residual(w, w2, stride=2))
        self.encoder = nn.Sequential(*down, Residual(w2, w2, dilation=2), Residual(w2, w2, dilation=4))
        self.decoder = nn.Sequential(
            Residual(w2, w2),
            nn.Upsample(scale_factor=2),
            Residual(w2, w),
            nn.Upsample(scale_factor=2),
            Residual(w, half),
            nn.Conv2d(half, quarter, 3, padding=1),
            ELU(),
            nn.Conv2d(quarter, 1, 3, padding=1),
        )

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Find what does not belong into an image."""
        neck = self.encoder(image)
        return at_least_float32(self.decoder(neck)), neck


class InpaintingNetwork(nn.Module):
    """Damaged image (N, 3, h, w), hole and neck → image, all in [-1, 1]; ``neck`` channels are fused, 0 for none."""

    def __init__(self, n: int, neck: int):
        super().__init__()

        def blocks(*of: tuple[int, int, int, int]) -> nn.ModuleList:
            """Of (channels in, out, stride, dilation) each."""
            return nn.ModuleList(Residual(i, o, 3, stride, dilation, context=True) for i, o, stride, dilation in of)

        n2, n4 = 2 * n, 4 * n
        half = blocks((n, n2, 2, 1), (n2, n2, 1, 1))
        half.insert(0, Residual(3, n, kernel=5, context=True))
        quarter = blocks((n2, n4, 2, 1), (n4, n4, 1, 1))
        dilated = blocks(*((n4, n4, 1, dilation) for dilation in (2, 2, 4, 4, 1)))
        self.at_half, self.at_quarter, self.dilated = half, quarter, dilated
        self.up_half = blocks((n4 + neck, n2, 1, 1), (n2, n2, 1, 1))
        self.up_whole = blocks((n2, n, 1, 1), (n, n, 1, 1))
        self.last = nn.Conv2d(n, 3, 3, padding=1)

    def forward(self, image: Tensor, hole: Tensor | None, neck: Tensor | None) -> Tensor:
        """Repair an image; ``hole`` (N, 1, h, w), how damaged it is in [0, 1]."""
        *_, x = self.maps(image, hole).values()
        x = x if neck is None else torch.cat([x, neck], dim=1)
        for blocks in (self.up_half, self.up_whole):
            x = interpolate(x, scale_factor=2, mode="nearest")
            for block in blocks:
                x = block(x, hole)
        out: Tensor = self.last(x).tanh()
        return out

    def maps(self, image: Tensor, hole: Tensor | None) -> dict[str, Tensor]:
        """The maps at half the size ("stage1"), at a quarter ("stage2"), after the dilated blocks ("stage3")."""
        found, x = {}, image
        for number, blocks in enumerate((self.at_half, self.at_quarter, self.dilated), start=1):
            for block in blocks:
                x = block(x, hole)
            found[f"stage{number}"] = x
        return found


class Critic(nn.Module):
    """Image (N, 3, size, size) in [-1, 1] → its last map (N, 8·width, s, s): five k5 convolutions with leaky ReLU.

    They have stride 2 while the map is wider than a pixel; ``side`` is s.
    """

    def __init__(self, size: int, width: int):
        super().__init__()
        self.layers, self.side = nn.ModuleList(), size
        for channels, out in pairwise((3, *(width * widening for widening in (1, 2, 2, 4, 8)))):
            stride = 2 if self.side > 1 else 1
            self.layers.append(nn.Conv2d(channels, out, 5, stride, padding=2))
            self.side = -(-self.side // stride)

    def forward(self, x: Tensor) -> Tensor:
        """What a judgement is made from."""
        for layer in self.layers:
            x = leaky_relu(layer(x), 0.2)
        return x


class Critics(nn.Module):
    """Two critics: one number for the whole image, and one for each patch, of which those with damage count."""

    def __init__(self, size: int, width: int):
        super().__init__()
        self.whole, self.patches = Critic(size, width), Critic(size, width)
        self.head = nn.Linear(8 * width * self.whole.side**2, 1)

    def judge_whole(self, image: Tensor) -> Tensor:
        """Images (N, 3, size, size) in [-1, 1] → (N,)."""
        score: Tensor = self.head(self.whole(image).flatten(1))[:, 0]
        return score

    def judge_patches(self, image: Tensor, hole: Tensor) -> Tensor:
        """Images in [-1, 1] → the mean score of the patches that ``hole`` (N, 1, H, W) of 1 and 0 touches: (N,)."""
        scores = at_least_float32(self.patches(image)).mean(1, keepdim=True)
        touched = adaptive_max_pool2d(hole, self.patches.side)
        return (scores * touched).sum((1, 2, 3)) / touched.sum((1, 2, 3)).clamp_min(1)


def mask_loss(logit: Tensor, hole: Tensor) -> Tensor:
    """Self-adaptive cross-entropy: −τ Σ_p M_p log M̂_p − (1 − τ) Σ_q (1 − M_q) log(1 − M̂_q), over the pixels.

    τ is the share of an image that is intact (section 3.2, equation 2). Logits of M̂ and ``hole`` M (N, 1, H, W).
    """
    logit = at_least_float32(logit)
    intact_share = (1 - hole).mean((1, 2, 3), keepdim=True)
    found = intact_share * hole * softplus(-logit)
    spared = (1 - intact_share) * (1 - hole) * softplus(logit)
    return (found + spared).mean()


@dataclass(frozen=True, eq=False)
class Turn:
    """A batch's damaged images, repaired: what the players of an update share."""

    batch: Batch
    hole: Tensor  # (N, 1, H, W), 1 where damaged
    logit: Tensor | None  # of the mask network
    output: Tensor  # (N, 3, H, W) in [-1, 1], float32 or wider


def _of_all(batch: Batch) -> Tensor:
    """The images of the whole batch (count, 3, H, W), also of other processes: a mean to which each brings its own."""
    whole = batch.images.new_zeros(batch.parts, *batch.images.shape)
    whole[batch.part] = batch.parts * batch.images
    return batch.mean(whole).flatten(0, 1)


class Method(Looking):
    """Finds damage (``locate``), repairs it untold (``restore``) or told where it is (``complete``)."""

    PAPER = "Wang et al. 2020"
    settings: Settings

    def __init__(self, settings: Settings, size: int):
        super().__init__(settings, size)
        s, native = settings, settings.backbone == "native"
        if size % 4 or size < 8:
            raise UserError(f"vcnet takes a side of 8, 12, 16, … pixels, not {size}; make a pack of another --size")
        if not s.mask_network and s.remove:
            raise UserError("remove=true blanks what the mask network finds, and mask_network=false leaves it out")
        self.fused = native and s.mask_network and s.fusion
        n, neck = max(4, s.width // 2), 2 * s.width if self.fused else 0
        self.masker = MaskNetwork(s.width) if s.mask_network else None
        self.inpainter: InpaintingNetwork | Generator = (
            InpaintingNetwork(n, neck) if native else Generator(size, s.width, s.code, channels=4, last=nn.Tanh())
        )
        self.feature_dim = (4 * n + neck) * CELLS**2 if native else s.code
        self.critics = Critics(size, s.width)
        compared = s.perceptual != "none"
        if not compared:
            self.notes.append(
                "semantic and texture terms left out, as perceptual=none: whole images are compared by L1 and critics"
            )
        terms = {
            "mask": s.mask_network,
            "l1": True,
            "semantic": compared and s.semantic_weight > 0,
            "id_mrf": compared and s.mrf_weight > 0,
            "adv": True,
        }
        self.terms = {term for term, there in terms.items() if there}
        self.losses = "+".join(term for term, there in terms.items() if there)
        self._turn: Turn | None = None

    def looks(self) -> bool:
        """Whether the semantic or the texture term is there."""
        return bool(self.terms & {"semantic", "id_mrf"})

    def fit(self, network: Perceptual) -> None:
        """The layer that both terms compare is there."""
        if len(network.blocks) < 3:
            raise UserError(f"vcnet compares {LAYER}, and {self.settings.perceptual} ends before it; {WAYS_ON}")

    def players(self) -> dict[str, Player]:
        """The critics, and the two networks, which no gradient crosses while they learn apart."""
        s, options = self.settings, {"betas": (self.settings.beta1, self.settings.beta2)}
        networks = [each for each in (self.masker, self.inpainter) if each is not None]
        return {
            "critics": Player(list(self.critics.parameters()), s.lr, options),
            "networks": Player([p for each in networks for p in each.parameters()], s.lr, options),
        }

    def turns(self, step: int, updates: int) -> tuple[str, ...]:
        """The critics several times, then the networks."""
        return ("critics",) * self.settings.critic_turns + ("networks",)

    def loss(self, player: str, batch: Batch) -> Loss:
        """The critics' WGAN-GP; the networks' λ_m L_m + λ_r L1 + λ_s L_semantic + λ_f L_mrf + λ_a L_adv."""
        turn = self._turn if self._turn and self._turn.batch is batch else self._repair_batch(batch)
        # The networks do not move before their turn, the last of an update: the same repairs serve till then.
        self._turn = turn if player == "critics" else None
        real = 2 * batch.images - 1
        return self._criticise(turn, real) if player == "critics" else self._learn(turn, real)

    def _repair_batch(self, batch: Batch) -> Turn:
        alpha = batch.own(draw_damage(batch.count, self.size, batch.generator)).to(batch.images)
        drawn = torch.rand((batch.count, 3), generator=batch.generator)
        others = batch.own(strange(_of_all(batch), drawn))
        damaged = 2 * damage(batch.images, alpha, others) - 1
        hole = 1 - intact(alpha)
        logit, neck = self.masker(damaged) if self.masker else (None, None)
        if not phase(self.settings.phases, batch.step, batch.updates):  # apart
            found, neck = hole, None if neck is None else neck.detach()
        else:
            found = hole if logit is None else logit.sigmoid()
        return Turn(batch, hole, logit, self._repair(damaged, found, neck))

    def _repair(self, damaged: Tensor, hole: Tensor, neck: Tensor | None) -> Tensor:
        """Images in [-1, 1], how damaged they are (N, 1, H, W) and the mask network's map → images in [-1, 1]."""
        if self.settings.remove:
            damaged = damaged * (1 - hole)
        if isinstance(self.inpainter, Generator):
            told = hole if self.masker else torch.zeros_like(hole)
            return at_least_float32(self.inpainter(torch.cat([damaged, told], dim=1)))
        output = self.inpainter(damaged, hole if self.masker else None, neck if self.fused else None)
        return at_least_float32(output)

    def _criticise(self, turn: Turn, real: Tensor) -> Loss:
        critics, hole, fake, batch = self.critics, turn.hole, turn.output.detach(), turn.batch

        def judge_patches(image: Tensor) -> Tensor:
            return critics.judge_patches(image, hole)

        parts = {"adv": real.new_zeros(()), "penalty": real.new_zeros(())}
        for judge in (critics.judge_whole, judge_patches):
            mix = batch.own(torch.rand((batch.count, 1, 1, 1), generator=batch.generator))
            parts["adv"] = parts["adv"] + wasserstein_critic(judge(real), judge(fake))
            parts["penalty"] = parts["penalty"] + gradient_penalty(judge, real, fake, mix)
        return Loss(parts["adv"] + self.settings.penalty_weight * parts["penalty"], parts)

    def _learn(self, turn: Turn, real: Tensor) -> Loss:
        s, output = self.settings, turn.output
        parts = {"l1": (output - real).abs().mean()}
        total = s.l1_weight * parts["l1"]
        if turn.logit is not None:
            parts["mask"] = mask_loss(turn.logit, turn.hole)
            total = total + s.mask_weight * parts["mask"]
        if self.vgg:
            vgg = self.vgg.to(real)
            with torch.no_grad():
                image_map = activations(vgg, turn.batch.images, [LAYER])[LAYER]
            output_map = activations(vgg, (output + 1) / 2, [LAYER])[LAYER]
            if "semantic" in self.terms:
                parts["semantic"] = feature_l1([output_map], [image_map])
                total = total + s.semantic_weight * parts["semantic"]
            if "id_mrf" in self.terms:
                parts["id_mrf"] = id_mrf(output_map, image_map)
                total = total + s.mrf_weight * parts["id_mrf"]
        whole, patches = self.critics.judge_whole(output), self.critics.judge_patches(output, turn.hole)
        parts["adv"] = wasserstein_generator(whole) + wasserstein_generator(patches)
        return Loss(total + s.adv_weight * parts["adv"], parts)

    def draw_seen(self, batch: Batch) -> Tensor:
        """A training mask, 0 where an image is damaged: (N, 3, H, W)."""
        return batch.own(intact(draw_damage(batch.count, self.size, batch.generator))).expand(-1, 3, -1, -1)

    def encode(self, images: Tensor) -> Tensor:
        """The representation of whole images, told that they are: (N, 3, H, W) in [0, 1] → (N, feature_dim)."""
        if isinstance(self.inpainter, Generator):
            code: Tensor = self.inpainter.encoder(self._whole(images))[0]
            return code
        *_, last = self.stages(images).values()
        maps = [last, *([self.masker.encoder(2 * images - 1)] if self.fused and self.masker else [])]
        return torch.cat([adaptive_avg_pool2d(each, CELLS).flatten(1) for each in maps], dim=1)

    def stages(self, images: Tensor) -> dict[str, Tensor]:
        """The maps of `InpaintingNetwork.maps` (or of the MDE's encoder) for whole images (N, 3, H, W) in [0, 1]."""
        if isinstance(self.inpainter, Generator):
            return self.inpainter.encoder.maps(self._whole(images))
        return self.inpainter.maps(2 * images - 1, None)

    def _whole(self, images: Tensor) -> Tensor:
        return torch.cat([2 * images - 1, torch.zeros_like(images[:, :1])], dim=1)

    def locate(self, images: Tensor) -> Tensor:
        """The probability that a pixel is intact: images (N, 3, H, W) in [0, 1] → (N, 1, H, W).

        UserError without a mask network.
        """
        if self.masker is None:
            raise UserError("this vcnet was trained with mask_network=false: it does not say where an image is damaged")
        logit, _ = self.masker(2 * images - 1)
        return (-at_least_float32(logit)).sigmoid()

    def restore(self, images: Tensor) -> Tensor:
        """Damaged images, nobody says where: (N, 3, H, W) in [0, 1] → the raw output (N, 3, H, W) in [0, 1]."""
        damaged = 2 * images - 1
        logit, neck = self.masker(damaged) if self.masker else (None, None)
        hole = torch.zeros_like(damaged[:, :1]) if logit is None else logit.sigmoid()
        return (self._repair(damaged, hole, neck) + 1) / 2

    def complete(self, images: Tensor, seen: Tensor) -> Tensor:
        """Told what is missing, which is grey then: images (N, 3, H, W), seen broadcastable → (N, 3, H, W) in [0, 1].

        A pixel is damaged where any channel is missing; the channels that are seen there keep their values.
        """
        seen = seen.expand_as(images)
        damaged = (2 * images - 1) * seen
        neck = self.masker.encoder(damaged) if self.fused and self.masker else None
        return (self._repair(damaged, 1 - seen.amin(1, keepdim=True), neck) + 1) / 2
