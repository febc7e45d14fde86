"""How far a long piece of work is: what it tells whoever waits for it."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct


class ProgressReport(Struct, frozen=True):
    """`done` of `total` in a phase of the work (0 where the total is not known), and a word on it."""

    phase: str
    done: int
    total: int
    note: str = ""


Report = Callable[[ProgressReport], None]
