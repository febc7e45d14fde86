"""Who gets a canary, and when what people did has said enough about it: pure functions.

Two measures, since a list that people leave at once has no clicked item to look at: of lists that drew an action the
reciprocal rank of the item (1 / its rank in the ranking before), and of all lists whose time to draw one is over, the
share that did. Somebody looks after every click, so the tests hold at every moment; see `ranker.rollout.confidence`.
"""

from __future__ import annotations

import hashlib

from msgspec import Struct
from msgspec.structs import replace

from ranker.rollout.confidence import Arm, bounds_of_difference

_BUCKETS = 1 << 32


def takes_part(user_id: str, version: str, share: float) -> bool:
    """Whether a user is among the share that gets a canary: always the same ones for a version, others for the next."""
    digest = hashlib.blake2b(f"{version}/{user_id}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little") < share * _BUCKETS


class Measured(Struct, frozen=True):
    """One measure of a canary and of what serves, since the canary began."""

    canary: Arm = Arm()
    current: Arm = Arm()

    def plus(self, value: float, on_canary: bool) -> Measured:
        """One more."""
        if on_canary:
            return replace(self, canary=self.canary.plus(value))
        return replace(self, current=self.current.plus(value))

    @property
    def difference(self) -> float:
        """The canary's mean less the other's."""
        return self.canary.mean - self.current.mean

    def interval(self, alpha: float) -> tuple[float, float]:
        """Bounds of the true difference that hold at every moment together with probability 1 - alpha."""
        return bounds_of_difference(self.canary, self.current, alpha)


class Comparison(Struct, frozen=True):
    """What people did with the lists of a canary, and with those of what serves."""

    ranks: Measured = Measured()  # reciprocal rank of the first item that a list drew an action on
    lists: Measured = Measured()  # 1 for a list that drew one in time, 0 for one that did not

    def clicked(self, reciprocal_rank: float, on_canary: bool) -> Comparison:
        """The first click on one more list."""
        return replace(self, ranks=self.ranks.plus(reciprocal_rank, on_canary))

    def closed(self, drew: bool, on_canary: bool) -> Comparison:
        """The time of one more list is over."""
        return replace(self, lists=self.lists.plus(float(drew), on_canary))


class Criteria(Struct, frozen=True, kw_only=True):
    """What a decision asks for."""

    alpha: float = 0.05  # chance of ever deciding wrongly
    margin: float = 0.02  # reciprocal rank that a canary may lose and still be promoted: "no worse"
    fewer: float = 0.1  # part of the clicks per list that it may lose
    least: int = 50  # clicks of each, and lists, before anything is decided


class Decision(Struct, frozen=True):
    """What the clicks say. `promote` is None while they have not said enough."""

    promote: bool | None
    reason: str


def decide_canary(compared: Comparison, criteria: Criteria) -> Decision:
    """Roll back what is worse for certain by one measure, promote what is no worse for certain by both, else wait.

    Each measure has half of the chance to call a canary worse wrongly. What is promoted has to pass both, so neither
    takes of the other's chance to call it no worse.
    """
    ranks, lists = compared.ranks, compared.lists
    of_ranks, of_lists = (measured.interval(criteria.alpha / 2) for measured in (ranks, lists))
    seen = f"{_told('reciprocal rank of clicks', ranks, of_ranks)}; {_told('clicks per list', lists, of_lists)}"
    known = [
        (interval, margin)
        for measured, interval, margin in (
            (ranks, of_ranks, criteria.margin),
            (lists, of_lists, criteria.fewer * lists.current.mean),
        )
        if min(measured.canary.count, measured.current.count) >= criteria.least
    ]
    if any(high < 0 for (_, high), _ in known):
        return Decision(False, seen)
    passes = len(known) == 2 and all(low > -margin for (low, _), margin in known)
    return Decision(True if passes else None, seen)


def _told(what: str, measured: Measured, interval: tuple[float, float]) -> str:
    canary, current = measured.canary, measured.current
    return (
        f"{what} {canary.mean:.4f} on {canary.count} against {current.mean:.4f} on {current.count}, "
        f"difference in [{interval[0]:+.4f}, {interval[1]:+.4f}]"
    )
