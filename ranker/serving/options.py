"""How a bundle is run: the part of a process's settings that the core reads."""

from __future__ import annotations

from msgspec import Struct

from ranker.serving.rules import Rules


class ServingOptions(Struct, frozen=True, kw_only=True):
    """Where the graphs run, what is kept in memory, and which rules follow them."""

    provider: str = "auto"  # auto, cpu or cuda
    threads: int = 1  # of ONNX Runtime, inside one operator
    cache_mb: int = 512  # encodings kept in memory
    rules: Rules = Rules()
