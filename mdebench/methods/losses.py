"""The losses of the Missing Data Encoder, equations (1)–(9), each a function named after its equation.

Norms are sums over an image's pixels (or a layer's activations), averaged over the batch of N images. All of them are
computed in float32 (or float64 where the inputs are), whatever precision the networks ran in.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import softplus

from mdebench.compute.machine import at_least_float32
from mdebench.errors import UserError

LOSS_SETS = ("compl", "compl+adv", "vgg+adv", "vgg+adv+hns", "vgg+adv+hns_coord")  # Figure 9
TERMS = ("compl", "vgg", "adv", "hns", "hns_coord")


def parse_losses(text: str) -> frozenset[str]:
    """Terms of a loss set such as ``vgg+adv+hns_coord``; the reconstruction loss (4) is in all of them.

    UserError for an unknown term, both or neither of compl and vgg, or a hide-and-seek game without a discriminator.
    """
    terms = frozenset(text.split("+"))
    if unknown := sorted(terms - set(TERMS)):
        raise UserError(f"the loss set {text!r} has unknown terms {unknown}; the terms are {', '.join(TERMS)}")
    if len(terms & {"compl", "vgg"}) != 1:
        raise UserError(
            f"the loss set {text!r} needs exactly one of compl and vgg; the paper's are {', '.join(LOSS_SETS)}"
        )
    if len(terms & {"hns", "hns_coord"}) > 1:
        raise UserError(f"the loss set {text!r} names both hns and hns_coord; choose one")
    if terms & {"hns", "hns_coord"} and "adv" not in terms:
        raise UserError(f"the loss set {text!r} plays hide-and-seek without adv; add adv")
    return terms


def discriminator_adversarial(real_logit: Tensor, fake_logit: Tensor) -> Tensor:
    """Equation (1): −1/N Σ [log D(Z) + log(1 − D(G(M⊙Z)))], D the sigmoid of the logits (N,)."""
    return (softplus(-real_logit) + softplus(fake_logit)).mean()


def generator_adversarial(fake_logit: Tensor) -> Tensor:
    """Equation (2): −1/N Σ log D(G(M⊙Z)), from logits (N,)."""
    return softplus(-fake_logit).mean()


def completion(output: Tensor, image: Tensor, seen: Tensor) -> Tensor:
    """Equation (3): 1/N Σ ‖(1 − M) ⊙ (G(M⊙Z) − Z)‖², inputs (N, 3, H, W), seen = M."""
    return ((1 - seen) * (output - image)).square().sum() / len(image)


def reconstruction(output: Tensor, image: Tensor, seen: Tensor) -> Tensor:
    """Equation (4): 1/N Σ ‖M ⊙ (G(M⊙Z) − Z)‖², inputs (N, 3, H, W), seen = M."""
    return (seen * (output - image)).square().sum() / len(image)


def perceptual(output: list[Tensor], image: list[Tensor], weights: list[float]) -> Tensor:
    """Equation (5): 1/(N Σλ) Σ_l Σ_i λ_l ‖φ_l(G(M⊙Z)) − φ_l(Z)‖², one (N, C, H, W) activation per layer."""
    norms = [_SquaredDistance.apply(a, b) for a, b in zip(output, image, strict=True)]
    return torch.stack([w * norm for w, norm in zip(weights, norms)]).sum() / (len(image[0]) * sum(weights))


class _SquaredDistance(torch.autograd.Function):
    """‖a − b‖² of two tensors (N, …), in float32 or wider; b has no gradient.

    On a CPU image by image, so that no wide copy of a whole layer is written to memory and read again: activations are
    the largest tensors of an update, and this took an eighth of it at paper scale.
    """

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return torch.stack([_difference(x, y).square_().sum() for x, y in _pieces(a, b)]).sum()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        a, b = ctx.saved_tensors
        found = torch.empty_like(a)
        for x, y, out in _pieces(a, b, found):
            out.copy_(_difference(x, y).mul_(2 * grad))
        return found, None


def _difference(x: Tensor, y: Tensor) -> Tensor:
    return at_least_float32(x) - at_least_float32(y)


def hide_and_seek(boxes: Tensor, predicted: Tensor) -> Tensor:
    """Equations (7) and (8): 1/N Σ_i Σ_c ‖box − predicted‖ (not squared), both (N, 3, 4) in [0, 1].

    With the true boxes r it makes the discriminator seek, with randomly claimed ones q the generator hide.
    """
    norms: Tensor = torch.linalg.vector_norm(predicted - boxes.to(predicted), dim=2)
    return norms.sum() / len(predicted)


def _pieces(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Tensors (N, …) of one shape cut alike: single images on a CPU, all of them on a GPU, which likes large pieces."""
    return zip(*(torch.split(each, 1 if each.device.type == "cpu" else len(each)) for each in tensors))
