"""The join: each list and what it drew, whatever comes when; and nothing from after a ranking in its example."""

from __future__ import annotations

from collections import Counter

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from online_learning.learning.learner import shown_statistics
from ranker.contracts.ids import hash_id
from ranker.contracts.inputs import Position, UserInput
from ranker.contracts.records import Candidate, CandidateList, Erasure, Example, Interaction
from ranker.contracts.schema import FeatureSchema
from ranker.items.tables import STATISTICS
from ranker.state.attribution import ShownList, astray, drew, example_of_silence, examples_of, owner_of
from ranker.state.codec import decode_row, encode_row
from ranker.state.fold import RowRules, apply_input
from ranker.state.row import EMPTY, EVENT, UserRow, event_key, list_tag

SCHEMA = FeatureSchema(window=32)
T0, WINDOW = 1_700_000_000_000, 30_000


def shown(request_id: str, ts: int, items: str = "abc") -> CandidateList:
    """A list."""
    return CandidateList(request_id=request_id, user_id="u", ts=T0 + ts, items=[Candidate(item_id=i) for i in items])


def event(event_id: str, ts: int, item: str = "a", action: str = "click", request: str | None = None) -> Interaction:
    """An interaction."""
    return Interaction(user_id="u", item_id=item, action=action, event_id=event_id, ts=T0 + ts, request_id=request)


def join(log: list[UserInput], row: UserRow = EMPTY, first: int = 0, lists: int = 3) -> list[list[Example]]:
    """The examples of each input of a log that goes on from a row; statistics name the input that asks for them."""
    made = []
    for offset, record in enumerate(log, first):
        known = np.full(len(STATISTICS), offset, np.float32)
        after = apply_input(row, record, Position("inputs", 0, offset, T0), SCHEMA, RowRules(lists=lists))
        seen = ShownList("v", lambda listed, known=known: np.tile(known, (len(listed.item_ids), 1)))
        made.append(list(examples_of(row, record, after, SCHEMA, WINDOW, lambda _, seen=seen: seen)))
        row = after
    return made


def folded(log: list[UserInput], lists: int = 3) -> UserRow:
    """The row after a log."""
    row = EMPTY
    for offset, record in enumerate(log):
        row = apply_input(row, record, Position("inputs", 0, offset, T0), SCHEMA, RowRules(lists=lists))
    return row


def outcomes(made: list[list[Example]]) -> list[tuple[str, str | None, bool]]:
    """List, event and lateness of each example, in order."""
    flat = [example for examples in made for example in examples]
    return [(one.request_id, one.outcome and one.outcome.event_id, one.late) for one in flat]


@st.composite
def logs(draw: st.DrawFn) -> list[UserInput]:
    """Lists and events of one user in the order of arrival: mostly in time order, some late or astray; no repeats."""
    made: list[UserInput] = []
    clock, lists = 0, ["r?"]
    for number in range(draw(st.integers(1, 20))):
        clock += draw(st.sampled_from([0, 1, 900, 14_000, 29_999, 30_000, 30_001, 90_000]))
        if draw(st.integers(0, 3)) == 0:
            lists.append(f"r{number}")
            made.append(shown(lists[-1], clock, "".join(sorted(draw(st.sets(st.sampled_from("abcd"), min_size=1))))))
            continue
        ts = clock - draw(st.sampled_from([0, 0, 0, 20_000, 100_000]))
        item, action = draw(st.sampled_from("abcd")), draw(st.sampled_from(["view", "click"]))
        made.append(event(f"e{number}", ts, item, action, draw(st.none() | st.sampled_from(lists))))
    return made


