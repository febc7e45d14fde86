"""How often the gate is right, on lines of versions of a known quality; the numbers are those of the docs, coarser."""

from __future__ import annotations

from online_learning.simulation.gate_rates import Course, rates

#: A true loss in reciprocal rank.
LOSS = 0.035


def test_small_losses_do_not_add_up() -> None:
    """Each version loses what is hardly seen in 30 queries, and many pass; in the end what serves is found to be worse
    than the anchor. Without one it goes on for as long as one looks.
    """
    anchored = rates(Course(loss=LOSS), 40, 1)
    alone = rates(Course(loss=LOSS, sampled=0), 40, 1)
    assert alone["taken back"] == 0
    assert alone["lost by what served"] > 0.3, "nearly all there was to lose"
    assert anchored["taken back"] == 1
    assert anchored["lost by what served"] < alone["lost by what served"] / 2


def test_one_small_loss_is_taken_back() -> None:
    """Also where the versions after it are no worse than it was."""
    assert rates(Course(loss=LOSS, once=True, versions=250), 20, 2)["taken back"] >= 0.9


def test_a_sample_is_enough() -> None:
    """It takes longer with an eighth of the examples, and ends the same."""
    assert rates(Course(loss=LOSS, sampled=4, versions=100), 20, 3)["taken back"] == 1


def test_equal_versions_pass() -> None:
    """Nearly always when they are first looked at; and learning never goes back for nothing, looked at 200 times."""
    found = rates(Course(loss=0.0, versions=200), 40, 4)
    assert found["promoted"] > 0.9
    assert found["taken back"] <= 0.025
