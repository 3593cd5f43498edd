"""What a method is, the Missing Data Encoder, and the parts that methods are built from.

A method's file imports what stands here: the contract (``Method``, ``Player``, ``Batch``, ``Loss`` and the capabilities
``Encodes``, ``Stages``, ``Completes``). Parts have modules of their own: ``networks``, ``masks``, ``losses``,
``perceptual``, ``classifiers``, ``timm_networks``. Knows neither the loop nor any protocol.
"""

from mdebench.methods.contract import (
    Batch,
    Completes,
    Encodes,
    Loss,
    Method,
    Player,
    Stages,
    constant,
    polynomial,
)

__all__ = ["Batch", "Completes", "Encodes", "Loss", "Method", "Player", "Stages", "constant", "polynomial"]
