"""How a model is trained: the numbers that a data set may want otherwise."""

from __future__ import annotations

from msgspec import Struct


class Recipe(Struct, frozen=True, kw_only=True):
    """How to learn. The defaults are what was measured best on 2 cores; see docs/tuning.md."""

    batch: int = 64
    epochs: int = 4
    learning_rate: float = 2e-3
    weight_decay: float = 1e-4
    warmup: float = 0.05  # share of all steps
    clip: float = 1.0  # largest norm of the gradient
    id_dropout: float = 0.2  # share of items whose id row is hidden, so that text and relations carry new ones
    neighbours: int = 0  # co-visited items kept for each item; 0: none are counted
    calibration: float = 0.1  # weight of the binary loss that makes scores probabilities
    seed: int = 0