@given(logs(), st.data())
def test_nothing_from_after_the_ranking_is_in_an_example(log: list[UserInput], data: st.DataObject) -> None:
    """Another outcome, or anything else that comes later, changes the outcome alone: not the state, not the items.

    The state is the fold of exactly the inputs before the outcome, and statistics are asked for before it counts.
    """
    made = join(log)
    for at, examples in enumerate(made):
        before = folded(log[:at])
        for example in examples:
            listed = before.named(example.request_id)
            assert listed is not None
            assert decode_row(example.state) == before.of(listed)
            assert (shown_statistics(example) == np.full((len(listed.item_ids), len(STATISTICS)), at)).all()
            if (drawn := example.outcome) is not None:
                action = SCHEMA.action_number(drawn.action)
                key = event_key(hash_id(drawn.event_id), hash_id(drawn.item_id), action)
                assert key not in np.frombuffer(before.events, EVENT)["id"]
    at = data.draw(st.integers(0, len(log) - 1))
    current = folded(log[:at]).candidates
    other = event("other", data.draw(st.integers(0, 200_000)), *(current.item_ids[:1] if current else "a"))
    others = {example.request_id: example for example in join([*log[:at], other])[at]}
    for before in made[at]:
        if (after := others.get(before.request_id)) is not None:
            same = {"example_id": "", "outcome": None, "late": False, "ts": 0}
            assert msgspec.structs.replace(before, **same) == msgspec.structs.replace(after, **same)
    assert join(log[: at + 1]) == made[: at + 1]


@given(logs(), st.sampled_from([1, 3]))
def test_every_list_and_every_positive_action_is_accounted_for(log: list[UserInput], lists: int) -> None:
    """Each positive action gives one example of the list that it belongs to, or is astray or off the lists; a list that
    closed gives one of nothing drawn exactly where nothing was drawn in time; nothing comes twice."""
    made = join(log, lists=lists)
    named = Counter(example.example_id for examples in made for example in examples)
    assert set(named.values()) <= {1}
    times = {record.ts for record in log if isinstance(record, Interaction) and record.request_id is None}
    ties = any(isinstance(record, CandidateList) and record.ts in times for record in log)
    drew_in_time: set[str] = set()
    for at, record in enumerate(log):
        before = folded(log[:at], lists)
        drawn = [one for one in made[at] if one.outcome is not None]
        owner = None
        if isinstance(record, Interaction) and record.action == "click":
            owner = owner_of(before, record)
            assert owner is None or not astray(before, record, SCHEMA)
        if owner is not None and record.item_id in owner.item_ids:
            assert [(one.request_id, one.late) for one in drawn] == [(owner.request_id, record.ts > owner.ts + WINDOW)]
        else:
            assert not drawn
        for one in made[at]:
            if one.outcome is None and not ties:  # of two lists of one time the newer takes the events of that time
                assert one.request_id not in drew_in_time
        drew_in_time |= {one.request_id for one in drawn if not one.late}


@given(logs(), st.sampled_from([1, 3]))
@settings(deadline=None)
def test_a_list_drew_what_belongs_to_it(log: list[UserInput], lists: int) -> None:
    """Of the positive actions in the history: those that name it, and those that name none and are on an item of it,
    not older than it, and of no newer list by then."""
    row = folded(log, lists)
    events = np.frombuffer(row.events, EVENT)
    clicks = events[events["action"] == SCHEMA.action_number("click")]
    held = [{hash_id(item) for item in listed.item_ids} for listed in row.current]
    for at, listed in enumerate(row.current):
        expected = False
        for ts, item, named in clicks[["ts", "item", "list"]].tolist():
            newer = any(
                item in held[after] and one.ts <= ts <= one.expires_at
                for after, one in enumerate(row.current)
                if after > at
            )
            own = named == list_tag(listed.request_id) or (named == 0 and ts >= listed.ts and not newer)
            expected |= own and item in held[at]
        assert drew(row, listed, SCHEMA) is expected
        assert set(listed.hashes.tolist()) == held[at]


@given(logs(), st.data())
def test_a_worker_that_goes_on_from_its_last_checkpoint_makes_the_same_examples(
    log: list[UserInput], data: st.DataObject
) -> None:
    """What comes again after a kill gives the examples that it gave before, equal in everything."""
    at = data.draw(st.integers(0, len(log)))
    stored = encode_row(folded(log[:at]))
    assert join(log[at:], decode_row(stored), first=at) == join(log)[at:]


