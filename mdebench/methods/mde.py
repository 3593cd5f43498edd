"""The Missing Data Encoder: a generator completes masked images, a discriminator tells them from real ones and seeks
the boxes they were completed from, and the generator learns to hide them (sections 2–2.5, equations 1–9).

Command: ``mdebench pretrain rec --S 0.1`` (or inpainting, reverse_inpainting, colorization1, colorization2, re).
Expected, by the paper's Tables 1 and 3 at its scale: rec 0.1 gives 1.509 px and 10.49 % when transferred, and 21.8 dB
where both eyes are covered.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mdebench.compute import machine
from mdebench.compute.devices import sent
from mdebench.errors import UserError
from mdebench.methods import losses as L
from mdebench.methods.contract import Batch, Loss, Player, polynomial
from mdebench.methods.masks import boxes_from_uniform, draw
from mdebench.methods.networks import Discriminator, Generator
from mdebench.methods.perceptual import WAYS_ON, Looking
from mdebench.settings import Count, Rate, Share, Weight
from mdebench.variants import RANDOM_BOX, check_ratio


@dataclass(frozen=True)
class Settings:
    """The paper's values (section 2.5; weights from section 3.2.2).

    ``width`` channels of the first stage, ``code`` numbers in the representation, ``losses`` a loss set of Figure 9,
    ``perceptual`` see ``perceptual.py``, ``skips`` the stages with a skip connection (1 = finest; all when None),
    ``encoder`` the paper's ("mde") or a timm network ("timm:resnet18").
    """

    variant: str = "rec"
    S: float | None = 0.1
    width: Count = 64
    code: Count = 4000
    losses: str = "vgg+adv+hns_coord"
    perceptual: str = "imagenet"
    vgg_weight: Weight = 2e-5
    adv_weight: Weight = 1e-2
    hns_weight: Weight = 1e-2
    generator_lr: Rate = 2e-4
    discriminator_lr: Rate = 2e-5
    beta1: Share = 0.5
    annealing_power: Weight = 0.9
    skips: tuple[int, ...] | None = None
    encoder: str = "mde"

    def __post_init__(self) -> None:
        check_ratio(self.variant, self.S)
        L.parse_losses(self.losses)


class Method(Looking):
    """One variant with one loss set; ``encode`` gives the code, ``complete`` the generator's output."""

    PAPER = "Dapogny, Cord & Pérez 2020"
    settings: Settings

    def __init__(self, settings: Settings, size: int):
        super().__init__(settings, size)
        terms = L.parse_losses(settings.losses)
        if settings.variant not in RANDOM_BOX and terms & {"hns", "hns_coord"}:
            self.notes.append(
                f"hide-and-seek left out: the box of {settings.variant} never moves, so there is nothing to seek"
                " (section 2.4: for MDE-RE and MDE-REC)"
            )
            terms -= {"hns", "hns_coord"}
        self.terms = terms
        self.losses = "+".join(term for term in L.TERMS if term in terms)
        self.feature_dim = settings.code
        self.generator = Generator(size, settings.width, settings.code, settings.skips, settings.encoder)
        # Without an adversary there is no discriminator at all.
        self.discriminator = Discriminator(size, settings.width, "hns_coord" in terms) if "adv" in terms else None
        if "vgg" in terms and settings.perceptual == "none":
            raise UserError(
                f"the loss set {settings.losses!r} needs a perceptual network, but perceptual=none; {WAYS_ON}"
            )
        self._turn: tuple[Tensor, Tensor, Tensor] | None = None

    @classmethod
    def family(cls, settings: Settings) -> str:
        """The variants that complete colours stand beside other ways to learn from colour."""
        return "colour" if settings.variant.startswith("colorization") else "completion"

    def looks(self) -> bool:
        """Whether the loss set has the term of equation (5)."""
        return "vgg" in self.terms

    def players(self) -> dict[str, Player]:
        """Discriminator (where there is one) and generator, with Adam and annealing as in section 2.5."""
        s = self.settings
        betas, schedule = (s.beta1, 0.999), polynomial(s.annealing_power)
        players = {}
        if self.discriminator is not None:
            players["discriminator"] = Player(
                list(self.discriminator.parameters()), s.discriminator_lr, {"betas": betas}, schedule
            )
        players["generator"] = Player(list(self.generator.parameters()), s.generator_lr, {"betas": betas}, schedule)
        return players

    def loss(self, player: str, batch: Batch) -> Loss:
        """Equation (9), split into what the discriminator and what the generator minimise."""
        if player == "discriminator":
            self._turn = self._complete_batch(batch)
            fake, _, boxes = self._turn
            return self._seek(batch, fake.detach(), boxes)
        # The generator has not moved since the discriminator's turn: the same completions serve, once.
        turn, self._turn = self._turn or self._complete_batch(batch), None
        fake, seen, _ = turn
        return self._hide(batch, fake, seen)

    def _complete_batch(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Masks drawn and images completed: (completions, seen, boxes)."""
        drawn = draw(self.settings.variant, self.settings.S, batch.count, self.size, batch.generator)
        seen, boxes = (batch.own(each).to(batch.images) for each in drawn)
        return self.generator(batch.images * seen), seen, boxes

    def _seek(self, batch: Batch, fake: Tensor, boxes: Tensor) -> Loss:
        assert self.discriminator is not None
        real_logit, _ = self.discriminator(batch.images)
        fake_logit, predicted = self.discriminator(fake)
        adversarial = L.discriminator_adversarial(real_logit, fake_logit)
        total, parts = self.settings.adv_weight * adversarial, {"adv": adversarial}
        if self._hides:
            parts["seek"] = L.hide_and_seek(boxes, predicted)
            total = total + self.settings.hns_weight * parts["seek"]
        return Loss(total, parts)

    def _hide(self, batch: Batch, fake: Tensor, seen: Tensor) -> Loss:
        s, output = self.settings, machine.at_least_float32(fake)
        parts = {"rec": L.reconstruction(output, batch.images, seen)}
        total = parts["rec"]
        if "compl" in self.terms:
            parts["compl"] = L.completion(output, batch.images, seen)
            total = total + parts["compl"]
        if self.vgg:
            vgg = self.vgg.to(batch.images)
            with torch.no_grad():
                target = vgg(batch.images)
            parts["vgg"] = L.perceptual(vgg(fake), target, vgg.weights)
            total = total + s.vgg_weight * parts["vgg"]
        if self.discriminator is not None:
            logit, predicted = self.discriminator(fake)
            parts["adv"] = L.generator_adversarial(logit)
            total = total + s.adv_weight * parts["adv"]
            if self._hides:
                parts["hide"] = L.hide_and_seek(self.claimed_boxes(batch), predicted)
                total = total + s.hns_weight * parts["hide"]
        return Loss(total, parts)

    @property
    def _hides(self) -> bool:
        return bool(self.terms & {"hns", "hns_coord"})

    def claimed_boxes(self, batch: Batch) -> Tensor:
        """The boxes q of equation (8), (N, 3, 4): one per image i and channel c, drawn anew once per epoch."""
        assert self.settings.S is not None
        u = np.stack([np.random.default_rng([batch.seed, batch.epoch, int(i)]).random((3, 3)) for i in batch.index])
        return boxes_from_uniform(sent(torch.from_numpy(u), batch.images.device), self.settings.S)

    def draw_seen(self, batch: Batch) -> Tensor:
        """A mask of the run's own variant: (N, 3, H, W)."""
        return batch.own(draw(self.settings.variant, self.settings.S, batch.count, self.size, batch.generator)[0])

    def encode(self, images: Tensor) -> Tensor:
        """The code of whole images (nothing masked): (N, 3, H, W) in [0, 1] → (N, code)."""
        code: Tensor = self.generator.encoder(images)[0]
        return code

    def stages(self, images: Tensor) -> dict[str, Tensor]:
        """The map after each stage of the encoder, whole images (N, 3, H, W) in [0, 1] → (N, C, h, w) each."""
        return self.generator.encoder.maps(images)

    def complete(self, images: Tensor, seen: Tensor) -> Tensor:
        """The generator's raw output for M⊙Z: images (N, 3, H, W), seen broadcastable → (N, 3, H, W) in (0, 1)."""
        image: Tensor = self.generator(images * seen)
        return image
