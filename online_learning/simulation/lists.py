"""A log with its own lists on a simulated clock: each is ranked just before its click, and then learned from."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from online_learning.data.dataset import LogRecord
from online_learning.data.log_fold import chosen_from_list, time_of
from online_learning.evaluation.metrics import pessimistic_rank
from online_learning.first_model.log_examples import step_examples
from online_learning.simulation.next_items import SimulatedTrainer
from ranker.contracts.records import Interaction, Item
from ranker.state.row import UserRow


class RankedClick(NamedTuple):
    """A positive action on a list: what the list was ranked from, where the item stood, and where it was put."""

    row: UserRow
    chosen: int
    rank: int  # by what served, ties against it


class ListSimulation(SimulatedTrainer):
    """One log through ranking, join and trainer. Feed it records in the order of time."""

    def record(self, record: LogRecord, asked: bool = True) -> RankedClick | None:
        """One record: the rank of its item, where it was chosen from a list, and then what is learned from it.

        Returns:
            None for whatever is no positive action on the user's list, or where `asked` is false.
        """
        if isinstance(record, Item):
            self.trainer.catalog.put(record)
            return None
        now = time_of(record)
        self._sync(now)
        step = self.rows.apply(record)
        chosen, ranked = chosen_from_list(step), None
        if asked and chosen is not None and self._is_positive(record):
            ranked = RankedClick(*chosen, pessimistic_rank(self._scores(chosen.row), chosen.place))
        if self.sync_ms is not None:
            for example in step_examples(step, self.trainer.versions.serving.tables, self.schema):
                self._learn_at(now, example)
        return ranked

    def _is_positive(self, record: LogRecord) -> bool:
        return isinstance(record, Interaction) and bool(
            self.schema.positive_numbers[self.schema.action_number(record.action)]
        )


def simulate_lists(
    records: Iterable[LogRecord], simulation: ListSimulation, start: int | None, end: int | None
) -> Iterable[tuple[int, RankedClick]]:
    """Each click with start <= time < end, and how many events had been by then; all before `end` is learned from."""
    events = 0
    for record in records:
        ts = None if isinstance(record, Item) else time_of(record)
        if ts is not None and end is not None and ts >= end:
            return
        asked = ts is not None and (start is None or ts >= start)
        ranked = simulation.record(record, asked)
        events += isinstance(record, Interaction)
        if ranked is not None:
            yield events, ranked
