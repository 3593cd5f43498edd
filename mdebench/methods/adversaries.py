"""The games that completion methods play against their critics, each a function with its equation and source.

A critic's scores are real numbers of any shape, one image or one patch each; every loss is their mean, in float32 (or
float64 where the scores are), whatever precision the critic ran in.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import relu

from mdebench.compute.machine import at_least_float32


def hinge_discriminator(real: Tensor, fake: Tensor) -> Tensor:
    """E[max(0, 1 − D(x))] + E[max(0, 1 + D(G(z)))], over images, channels and patches (Yu et al. 2019, section 3)."""
    return relu(1 - at_least_float32(real)).mean() + relu(1 + at_least_float32(fake)).mean()


def hinge_generator(fake: Tensor) -> Tensor:
    """−E[D(G(z))] (Yu et al. 2019, section 3)."""
    return -at_least_float32(fake).mean()


def wasserstein_critic(real: Tensor, fake: Tensor) -> Tensor:
    """E[D(G(z))] − E[D(x)] (Arjovsky et al. 2017, equation 2): what the critic minimises."""
    return at_least_float32(fake).mean() - at_least_float32(real).mean()


def wasserstein_generator(fake: Tensor) -> Tensor:
    """−E[D(G(z))] (Arjovsky et al. 2017, equation 3)."""
    return -at_least_float32(fake).mean()


def gradient_penalty(
    critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor, mix: Tensor, where: Tensor | None = None
) -> Tensor:
    """E[(‖∇_x̂ D(x̂) ⊙ where‖₂ − 1)²] at x̂ = mix · real + (1 − mix) · fake (Gulrajani et al. 2017, equation 3).

    ``real`` and ``fake`` (N, …) of one shape, ``mix`` (N, 1, 1, 1) in [0, 1], ``where`` broadcastable to the images:
    the values of which the gradient counts, all when None (Yu et al. 2018, equation 2: those of the hole). The critic's
    scores of an image may be many, which are summed; they must not depend on the other images of the batch. The penalty
    has gradients for the critic's parameters.
    """
    between = torch.lerp(at_least_float32(fake), at_least_float32(real), mix.to(at_least_float32(real)))
    between = between.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    counted = gradient if where is None else gradient * where
    norms: Tensor = torch.linalg.vector_norm(counted.flatten(1), dim=1)
    return (norms - 1).square().mean()


def feature_matching(fake_maps: Sequence[Tensor], real_maps: Sequence[Tensor]) -> Tensor:
    """E[Σ_i 1/N_i ‖D⁽ⁱ⁾(x) − D⁽ⁱ⁾(G(z))‖₁] (Nazeri et al. 2019, equation 3).

    A discriminator's maps (N, …), one per layer; N_i numbers an image has in layer i. No gradient for the real ones.
    """
    means = [
        (at_least_float32(a) - at_least_float32(b.detach())).abs().mean()
        for a, b in zip(fake_maps, real_maps, strict=True)
    ]
    return torch.stack(means).sum()
