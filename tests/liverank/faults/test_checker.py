"""The checker of `liverank bench faults`: nothing is found in what is consistent, and each planted violation, alone."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import pytest

from liverank.faults.checker.rankings import (
    HeldRanking,
    KnownInput,
    check_held,
    check_knowledge,
    check_scores,
    current_lists,
    hold,
)
from liverank.faults.checker.records import (
    Fingerprint,
    LearnedState,
    check_acknowledged,
    check_examples,
    check_learned,
    check_letters,
)
from liverank.faults.checker.state import check_rows, check_sent
from liverank.faults.checker.violations import Violation, shortened
from liverank.faults.load.inputs import InputPlace, Planned, Recorded, record_digest
from ranker.contracts.ids import hash_id
from ranker.contracts.inputs import Position
from ranker.contracts.records import Candidate, CandidateList, Cause, Interaction, RankedItem, Ranking
from ranker.contracts.schema import FeatureSchema
from ranker.state.codec import encode_head, encode_list, list_key
from ranker.state.fold import apply_input
from ranker.state.row import EMPTY, UserRow

SCHEMA = FeatureSchema()
T0 = 1_700_000_000_000
change = msgspec.structs.replace


def kinds(found: Iterable[object]) -> list[str]:
    """What was found, by kind."""
    return [one.kind for one in found if isinstance(one, Violation)]


def listed(offset: int, request_id: str = "r1") -> tuple[CandidateList, Position]:
    """A list of the user's, and where it stands."""
    items = [Candidate(item_id=name) for name in "abc"]
    record = CandidateList(request_id=request_id, user_id="u", items=items, ts=T0 + offset)
    return record, Position("candidates", 0, offset, T0)


def clicked(offset: int, event_id: str | None = None) -> tuple[Interaction, Position]:
    """A click of the user's, and where it stands."""
    at = Position("clicks", 0, offset, T0)
    return Interaction(
        user_id="u", item_id="a", action="click", event_id=event_id or at.event_id, ts=T0 + 100 + offset
    ), at


def folded(*inputs: tuple) -> UserRow:
    """The user's row."""
    row = EMPTY
    for record, at in inputs:
        row = apply_input(row, record, at, SCHEMA)
    return row


def stored(row: UserRow) -> dict[tuple[int, bytes], bytes]:
    """A row as the changelog has it."""
    lists = {(0, list_key(b"u", one.request_id)): encode_list(one) for one in row.current}
    return {(0, b"u"): encode_head(row), **lists}


def ranking(row: UserRow, request_id: str = "r1", **changes: object) -> Ranking:
    """The ranking of a list of a row."""
    items = [
        RankedItem(item_id=name, rank=at, previous_rank=None, score=1 / at, probabilities={})
        for at, name in enumerate("abc", 1)
    ]
    made = Ranking(
        ranking_id=f"u:{request_id}:{row.revision}:v1", user_id="u", revision=row.revision, applied=row.applied,
        request_id=request_id, ts=T0, model="v1", items=items, epoch=T0,
        cause=Cause(kind="click", topic="clicks", partition=0, offset=0, ts=T0),
    )  # fmt: skip
    return change(made, **changes)


ROW = folded(listed(3), clicked(5), clicked(9))
KNOWN = {(0, "u"): [KnownInput("candidates", 3), KnownInput("clicks", 5), KnownInput("clicks", 9)]}


def test_an_acknowledged_input_that_the_broker_lost() -> None:
    """What was acknowledged has to be there, with these bytes; of what was not nothing is said."""
    planned = Planned(topic="clicks", key=b"u", value=b"{}")
    sent = [Recorded(planned=planned, place=InputPlace("clicks", 0, 5)), Recorded(planned=planned)]
    held = {InputPlace("clicks", 0, 5): record_digest(b"u", b"{}")}
    assert kinds(check_sent(sent, held)) == []
    assert kinds(check_sent(sent, {})) == ["input-lost"]
    assert kinds(check_sent(sent, {InputPlace("clicks", 0, 5): record_digest(b"u", b"[]")})) == ["input-lost"]
    assert record_digest(b"u", None) != record_digest(b"u", b"") != record_digest(None, b"u")