@given(logs())
def test_the_clock_closes_a_list_as_the_next_input_would(log: list[UserInput]) -> None:
    """Whenever it looks, the example is the one that the user's next input gives, if that comes after the window."""
    row = folded(log)
    if row.candidates is None:
        return
    end = row.candidates.ts + WINDOW
    seen = ShownList("v", lambda listed: np.full((len(listed.item_ids), len(STATISTICS)), len(log), np.float32))
    silent = [example_of_silence("u", row, listed, SCHEMA, WINDOW, lambda _: seen) for listed in row.current]
    following = join([*log, event("next", max(end, row.newest) + 1 - T0, "z", "view")])[-1]
    assert [example for example in silent if example] == following


@pytest.mark.parametrize(
    ("ts", "expected"),
    [
        (WINDOW - 1, [("r", "e", False)]),
        (WINDOW, [("r", "e", False)]),
        (WINDOW + 1, [("r", None, False), ("r", "e", True)]),
    ],
)
def test_the_window_ends_with_its_last_millisecond(ts: int, expected: list[tuple[str, str | None, bool]]) -> None:
    """An action at that time is in time; one a millisecond later is late, and the list drew nothing in time."""
    assert outcomes(join([shown("r", 0), event("e", ts)])) == expected


@pytest.mark.parametrize(("ts", "closed"), [(WINDOW, False), (WINDOW + 1, True)])
def test_a_list_that_drew_nothing_closes_after_that_millisecond(ts: int, closed: bool) -> None:
    """At the first input that is later."""
    assert outcomes(join([shown("r", 0), event("e", ts, action="view")])) == [("r", None, False)] * closed


def test_a_second_action_gives_a_second_example() -> None:
    """And no example of nothing drawn comes after them."""
    log = [shown("r", 0), event("e1", 10), event("e2", 20, "b"), shown("s", 90_000)]
    assert outcomes(join(log)) == [("r", "e1", False), ("r", "e2", False)]


def test_what_happened_before_the_lists_is_not_their_outcome() -> None:
    """A click that names no list, and was made before all of them, is astray; one on a list that is not current too."""
    log: list[UserInput] = [shown("r", 5_000), shown("s", 10_000), event("e", 4_000), event("f", 9_000)]
    assert outcomes(join(log)) == [("r", "f", False)]
    assert astray(folded(log[:2]), log[2], SCHEMA)
    assert not astray(folded(log[:2]), event("e", 11_000), SCHEMA)
    assert not astray(folded(log[:2]), event("e", 4_000, request="s"), SCHEMA)
    assert not astray(folded(log[:2]), event("e", 4_000, action="view"), SCHEMA)
    assert astray(folded(log[:2]), event("e", 11_000, request="another"), SCHEMA)
    assert astray(EMPTY, event("e", 9_000, request="s"), SCHEMA)


def test_two_lists_on_one_page() -> None:
    """An event belongs to the list that it names; else to the newest that holds its item; each list closes for itself,
    and where only the newest may be current the older closes with it."""
    log: list[UserInput] = [
        shown("left", 0, "abc"), shown("right", 100, "bcd"),
        event("e1", 200, "b", request="left"), event("e2", 300, "b"), event("e3", 400, "a"), event("e4", 500, "z"),
        shown("below", 600, "xy"), shown("last", 31_000, "z"),
    ]  # fmt: skip
    assert outcomes(join(log)) == [
        ("left", "e1", False), ("right", "e2", False), ("left", "e3", False), ("below", None, False)
    ]  # fmt: skip
    assert outcomes(join(log, lists=1)) == [("left", None, False), ("right", "e2", False), ("below", None, False)]


def test_each_item_of_an_order_is_an_outcome() -> None:
    """Three items of the list under one event_id: three examples with ids of their own; what comes again gives none."""
    order = [event("o-1", 10, item) for item in "abc"]
    made = [one for examples in join([shown("r", 0), *order, *order]) for one in examples]
    assert [one.outcome and one.outcome.item_id for one in made] == ["a", "b", "c"]
    assert len({one.example_id for one in made}) == 3


def test_an_erasure_teaches_nothing() -> None:
    """Neither the list that it removes nor what is forgotten."""
    log: list[UserInput] = [shown("r", 0), Erasure(user_id="u", ts=T0 + 10), event("e", 20)]
    assert outcomes(join(log)) == []
