"""Exploration: now and then the end of a list is shuffled, and the chance of what was shown is written down.

With a chance of `share` the places after the first `after` are filled in random order, each order as likely as any
other. The propensity of an item at its place is the chance, over that draw, that it stands there: what an off-policy
estimate divides by. Drawn from the ranking's id alone, so the same ranking made again is the same.
"""

from __future__ import annotations

import hashlib
import random

import msgspec
import numpy as np

from ranker.serving.ranking import Ranked


def explore(ranked: Ranked, share: float, after: int, ranking_id: str) -> Ranked:
    """The list to show, with the propensity of each place.

    Args:
        ranked: the list by score.
        share: of rankings whose end is shuffled, 0..1.
        after: places that are never touched.
        ranking_id: what the draw is from.
    """
    count = len(ranked.order)
    tail = count - after
    if tail < 2:
        return msgspec.structs.replace(ranked, propensities=np.ones(count))
    draw = random.Random(hashlib.blake2b(ranking_id.encode(), digest_size=8).digest())
    places = list(range(count))
    if draw.random() < share:
        end = places[after:]
        draw.shuffle(end)
        places[after:] = end
    shown = np.array(places)
    propensities = share / tail + (1 - share) * (shown == np.arange(count))
    propensities[:after] = 1.0
    return msgspec.structs.replace(
        ranked,
        order=ranked.order[shown],
        scores=ranked.scores[shown],
        probabilities=ranked.probabilities[shown],
        propensities=propensities,
    )
