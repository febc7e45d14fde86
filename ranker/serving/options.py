"""How a bundle is run: the part of a process's settings that the core reads."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from ranker.serving.rules import Rules

#: What a ranking says of each item beside its rank: score and probabilities, the score alone, or neither.
RankingDetail = Literal["full", "scores", "order"]


class Budget(Struct, frozen=True):
    """Shares of what a process keeps of users in memory; all of them are caches, which it can do without."""

    mb: int = 512

    @property
    def encodings(self) -> int:
        """Bytes of encoded histories, of all versions that serve."""
        return self._share(3)

    @property
    def lists(self) -> int:
        """Bytes of what users' events and lists are to the model, of all versions that serve."""
        return self._share(1)

    @property
    def rows(self) -> int:
        """Bytes of decoded rows."""
        return self._share(2)

    @property
    def rankings(self) -> int:
        """Bytes of last rankings: previous ranks, and what examples say of what was shown."""
        return self._share(2)

    def _share(self, eighths: int) -> int:
        return eighths * (self.mb << 20) // 8


class ServingOptions(Struct, frozen=True, kw_only=True):
    """Where the graphs run, what is kept in memory, and which rules follow them."""

    provider: str = "auto"  # auto, cpu or cuda
    threads: int = 1  # of ONNX Runtime, inside one operator
    budget: Budget = Budget()  # of what a version keeps of users
    rules: Rules = Rules()
