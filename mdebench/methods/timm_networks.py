"""timm's networks, untrained, as pyramids of maps for an encoder of ours."""

from typing import Any

from torch import nn

from mdebench.errors import UserError
from mdebench.settings import suggest


def check_name(name: str) -> None:
    """UserError, with the nearest right name, unless timm has a network of this name."""
    import timm  # slow to import

    if not timm.is_model(name):
        raise UserError(f"timm has no network {name!r}.{suggest(name, timm.list_models())}")


def timm_maps(name: str, channels: int, last_stride: int) -> tuple[nn.Module, list[int], list[int]]:
    """A network that gives its maps up to ``last_stride``, finest first, with their strides and channels.

    UserError when there is no such network, or when its maps do not shrink to that stride (as a plain ViT's do not).
    """
    import timm

    check_name(name)
    try:
        whole: Any = timm.create_model(name, features_only=True, in_chans=channels)
    except (RuntimeError, AttributeError, NotImplementedError) as error:  # timm says it in these three ways
        raise UserError(f"timm's {name} does not show its maps, so it cannot be an encoder here ({error})") from error
    strides, widths = whole.feature_info.reduction(), whole.feature_info.channels()
    if last_stride not in strides or len(set(strides)) < len(strides):
        raise UserError(
            f"timm's {name} has maps of stride {', '.join(map(str, strides))}, and this size needs one of stride"
            f" {last_stride} after finer ones; a ResNet or ConvNeXt has it"
        )
    kept = range(strides.index(last_stride) + 1)
    network = timm.create_model(name, features_only=True, in_chans=channels, out_indices=tuple(kept))
    return network, [strides[i] for i in kept], [widths[i] for i in kept]
