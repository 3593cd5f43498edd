"""This machine: where tensors live by default, and in which precision it computes well."""

import torch
from torch import Tensor


def default_device() -> torch.device:
    """The GPU when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def default_precision(device: torch.device) -> str:
    """``bf16`` where the machine multiplies in it, else ``fp32``."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported() else "fp32"


def at_least_float32(x: Tensor) -> Tensor:
    """What a network gave, in float32 where it is shorter; float64 stays."""
    return x.to(torch.promote_types(x.dtype, torch.float32))
