"""Jobs in groups that the model takes."""

from __future__ import annotations

from ranker.contracts.inputs import Position
from ranker.state.row import EVENT, CurrentList, UserRow
from streams.pipeline.jobs import RankList
from streams.pipeline.rankings import _waves


def job(user: bytes, request: str, events: int) -> RankList:
    listed = CurrentList(1, request, None, {}, ("a",), (), b"")
    row = UserRow(count=events, events=bytes(events * EVENT.itemsize), lists=(listed,))
    return RankList(user, row, Position("clicks", 0, 0, 0), "click")


def test_a_user_comes_into_a_group_with_one_history() -> None:
    """Lists of one row stand together; an older row of the user waits for the next group."""
    jobs = [job(b"u", "r1", 2), job(b"v", "r1", 1), job(b"u", "r2", 2), job(b"u", "r3", 1), job(b"w", "r1", 0)]
    groups = [[(one.user, one.row.lists[0].request_id) for one in wave] for wave in _waves(jobs)]
    assert groups == [[(b"u", "r1"), (b"u", "r2"), (b"v", "r1"), (b"w", "r1")], [(b"u", "r3")]]
