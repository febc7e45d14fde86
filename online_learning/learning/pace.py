"""How fast dense weights move: quickly while a model that began with the starter is young, then at the settled pace.

The starter knows what is right on average over sites. A trained model has seen its own site; the starter has to find
out what kind it is on, and the first examples tell it more than any later ones will. So its rate falls with what it has
learned from (H. Robbins and S. Monro, "A stochastic approximation method", 1951), and its average reaches over a share
of that.
"""

from __future__ import annotations

from typing import NamedTuple

from online_learning.online_recipe import OnlineRecipe


class LearningPace(NamedTuple):
    """Of one step."""

    rate: float  # factor of the dense learning rate
    averaging: float  # of the moving average of dense weights, a full step
    replayed: float  # remembered examples beside each new one
    one_of: int = 1  # of so many new examples one is learned from


def pace_of(online: OnlineRecipe, since_starter: int | None, waiting: int = 0) -> LearningPace:
    """The pace of the next step.

    The more examples wait, the fewer remembered ones are learned from again beside the new ones: none where `behind`
    wait. Of what comes beyond that one in two is learned from, one in three where twice as many wait, and so on,
    whatever their age; the others are counted.

    Args:
        online: the settled pace, and how much faster a young model learns.
        since_starter: examples learned from since the starter; None for a model that began with a training.
        waiting: examples that are still to be read.
    """
    found, share = _by_age(online, since_starter), waiting / online.behind
    return found._replace(replayed=found.replayed * max(0.0, 1 - share), one_of=1 + int(share))


def _by_age(online: OnlineRecipe, since_starter: int | None) -> LearningPace:
    if since_starter is None:
        return LearningPace(1.0, online.averaging, online.replayed)
    youth = 1 / (1 + since_starter / online.young_examples)
    reach = _AVERAGED * since_starter / online.batch
    return LearningPace(
        rate=1 + online.young_rate * youth,
        averaging=min(online.averaging, reach / (1 + reach)),
        replayed=online.replayed + online.young_replayed * youth,
    )


_AVERAGED = 0.25
