"""One list for several people: each member's own ranking of it, and their scores put together."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import fsum
from typing import Literal, get_args

from msgspec import Struct

from liverank.client.errors import Refused
from ranker.contracts.errors import InvalidRecord
from ranker.contracts.records import CandidateList, Ranking

#: What an item is worth to a group: the mean of what it is worth to its members, the least of it, or the most.
GroupRule = Literal["average", "least-misery", "most-pleasure"]
#: Members of a group at most: each has the list ranked.
MOST_MEMBERS = 50
_WORTH: Mapping[str, Callable[[Sequence[float]], float]] = {
    "average": lambda scores: fsum(scores) / len(scores), "least-misery": min, "most-pleasure": max,
}  # fmt: skip


class GroupItem(Struct, frozen=True, kw_only=True):
    """A line of a group's ranking."""

    item_id: str
    rank: int  # from 1
    score: float
    scores: dict[str, float]  # by member


class GroupRanking(Struct, frozen=True, kw_only=True):
    """A list in the order of a group. What is `missing` had no ranking in time, and is not in it."""

    request_id: str
    by: GroupRule
    items: list[GroupItem]
    missing: list[str]  # members
    stale: list[str]  # members whose ranking does not know of all that was sent


def events_by_member(members: Sequence[str], users: Sequence[str]) -> dict[str, list[int]]:
    """Which events are whose: the numbers of each member's.

    Args:
        members: user ids.
        users: whose each event is.

    Raises:
        InvalidRecord: there are no members, too many, one twice, or an event of somebody else.
    """
    if not 1 <= len(members) <= MOST_MEMBERS or len(set(members)) < len(members):
        raise InvalidRecord(
            "invalid", f"a group has 1 to {MOST_MEMBERS} members, each once; this one has {len(members)}: {members}"
        )
    found: dict[str, list[int]] = {member: [] for member in members}
    for number, user in enumerate(users):
        if user not in found:
            raise InvalidRecord(
                "key-mismatch",
                f"user_id of event {number} is {user!r}, and nobody of the group is; members are {members}",
            )
        found[user].append(number)
    return found


def check_rule(by: str) -> None:
    """Nothing, where it is a way to put scores together.

    Raises:
        InvalidRecord: it is none.
    """
    if by not in _WORTH:
        raise InvalidRecord("invalid", f"by is {by!r}; valid are {', '.join(get_args(GroupRule))}")


def put_together(
    candidates: CandidateList, rankings: Mapping[str, Ranking | None], stale: Sequence[str], by: GroupRule
) -> GroupRanking:
    """A group's ranking, of its members' rankings of the same list.

    By the scores alone, which are comparable: the value that the model expects of showing an item to somebody. Where
    two items are worth the same to the group, the mean decides, then the order in which the list was shown. An item
    that some member's ranking leaves out, since it was withdrawn by then, is left out.

    Args:
        candidates: the list as it was shown; `k` counts for the group.
        rankings: by member, of the whole list; None where there is none.
        stale: members whose ranking does not know of all that was sent.
        by: how scores are put together.

    Raises:
        Refused: the rankings have no scores.
    """
    known = {member: ranking for member, ranking in rankings.items() if ranking is not None}
    scores: dict[str, dict[str, float]] = {}  # by item, by member
    for member, ranking in known.items():
        for line in ranking.items:
            if line.score is None:
                raise Refused(
                    "the rankings have no scores, by which a group is ranked: `ranking_detail` of [worker] must be "
                    "full or scores"
                )
            scores.setdefault(line.item_id, {})[member] = line.score
    worth = {
        item.item_id: (_WORTH[by](list(own.values())), _WORTH["average"](list(own.values())))
        for item in candidates.items
        if len(own := scores.get(item.item_id, {})) == len(known) > 0
    }
    order = sorted(worth, key=lambda item: worth[item], reverse=True)[: candidates.k]  # stable, so ties stay as shown
    return GroupRanking(
        request_id=candidates.request_id,
        by=by,
        items=[
            GroupItem(item_id=item, rank=rank, score=worth[item][0], scores=scores[item])
            for rank, item in enumerate(order, 1)
        ],
        missing=[member for member, ranking in rankings.items() if ranking is None],
        stale=list(stale),
    )
