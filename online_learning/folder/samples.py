"""Columns by a look at their first lines: numbers, times, flags, lists, or a few values that come again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from msgspec import Struct

from online_learning.folder.files import columns_of, lines_of
from ranker.mapping.sources import TimeUnit
from ranker.mapping.values import BadCell, number_of, time_of_text

LOOKED_AT = 100_000  # lines of a kind
FEW_VALUES = 20  # a field of so many values at most is one-hot
_KEPT = 1000  # distinct values that are counted
_SEPARATORS = "|;, "
_UNIT_BELOW: tuple[tuple[float, TimeUnit], ...] = ((1e11, "s"), (1e14, "ms"), (1e17, "us"), (float("inf"), "ns"))
_FLAG_WORDS = {"0", "1", "true", "false", "yes", "no", "t", "f", "y", "n"}


class ColumnSample(Struct, frozen=True):
    """The values of a column on the lines that were looked at, by how often they come; nothing of absent ones."""

    name: str
    counts: Counter[str]
    whole: bool  # whether all distinct values are there

    @property
    def numeric(self) -> bool:
        """Whether all of them are numbers."""
        return bool(self.counts) and all(_number(value) is not None for value in self.counts)

    @property
    def non_negative(self) -> bool:
        """Whether no number is below 0."""
        return all((_number(value) or 0.0) >= 0 for value in self.counts)

    @property
    def flags(self) -> bool:
        """Whether they are flags, or counts."""
        return bool(self.counts) and all(
            value.lower() in _FLAG_WORDS or (value.isdecimal() and int(value) < 1000) for value in self.counts
        )

    @property
    def few(self) -> bool:
        """Whether they are few enough to be told apart one by one."""
        return self.whole and 1 < len(self.counts) <= FEW_VALUES

    @property
    def time(self) -> TimeUnit | None:
        """The unit of numbers that are times; `ms` for ISO 8601, whatever the unit; None where they are no times."""
        if self.numeric:
            largest = max(abs(_number(value) or 0.0) for value in self.counts)
            return next(unit for most, unit in _UNIT_BELOW if largest < most) if largest > 6e8 else None
        try:
            for value in islice(self.counts, 20):
                time_of_text(value)
        except ValueError:
            return None
        return "ms" if self.counts else None

    @property
    def json(self) -> bool:
        """Whether they are JSON lists."""
        return bool(self.counts) and all(value.lstrip().startswith("[") for value in self.counts)

    def separator(self) -> str | None:
        """What parts most of the values; None where nothing does."""
        best = max(_SEPARATORS, key=lambda mark: sum(mark in value for value in self.counts))
        return best if any(best in value for value in self.counts) else None


def samples_of(paths: Sequence[Path], delimiter: str | None = None) -> list[ColumnSample]:
    """The columns of files of one kind, in their order.

    Raises:
        FolderError: one is no table.
    """
    counts: dict[str, Counter[str]] = {name: Counter() for path in paths for name in columns_of(path, delimiter)}
    cut: set[str] = set()
    left = LOOKED_AT
    for path in paths:
        for line in islice(lines_of(path, delimiter), left):
            left -= 1
            for name, value in line.cells.items():
                if value is None or value == "" or name not in counts:
                    continue
                text = _written(value)
                if text in counts[name] or len(counts[name]) < _KEPT:
                    counts[name][text] += 1
                else:
                    cut.add(name)
    return [ColumnSample(name, found, name not in cut) for name, found in counts.items()]


def _written(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(str, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _number(text: str) -> float | None:
    try:
        return number_of(text, "", ".")
    except BadCell:
        return None
