"""The trainer on a simulated clock: a log's events are ranked as they would have been, and learned from as they come.

What serves is the trainer's own `Snapshot` of a version, which hears of changes as a worker does: item rows and counts
by deltas every `sync_ms`, dense weights by bundles that pass the gate. With a `sync_ms` of None nothing is learned at
all after the start: only the user's own history moves.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable, Iterable

import numpy as np

from online_learning.data.dataset import LogRecord
from online_learning.data.log_fold import Fold, Step, time_of
from online_learning.data.recall import CountRecall
from online_learning.evaluation.metrics import NOT_FOUND, pessimistic_rank
from online_learning.first_model.log_examples import ATTRIBUTION_MS, ONE_LIST, silence_example, step_examples
from online_learning.online_recipe import OnlineRecipe
from online_learning.recipe import Recipe
from online_learning.releases.gate import GateRules, Promote, decide_release
from online_learning.releases.versions import Origin
from online_learning.trainer.outcomes import Publish
from online_learning.trainer.trainer import Trainer
from ranker.contracts.records import Example, Interaction, User
from ranker.features.list import list_inputs
from ranker.items.catalog import Catalog
from ranker.state.fold import DEFAULT_RULES, RowRules
from ranker.state.row import UserRow


class SimulatedTrainer:
    """A trainer and what serves beside it, on a log's own time."""

    def __init__(
        self,
        origin: Origin,
        recipe: Recipe,
        online: OnlineRecipe,
        sync_ms: int | None,
        rules: RowRules = DEFAULT_RULES,
    ) -> None:
        """
        Args:
            origin: the first model.
            recipe: how it was trained, and learns on.
            online: the trainer's settings; its times are in the log's time.
            sync_ms: between two deltas; None: nothing is learned.
            rules: of the rows.
        """
        self.trainer = Trainer(origin, Catalog(origin.schema.item_numeric), online, recipe)
        self.schema = origin.schema
        self.weights = np.array([action.weight for action in self.schema.positives])
        self.rows = Fold(self.schema, rules)
        self.sync_ms = sync_ms
        self.bundles = self.rejected = 0
        self._due: list[tuple[int, int, Example]] = []
        self._order = itertools.count()
        self._next_sync = 0

    def _scores(self, row: UserRow) -> np.ndarray:
        """float64 [C]: what serves makes of the row's current list."""
        serving = self.trainer.versions.serving
        inputs = serving.inputs(row, list_inputs(row, self.trainer.catalog, self.schema))
        (logits,) = serving.scores([inputs])
        scores: np.ndarray = 1 / (1 + np.exp(-logits.astype(np.float64))) @ self.weights
        return scores

    def _learn_at(self, ts: int, example: Example) -> None:
        heapq.heappush(self._due, (ts, next(self._order), example))

    def _sync(self, now: int) -> None:
        """What a trainer would have done up to now, in steps of `sync_ms`."""
        if self.sync_ms is None:
            return
        while self._due and self._next_sync <= now:
            until = max(self._next_sync, self._due[0][0])
            until += -until % self.sync_ms
            if until > now:
                return
            batch = []
            while self._due and self._due[0][0] <= until:
                batch.append(heapq.heappop(self._due)[2])
            self._publish(self.trainer.learn(batch, until).due, until)
            self._next_sync = until + self.sync_ms

    def _publish(self, due: frozenset[Publish], now: int) -> None:
        if Publish.BUNDLE in due:
            candidate = self.trainer.candidate(f"simulated-{now}", now)
            if isinstance(decide_release(candidate.evidence, GateRules(least=0)), Promote):
                self.trainer.versions.serve(self.trainer.snapshot(candidate))
                if over := self.trainer.versions.anchors.due(self.trainer.learned_until):
                    self.trainer.versions.anchors.renew(over, self.trainer.snapshot(candidate))
                self.bundles += 1
            else:
                self.trainer.versions.drop(candidate.version)
                self.rejected += 1
        self.trainer.deltas(now)


class Simulation(SimulatedTrainer):
    """One log through recall, ranking, join and trainer. Feed it events in the order of time."""

    def __init__(
        self, origin: Origin, recipe: Recipe, online: OnlineRecipe, recall: CountRecall, sync_ms: int | None
    ) -> None:
        """As for `SimulatedTrainer`; `recall` makes the lists."""
        super().__init__(origin, recipe, online, sync_ms, ONE_LIST)
        self.recall = recall

    def event(self, event: Interaction, asked: bool) -> int | None:
        """One event: the rank of its item among all that could have come, then what is learned from it.

        Returns:
            The rank, `NOT_FOUND` where recall did not list the item; None where `asked` is false.
        """
        now = time_of(event)
        self._sync(now)
        if event.item_id is None:
            self.rows.apply(event)
            return None
        rank = None
        row = self.rows.row(event.user_id)
        if row.events:
            serving = self.trainer.versions.serving
            listed = self.recall(row, serving.tables, now, f"recalled-{event.event_id}", event.user_id)
            if listed.items:
                row = self.rows.apply(listed).after
                rank = self._rank(row, event) if asked else None
        step = self.rows.apply(event)
        self.recall.know(event.item_id)
        if self.sync_ms is not None and row.candidates is not None:
            self._learn_later(step, now)
        return NOT_FOUND if asked and rank is None else rank

    def warm(self, event: Interaction) -> None:
        """An event from before the start: it is in the origin's weights and counts, and only the row is missing."""
        self.rows.apply(event)
        if event.item_id is not None:
            self.recall.know(event.item_id)

    def _rank(self, row: UserRow, event: Interaction) -> int | None:
        assert row.candidates is not None
        if event.item_id is None or event.item_id not in row.candidates.item_ids:
            return None
        return pessimistic_rank(self._scores(row), row.candidates.item_ids.index(event.item_id))

    def _learn_later(self, step: Step, now: int) -> None:
        """The event's example is there at once; of a list that drew nothing, when its attribution window closes."""
        tables = self.trainer.versions.serving.tables
        made = step_examples(step, tables, self.schema)
        if made:
            self._learn_at(now, made[0])
        elif (example := silence_example(step.record.user_id, step.after, tables, self.schema)) is not None:
            self._learn_at(now + ATTRIBUTION_MS, example)


def simulate(
    records: Iterable[LogRecord],
    simulation: Simulation,
    start: int,
    end: int | None,
    report: Callable[[int], None] = lambda _: None,
) -> np.ndarray:
    """Ranks int [queries] of the items chosen with start <= time < end; see `evaluation.next_item`.

    Whoever made the records has put their items into the trainer's catalogue.
    """
    ranks: list[int] = []
    for number, record in enumerate(records):
        if isinstance(record, User):
            simulation.rows.apply(record)
        if not isinstance(record, Interaction):
            continue
        ts = time_of(record)
        if end is not None and ts >= end:
            break
        if ts < start:
            simulation.warm(record)
            continue
        asked = bool(simulation.rows.row(record.user_id).events)
        rank = simulation.event(record, asked)
        if rank is not None:
            ranks.append(rank)
        if number % 100 == 0:
            report(len(ranks))
    return np.array(ranks, np.int64)
