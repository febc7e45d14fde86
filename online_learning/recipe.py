"""How a model is trained: the numbers that a data set or an operator may want otherwise."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Struct

#: What `[model]` of a liverank.toml may say: sizes of the Transformer that no schema fixes, and their types.
MODEL_SIZES: dict[str, type] = {
    "d": int, "layers": int, "heads": int, "relation_dim": int, "hidden": int, "text_dim": int, "list_block": bool,
}  # fmt: skip


_Positive = Annotated[int, Meta(ge=1)]
_Natural = Annotated[int, Meta(ge=0)]
_Share = Annotated[float, Meta(ge=0, le=1)]
_BelowOne = Annotated[float, Meta(ge=0, lt=1)]
_Number = Annotated[float, Meta(ge=0, le=1e9)]


class Recipe(Struct, frozen=True, kw_only=True):
    """How to learn. The defaults are what was measured best on 2 cores; see docs/tuning.md."""

    batch: _Positive = 64
    epochs: _Positive = 8
    learning_rate: _Number = 5e-3
    weight_decay: _Number = 0.05  # of matrices; biases and norms have none
    warmup: _Natural = 50  # steps
    averaging: _BelowOne = 0.998  # of the exponential moving average of dense weights, which is what is published
    clip: Annotated[float, Meta(gt=0, le=1e9)] = 1.0  # largest norm of the gradient
    id_dropout: _Share = 0.2  # share of items whose id row is hidden, so that text and relations carry new ones; 1: all
    neighbours: _Natural = 0  # co-visited items kept for each item; 0: none are counted
    lag_s: _Number = (
        0.0  # how much later than it happened an event is counted, see online_learning.first_model.fit.gather
    )
    calibration: _Number = 0.3  # weight of the binary loss that makes scores probabilities
    dropout: _BelowOne = 0.2
    sizes: dict[
        str, int | bool
    ] = {}  # of the Transformer, where not its defaults; see ranker.network.transformer.ModelConfig
    seed: _Natural = 0
