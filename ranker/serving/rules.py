"""Rules after the model: what is withdrawn never shows, what is lifted, how many of a kind may stand at the top."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from msgspec import Meta, Struct

from ranker.contracts.ids import hash_id


class Rules(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Operators' rules. The defaults change nothing."""

    category_boosts: dict[str, Annotated[float, Meta(ge=0, le=1e6)]] = {}  # category -> factor on the score
    category_cap: Annotated[int, Meta(ge=0)] = 0  # at most so many of a category among the first `cap_depth`; 0: no cap
    cap_depth: Annotated[int, Meta(ge=1)] = 10


def order(scores: np.ndarray, categories: np.ndarray, withdrawn: np.ndarray, rules: Rules) -> np.ndarray:
    """Indexes of the candidates to show, best first; equal scores keep the order in which they came.

    Args:
        scores: float [C], higher is better, at least 0.
        categories: int64 [C], hashes, 0 where unknown.
        withdrawn: bool [C].
        rules: the operator's.
    """
    if rules.category_boosts:
        scores = scores * boosts(categories, rules)
    best = np.argsort(-scores, kind="stable")
    best = best[~withdrawn[best]]
    return _capped(best, categories, rules) if rules.category_cap else best


def boosts(categories: np.ndarray, rules: Rules) -> np.ndarray:
    """float64 [C]: the factor on each candidate's score.

    Args:
        categories: int64 [C], hashes, 0 where unknown.
        rules: the operator's.
    """
    factors = np.ones(len(categories))
    for category, factor in rules.category_boosts.items():
        factors[categories == hash_id(category)] = factor
    return factors


def _capped(best: np.ndarray, categories: np.ndarray, rules: Rules) -> np.ndarray:
    """What is over the cap waits until the first `cap_depth` places are filled, then follows in its own order."""
    top: list[int] = []
    rest: list[int] = []
    seen: dict[int, int] = {}
    for index in best.tolist():
        category = int(categories[index])
        over = category and seen.get(category, 0) >= rules.category_cap
        if len(top) >= rules.cap_depth or over:
            rest.append(index)
            continue
        seen[category] = seen.get(category, 0) + 1
        top.append(index)
    return np.array(top + rest, np.int64)
