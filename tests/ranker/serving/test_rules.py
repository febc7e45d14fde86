"""What operators' rules do to an order."""

from __future__ import annotations

import numpy as np

from ranker.contracts.ids import hash_id
from ranker.serving.rules import Rules, order

SCORES = np.array([0.9, 0.8, 0.7, 0.6, 0.5])
A, B = hash_id("a"), hash_id("b")
CATEGORIES = np.array([A, A, A, B, 0])
NONE = np.zeros(5, bool)


def test_without_rules_the_score_decides_and_ties_keep_their_order() -> None:
    """Best first; equal scores stay as they came."""
    assert order(SCORES, CATEGORIES, NONE, Rules()).tolist() == [0, 1, 2, 3, 4]
    assert order(np.array([0.1, 0.5, 0.5]), np.zeros(3), np.zeros(3, bool), Rules()).tolist() == [1, 2, 0]


def test_withdrawn_items_are_left_out() -> None:
    """An item that was withdrawn is in no order."""
    assert order(SCORES, CATEGORIES, np.array([True, False, False, False, False]), Rules()).tolist() == [1, 2, 3, 4]


def test_a_boost_lifts_a_category() -> None:
    """A factor on the score moves a category up."""
    assert order(SCORES, CATEGORIES, NONE, Rules(category_boosts={"b": 2.0})).tolist()[0] == 3


def test_a_cap_keeps_a_category_from_filling_the_top() -> None:
    """Over the cap an item waits until the capped places are filled; items without a category are never capped."""
    assert order(SCORES, CATEGORIES, NONE, Rules(category_cap=1, cap_depth=3)).tolist() == [0, 3, 4, 1, 2]