def test_rows_against_the_fold() -> None:
    """A row that lacks an event, or has one twice, or a list; one without inputs; inputs without a row; garbage."""
    right = {(0, b"u"): ROW}
    assert kinds(check_rows(stored(ROW), right)) == []
    assert kinds(check_rows(stored(folded(listed(3), clicked(5))), right)) == ["row-differs"]
    assert kinds(check_rows(stored(change(ROW, count=3)), right)) == ["row-differs"]
    assert kinds(check_rows(stored(change(ROW, summary=bytes(256))), right)) == ["row-differs"]
    assert kinds(check_rows({(0, b"u"): encode_head(ROW)}, right)) == ["row-differs"]
    assert kinds(check_rows({**stored(ROW), (0, b"u"): b"\x02garbage"}, right)) == ["row-differs"]
    assert kinds(check_rows({}, right)) == ["row-missing"]
    assert kinds(check_rows({(1, b"u"): encode_head(ROW), **stored(ROW)}, right)) == ["row-unasked"]
    left = {(0, list_key(b"u", "left")): encode_list(ROW.current[0])}  # of a worker that ended before its head
    assert kinds(check_rows({**stored(ROW), **left}, right)) == []


def held_of(*rankings: Ranking) -> dict[tuple[str, str], HeldRanking]:
    """What a consumer keeps of these."""
    held: dict[tuple[str, str], HeldRanking] = {}
    for one in rankings:
        hold(held, one)
    return held


def test_the_highest_revision_covers_every_input() -> None:
    """No ranking; one that lacks the last input; the right one before an older one that comes late, or again. One of
    an earlier epoch does not hold."""
    lists, early = current_lists([(b"u", ROW)]), folded(listed(3), clicked(5))
    assert kinds(check_held(lists, held_of(ranking(early), ranking(ROW)))) == []
    assert kinds(check_held(lists, held_of(ranking(ROW), ranking(early)))) == []
    assert kinds(check_held(lists, {})) == ["ranking-missing"]
    assert kinds(check_held(lists, held_of(ranking(ROW, "r2")))) == ["ranking-missing"]
    assert kinds(check_held(lists, held_of(ranking(early)))) == ["ranking-behind"]
    ahead = ranking(early, revision=ROW.revision + 1)
    assert kinds(check_held(lists, held_of(ranking(ROW), ahead))) == ["ranking-behind"]
    lacks = ranking(ROW, applied={"candidates": 3, "clicks": 5})
    assert kinds(check_held(lists, held_of(ranking(ROW), lacks))) == ["ranking-behind"]
    assert kinds(check_held(lists, held_of(lacks, ranking(ROW)))) == []
    assert kinds(check_held(lists, held_of(ranking(ROW, epoch=T0 - 1), ranking(early)))) == ["ranking-behind"]


def test_the_last_ranking_is_the_offline_one() -> None:
    """Another score, another item; nothing is said of a version that has taken deltas, or that is gone."""
    lists = current_lists([(b"u", ROW)])
    right = {"a": 1.0, "b": 0.5, "c": 1 / 3}

    def found(scores: dict[str, float] | None, **changes: object) -> list[object]:
        held = held_of(ranking(ROW, **changes))
        return list(check_scores(lists, held, lambda version, rows: scores and [scores] * len(rows)))

    assert found(right) == [("u", "r1")]
    assert kinds(found({**right, "b": 0.501})) == ["ranking-differs"]
    assert kinds(found({"a": 1.0, "b": 0.5, "d": 1 / 3})) == ["ranking-differs"]
    assert found({**right, "b": 0.9}, delta=7) == []
    assert found(None) == []


def test_a_ranking_counts_what_it_knows() -> None:
    """A revision that is too high or too low for what `applied` names; an offset of somebody else's input."""

    def found(**changes: object) -> list[str]:
        return kinds(check_knowledge([ranking(ROW, **changes)], KNOWN, lambda user: False))

    assert found() == []
    assert found(revision=2, applied={"candidates": 3, "clicks": 5}) == []
    assert found(revision=2, applied={"clicks": 9}) == []
    assert found(revision=4) == ["ranking-miscounted"]
    assert found(revision=2) == ["ranking-miscounted"]
    assert found(applied={"candidates": 3, "clicks": 8}) == ["ranking-foreign"]
    assert found(applied={"candidates": 3, "clicks": 9, "views": 0}) == ["ranking-foreign"]


def test_a_repeat_counts_once() -> None:
    """Of two records of one event one counts; of an erased user's nothing is said."""
    name = ("e", "a", "click")
    known = {(0, "u"): [KnownInput("candidates", 3), KnownInput("clicks", 5, name), KnownInput("clicks", 9, name)]}
    twice = [ranking(ROW, revision=2), ranking(ROW, revision=3)]
    assert kinds(check_knowledge(twice, known, lambda user: False)) == ["ranking-miscounted"]
    assert kinds(check_knowledge(twice, known, lambda user: True)) == []


