"""Joining what was shown with what happened: a pure function of one input and the rows around it.

The row already holds all that the join needs: the current lists, and the events since. So the same function makes the
same examples in a worker, after a restart, and offline over a replayed log.

* A positive action on an item of a current list gives an example at once; a further one gives a further example.
* A list that drew none gives one without an outcome when its attribution window closes: at the first input that is
  later than the list by more than the window, or with which the list leaves.
* A positive action after the window has closed still gives its example, marked `late`, beside the one without outcome.
* An event belongs to the list that it names. One that names none belongs to the newest list that holds its item and is
  not newer than it.
* A positive action that names a list which is not current, or that names none and is older than every list, gives none,
  and `astray` says so.
* An erasure gives none: what it forgets is not to be learned from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from msgspec import Struct

from ranker.contracts.inputs import UserInput
from ranker.contracts.records import Erasure, Example, Interaction, Outcome
from ranker.contracts.schema import FeatureSchema
from ranker.state.codec import encode_row
from ranker.state.row import EVENT, CurrentList, UserRow, list_tag

#: A list -> float [items, len(STATISTICS)], as known now.
StatisticsOf = Callable[[CurrentList], np.ndarray]


class ShownList(Struct, frozen=True):
    """What is known of how a list was shown."""

    model: str  # the version that ranked it
    statistics_of: StatisticsOf  # of its items, before the input that asks is learned from
    ranks: np.ndarray | None = None  # int [items], from 1, where they are known; 0 of an item that was not shown
    propensities: np.ndarray | None = None  # float [items] the chances of these ranks, where the ranking explored


#: Gives what is known of how a list was shown.
ShownOf = Callable[[CurrentList], ShownList]


def examples_of(
    before: UserRow, record: UserInput, after: UserRow, schema: FeatureSchema, window_ms: int, shown_of: ShownOf
) -> Iterator[Example]:
    """The examples that one input gives, the older list's first; none where the input changed nothing.

    Args:
        before: the row before the input.
        record: the input.
        after: the row after it.
        schema: says which actions are positive.
        window_ms: the attribution window, by event time.
        shown_of: gives what is known of a list of the row before.
    """
    if after is before or isinstance(record, Erasure):
        return
    owner = owner_of(before, record) if isinstance(record, Interaction) and after.count > before.count else None
    for listed in before.current:
        if _closes(listed, before, after, window_ms) and not drew(before, listed, schema):
            yield _example(record.user_id, before, listed, None, schema, window_ms, shown_of(listed))
        if listed is owner and (outcome := _outcome(listed, record, schema)) is not None:
            yield _example(record.user_id, before, listed, outcome, schema, window_ms, shown_of(listed))


def example_of_silence(
    user_id: str, row: UserRow, listed: CurrentList, schema: FeatureSchema, window_ms: int, shown_of: ShownOf
) -> Example | None:
    """The example of a list whose window has passed while its user did nothing: the very one that the user's next input
    would give; None where no input would give one. Arguments as for `examples_of`.
    """
    if row.newest > listed.ts + window_ms or drew(row, listed, schema):
        return None
    return _example(user_id, row, listed, None, schema, window_ms, shown_of(listed))


def owner_of(row: UserRow, event: Interaction) -> CurrentList | None:
    """The current list that an event belongs to."""
    assert event.ts is not None
    if event.request_id is not None:
        return row.named(event.request_id)
    for listed in reversed(row.current):
        if listed.ts <= event.ts <= listed.expires_at and event.item_id in listed.item_ids:
            return listed
    return None  # of a text alone: it is about no list


def first_click_in_time(before: UserRow, example: Example, schema: FeatureSchema) -> bool:
    """Whether the example's outcome is the first that its list drew, within the window: those that rankers are
    compared by.
    """
    if example.outcome is None or example.late:
        return False
    listed = before.named(example.request_id)
    return listed is not None and not drew(before, listed, schema)


def astray(before: UserRow, record: UserInput, schema: FeatureSchema) -> bool:
    """Whether the input is a positive action on another list than the current ones, so that no example knows of it."""
    if not isinstance(record, Interaction) or record.item_id is None:
        return False
    if not schema.actions[schema.action_number(record.action)].positive:
        return False
    if record.request_id is not None:
        return before.named(record.request_id) is None
    assert record.ts is not None
    current = before.current
    return bool(current) and record.ts < current[0].ts


def drew(row: UserRow, listed: CurrentList, schema: FeatureSchema) -> bool:
    """Whether a list of the row drew a positive action that the history still holds."""
    events = np.frombuffer(row.events, EVENT)
    taken = events[schema.positive_numbers[events["action"]]]
    if not len(taken):
        return False
    tag, current = list_tag(listed.request_id), row.current
    newer = current[current.index(listed) + 1 :]
    # What names another list, or is older than this one, is most of it: nothing is looked up for that.
    return any(
        (named == tag or not (named or ts < listed.ts))
        and item in listed.hashes
        and (named == tag or not _is_of(newer, item, ts))
        for ts, item, named in taken[["ts", "item", "list"]].tolist()
    )


def _is_of(lists: tuple[CurrentList, ...], item: int, ts: int) -> bool:
    """Whether one of these lists holds an item by that time."""
    return any(one.ts <= ts <= one.expires_at and item in one.hashes for one in lists)


def _closes(listed: CurrentList, before: UserRow, after: UserRow, window_ms: int) -> bool:
    """Whether the list's window closes with the input between two rows, or the list leaves within its window."""
    end = listed.ts + window_ms
    return before.newest <= end and (after.newest > end or after.named(listed.request_id) is None)


def _example(
    user_id: str,
    before: UserRow,
    listed: CurrentList,
    outcome: Outcome | None,
    schema: FeatureSchema,
    window_ms: int,
    shown: ShownList,
) -> Example:
    drawn = "" if outcome is None else f"{outcome.event_id}:{outcome.item_id}:{outcome.action}"
    return Example(
        example_id=f"{user_id}:{listed.request_id}:{drawn}",
        user_id=user_id,
        request_id=listed.request_id,
        ts=outcome.ts if outcome is not None else listed.ts + window_ms,
        model=shown.model,
        schema=schema.hash,
        state=encode_row(before.of(listed)),
        statistics=shown.statistics_of(listed).astype("<f4").tobytes(),
        ranks=b"" if shown.ranks is None else shown.ranks.astype("<i4").tobytes(),
        propensities=b"" if shown.propensities is None else shown.propensities.astype("<f8").tobytes(),
        outcome=outcome,
        late=outcome is not None and outcome.ts > listed.ts + window_ms,
    )


def _outcome(listed: CurrentList, record: UserInput, schema: FeatureSchema) -> Outcome | None:
    """The positive action on an item of the list that it belongs to."""
    if not isinstance(record, Interaction) or record.item_id is None or record.item_id not in listed.item_ids:
        return None
    if not schema.actions[schema.action_number(record.action)].positive:
        return None
    assert record.ts is not None
    assert record.event_id is not None
    return Outcome(
        item_id=record.item_id, action=schema.actions[schema.action_number(record.action)].name,
        ts=record.ts, event_id=record.event_id, value=record.value,
    )  # fmt: skip
