"""timm's networks, untrained, as pyramids of maps for an encoder of ours."""

from typing import Any

import torch
from torch import nn

from mdebench.errors import UserError
from mdebench.settings import suggest


def check_name(name: str) -> None:
    """UserError, with the nearest right name, unless timm has a network of this name."""
    import timm  # slow to import

    if not timm.is_model(name):
        raise UserError(f"timm has no network {name!r}.{suggest(name, timm.list_models())}")


def why_not(error: Exception) -> str:
    """What an error says in its first line, or what it is called where it says nothing."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def timm_maps(name: str, channels: int, size: int, last_stride: int) -> tuple[nn.Module, list[int], list[int]]:
    """A network that gives its maps up to ``last_stride``, finest first, with their strides and channels at ``size``.

    Both are measured. UserError when there is no such network, when it takes no images of that size, or when its maps
    are not (N, C, h, w), each a whole share of the image, and shrink to that stride (as XCiT's do not).
    """
    import timm

    check_name(name)
    try:
        whole: Any = timm.create_model(name, features_only=True, in_chans=channels)
    except (RuntimeError, AttributeError, NotImplementedError, AssertionError) as error:  # timm says it in these ways
        raise UserError(f"timm's {name} does not show its maps, so it cannot be an encoder here ({error})") from error
    try:
        with torch.no_grad():
            shapes = [tuple(each.shape) for each in whole.eval()(torch.zeros(1, channels, size, size))]
    except Exception as error:  # its own size is fixed, or a multiple of something: said in many ways
        raise UserError(f"timm's {name} takes no images of {size}×{size} pixels: {why_not(error)}") from error
    if any(len(shape) != 4 or shape[2] != shape[3] or size % shape[3] for shape in shapes):
        told = f"{', '.join(map(str, shapes))} of {size}×{size} pixels"
        raise UserError(f"timm's {name} gives {told}, not maps (N, C, h, w) with h and w a whole share of the image's")
    strides, widths = [size // shape[3] for shape in shapes], [shape[1] for shape in shapes]
    if last_stride not in strides or len(set(strides)) < len(strides):
        raise UserError(
            f"timm's {name} has maps of stride {', '.join(map(str, strides))}, and this size needs one of stride"
            f" {last_stride} after finer ones; a ResNet or ConvNeXt has it"
        )
    kept = range(strides.index(last_stride) + 1)
    indices = tuple(whole.feature_info.out_indices[i] for i in kept)  # some networks' first is not their 0th
    network = timm.create_model(name, features_only=True, in_chans=channels, out_indices=indices)
    return network, [strides[i] for i in kept], [widths[i] for i in kept]
