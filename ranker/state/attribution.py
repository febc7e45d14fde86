"""Joining what was shown with what happened: a pure function of one input and the rows around it.

The row already holds all that the join needs: the current list, and the events since. So the same function makes the
same examples in a worker, after a restart, and offline over a replayed log.

* A positive action on an item of the current list gives an example at once; a further one gives a further example.
* A list that drew none gives one without an outcome when its attribution window closes: at the first input that is
  later than the list by more than the window, or that replaces the list.
* A positive action after the window has closed still gives its example, marked `late`, beside the one without outcome.
* A positive action that names another list, or that names none and is older than the list, gives none: the list that it
  belongs to is not the current one, and `astray` says so.
* An erasure gives none: what it forgets is not to be learned from.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from ranker.contracts.ids import hash_id
from ranker.contracts.inputs import UserInput
from ranker.contracts.records import Erasure, Example, Interaction, Outcome, Shown
from ranker.contracts.schema import FeatureSchema
from ranker.state.codec import encode_row
from ranker.state.row import EVENT, CurrentList, UserRow

#: item ids -> float [items, len(STATISTICS)], as known now.
StatisticsOf = Callable[[tuple[str, ...]], np.ndarray]


def examples_of(
    before: UserRow,
    record: UserInput,
    after: UserRow,
    schema: FeatureSchema,
    window_ms: int,
    model: str,
    statistics_of: StatisticsOf,
    ranks: Mapping[str, int] | None = None,
    propensities: Mapping[str, float] | None = None,
) -> list[Example]:
    """The examples that one input gives; none where the input changed nothing.

    Args:
        before: the row before the input.
        record: the input.
        after: the row after it.
        schema: says which actions are positive.
        window_ms: the attribution window, by event time.
        model: the version that ranked the list.
        statistics_of: the items' statistics as known now, before this input is learned from.
        ranks: item id -> rank in the last ranking of the list, where it is known.
        propensities: item id -> the chance of that rank, where the ranking explored.
    """
    current = before.candidates
    if current is None or after.revision == before.revision or isinstance(record, Erasure):
        return []
    outcome = _outcome(current, record, schema)
    replaced = after.candidates is None or after.candidates.request_id != current.request_id
    closes = before.now <= current.ts + window_ms and (replaced or after.now > current.ts + window_ms)
    given: list[Outcome | None] = [None] if closes and not drew(before, schema) else []
    given += [outcome] if outcome is not None else []
    user = record.user_id
    return [
        _example(user, before, one, schema, window_ms, model, statistics_of, ranks or {}, propensities or {})
        for one in given
    ]


def example_of_silence(
    user_id: str,
    row: UserRow,
    schema: FeatureSchema,
    window_ms: int,
    model: str,
    statistics_of: StatisticsOf,
    ranks: Mapping[str, int] | None = None,
    propensities: Mapping[str, float] | None = None,
) -> Example | None:
    """The example of a list whose window has passed while its user did nothing: the very one that the user's next input
    would give; None where no input would give one. Arguments as for `examples_of`.
    """
    current = row.candidates
    if current is None or row.now > current.ts + window_ms or drew(row, schema):
        return None
    return _example(user_id, row, None, schema, window_ms, model, statistics_of, ranks or {}, propensities or {})


def first_click_in_time(before: UserRow, example: Example, schema: FeatureSchema) -> bool:
    """Whether the example's outcome is the first that its list drew, within the window: those that rankers are
    compared by.
    """
    return example.outcome is not None and not example.late and not drew(before, schema)


def astray(before: UserRow, record: UserInput, schema: FeatureSchema) -> bool:
    """Whether the input is a positive action on another list than the current one, so that no example knows of it."""
    if not isinstance(record, Interaction) or not schema.actions[schema.action_number(record.action)].positive:
        return False
    if before.candidates is None:
        return record.request_id is not None
    return not _belongs(before.candidates, record)


def _example(
    user_id: str,
    before: UserRow,
    outcome: Outcome | None,
    schema: FeatureSchema,
    window_ms: int,
    model: str,
    statistics_of: StatisticsOf,
    ranks: Mapping[str, int],
    propensities: Mapping[str, float],
) -> Example:
    current = before.candidates
    assert current is not None
    return Example(
        example_id=f"{user_id}:{current.request_id}:{'' if outcome is None else outcome.event_id}",
        user_id=user_id,
        request_id=current.request_id,
        ts=outcome.ts if outcome is not None else current.ts + window_ms,
        model=model,
        schema=schema.hash,
        state=encode_row(before),
        items=[
            Shown(item_id=item, statistics=line, rank=ranks.get(item), propensity=propensities.get(item))
            for item, line in zip(current.item_ids, statistics_of(current.item_ids).tolist(), strict=True)
        ],
        outcome=outcome,
        late=outcome is not None and outcome.ts > current.ts + window_ms,
    )


def drew(row: UserRow, schema: FeatureSchema) -> bool:
    """Whether the current list drew a positive action that the history still holds."""
    assert row.candidates is not None
    events = np.frombuffer(row.events, EVENT)
    taken = events[(events["ts"] >= row.candidates.ts) & schema.positive_numbers[events["action"]]]["item"].tolist()
    return bool(taken) and not {hash_id(item) for item in row.candidates.item_ids}.isdisjoint(taken)


def _outcome(current: CurrentList, record: UserInput, schema: FeatureSchema) -> Outcome | None:
    """The positive action on an item of the list; an event of another list is none."""
    if not isinstance(record, Interaction) or record.item_id not in current.item_ids:
        return None
    if not _belongs(current, record):
        return None
    if not schema.actions[schema.action_number(record.action)].positive:
        return None
    assert record.ts is not None
    assert record.event_id is not None
    return Outcome(
        item_id=record.item_id, action=schema.actions[schema.action_number(record.action)].name,
        ts=record.ts, event_id=record.event_id, value=record.value,
    )  # fmt: skip


def _belongs(current: CurrentList, event: Interaction) -> bool:
    """Whether an event is of the current list: it names it, or names none and is not older."""
    assert event.ts is not None
    return event.ts >= current.ts if event.request_id is None else event.request_id == current.request_id
