"""How far a long piece of work is: what it tells whoever waits for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from msgspec import Struct

Thing = TypeVar("Thing")

_EVERY = 1000


class ProgressReport(Struct, frozen=True):
    """`done` of `total` in a phase of the work (0 where the total is not known), and a word on it."""

    phase: str
    done: int
    total: int
    note: str = ""


Report = Callable[[ProgressReport], None]


def counted_off(things: Iterable[Thing], phase: str, report: Report) -> Iterator[Thing]:
    """The same things; how many there were by then is reported now and then."""
    for number, thing in enumerate(things):
        if number % _EVERY == 0:
            report(ProgressReport(phase, number, 0))
        yield thing
