"""Lists to learn from, for data sets that log what was chosen but not what was shown."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from random import Random

from ranker.records import Candidate, CandidateList, Interaction, Item
from ranker.schema import FeatureSchema


def with_sampled_lists(
    records: Iterable[Interaction | CandidateList | Item], schema: FeatureSchema, size: int = 50, seed: int = 0
) -> Iterator[Interaction | CandidateList | Item]:
    """The log, with a list before each positive event: its item among others, in an order that says nothing.

    Half of the others are items of random earlier events, so drawn by how popular they are, half any known item.

    Args:
        records: in order of time, without lists.
        schema: says which actions are positive.
        size: items a list.
        seed: of the draws.
    """
    random = Random(seed)
    positives = {action.name for action in schema.positives}
    touched: list[str] = []
    known: list[str] = []
    seen: set[str] = set()
    for record in records:
        if isinstance(record, Item | Interaction) and record.item_id not in seen:
            seen.add(record.item_id)
            known.append(record.item_id)
        if isinstance(record, Interaction):
            if record.action in positives and len(touched) > size:
                drawn = (random.choice(touched if at % 2 else known) for at in range(2 * size))
                yield _list_of(record, list(dict.fromkeys(drawn))[:size], random)
            touched.append(record.item_id)
        yield record


def _list_of(event: Interaction, others: list[str], random: Random) -> CandidateList:
    """The event's item somewhere in the list, at the event's time and applied before it."""
    assert event.ts is not None
    items = [item for item in others if item != event.item_id]
    items.insert(random.randrange(len(items) + 1), event.item_id)
    return CandidateList(
        request_id=f"sampled-{event.event_id}",
        user_id=event.user_id,
        items=[Candidate(item_id=item) for item in items],
        ts=event.ts,
    )
