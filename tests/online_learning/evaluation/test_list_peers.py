"""Rankers of lists, against orders worked out by hand, and the contract that all of them keep."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from online_learning.data.dataset import LogRecord
from online_learning.evaluation.list_peers import AskedList, ListRanker, as_shown_where_equal, list_peers
from online_learning.evaluation.lists import RankedQuery, judge, queries
from ranker.contracts.records import Candidate, CandidateList, Interaction, Item, User
from ranker.contracts.schema import FeatureSchema
from tests.support import stream

SCHEMA = FeatureSchema()


def did(user: str, items: str, action: str = "view") -> list[Interaction]:
    """Somebody does the same with each of these items."""
    return [
        Interaction(user_id=user, item_id=item, action=action, event_id=f"{user}-{action}-{at}", ts=at)
        for at, item in enumerate(items)
    ]


def order(peer: ListRanker, items: str, *before: list[Interaction], user: str = "u") -> str:
    """How it ranks a list once it has learned of these."""
    for record in (record for records in before for record in records):
        peer.learn(record)
    scores = np.asarray(peer.rank(AskedList(user, 10_000, tuple(items))))
    return "".join(items[at] for at in np.argsort(-scores, kind="stable"))


@pytest.mark.parametrize(
    ("events", "expected"), [("", "abcd"), ("c", "cabd"), ("cb", "bcad"), ("cbc", "cbad"), ("xd", "dabc")]
)
def test_touched_puts_the_latest_first(events: str, expected: str) -> None:
    """The last touch of an item counts, items beside the list do not, nor other people; the rest stays as shown."""
    assert order(list_peers(SCHEMA)["touched"], "abcd", did("u", events), did("other", "ad")) == expected


def test_shown_is_the_order_shown() -> None:
    """Whatever was touched."""
    assert order(list_peers(SCHEMA)["shown"], "abcd", did("u", "cb")) == "abcd"


def test_popularity_counts_choices_of_anyone() -> None:
    """Clicks and not views; where equal as shown."""
    peer = list_peers(SCHEMA)["popularity"]
    assert order(peer, "abcd", did("x", "dcc", "click"), did("y", "dd", "click"), did("z", "aaaaaa")) == "dcab"


def test_markov_goes_by_what_followed_the_last_item() -> None:
    """After a→d twice and a→c once, somebody who just touched a gets d, c; others' last items do not matter."""
    peer = list_peers(SCHEMA)["markov"]
    assert order(peer, "bcd", did("x", "ad"), did("y", "ad"), did("z", "ac"), did("u", "a"), did("v", "b")) == "dcb"


def test_neighbours_go_by_people_who_touched_the_same() -> None:
    """Who touched a and b also touched d; nobody near touched c."""
    peer = list_peers(SCHEMA)["neighbours"]
    assert order(peer, "cd", did("x", "abd"), did("y", "fgc"), did("u", "ab")) == "dc"


def test_equal_scores_stay_as_shown() -> None:
    """No two scores alike, so that no ranker loses by a tie."""
    found = as_shown_where_equal(np.array([0.0, 2.0, 0.0, 2.0]))
    assert np.argsort(-found).tolist() == [1, 3, 0, 2]
    assert len(set(found.tolist())) == 4


def log() -> list[LogRecord]:
    """Every kind of record."""
    described = [Item(item_id=f"item-{at}", category="c", tags=["t"]) for at in range(30)]
    return [*described, User(user_id="user-1", attributes={"tier": "new"}), *stream.records(60)]


@pytest.mark.parametrize("name", list_peers(SCHEMA))
def test_every_peer_keeps_the_contract(name: str) -> None:
    """One finite score an item, no two alike, from the first list on; the same when it is asked again, and in another
    run; nothing that it is given changes."""
    one, other = list_peers(stream.SCHEMA)[name], list_peers(stream.SCHEMA)[name]
    asked = 0
    for record, query in queries(log(), stream.SCHEMA):
        before = msgspec.msgpack.encode(record)
        if query is not None:
            scores = np.asarray(one.rank(query.asked))
            assert scores.shape == (len(query.asked.items),)
            assert np.isfinite(scores).all()
            assert len(set(scores.tolist())) == len(scores)
            for again in (one.rank(query.asked), other.rank(query.asked)):
                np.testing.assert_array_equal(scores, again)
            asked += 1
        one.learn(record)
        other.learn(record)
        assert msgspec.msgpack.encode(record) == before
    assert asked > 30


class Watching:
    """Says what it is told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def rank(self, asked: AskedList) -> list[float]:
        """All alike."""
        self.told.append(asked)
        return [0.0] * len(asked.items)

    def learn(self, record: LogRecord) -> None:
        """Keeps it."""
        self.told.append(record)


def test_a_peer_is_asked_before_it_learns() -> None:
    """Of each record once, in order, its list before its click; ties count against it."""
    shown = CandidateList(request_id="r", user_id="u", items=[Candidate(item_id=item) for item in "abc"], ts=5)
    click = Interaction(user_id="u", item_id="a", action="click", event_id="e", ts=6, request_id="r")
    peer, records = Watching(), [shown, click]
    ranked = [(record, query and RankedQuery(query, 2)) for record, query in queries(records, SCHEMA)]
    judged = judge(ranked, {"watching": peer, **list_peers(SCHEMA)})
    assert peer.told == [shown, AskedList("u", 6, ("a", "b", "c")), click]
    assert {name: ranks.tolist() for name, ranks in judged.ranks.items()} == {
        "liverank": [2], "watching": [3], "shown": [1], "touched": [1], "popularity": [1], "markov": [1],
        "neighbours": [1],
    }  # fmt: skip
    assert (judged.events.tolist(), judged.users.tolist(), judged.times.tolist()) == ([1], ["u"], [6])
