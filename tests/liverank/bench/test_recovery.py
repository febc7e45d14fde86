"""Which stretch of the benchmark a wait belongs to."""

from __future__ import annotations

from liverank.bench.recovery import RecoveryStretch, longest_waits
from liverank.measure.deliveries import SentInput


def test_a_wait_belongs_to_the_stretch_in_which_it_ends() -> None:
    """One that began before a kill is felt after it; one under way at the next kill is that kill's; lost ones are
    counted elsewhere.
    """
    sent = [SentInput("u", "clicks", at) for at in (9.0, 11.0, 19.5, 21.0, 22.0)]
    covered = [16.0, 12.0, 26.0, 21.5, None]
    assert longest_waits(sent, covered, [RecoveryStretch(10.0, 20.0), RecoveryStretch(20.0, 30.0)]) == [7.0, 6.5]


def test_a_stretch_in_which_nothing_came() -> None:
    """Its longest wait is none."""
    assert longest_waits([SentInput("u", "clicks", 1.0)], [1.5], [RecoveryStretch(10.0, 20.0)]) == [0.0]
