"""The join: each list and what it drew, whatever comes when; and nothing from after a ranking in its example."""

from __future__ import annotations

from collections import Counter

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ranker.contracts.ids import hash_id
from ranker.contracts.inputs import Position, UserInput
from ranker.contracts.records import Candidate, CandidateList, Erasure, Example, Interaction
from ranker.contracts.schema import FeatureSchema
from ranker.items.tables import STATISTICS
from ranker.state.attribution import astray, example_of_silence, examples_of
from ranker.state.codec import decode_row, encode_row
from ranker.state.fold import apply_input
from ranker.state.row import EMPTY, EVENT, UserRow

SCHEMA = FeatureSchema(window=32)
T0, WINDOW = 1_700_000_000_000, 30_000


def shown(request_id: str, ts: int, items: str = "abc") -> CandidateList:
    """A list."""
    return CandidateList(request_id=request_id, user_id="u", ts=T0 + ts, items=[Candidate(item_id=i) for i in items])


def event(event_id: str, ts: int, item: str = "a", action: str = "click", request: str | None = None) -> Interaction:
    """An interaction."""
    return Interaction(user_id="u", item_id=item, action=action, event_id=event_id, ts=T0 + ts, request_id=request)


def join(log: list[UserInput], row: UserRow = EMPTY, first: int = 0) -> list[list[Example]]:
    """The examples of each input of a log that goes on from a row; statistics name the input that asks for them."""
    made = []
    for offset, record in enumerate(log, first):
        known = np.full(len(STATISTICS), offset, np.float32)
        after = apply_input(row, record, Position("inputs", 0, offset, T0), SCHEMA)
        of = lambda items, known=known: np.tile(known, (len(items), 1))  # noqa: E731
        made.append(examples_of(row, record, after, SCHEMA, WINDOW, "v", of))
        row = after
    return made


def folded(log: list[UserInput]) -> UserRow:
    """The row after a log."""
    row = EMPTY
    for offset, record in enumerate(log):
        row = apply_input(row, record, Position("inputs", 0, offset, T0), SCHEMA)
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
        for example in examples:
            assert decode_row(example.state) == folded(log[:at])
            assert all(item.statistics == [at] * len(STATISTICS) for item in example.items)
            named = example.outcome.event_id if example.outcome else None
            assert named is None or hash_id(named) not in np.frombuffer(decode_row(example.state).events, EVENT)["id"]
    at = data.draw(st.integers(0, len(log) - 1))
    current = folded(log[:at]).candidates
    other = event("other", data.draw(st.integers(0, 200_000)), *(current.item_ids[:1] if current else "a"))
    for before, after in zip(made[at], join([*log[:at], other])[at], strict=False):
        same = {"example_id": "", "outcome": None, "late": False, "ts": 0}
        assert msgspec.structs.replace(before, **same) == msgspec.structs.replace(after, **same)
    assert join(log[: at + 1]) == made[: at + 1]


@given(logs())
def test_every_list_and_every_positive_action_is_accounted_for(log: list[UserInput]) -> None:
    """Each positive action gives one example or is astray or off the list; each list that closed gives one of nothing
    drawn exactly where nothing was drawn in time; nothing comes twice."""
    made = join(log)
    named = Counter(example.example_id for examples in made for example in examples)
    assert set(named.values()) <= {1}
    for at, record in enumerate(log):
        before = folded(log[:at])
        current = before.candidates
        drawn = [one for one in made[at] if one.outcome is not None]
        if isinstance(record, Interaction) and record.action == "click" and current is not None:
            listed = record.item_id in current.item_ids
            assert len(drawn) == int(listed and not astray(before, record, SCHEMA))
            assert all(one.late == (record.ts > current.ts + WINDOW) for one in drawn)
        else:
            assert not drawn
        for one in made[at]:
            if one.outcome is None:
                assert current is not None
                in_time = [event for event in log[:at] if _on(event, current.item_ids, current.ts)]
                assert not in_time


def _on(record: UserInput, items: tuple[str, ...], since: int) -> bool:
    """Whether a record is a positive action on one of these items since a time."""
    positive = isinstance(record, Interaction) and record.action == "click"
    return positive and record.item_id in items and record.ts >= since


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
    of = lambda items: np.full((len(items), len(STATISTICS)), len(log), np.float32)  # noqa: E731
    silent = example_of_silence("u", row, SCHEMA, WINDOW, "v", of)
    following = join([*log, event("next", max(end, row.now) + 1 - T0, "z", "view")])[-1]
    assert ([silent] if silent else []) == following


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


def test_what_happened_before_the_list_is_not_its_outcome() -> None:
    """A click that comes after a newer list, was made before it and names none, is astray; it is counted as that."""
    log: list[UserInput] = [shown("r", 0), shown("s", 10_000), event("e", 9_000)]
    assert outcomes(join(log)) == [("r", None, False)]
    assert astray(folded(log[:2]), log[2], SCHEMA)
    assert not astray(folded(log[:2]), event("e", 11_000), SCHEMA)
    assert not astray(folded(log[:2]), event("e", 9_000, request="s"), SCHEMA)
    assert not astray(folded(log[:2]), event("e", 9_000, action="view"), SCHEMA)
    assert astray(EMPTY, event("e", 9_000, request="s"), SCHEMA)


def test_an_erasure_teaches_nothing() -> None:
    """Neither the list that it removes nor what is forgotten."""
    log: list[UserInput] = [shown("r", 0), Erasure(user_id="u", ts=T0 + 10), event("e", 20)]
    assert outcomes(join(log)) == []
