"""A log replayed without Kafka: the same fold, the same rows, one record after another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from online_learning.data.on_disk import HELD, SpillingDict
from ranker.contracts.inputs import Position, UserInput
from ranker.contracts.records import CandidateList, Interaction, Item
from ranker.contracts.schema import FeatureSchema
from ranker.contracts.topics import CANDIDATES, INTERACTIONS
from ranker.registry.words import WordsOf, no_words
from ranker.state.attribution import owner_of
from ranker.state.codec import decode_row, encode_row
from ranker.state.fold import DEFAULT_RULES, RowRules, apply_input
from ranker.state.row import EMPTY, UserRow


class Step(NamedTuple):
    """One input of one user: the row before it, and after."""

    record: UserInput
    before: UserRow
    after: UserRow


class Fold:
    """The rows of all users seen so far, and one record after another applied to them. Most rows lie on disk."""

    def __init__(
        self,
        schema: FeatureSchema,
        rules: RowRules = DEFAULT_RULES,
        *,
        held: int = HELD,
        words: WordsOf = no_words,
    ) -> None:
        """
        Args:
            schema: of the log.
            rules: how many lists a row holds, and for how long.
            held: rows that are in memory, at least; twice as many at most.
            words: encodes what users type, as a worker does.
        """
        self._schema, self._rules, self.words = schema, rules, words
        self._rows: SpillingDict[UserRow] = SpillingDict(encode_row, decode_row, held)
        self._offset = 0

    def row(self, user_id: str) -> UserRow:
        """A user's row as of now."""
        return self._rows.get(user_id) or EMPTY

    def apply(self, record: UserInput) -> Step:
        """The row of the record's user moves on."""
        topic = CANDIDATES if isinstance(record, CandidateList) else INTERACTIONS
        before = self.row(record.user_id)
        at = Position(topic, 0, self._offset, time_of(record))
        after = apply_input(before, record, at, self._schema, self._rules, self.words(record))
        self._offset += 1
        self._rows.put(record.user_id, after)
        return Step(record, before, after)


def fold(records: Iterable[UserInput | Item], schema: FeatureSchema) -> Iterator[Step | Item]:
    """Apply a log's records, in the order given; items pass through untouched."""
    rows = Fold(schema)
    for record in records:
        yield record if isinstance(record, Item) else rows.apply(record)


def time_of(record: UserInput) -> int:
    """A record's own time in milliseconds; 0 for one that has none."""
    return getattr(record, "ts", None) or 0


class ListChoice(NamedTuple):
    """An event's item in a list: the row as a ranking of that list saw it before the event, and the item's place."""

    row: UserRow
    place: int


def chosen_from_list(step: Step) -> ListChoice | None:
    """Where the chosen item stood before the event; None where it was in no list that the event belongs to."""
    record = step.record
    listed = owner_of(step.before, record) if isinstance(record, Interaction) else None
    if listed is None or not isinstance(record, Interaction) or record.item_id not in listed.item_ids:
        return None
    return ListChoice(step.before.of(listed), listed.item_ids.index(record.item_id))
