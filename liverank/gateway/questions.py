"""What a request holds: records as they were written, one or many, each looked at before any is sent."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import Struct

from liverank.client.groups import GroupRule, events_by_member
from liverank.client.messages import Outgoing, Ready
from ranker.contracts.errors import InvalidRecord, LiverankError
from ranker.contracts.records import CandidateList
from ranker.contracts.topics import CANDIDATES

#: Of the records of a request that are refused, so many are named.
_NAMED = 20


class RankQuestion(Struct, frozen=True, kw_only=True):
    """The body of `POST /v1/rank`."""

    candidates: msgspec.Raw
    events: list[msgspec.Raw] = []
    within_ms: int | None = None  # else `wait_ms` of [gateway]


class GroupQuestion(RankQuestion, frozen=True, kw_only=True):
    """The body of `POST /v1/rank-group`."""

    members: list[str]
    by: GroupRule = "average"


class MemberQuestion(Struct, frozen=True):
    """A list and events of one member, as messages."""

    candidates: Ready
    events: list[Ready]


class RefusedRecord(Struct, frozen=True, kw_only=True):
    """A record that no worker takes: where it stands in the request, and what its dead letter would say."""

    where: str
    reason: str
    error: str


class RefusedRecords(LiverankError):
    """Records of a request that no worker takes: nothing of the request was sent."""

    def __init__(self, refused: list[RefusedRecord]) -> None:
        super().__init__(refused[0].error)
        self.refused = refused


def records_in(body: bytes, topic: str, outgoing: Outgoing, now_ms: int) -> list[Ready]:
    """The messages of a body that is a record or an array of them.

    Raises:
        RefusedRecords: no worker takes some of them.
    """
    if not body.lstrip().startswith(b"["):
        return _ready([("", topic, body)], outgoing, now_ms)
    try:
        given = msgspec.json.decode(body, type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _no_json(error, "give a record, or an array of records") from error
    return _ready([(f"[{number}]", topic, bytes(one)) for number, one in enumerate(given)], outgoing, now_ms)


def rank_question(body: bytes, topic: str, outgoing: Outgoing, now_ms: int) -> tuple[RankQuestion, Ready, list[Ready]]:
    """A question for a ranking, its list and its events as messages.

    Args:
        body: of the request.
        topic: of events whose action has none of its own.
        outgoing: makes messages.
        now_ms: the present, in milliseconds.

    Raises:
        RefusedRecords: it is none, or no worker takes some of it.
    """
    try:
        asked = msgspec.json.decode(body, type=RankQuestion)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _no_json(error, 'give {"candidates": LIST, "events": [EVENT, ...], "within_ms": 1000}') from error
    events = [(f"events[{number}]", topic, bytes(one)) for number, one in enumerate(asked.events)]
    *ready, candidates = _ready([*events, ("candidates", CANDIDATES, bytes(asked.candidates))], outgoing, now_ms)
    return asked, candidates, ready


def group_question(
    body: bytes, topic: str, outgoing: Outgoing, now_ms: int
) -> tuple[GroupQuestion, CandidateList, dict[str, MemberQuestion]]:
    """A question for a group's ranking: the list as it was given, and what is asked for each member.

    Args:
        body: of the request.
        topic: of events whose action has none of its own.
        outgoing: makes messages.
        now_ms: the present, in milliseconds.

    Raises:
        RefusedRecords: it is none, or no worker takes some of it.
    """
    try:
        asked = msgspec.json.decode(body, type=GroupQuestion)
        listed = msgspec.json.decode(asked.candidates, type=dict[str, msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        wanted = 'give {"members": [USER, ...], "candidates": LIST, "events": [EVENT, ...], "by": "average"}'
        raise _no_json(error, wanted) from error
    events = _ready(
        [(f"events[{number}]", topic, bytes(one)) for number, one in enumerate(asked.events)], outgoing, now_ms
    )
    try:
        own = events_by_member(asked.members, [getattr(event.record, "user_id", "") for event in events])
    except InvalidRecord as error:
        raise RefusedRecords([RefusedRecord(where="members", reason=error.reason, error=error.error)]) from error

    def list_of(member: str, **changes: object) -> Ready:
        given = {
            name: msgspec.Raw(msgspec.json.encode(value)) for name, value in (*changes.items(), ("user_id", member))
        }
        return _ready([("candidates", CANDIDATES, msgspec.json.encode(listed | given))], outgoing, now_ms)[0]

    shown = list_of(asked.members[0]).record
    assert isinstance(shown, CandidateList)
    questions = {
        member: MemberQuestion(list_of(member, k=None, reasons=None), [events[number] for number in numbers])
        for member, numbers in own.items()
    }
    return asked, shown, questions


def _ready(given: Iterable[tuple[str, str, bytes]], outgoing: Outgoing, now_ms: int) -> list[Ready]:
    ready, refused = [], []
    for where, topic, value in given:
        try:
            ready.append(outgoing.taken(topic, value, now_ms))
        except InvalidRecord as error:
            refused.append(RefusedRecord(where=where, reason=error.reason, error=error.error))
    if refused:
        raise RefusedRecords(refused[:_NAMED])
    return ready


def _no_json(error: Exception, wanted: str) -> RefusedRecords:
    reason = "invalid" if isinstance(error, msgspec.ValidationError | RecursionError) else "not-json"
    problem = f"{'not JSON: ' if reason == 'not-json' else ''}{error}; {wanted}"
    return RefusedRecords([RefusedRecord(where="", reason=reason, error=problem)])
