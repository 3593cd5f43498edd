"""What a method is (``contract``), the Missing Data Encoder, and what methods are built from: networks, masks (training
boxes, occlusion presets), losses, perceptual networks, networks of timm. Knows neither the loop nor any protocol.

Others may import what stands in this file, which is what a method's file needs, and any of its modules.
"""

from mdebench.methods.contract import (
    Batch,
    Beside,
    Completes,
    Encodes,
    Locates,
    Loss,
    Method,
    Player,
    Restores,
    Scores,
    Stages,
    constant,
    phase,
    polynomial,
)

__all__ = [
    "Batch",
    "Beside",
    "Completes",
    "Encodes",
    "Locates",
    "Loss",
    "Method",
    "Player",
    "Restores",
    "Scores",
    "Stages",
    "constant",
    "phase",
    "polynomial",
]
