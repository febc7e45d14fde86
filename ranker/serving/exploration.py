"""Exploration: now and then the end of a list is shuffled, and the chance of what was shown is written down.

With a chance of `share` the places after the first `after` are filled in random order, each order as likely as any
other. The propensity of an item at its place is the chance, over that draw, that it stands there: what an off-policy
estimate divides by. Drawn from the ranking's id alone, so the same ranking made again is the same.
"""

from __future__ import annotations

import hashlib
import random

import msgspec

from ranker.serving.ranking import Ranked


def explore(ranked: Ranked, share: float, after: int, ranking_id: str) -> Ranked:
    """The list to show, with the propensity of each place.

    Args:
        ranked: the list by score.
        share: of rankings whose end is shuffled, 0..1.
        after: places that are never touched.
        ranking_id: what the draw is from.
    """
    count = len(ranked.item_ids)
    tail = count - after
    if tail < 2:
        return msgspec.structs.replace(ranked, propensities=[1.0] * count)
    draw = random.Random(hashlib.blake2b(ranking_id.encode(), digest_size=8).digest())
    places = list(range(count))
    if draw.random() < share:
        end = places[after:]
        draw.shuffle(end)
        places[after:] = end
    elsewhere = share / tail
    return msgspec.structs.replace(
        ranked,
        item_ids=[ranked.item_ids[place] for place in places],
        scores=[ranked.scores[place] for place in places],
        probabilities=[ranked.probabilities[place] for place in places],
        propensities=[
            1.0 if at < after else elsewhere + (1 - share if place == at else 0.0) for at, place in enumerate(places)
        ],
    )
