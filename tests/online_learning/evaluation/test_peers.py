"""Peers against rankings worked out by hand, and the protocol that asks them: never about what it has already told."""

import numpy as np
import pytest

from online_learning.evaluation.list_peers import AmongAllItems, MostChosen
from online_learning.evaluation.metrics import NOT_FOUND
from online_learning.evaluation.next_item import next_item, prequential_ranks
from online_learning.evaluation.peers import MarkovChain, Popularity, SessionNeighbours, Synced
from ranker.contracts.records import Interaction, Item
from ranker.contracts.schema import FeatureSchema

RANKERS = {
    "popularity": Popularity,
    "markov": MarkovChain,
    "neighbours": SessionNeighbours,
    "of lists": lambda: AmongAllItems(MostChosen(FeatureSchema())),
    "late": lambda: Synced(MarkovChain(), start=0, every_ms=5),
}


def clicks(*lines, start=1_000):
    """`("s1", "ab")` is session s1 clicking a, then b; one millisecond a click."""
    events = [(user, item) for user, items in lines for item in items]
    return [
        Interaction(user_id=user, item_id=item, action="click", event_id=str(at), ts=start + at)
        for at, (user, item) in enumerate(events)
    ]


def test_next_item_tells_only_the_past():
    """Sessions, item numbers and what is known are those before the event; the first of a session is not asked."""
    events = list(next_item([Item(item_id="a"), *clicks(("s", "ab"), ("t", "b"), ("s", "ca"))], start=0))
    assert [(event.item, event.session, event.known, event.asked) for event in events] == [
        (0, (), 0, False),
        (1, (0,), 1, True),
        (1, (), 2, False),
        (2, (0, 1), 2, True),
        (0, (0, 1, 2), 3, True),
    ]


def test_next_item_keeps_to_its_window():
    """Before the start there is only learning, nothing is read after the end, and sessions keep their newest items."""
    events = list(next_item(clicks(("s", "abcdef")), start=1_002, end=1_005, memory=2))
    assert [event.asked for event in events] == [False, False, True, True, True]
    assert events[-1].session == (2, 3)


def test_ranks_by_hand():
    """After a→b, b→c once each: from a, b is first; a new item is not found; counts tie, popularity decides."""
    records = clicks(("s", "abc"), ("t", "ab"), ("u", "axab"))
    ranks = prequential_ranks(next_item(records, start=1_003), {"markov": MarkovChain()})["markov"]
    # t: a→b is known. u: x is new; nothing has followed x, so a leads by popularity; then a→b.
    assert list(ranks) == [1, NOT_FOUND, 1, 1]


def test_neighbours_vote_for_what_their_sessions_hold():
    """The session that shares more of the recent items decides."""
    records = clicks(("s", "abc"), ("t", "dbe"), ("u", "fgh"), ("v", "abc"))
    ranks = prequential_ranks(next_item(records, start=1_011), {"knn": SessionNeighbours()})["knn"]
    assert list(ranks) == [1]


@pytest.mark.parametrize("name", RANKERS)
def test_every_ranker_keeps_the_contract(name):
    """One finite score for each known item, from the first query on, the same however often it is asked."""
    rng = np.random.default_rng(0)
    records = clicks(*((f"s{n % 7}", f"{rng.integers(30)}") for n in range(300)))
    ranker = RANKERS[name]()
    for event in next_item(records, start=0):
        if event.known:
            scores = ranker.score(event)
            assert scores.shape == (event.known,)
            assert np.isfinite(scores).all()
            assert np.array_equal(scores, ranker.score(event))
        ranker.learn(event)


def test_many_items_find_room():
    """More items than were expected at first."""
    popularity = Popularity()
    events = list(next_item(clicks(("s", [str(n) for n in range(3000)])), start=0))
    for event in events:
        popularity.learn(event)
    assert popularity.score(events[-1]).shape == (2999,)


@pytest.mark.parametrize(("every", "expected"), [(0, [1, 1]), (None, [2, 2]), (15, [2, 1]), (100, [2, 2])])
def test_a_late_ranker_knows_what_had_arrived(every, expected):
    """a→b is learned before the test, a→c twice within it: c comes first only once a sync has brought that."""
    before = clicks(("s", "ab"), ("t", "c"), ("u", "c"))  # until 1,003
    within = clicks(("v", "ac"), ("w", "ac"), start=1_004)  # until 1,007
    asked = [*clicks(("x", "ac"), start=1_010), *clicks(("y", "ac"), start=1_020)]  # asked at 1,011 and 1,021
    ranker = Synced(MarkovChain(), start=1_004, every_ms=every)  # every 15 ms: 1,019, between the two
    ranks = prequential_ranks(next_item(before + within + asked, start=1_004), {"late": ranker})["late"]
    assert list(ranks[2:]) == expected
