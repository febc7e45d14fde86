"""Who gets a canary, and when its clicks have said enough: pure functions.

The measure is the reciprocal rank of clicked items: 1 / the item's rank in the ranking before the click. Somebody looks
at it after every click, so the test must hold at every moment and not at one chosen before: it is a confidence sequence
(Waudby-Smith, Arbour, Sinha, Kennedy, Ramdas: Time-uniform central limit theory and asymptotic confidence sequences,
2021, theorem 2.2, with the boundary of the normal mixture), on the difference of the two means.
"""

from __future__ import annotations

import hashlib
import math

import msgspec
from msgspec import Struct

_BUCKETS = 1 << 32
#: Clicks at which the intervals are narrowest, compared with a test of a size fixed before.
_TUNED_FOR = 1000


def takes_part(user_id: str, version: str, share: float) -> bool:
    """Whether a user is among the share that gets a canary: always the same ones for a version, others for the next."""
    digest = hashlib.blake2b(f"{version}/{user_id}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "little") < share * _BUCKETS


class Arm(Struct, frozen=True):
    """Numbers seen so far, by count, sum and sum of squares."""

    count: int = 0
    total: float = 0.0
    squares: float = 0.0

    def plus(self, value: float) -> Arm:
        """One more."""
        return Arm(self.count + 1, self.total + value, self.squares + value * value)

    @property
    def mean(self) -> float:
        """0 before the first one."""
        return self.total / self.count if self.count else 0.0

    @property
    def variance(self) -> float:
        """As if one 0 and one 1 had been seen besides: never 0, so a few equal clicks prove nothing."""
        count, total, squares = self.count + 2, self.total + 1, self.squares + 1
        return max(0.0, squares / count - (total / count) ** 2)


class Comparison(Struct, frozen=True):
    """The clicks of a canary and of what serves, since the canary began."""

    canary: Arm = Arm()
    current: Arm = Arm()

    def plus(self, reciprocal_rank: float, on_canary: bool) -> Comparison:
        """One more click."""
        if on_canary:
            return msgspec.structs.replace(self, canary=self.canary.plus(reciprocal_rank))
        return msgspec.structs.replace(self, current=self.current.plus(reciprocal_rank))


class Criteria(Struct, frozen=True, kw_only=True):
    """What a decision asks for."""

    alpha: float = 0.05  # chance of ever deciding wrongly
    margin: float = 0.02  # reciprocal rank that a canary may lose and still be promoted: "no worse"
    least: int = 50  # clicks of each before anything is decided


class Decision(Struct, frozen=True):
    """What the clicks say. `promote` is None while they have not said enough."""

    promote: bool | None
    reason: str


def interval(compared: Comparison, alpha: float) -> tuple[float, float]:
    """Bounds of mean(canary) - mean(current) that hold at every moment together with probability 1 - alpha."""
    canary, current = compared.canary, compared.current
    if not canary.count or not current.count:
        return -1.0, 1.0
    count = canary.count + current.count
    deviation = math.sqrt(canary.variance / canary.count + current.variance / current.count)
    scale = (-2 * math.log(alpha) + math.log(-2 * math.log(alpha)) + 1) / _TUNED_FOR
    spread = count * scale + 1
    half = deviation * math.sqrt(2 * spread / (count * scale) * math.log(math.sqrt(spread) / alpha))
    difference = canary.mean - current.mean
    return max(-1.0, difference - half), min(1.0, difference + half)


def decide_canary(compared: Comparison, criteria: Criteria) -> Decision:
    """Roll back what is worse for certain, promote what is no worse for certain, else wait for more clicks."""
    low, high = interval(compared, criteria.alpha)
    canary, current = compared.canary, compared.current
    seen = (
        f"reciprocal rank of clicks {canary.mean:.4f} on {canary.count} against {current.mean:.4f} on {current.count}, "
        f"difference in [{low:+.4f}, {high:+.4f}]"
    )
    if min(canary.count, current.count) < criteria.least:
        return Decision(None, seen)
    if high < 0:
        return Decision(False, seen)
    return Decision(True if low > -criteria.margin else None, seen)
