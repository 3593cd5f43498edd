"""Any network of timm as it is: an encoder that others designed, and perhaps trained, read like those trained here.

Paper: none; a row that says where an architecture without our training stands (BASELINES.md, modern rows). Its
representation is what stands before the classifying layer, pooled as the network pools it: of
`timm:vit_small_patch16_dinov3` the mean patch, without class and registers, of `timm:vit_base_patch16_siglip_224` what
its attention gathers (of `…_siglip_gap_224` the mean patch). For small images nothing
was changed: images are enlarged to the network's own input size, or to `side`, for which it is built.
Command: `mdebench pretrain timm:resnet18` (random weights), `--set weights=published` (timm's own, fetched once, where
they can be had), `--set weights=FILE` (as trainers leave them, see `mdebench/methods/checkpoints.py`).
There is nothing to train: the run is finished at once and can be measured, from its own state, without the file.
Expected: with ImageNet's weights well ahead of random ones on attributes.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from mdebench.errors import UserError
from mdebench.methods.classifiers import Classifier, Look, shaped, trained, untrained
from mdebench.methods.contract import Method as BaseMethod
from mdebench.methods.timm_networks import why_not
from mdebench.settings import Count

from ._normalised import NORMALISED

RANDOM, PUBLISHED = "random", "published"
NETWORK = "classifier.network."  # where the network's tensors stand in the method's state


@dataclass(frozen=True)
class Settings:
    """`name` as in timm; `weights` random, published or a file; `side` in pixels, None: the network's own; `normalise`
    one of `NORMALISED`, None: as timm's published weights of that name were trained.
    """

    name: str = "resnet18"
    weights: str = RANDOM
    side: Count | None = None
    normalise: str | None = None

    def __post_init__(self) -> None:
        if not self.weights:
            raise UserError("weights= names nothing: it is random, published or a file")
        if self.side is not None and self.side < 1:
            raise UserError(f"side={self.side}: the enlarged image needs at least 1 pixel")
        if self.normalise not in (None, *NORMALISED):
            raise UserError(f"normalise={self.normalise}: choose one of {', '.join(NORMALISED)}")


class Method(BaseMethod):
    """Encodes by a network of timm; it has no players, and it cannot complete."""

    PAPER = "timm, Wightman 2019"
    FILES = ("weights",)
    settings: Settings

    def __init__(self, settings: Settings, size: int, classifier: Classifier | None = None) -> None:
        super().__init__(settings, size)
        self.classifier = classifier or self._load(settings)
        own = self.classifier.side
        self.classifier.side = settings.side or own
        self.classifier.headless = True
        if settings.normalise is not None:
            self.classifier.normalise(*NORMALISED[settings.normalise])
        self.feature_dim = self._width(own)

    @classmethod
    def family(cls, settings: Settings) -> str:
        """What others trained is published; a network of random weights stands for nobody's training."""
        return "reference" if settings.weights == RANDOM else "published"

    @classmethod
    def restored(cls, settings: Settings, size: int, state: Mapping[str, Tensor]) -> "Method":
        """A network of the shape of a run's state: neither the file nor the site that its weights are from is asked."""
        tensors = {name.removeprefix(NETWORK): tensor for name, tensor in state.items() if name.startswith(NETWORK)}
        return cls(settings, size, shaped(settings.name, tensors, settings.side))

    def _load(self, settings: Settings) -> Classifier:
        if settings.weights == RANDOM:
            return untrained(settings.name, settings.side)
        try:
            file = "" if settings.weights == PUBLISHED else settings.weights
            classifier = trained(settings.name, file, settings.side)
        except UserError as error:
            ways = "weights are a file, published or random (--set weights=…)"
            raise UserError(f"{error}; {ways}") from error
        self.told, self.notes = {"weights": classifier.name}, [*classifier.notes]
        if file and settings.normalise is None:
            mean, std = (
                ", ".join(f"{value:.3g}" for value in each.flatten()) for each in (classifier.mean, classifier.std)
            )
            self.notes.append(
                f"a weight file does not say how its images were normalised: taken as by timm's own weights of "
                f"{settings.name}, mean {mean} and deviation {std}; --set normalise={', '.join(NORMALISED)} for others"
            )
        return classifier

    def _width(self, own: int | None) -> int:
        """How wide a code is, measured: what timm declares is in many networks the width of another layer.

        UserError where the network takes no images of this size, or gives no codes.
        """
        name, side = self.settings.name, self.classifier.side
        self.eval()
        try:
            with torch.no_grad():
                code = self.encode(torch.zeros(2, 3, self.size, self.size))
        except Exception as error:  # timm's networks say it in many ways
            told = f"timm's {name} takes no images of {side}×{side} pixels"
            raise UserError(f"{told} ({why_not(error)}); choose another side, such as its own, {own}") from error
        if code.ndim != 2:
            raise UserError(f"timm's {name} gives {tuple(code.shape)} for two images, not (2, features)")
        self.train()  # what LeViT and others keep of their weights in eval mode is forgotten
        return code.shape[1]

    def encode(self, images: Tensor) -> Tensor:
        """The pooled features of whole images: (N, 3, H, W) in [0, 1] → (N, feature_dim)."""
        look: Look = self.classifier(images)
        return look.features
