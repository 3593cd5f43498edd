"""timm's networks: built for a size, with timm's rules for checkpoints, and as pyramids of maps for our encoders."""

from collections.abc import Callable
from functools import partial
from inspect import signature
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

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


def refusal(network: Any, side: int) -> str:
    """Why a network does not encode images of ``side`` pixels, "" where it does. In eval mode; it is left as it was."""
    training = network.training
    try:
        with torch.no_grad():
            images = torch.zeros(1, 3, side, side)
            network.eval().forward_head(network.forward_features(images), pre_logits=True)
    except Exception as error:  # timm's networks say it in many ways
        return why_not(error)
    finally:
        network.train(training)  # what LeViT and others keep of their weights in eval mode is forgotten
    return ""


def sized(name: str, side: int | None) -> dict[str, Any]:
    """What `timm.create_model` must be told so that the network takes images of ``side`` pixels, None: of its own size.

    Most networks take any size, or are told by ``img_size`` which; then their position embeddings are of that size.
    UserError, with sizes near by that can be had, where neither is so. Nothing is drawn from torch's default generator.
    """
    import timm

    fixed = timm.get_pretrained_cfg(name)
    if side is None or fixed is None or not fixed.fixed_input_size:
        return {}
    with torch.random.fork_rng(devices=[]):
        if side == fixed.input_size[-1] or not refusal(timm.create_model(name), side):
            return {}
        if why := _refusal_of_size(name, side):
            near = {max(side // 32, 1) * 32, (side // 32 + 1) * 32, fixed.input_size[-1]}
            able = [each for each in sorted(near) if each != side and not _refusal_of_size(name, each)]
            choice = ", ".join(f"side={each}" for each in able)
            raise UserError(f"timm's {name} takes no images of {side}×{side} pixels ({why}); it takes {choice}")
    return {"img_size": side}


def _refusal_of_size(name: str, side: int) -> str:
    """Why a network cannot be built for a size, "" where it can."""
    import timm

    try:
        network = timm.create_model(name, img_size=side)
    except Exception as error:
        return why_not(error)
    patch = getattr(getattr(network, "patch_embed", None), "patch_size", 1)
    height = patch if isinstance(patch, int) else patch[0]
    if side % height:
        return f"its patches of {height} pixels would leave a strip of {side % height} unseen"
    return refusal(network, side)


def with_rules(name: str, **more: Any) -> tuple[Any, Callable[[dict[str, Tensor]], Any] | None]:
    """timm's network of this name with what timm does to a checkpoint before it loads it, None where that is nothing.

    It renames what others call otherwise and brings position embeddings to the network's size. timm tells these rules
    to its own step of loading alone, so that step is listened to, and loads nothing.
    """
    import timm

    heard: dict[str, Any] = {}
    with patch("timm.models._builder.load_pretrained", lambda model, **told: heard.update(told)):
        network = timm.create_model(name, pretrained=True, **more)
    rules = heard.get("filter_fn")
    return network, rules and partial(_applied, rules, network)


def _applied(rules: Callable[..., Any], network: nn.Module, state: dict[str, Tensor]) -> Any:
    return rules(state, network) if len(signature(rules).parameters) > 1 else rules(state)


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
