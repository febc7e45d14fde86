"""What a gateway answers: JSON, and for whatever is wrong a sentence under `error` with the status that fits."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct
from starlette.responses import Response

from liverank.client import Refused, Unavailable
from liverank.client.groups import GroupRanking
from liverank.client.messages import Accepted
from liverank.gateway.questions import RefusedRecord, RefusedRecords
from ranker.contracts.errors import InvalidRecord, LiverankError

#: How soon to try again what the brokers do not take now.
AGAIN_S = 1
#: No page may guess at what an answer is, keep it, or show it within another.
_HEADERS = {
    "X-Content-Type-Options": "nosniff", "Cache-Control": "no-store", "Content-Security-Policy": "default-src 'none'",
}  # fmt: skip


class AcceptedRecords(Struct, frozen=True, kw_only=True):
    """Where the broker has the records of a request, in their order."""

    accepted: list[Accepted]


class RankedAnswer(Struct, frozen=True, kw_only=True):
    """The answer to a list: its ranking as the worker wrote it. `stale`: it does not know of all that was sent."""

    accepted: list[Accepted]
    stale: bool
    ranking: msgspec.Raw


class GroupAnswer(Struct, frozen=True, kw_only=True):
    """The answer to a list of a group's."""

    accepted: list[Accepted]  # by member, in the order in which they were named: events, then the list
    group: GroupRanking


class Problem(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is wrong with a request, in a sentence; of records that no worker takes the first, and up to 20 of them."""

    error: str
    reason: str | None = None
    where: str | None = None
    refused: list[RefusedRecord] = []


class Declined(Exception):
    """A request that is answered before it is looked at."""

    def __init__(self, status: int, error: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(error)
        self.status, self.error, self.headers = status, error, headers


def json_answer(content: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """JSON; bytes are JSON already."""
    body = content if isinstance(content, bytes) else msgspec.json.encode(content)
    return Response(body, status, {**_HEADERS, **(headers or {})}, "application/json")


def again(seconds: float) -> dict[str, str]:
    """The header that says when to try again."""
    return {"Retry-After": str(max(1, math.ceil(seconds)))}


def answer_of(error: Declined | LiverankError) -> Response:
    """What to answer where a request cannot be done."""
    match error:
        case Declined():
            return json_answer(Problem(error=error.error), error.status, error.headers)
        case RefusedRecords(refused=[first, *_]):
            found = Problem(error=first.error, reason=first.reason, where=first.where, refused=error.refused)
            return json_answer(found, 422)
        case InvalidRecord():
            return json_answer(Problem(error=error.error, reason=error.reason), 422)
        case Unavailable():
            return json_answer(Problem(error=str(error)), 503, again(AGAIN_S))
        case Refused():
            return json_answer(Problem(error=str(error)), 500)
    return json_answer(Problem(error=str(error)), 409)  # others write to that topic
