"""One list for several people: how their scores are put together, worked out by hand."""

from __future__ import annotations

import pytest

from liverank.client import Candidate, CandidateList, InvalidRecord, RankedItem, Ranking, Refused
from liverank.client.groups import MOST_MEMBERS, GroupRule, events_by_member, put_together
from ranker.contracts.records import Cause


def shown(*items: str, k: int | None = None) -> CandidateList:
    """A list as it was shown."""
    return CandidateList(
        request_id="evening", user_id="anybody", items=[Candidate(item_id=item) for item in items], k=k
    )


def ranking(user: str, **scores: float | None) -> Ranking:
    """A user's ranking with these scores."""
    return Ranking(
        ranking_id=f"{user}-1", user_id=user, revision=1, applied={"candidates": 0}, request_id="evening", ts=1,
        model="m", cause=Cause(kind="candidates", topic="candidates", partition=0, offset=0, ts=1),
        items=[
            RankedItem(item_id=item, rank=rank, previous_rank=None, score=score)
            for rank, (item, score) in enumerate(scores.items(), 1)
        ],
    )  # fmt: skip


ANN = ranking("ann", comedy=0.9, western=0.5, drama=0.4)
BEN = ranking("ben", western=0.5, drama=0.45, comedy=0.05)


@pytest.mark.parametrize(
    ("by", "order", "best"),
    [
        ("average", ["western", "comedy", "drama"], 0.5),  # .5, .475, .425
        ("least-misery", ["western", "drama", "comedy"], 0.5),  # .5, .4, .05
        ("most-pleasure", ["comedy", "western", "drama"], 0.9),  # .9, .5, .45
    ],
)
def test_what_is_worth_most_to_the_group_comes_first(by: GroupRule, order: list[str], best: float) -> None:
    """By the mean, the least or the most of the members' scores, each of which is told."""
    found = put_together(shown("drama", "comedy", "western"), {"ann": ANN, "ben": BEN}, ["ben"], by)
    assert [line.item_id for line in found.items] == order
    assert [line.rank for line in found.items] == [1, 2, 3]
    assert found.items[0].score == best
    assert {line.item_id: line.scores for line in found.items}["comedy"] == {"ann": 0.9, "ben": 0.05}
    assert (found.by, found.missing, found.stale) == (by, [], ["ben"])


def test_the_mean_decides_between_equals_and_then_the_list_as_it_was_shown() -> None:
    """Nothing hangs on the order in which members or rankings come."""
    cid, dan = ranking("cid", a=0.2, b=0.2, c=0.2), ranking("dan", c=0.6, b=0.3, a=0.3)
    for rankings in ({"cid": cid, "dan": dan}, {"dan": dan, "cid": cid}):
        found = put_together(shown("b", "a", "c"), rankings, [], "least-misery")
        assert [line.item_id for line in found.items] == ["c", "b", "a"]


def test_who_has_no_ranking_is_named_and_left_out() -> None:
    """The others' order stands; of nobody's there is none."""
    found = put_together(shown("drama", "comedy", "western"), {"ann": ANN, "ben": None}, ["ben"], "least-misery")
    assert [line.item_id for line in found.items] == ["comedy", "western", "drama"]
    assert (found.missing, found.stale) == (["ben"], ["ben"])
    assert put_together(shown("drama"), {"ben": None}, ["ben"], "average").items == []


def test_what_a_ranking_leaves_out_is_left_out_and_k_is_the_groups() -> None:
    """An item may be withdrawn before the last of their rankings."""
    eve = ranking("eve", drama=0.9, western=0.8)
    listed = shown("drama", "comedy", "western", k=1)
    found = put_together(listed, {"ann": ANN, "eve": eve}, [], "most-pleasure")
    assert [line.item_id for line in found.items] == ["drama"]  # .9 as comedy, which eve must not see


def test_rankings_without_scores_are_refused_with_the_setting() -> None:
    """They can be put in no order."""
    with pytest.raises(Refused, match="ranking_detail"):
        put_together(shown("a"), {"fay": ranking("fay", a=None)}, [], "average")


@pytest.mark.parametrize("members", [[], ["ann", "ann"], [f"m{number}" for number in range(MOST_MEMBERS + 1)]])
def test_a_group_that_is_none_is_refused(members: list[str]) -> None:
    """Nobody, somebody twice, too many."""
    with pytest.raises(InvalidRecord, match="1 to 50 members, each once"):
        events_by_member(members, [])


def test_events_are_parted_by_member() -> None:
    """In their order; one of a stranger is refused by its number."""
    assert events_by_member(["ann", "ben"], ["ben", "ann", "ben"]) == {"ann": [1], "ben": [0, 2]}
    with pytest.raises(InvalidRecord, match="user_id of event 1 is 'cid'"):
        events_by_member(["ann", "ben"], ["ben", "cid"])
