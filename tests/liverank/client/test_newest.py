"""What a client remembers of rankings: the newest of each list, of so many users, and for whoever is slow no more."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from liverank.client.messages import Accepted
from liverank.client.newest import KnownRanking, NewestRankings, known_ranking
from ranker.contracts.errors import InvalidRecord
from ranker.contracts.records import Cause, DeadLetter, Ranking


def ranked(user: str, revision: int, request: str = "r", epoch: int = 1, **applied: int) -> KnownRanking:
    """A ranking as a message of the topic."""
    cause = Cause(kind="click", topic="clicks", partition=0, offset=revision, ts=1)
    record = Ranking(
        ranking_id=f"{user}:{request}:{revision}", user_id=user, revision=revision, applied=applied, request_id=request,
        ts=1, model="m", cause=cause, items=[], epoch=epoch,
    )  # fmt: skip
    return known_ranking(msgspec.json.encode(record))


def test_the_highest_of_a_list_holds() -> None:
    """An older revision changes nothing, a later epoch does whatever its revision, and of two equal the later holds."""
    known = NewestRankings(users=10, lists=3)
    for one in (ranked("u", 5), ranked("u", 4)):
        known.put(one)
    assert known.newest("u", "r").revision == 5
    again = ranked("u", 5, clicks=9)
    known.put(again)
    assert known.newest("u") is again
    known.put(ranked("u", 1, epoch=2))
    assert (known.newest("u").revision, known.newest("u").epoch) == (1, 2)


def test_memory_is_bounded_by_users_and_lists_but_for_who_is_waited_for() -> None:
    """Who was ranked longest ago goes first, and of a user the list that was."""
    known = NewestRankings(users=3, lists=2)
    known.put(ranked("waited", 1))
    with known.watching("waited"):
        for number in range(20):
            known.put(ranked(f"u{number}", 1))
        assert len(known) == 3
        assert known.newest("waited") is not None
        assert known.newest("u19") is not None and known.newest("u1") is None
    for number in range(5):
        known.put(ranked("u19", number + 1, request=f"r{number}"))
    assert [one.request_id for one in known.of("u19")] == ["r3", "r4"]


async def test_a_slow_follower_gets_the_newest_of_each_list() -> None:
    """What came meanwhile is not kept for it."""
    known = NewestRankings(users=10, lists=2)
    known.put(ranked("u", 1))
    rankings = known.follow("u")
    assert (await anext(rankings)).revision == 1
    for revision in range(2, 50):
        known.put(ranked("u", revision, request="r" if revision % 2 else "other"))
    assert [(await anext(rankings)).revision for _ in range(2)] == [48, 49]
    known.put(ranked("u", 51))
    assert (await anext(rankings)).revision == 51
    await rankings.aclose()


async def test_a_wait_ends_with_the_ranking_that_knows_of_everything_or_with_a_refusal() -> None:
    """One that lacks an offset does not do, nor one of another list; a dead letter may come before the wait begins."""
    known = NewestRankings(users=10, lists=3)
    sent = [Accepted(topic="clicks", partition=0, offset=7), Accepted(topic="candidates", partition=0, offset=3)]
    with known.watching("u") as watch:
        waiting = asyncio.create_task(known.covering(watch, "u", "r", sent))
        for one in (ranked("u", 1, clicks=7), ranked("u", 2, "other", clicks=7, candidates=3)):
            known.put(one)
            await asyncio.sleep(0)
        assert not waiting.done()
        known.put(ranked("u", 3, clicks=8, candidates=3))
        assert (await waiting).revision == 3
    letter = DeadLetter(reason="invalid", error="no", topic="clicks", partition=0, offset=9, value=b"")
    known.refuse(letter, "u")
    with known.watching("u") as watch, pytest.raises(InvalidRecord, match="no"):
        await known.covering(watch, "u", "r", [Accepted(topic="clicks", partition=0, offset=9)])
