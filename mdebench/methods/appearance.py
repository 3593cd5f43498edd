"""How a completion looks beside the true image: its style, its textures, its smoothness, its depth in the hole.

Each is a function with its equation and source, a mean over the batch of N images, computed in float32 (or float64
where the inputs are), whatever precision the networks ran in. Maps are activations of a perceptual network,
(N, C, h, w) each; the true image's have no gradient.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import max_pool2d, normalize

from mdebench.compute.machine import at_least_float32
from mdebench.methods.perceptual import Perceptual


def activations(network: Perceptual, images: Tensor, layers: Sequence[str]) -> dict[str, Tensor]:
    """The maps of single layers, such as "relu3_2" (the second convolution of the third block, after its ReLU).

    Images (N, 3, H, W) in [0, 1] → name → (N, C, h, w), in the network's order, of those layers that the network has;
    nothing deeper is computed.
    """
    found: dict[str, Tensor] = {}
    x = (images - network.mean) / network.std
    for number, block in enumerate(network.blocks, start=1):
        convolution = 0
        for layer in block.children():
            if len(found) == len(set(layers)):
                return found
            x = layer(x)
            if isinstance(layer, torch.nn.ReLU):
                convolution += 1
                if (name := f"relu{number}_{convolution}") in layers:
                    found[name] = x
    return found


def gram(x: Tensor) -> Tensor:
    """X Xᵀ / (C·h·w) of each image's map as a matrix X (C, h·w): (N, C, h, w) → (N, C, C) (Gatys et al. 2016, eq. 3).

    Normalised as in Liu et al. 2018, equation 4.
    """
    flat = at_least_float32(x).flatten(2)
    with torch.autocast(flat.device.type, enabled=False):
        return flat @ flat.transpose(1, 2) / math.prod(x.shape[1:])


def style(output_maps: Sequence[Tensor], image_maps: Sequence[Tensor]) -> Tensor:
    """Σ_p 1/C_p² ‖K_p (Ψ_pᵀΨ_p(output) − Ψ_pᵀΨ_p(image))‖₁, K_p = 1/(C_p h_p w_p) (Liu et al. 2018, equation 4)."""
    pairs = zip(output_maps, image_maps, strict=True)
    return torch.stack([(gram(a) - gram(b.detach())).abs().mean() for a, b in pairs]).sum()


def feature_l1(output_maps: Sequence[Tensor], image_maps: Sequence[Tensor]) -> Tensor:
    """Σ_p 1/N_p ‖Ψ_p(output) − Ψ_p(image)‖₁, N_p numbers in an image's map (Liu et al. 2018, equation 3)."""
    pairs = zip(output_maps, image_maps, strict=True)
    distances = [(at_least_float32(a) - at_least_float32(b.detach())).abs().mean() for a, b in pairs]
    return torch.stack(distances).sum()


def total_variation(image: Tensor, where: Tensor | None = None) -> Tensor:
    """Σ |I(i, j + 1) − I(i, j)| + Σ |I(i + 1, j) − I(i, j)| over neighbours in R, / numbers in an image.

    Liu et al. 2018, equation 7: images (N, C, H, W), ``where`` (N, 1, H, W) of 1 and 0 the region R, which there is the
    hole grown by one pixel (`dilate`); everywhere when None. A pair counts where both of its pixels are in R.
    """
    image = at_least_float32(image)
    across, down = image.diff(dim=3).abs(), image.diff(dim=2).abs()
    if where is not None:
        across = across * where[..., 1:] * where[..., :-1]
        down = down * where[..., 1:, :] * where[..., :-1, :]
    return (across.sum() + down.sum()) / image.numel()


def dilate(region: Tensor, pixels: int = 1) -> Tensor:
    """A region (N, 1, H, W) of 1 and 0, grown by so many ``pixels`` to all eight sides."""
    return max_pool2d(region, 2 * pixels + 1, stride=1, padding=pixels)


def id_mrf(output_map: Tensor, image_map: Tensor, bandwidth: float = 0.5, epsilon: float = 1e-5) -> Tensor:
    """Implicit diversified Markov random field (Wang et al. 2018, equations 1–3): every true patch is to be used.

    For places v of the output's map and s of the image's, both (N, C, h, w) after a ReLU, μ their cosine and ρ_s all
    places of the image's map but s:
      RS(v, s) = exp(μ(v, s) / (max_{r ∈ ρ_s} μ(v, r) + ε) / bandwidth)        (1)
      R̄S(v, s) = RS(v, s) / Σ_{r ∈ ρ_s} RS(v, r)                              (2)
      −log(1/Z Σ_s max_v R̄S(v, s)), Z places                                  (3)
    The mean over the images (the authors' code sums them, and takes distances in place of cosines). ValueError for an
    image's map of a single place, as it has no other.
    """
    if image_map.shape[2:].numel() < 2:
        raise ValueError(f"ID-MRF compares places of a map, and {tuple(image_map.shape)} has one only")
    made = normalize(at_least_float32(output_map).flatten(2), dim=1, eps=1e-6)
    true = normalize(at_least_float32(image_map.detach()).flatten(2), dim=1, eps=1e-6)
    with torch.autocast(made.device.type, enabled=False):
        cosine = made.transpose(1, 2) @ true  # (N, v, s)
    exponent = cosine / (_max_of_others(cosine) + epsilon) / bandwidth
    # In logarithms: where one place is alike and the others are orthogonal, RS is beyond any number.
    relative = exponent - _logsumexp_of_others(exponent)
    best = relative.amax(dim=1)
    return (math.log(best.shape[1]) - best.logsumexp(dim=1)).mean()


def _max_of_others(x: Tensor) -> Tensor:
    """For each number of the last dimension the largest of the others, of the same shape."""
    largest, places = x.topk(2)
    return largest[..., :1].expand_as(x).scatter(-1, places[..., :1], largest[..., 1:])


def _logsumexp_of_others(x: Tensor) -> Tensor:
    """For each number of the last dimension the logarithm of the sum of the others' exponentials, of the same shape.

    Less than half of the sum is taken from it, where nothing cancels; without the largest it is added up anew.
    """
    place = x.argmax(dim=-1, keepdim=True)
    less = torch.log1p(-x.softmax(dim=-1).scatter(-1, place, 0.0))
    largest_gone = x.scatter(-1, place, -math.inf).logsumexp(dim=-1, keepdim=True)
    return (x.logsumexp(dim=-1, keepdim=True) + less).scatter(-1, place, largest_gone)


def spatial_discount(hole: Tensor, gamma: float) -> Tensor:
    """γ^l in the hole, l pixels to the nearest seen one, and 1 outside (Yu et al. 2018, section 3.2).

    ``hole`` (N, 1, H, W), 1 where missing and 0 where seen → weights of its shape. Steps go to all eight sides, so that
    in a rectangle l is the distance to the nearest side; the image's border is no seen pixel.
    """
    weights, left = torch.ones_like(hole), hole
    for _ in range(max(hole.shape[2:])):
        if not left.any():
            break
        weights = torch.where(left > 0, gamma * weights, weights)
        left = 1 - dilate(1 - left)
    return weights
