"""What `autoencoder`, `dae` and `vae` share: the Missing Data Encoder's own network without its skip connections, so
that all that is known of an image passes through the code, and that network's optimizer; each brings its game.

With skip connections the whole image, of which nothing is missing, would reach the output around the code.
"""

from dataclasses import dataclass

from torch import Tensor

from mdebench.methods.contract import Method as BaseMethod
from mdebench.methods.contract import Player, polynomial
from mdebench.methods.networks import Generator
from mdebench.settings import Count, Rate, Share, Weight


@dataclass(frozen=True)
class BottleneckSettings:
    """The values of the Missing Data Encoder's generator (its paper's section 2.5), see `mde.Settings`."""

    width: Count = 64
    code: Count = 4000
    lr: Rate = 2e-4
    beta1: Share = 0.5
    annealing_power: Weight = 0.9
    encoder: str = "mde"


class BottleneckMethod(BaseMethod):
    """One player, an encoder and a decoder with the code between them; subclasses give the loss."""

    FAMILY = "reconstruction"
    settings: BottleneckSettings

    def __init__(self, settings: BottleneckSettings, size: int):
        super().__init__(settings, size)
        self.feature_dim = settings.code
        self.generator = Generator(size, settings.width, settings.code, skips=(), encoder=settings.encoder)

    def players(self) -> dict[str, Player]:
        """Encoder and decoder, with Adam and annealing."""
        s = self.settings
        options, schedule = {"betas": (s.beta1, 0.999)}, polynomial(s.annealing_power)
        return {"network": Player(list(self.generator.parameters()), s.lr, options, schedule)}

    def encode(self, images: Tensor) -> Tensor:
        """The code of whole images, nothing done to them: (N, 3, H, W) in [0, 1] → (N, code)."""
        code: Tensor = self.generator.encoder(images)[0]
        return code

    def stages(self, images: Tensor) -> dict[str, Tensor]:
        """The map after each stage of the encoder, whole images (N, 3, H, W) in [0, 1] → (N, C, h, w) each."""
        return self.generator.encoder.maps(images)
