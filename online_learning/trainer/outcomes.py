"""What the trainer's core tells of what it did, and of what is due."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import NamedTuple

from online_learning.evaluation.progressive import Window
from online_learning.trainer.preparing import Prepared


class Publish(enum.StrEnum):
    """What is due."""

    DELTA = "delta"
    BUNDLE = "bundle"


class Learned(NamedTuple):
    """What a call of `learn` did."""

    trained: int = 0  # examples learned from for the first time
    thinned: int = 0  # counted alone, since too many wait
    repeated: int = 0  # known already, or of a user who is forgotten
    refused: tuple[str, ...] = ()  # ids of those that cannot be learned from
    loss: float | None = None  # of the last step
    windows: tuple[Window, ...] = ()  # progressive reports that became full
    diverged: bool = False  # the loss or a weight was not finite: go back to the last checkpoint
    due: frozenset[Publish] = frozenset()


class Attempt(NamedTuple):
    """What became of one batch."""

    taken: Sequence[Prepared]  # learned from
    refused: list[str]  # ids
    loss: float | None = None
    diverged: bool = False
