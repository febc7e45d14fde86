"""How a model is trained: the numbers that a data set or an operator may want otherwise."""

from __future__ import annotations

from msgspec import Struct

#: What `[model]` of a liverank.toml may say: sizes of the Transformer that no schema fixes, and their types.
MODEL_SIZES: dict[str, type] = {
    "d": int, "layers": int, "heads": int, "relation_dim": int, "hidden": int, "text_dim": int, "list_block": bool,
}  # fmt: skip


class Recipe(Struct, frozen=True, kw_only=True):
    """How to learn. The defaults are what was measured best on 2 cores; see docs/tuning.md."""

    batch: int = 64
    epochs: int = 8
    learning_rate: float = 5e-3
    weight_decay: float = 0.05  # of matrices; biases and norms have none
    warmup: int = 50  # steps
    averaging: float = 0.998  # of the exponential moving average of dense weights, which is what is published
    clip: float = 1.0  # largest norm of the gradient
    id_dropout: float = 0.2  # share of items whose id row is hidden, so that text and relations carry new ones; 1: all
    neighbours: int = 0  # co-visited items kept for each item; 0: none are counted
    lag_s: float = (
        0.0  # how much later than it happened an event is counted, see online_learning.first_model.fit.gather
    )
    calibration: float = 0.3  # weight of the binary loss that makes scores probabilities
    dropout: float = 0.2
    sizes: dict[
        str, int | bool
    ] = {}  # of the Transformer, where not its defaults; see ranker.network.transformer.ModelConfig
    seed: int = 0
