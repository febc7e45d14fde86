"""A log with its own lists on a simulated clock: each is ranked just before its click, and then learned from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from online_learning.data.dataset import LogRecord
from online_learning.data.log_fold import time_of
from online_learning.evaluation.lists import RankedQuery, query_of, until
from online_learning.evaluation.metrics import pessimistic_rank
from online_learning.first_model.log_examples import step_examples
from online_learning.simulation.next_items import SimulatedTrainer
from ranker.contracts.records import Item


class ListSimulation(SimulatedTrainer):
    """One log through ranking, join and trainer. Feed it records in the order of time."""

    def record(self, record: LogRecord, start: int | None = None) -> RankedQuery | None:
        """One record: the rank of its item, where it was chosen from a list, and then what is learned from it.

        Args:
            record: the next of the log.
            start: milliseconds since the epoch; what is chosen before is not ranked.

        Returns:
            None for whatever is no positive action on the user's list.
        """
        if isinstance(record, Item):
            self.trainer.catalog.put(record)
            return None
        now = time_of(record)
        self._sync(now)
        step = self.rows.apply(record)
        query, ranked = query_of(step, self.schema), None
        if query is not None and (start is None or now >= start):
            ranked = RankedQuery(query, pessimistic_rank(self._scores(query.row), query.chosen))
        if self.sync_ms is not None:
            for example in step_examples(step, self.trainer.versions.serving.tables, self.schema):
                self._learn_at(now, example)
        return ranked


def simulate_lists(
    records: Iterable[LogRecord], simulation: ListSimulation, start: int | None, end: int | None
) -> Iterator[tuple[LogRecord, RankedQuery | None]]:
    """Each record before `end`, learned from, with what was asked where start <= its time."""
    for record in until(records, end):
        yield record, simulation.record(record, start)