def test_dead_letters_are_those_deserved() -> None:
    """One that nobody deserved, one that is missing, one for another reason, and a second one for another."""
    place, other = InputPlace("clicks", 0, 1), InputPlace("items", 2, 7)
    deserved = {place: "invalid", other: "bad-key"}
    assert kinds(check_letters({place: {"invalid"}, other: {"bad-key"}}, deserved)) == []
    assert kinds(check_letters({place: {"invalid"}}, deserved)) == ["letter-missing"]
    assert kinds(check_letters({place: {"internal"}, other: {"bad-key"}}, deserved)) == ["letter-reason"]
    assert kinds(check_letters({place: {"invalid", "internal"}, other: {"bad-key"}}, deserved)) == ["letter-reason"]
    assert kinds(check_letters({place: {"invalid"}, other: {"bad-key"}}, {place: "invalid"})) == ["letter-undeserved"]


CONTENT = Fingerprint("u", "r1", T0, False, "hash", ("a", "b"), ("a", "click", T0, "e"))
EXAMPLE = "u:r1:e:a:click"


def test_examples_are_of_what_happened() -> None:
    """Two contents under one id, a click that nobody sent, one that is owed and missing."""
    events = {("u", "e", "a", "click")}
    assert kinds(check_examples({EXAMPLE: {CONTENT}}, [EXAMPLE], events)) == []
    two = {CONTENT, CONTENT._replace(late=True)}
    assert kinds(check_examples({EXAMPLE: two}, [EXAMPLE], events)) == ["example-conflict"]
    assert kinds(check_examples({EXAMPLE: {CONTENT}}, [], {("u", "e", "b", "click")})) == ["example-unfounded"]
    assert kinds(check_examples({}, [EXAMPLE], events)) == ["example-missing"]
    silence = {"u:r1:": {CONTENT._replace(outcome=None)}}
    assert kinds(check_examples(silence, [], set())) == []


LINES = {"examples-0": [(0, "a"), (1, "b"), (3, "a"), (4, "bad"), (6, "c")]}


def learned(ids: str = "ab", **changes: object) -> LearnedState:
    """A trainer that has read to offset 5."""
    known = frozenset(map(hash_id, [*ids, "bad"]))
    return change(LearnedState(len(ids), known, frozenset({"bad"}), {"examples-0": 5}), **changes)


def test_each_example_is_learned_once() -> None:
    """LearnedState twice, not at all, refused; what lies behind its offsets, is spoiled or erased, is as it may be."""

    def found(state: LearnedState, erased: str = "") -> list[str]:
        return kinds(check_learned(state, LINES, {"bad"}, set(erased)))

    assert found(learned()) == []
    assert found(learned(trained=3)) == ["learned-twice"]
    assert found(learned("a")) == ["not-learned"]
    assert found(learned("a"), erased="b") == []
    assert found(learned(trained=1)) == ["not-learned"]
    assert found(learned(trained=1, refused=frozenset({hash_id("b")}))) == ["example-refused"]
    assert found(learned(offsets={"examples-0": 7})) == ["not-learned"]


def test_a_trainer_that_forgot_which_ids_came_first() -> None:
    """Only the sum is compared then."""
    many = frozenset(range(1 << 16))
    assert kinds(check_learned(learned(known=many), LINES, {"bad"}, set())) == []
    assert kinds(check_learned(learned(known=many, trained=1), LINES, {"bad"}, set())) == ["not-learned"]
    assert kinds(check_learned(learned(known=many, trained=3), LINES, {"bad"}, set())) == ["learned-twice"]


def test_committed_offsets_reach_the_ends() -> None:
    """One that is behind, and a partition of which nothing is committed."""
    ends = {"clicks-0": 5, "clicks-1": 0}
    assert kinds(check_acknowledged("group", ends, {"clicks-0": 5})) == []
    assert kinds(check_acknowledged("group", ends, {"clicks-0": 4})) == ["not-acknowledged"]
    assert kinds(check_acknowledged("group", ends, {})) == ["not-acknowledged"]


@pytest.mark.parametrize("count", [3, 20, 25])
def test_a_report_stays_readable(count: int) -> None:
    """Of many of a kind the first are named, and the rest counted."""
    found = list(shortened([*(Violation("a", str(at)) for at in range(count)), Violation("b", "alone")]))
    assert [one.what for one in found if one.kind == "b"] == ["alone"]
    named = [one.what for one in found if one.kind == "a"]
    assert named == [*map(str, range(min(count, 20))), *([f"... and {count - 20} more"] if count > 20 else [])]
