"""What a check finds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

_SHOWN = 20


class Violation(NamedTuple):
    """Something that is promised and does not hold."""

    kind: str  # a short code
    what: str  # for people: whose, where, what instead of what


def shortened(found: Iterable[Violation]) -> Iterator[Violation]:
    """The first of each kind, and how many more there are: one fault may break thousands of records."""
    counts: dict[str, int] = {}
    for one in found:
        counts[one.kind] = counts.get(one.kind, 0) + 1
        if counts[one.kind] <= _SHOWN:
            yield one
    for kind, count in counts.items():
        if count > _SHOWN:
            yield Violation(kind, f"... and {count - _SHOWN} more")
