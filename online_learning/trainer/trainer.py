"""The trainer's core: what one batch of the stream does to the model, and what there is to publish after it.

No Kafka, no disk, no clock: examples, times and random numbers come in, and what to send comes out. `learn` is the
whole path of an example: admit -> prepare -> test -> train -> count and remember.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Mapping, Sequence

import msgspec
import numpy as np

from online_learning.counting.example_counts import ExampleCounts
from online_learning.counting.recent_hashes import RecentHashes
from online_learning.evaluation.progressive import Progressive, Window, tested
from online_learning.learning.finetuning import finetune_step
from online_learning.learning.learner import Learner, TrainingExample
from online_learning.learning.optimisation import Optimisation
from online_learning.learning.pace import pace_of
from online_learning.learning.parallel import Parallel
from online_learning.learning.replay_buffer import ReplayBuffer, remember, restored
from online_learning.online_recipe import Mode, OnlineRecipe
from online_learning.recipe import Recipe
from online_learning.releases.anchors import SPANS, Asked
from online_learning.releases.snapshot import Snapshot
from online_learning.releases.versions import Origin, ReleaseCandidate, Versions
from online_learning.trainer.outcomes import Attempt, Learned, Publish
from online_learning.trainer.preparing import Prepared, checked_row, example_mark, prepare_all, readable, those_fit
from ranker.contracts.ids import hash_id
from ranker.contracts.records import Example, ModelDelta
from ranker.items.catalog import Catalog, grown
from ranker.items.tables import ItemTables, TableArrays
from ranker.state.row import UserRow

log = logging.getLogger(__name__)

_id = hash_id.__wrapped__  # ids of examples and users are seen once: they would push items out of the cache
#: How far a row has moved whose counts alone changed: it is sent after those that learned.
_COUNTED = 1e-6


class Trainer:
    """Learns from examples; every one is scored before it is learned from.

    Everything that it is can be written down and taken up again: see `trainer_state`.
    """

    def __init__(
        self,
        origin: Origin,
        catalog: Catalog,
        online: OnlineRecipe,
        recipe: Recipe,
        *,
        device: str = "cpu",
        parallel: Parallel | None = None,
        first: Origin | None = None,
    ) -> None:
        """
        Args:
            origin: what serves, and what to start from.
            catalog: the items; whoever follows the topic `items` writes it between two calls.
            online: how to learn from the stream.
            recipe: how to learn at all; its seed seeds every draw made here.
            device: where to compute.
            parallel: the other processes of a step, if there are any.
            first: the model that all learning began with, to compare with; `origin` where None.
        """
        recipe = msgspec.structs.replace(recipe, id_dropout=online.id_dropout)
        self.origin, self.catalog, self.online, self.recipe = origin, catalog, online, recipe
        self.schema = origin.schema
        self.versions = Versions(origin, catalog, online.gate_examples, device, first)
        tables = ItemTables(origin.tables, catalog, origin.encoder)
        self.learner = Learner(origin.config, tables, recipe, device)
        self.learner.model.load_state_dict(dict(origin.weights))
        self.optimisation = Optimisation(self.learner, online, parallel)
        self.rng = np.random.default_rng(recipe.seed)
        self.replay = ReplayBuffer(online.replay, self.rng)
        self.counts = ExampleCounts(tables, origin.learned_until, online.remembered_ids)
        self.progressive = Progressive(self.schema, online.window)
        self.known = RecentHashes(online.remembered_ids)
        self.refused = RecentHashes(online.remembered_ids)
        self.forgotten: OrderedDict[int, int] = OrderedDict()
        self.touched_at = np.full(catalog.count, origin.learned_until, np.int64)
        self.offsets = dict(origin.offsets)
        self.waiting = 0  # examples that are still to be read, as far as it was told
        self.trained = 0
        self.since_starter = origin.since_starter
        self.learned_until = origin.learned_until
        self.bundled = 0  # `trained` when the last bundle was taken
        self.finetuned: int | None = None  # steps done of the fine-tuning that is on
        self._asked = 0  # `trained` when a bundle was last due and could not be published
        self.sequence = 0  # of the last delta
        self._last: dict[str, int] = {}  # when a delta, a bundle, a fine-tuning was last made
        self.use(origin)

    def use(self, origin: Origin) -> None:
        """Go by this version's schema: its actions' weights, and the earlier schemas whose examples it reads."""
        self.origin, self.schema = origin, origin.schema
        self.versions.start_from(origin)
        self._weights = np.array([action.weight for action in self.schema.positives])

    def learn(
        self, examples: Sequence[Example], now: int, offsets: Mapping[str, int] | None = None, waiting: int = 0
    ) -> Learned:
        """Learn from what the stream brought.

        Args:
            examples: in the order in which they came.
            now: milliseconds since the epoch; decides what is due.
            offsets: `topic-partition` -> the offset after the last of these examples; part of the state from here on.
            waiting: examples that are still to be read; where they are many, less is learned from each, see `pace_of`.

        Returns:
            What was done. An example that cannot be learned from is refused for good, alone. Where the weights
            `diverged` the batch was not learned from and all its examples are refused: the caller takes the last
            checkpoint up again, and every other example since is learned anew.
        """
        self.waiting = waiting
        fresh, refused = self._admit(examples)
        repeated = len(examples) - len(fresh) - len(refused)
        windows: list[Window] = []
        trained, thinned, loss = 0, 0, None
        one_of = self.one_of
        for start in range(0, len(fresh), self.online.batch * one_of):
            portion = fresh[start : start + self.online.batch * one_of]
            alone = [example for example in portion if _id(example.example_id) % one_of]
            wanted = [example for example in portion if _id(example.example_id) % one_of == 0]
            batch, unfit = prepare_all(wanted, self.learner, self.versions, self.schema, self.online.test_sample)
            windows += self._test(batch)
            done = self._step(batch)
            refused += [*unfit, *done.refused]
            if done.diverged:
                self.refuse(refused)
                log.error("the weights are not finite after %d examples: back to the last checkpoint", self.trained)
                return Learned(trained, thinned, repeated, tuple(refused), None, tuple(windows), diverged=True)
            refused += self._take_in(portion, done.taken, alone)
            trained, loss = trained + len(done.taken), done.loss if done.taken else loss
            thinned += len(alone)
        self.refuse(refused)
        self._finetune(now)
        self.offsets.update(offsets or {})
        return Learned(trained, thinned, repeated, tuple(refused), loss, tuple(windows), due=self.due(now))

    @property
    def one_of(self) -> int:
        """Of so many examples one is learned from, as far behind as it is."""
        return pace_of(self.online, self.since_starter, self.waiting).one_of

    def due(self, now: int) -> frozenset[Publish]:
        """What is to be published now. The clocks run from the first call on."""
        waiting = any(self.versions.unsent.waiting(snapshot.version) for snapshot in self.versions.live)
        due = set()
        if self._passed("delta", now, self.online.delta_ms) and waiting:
            due.add(Publish.DELTA)
        enough = 0 < self.online.bundle_examples <= self.trained - max(self.bundled, self._asked)
        if (self._passed("bundle", now, self.online.bundle_ms) or enough) and self.trained > self.bundled:
            due.add(Publish.BUNDLE)
        return frozenset(due)

    def deltas(self, now: int, model: str = "default") -> list[ModelDelta]:
        """The rows that have changed, for every version that takes deltas. They count as sent.

        `sequence` is a time in milliseconds, so that it goes on rising over restarts; it rises also where the clock
        stands still or is set back, since workers take nothing that is not newer.
        """
        self._last["delta"] = now
        self.sequence = max(now, self.sequence + 1)
        made = []
        for snapshot in self.versions.live:
            rows = self.learner.packed_rows(self.versions.unsent.take(snapshot.version, self.online.delta_rows))
            if not rows:
                continue
            made.append(
                ModelDelta(
                    model=model, base=snapshot.version, sequence=self.sequence, learned_until=self.learned_until,
                    rows=rows, offsets=dict(self.offsets),
                )
            )  # fmt: skip
            snapshot.put_rows(rows)
        return made

    def candidate(self, version: str, now: int) -> ReleaseCandidate:
        """Everything as it is now, to be published under this name, with what the gate wants to know of it."""
        self._last["bundle"], self.bundled = now, self.trained
        self.expire()
        weights, tables = self.optimisation.merged_weights(), self.table_arrays()
        self.versions.make(version)
        return ReleaseCandidate(
            version=version,
            parent=self.versions.serving.version,
            weights=weights,
            tables=tables,
            evidence=self.versions.evidence(weights, tables),
            learned_until=self.learned_until,
            trained=self.trained,
            offsets=dict(self.offsets),
            recipe=self.recipe,
            since_starter=self.since_starter,
        )

    def postpone(self, now: int) -> None:
        """No bundle can be published now: ask again after the usual time."""
        self._last["bundle"], self._asked = now, self.trained

    def snapshot(self, candidate: ReleaseCandidate) -> Snapshot:
        """The candidate as workers will serve it. Takes a while; any thread may do it."""
        return self.versions.snapshot(candidate.version, candidate.weights, candidate.tables)

    def start_over(self, origin: Origin, snapshot: Snapshot) -> None:
        """Go on from other weights, those of a version that someone made serve.

        Where the version is of this stream, as after a rollback, counts and memory go back with it: what was learned
        since must not come again by them. Those examples stay known, and are not learned from again. A version that was
        made elsewhere knows nothing of the stream: counts and memory stay.

        Args:
            origin: the version, which `use` has taken.
            snapshot: the same, as it serves from now on.
        """
        self.finetuned, self.since_starter = None, origin.since_starter
        indexes = [self.catalog.add(item) for item in origin.tables.items.tolist()]
        self.optimisation.load(origin.weights, origin.tables, indexes)
        if origin.offsets or origin.by_trainer or origin.version == self.versions.first.version:
            self._take_back(origin, indexes)
        self.versions.serve(snapshot)
        self.versions.unsent.add(origin.version)
        self.versions.anchors.renew(SPANS, self.versions.as_anchor(origin))

    def _take_back(self, origin: Origin, indexes: Sequence[int]) -> None:
        """Counts and memory as they were when a version was made."""
        tables = self.learner.tables
        tables.sync()
        for name in ("statistics", "neighbours", "strengths"):
            table = getattr(tables, name)
            table[:] = 0
            table[list(indexes)] = getattr(origin.tables, name)
        # What happened until now is not counted again with the users' next examples.
        self.counts = ExampleCounts(tables, self.learned_until, self.online.remembered_ids)
        self.replay.forget(lambda entry: entry.ts > origin.learned_until)

    def table_arrays(self) -> TableArrays:
        """The rows of every item that has learned or counted anything."""
        count = self.catalog.count
        tables = self.learner.tables
        tables.sync()
        self.learner.make_room(count)
        learned = (self.learner.items.ids.weight.detach()[:count] != 0).any(dim=1).cpu().numpy()
        known = np.flatnonzero(learned | (tables.statistics[:count] != 0).any(axis=1))
        return self.learner.table_arrays(known[known > 0])

    def refuse(self, example_ids: Sequence[str]) -> None:
        """Never learn from these."""
        for example_id in example_ids:
            self.refused.add(_id(example_id))

    def forget(self, user_id: str, until: int) -> int:
        """Erase a user: remembered examples go, and those up to this time that still come are not learned from.

        What was learned into weights and sums stays in them.

        Returns:
            How many examples were remembered.
        """
        user = _id(user_id)
        self.forgotten[user] = max(until, self.forgotten.pop(user, until))
        _bound(self.forgotten, self.online.remembered_ids)
        self.counts.forget(user_id)
        return self.replay.forget(lambda entry: entry.user_id == user_id and entry.ts <= until)

    def expire(self) -> int:
        """Take out rows that no example has named for long; how many there were."""
        limit = self.learned_until - self.online.expire_ms
        old = np.flatnonzero((self.touched_at > 0) & (self.touched_at < limit))
        if not self.online.expire_ms or not len(old):
            return 0
        self.optimisation.clear_rows(old)
        for index in old.tolist():
            self.counts.items.forget(index)
        self.touched_at[old] = 0
        self.versions.unsent.move(old, _COUNTED)
        return len(old)

    def _admit(self, examples: Sequence[Example]) -> tuple[list[Example], list[str]]:
        """Those to learn from, and the ids of those that are refused, or of a schema that means something else."""
        fresh: list[Example] = []
        refused: list[str] = []
        for example in examples:
            number = _id(example.example_id)
            if number in self.known or self.forgotten.get(_id(example.user_id), -1) >= example.ts:
                continue
            self.known.add(number)
            if number in self.refused or not readable(example, self.schema, self.origin.readable):
                refused.append(example.example_id)
            else:
                fresh.append(example)
        return fresh, refused

    def _test(self, prepared: Sequence[Prepared]) -> list[Window]:
        """Score a sample by the weights before the step, by what serves and by the first model."""
        sample = [(one, one.others) for one in prepared if one.others is not None]
        if not sample:
            return []
        batch = [one for one, _ in sample]
        with self.optimisation.averaged():
            ours = self.learner.scores([one.training.inputs for one in batch])
        scores = {
            "trainer": ours,
            "serving": self.versions.serving.scores([others.serving for _, others in sample]),
            "first": self.versions.first.scores([others.first for _, others in sample]),
        }
        asked = [Asked(one.row, one.training.chosen) for one in batch]
        anchored = self.versions.anchored(asked, self._weights, scores["first"], self.online.anchor_sample)
        windows = []
        for at, one in enumerate(batch):
            target = one.training.chosen, one.training.head
            if not all(np.isfinite(lines[at]).all() for lines in scores.values()):
                continue
            tests = {name: tested(lines[at], *target, self._weights) for name, lines in scores.items()}
            ts, user = one.example.ts, _id(one.example.user_id)
            self.versions.compare(ts, user, tests["trainer"], tests["serving"], anchored[at])
            window = self.progressive.add(ts, tests)
            if window is not None:
                windows.append(window)
        return windows

    def _step(self, batch: Sequence[Prepared]) -> Attempt:
        """One step on the batch; where that is not finite though the weights are, a step on each of its examples."""
        if not batch:
            return Attempt((), [])
        loss = self._train(batch, self._replayed(len(batch)))
        if loss is not None:
            return Attempt(batch, [], loss)
        if not self.optimisation.finite:
            return Attempt((), [one.example.example_id for one in batch], diverged=True)
        taken: list[Prepared] = []
        refused: list[str] = []
        for one in batch:
            alone = self._train([one], [])
            if alone is None:
                log.error("%s cannot be learned from: its loss is not finite", example_mark(one.example.example_id))
                refused.append(one.example.example_id)
            else:
                taken.append(one)
                loss = alone
        return Attempt(taken, refused, loss, diverged=not self.optimisation.finite)

    def _replayed(self, count: int) -> list[TrainingExample]:
        """What is learned from again beside so many examples."""
        pace = pace_of(self.online, self.since_starter, self.waiting)
        sampled = self.replay.sample(round(pace.replayed * count))
        return [restored(entry, self.learner.tables, self.schema) for entry in sampled]

    def _train(self, batch: Sequence[Prepared], replayed: Sequence[TrainingExample]) -> float | None:
        """One step on the batch and on what is remembered beside it; the loss, None where it is not finite."""
        examples = [*(one.training for one in batch), *replayed]
        pace = pace_of(self.online, self.since_starter)
        stepped = self.optimisation.step(examples, share=len(batch) / self.online.batch, pace=pace)
        self.versions.unsent.move(stepped.rows, stepped.moved)
        return stepped.loss if stepped.finite else None

    def _take_in(self, portion: Sequence[Example], taken: Sequence[Prepared], alone: Sequence[Example]) -> list[str]:
        """Count a portion in its order, but for what was refused, and remember what was learned from.

        Args:
            portion: what came.
            taken: those of it that were learned from.
            alone: those that are counted alone.

        Returns:
            The ids of those counted alone that do not hold together.
        """
        fit, unfit = those_fit(alone, lambda one: (one.example_id, checked_row(one, self.schema)))
        rows = dict(fit) | {one.example.example_id: one.row for one in taken}
        for example in portion:
            if (row := rows.get(example.example_id)) is not None:
                self._count(example, row)
        for one in taken:
            self._remember(one)
        self.counts.items.write()
        return unfit

    def _remember(self, one: Prepared) -> None:
        """An example was learned from."""
        for named in (one.training.inputs.candidates, one.training.inputs.history):
            self.touched_at[named] = one.example.ts
        self.replay.add(remember(one.example, one.training.inputs))
        self.trained += 1
        self.since_starter = None if self.since_starter is None else self.since_starter + 1
        self.learned_until = max(self.learned_until, one.example.ts)

    def _count(self, example: Example, row: UserRow) -> None:
        changed = self.counts.learn(example, row)
        self.versions.unsent.move(changed, _COUNTED)
        self.touched_at = grown(self.touched_at, self.catalog.count)
        self.touched_at[changed] = example.ts

    def _finetune(self, now: int) -> None:
        """One more step of the fine-tuning that is on, or a new one where one is due; see `curriculum`."""
        if self.finetuned is None:
            if not self.online.finetune_ms or not self._passed("finetune", now, self.online.finetune_ms):
                return
            self.finetuned, self._last["finetune"] = 0, now
            self.optimisation.use(Mode.FULL)
        stepped = finetune_step(self.finetuned, self.optimisation, self.replay, self.schema, self.rng)
        sound = stepped is None or stepped.finite
        if stepped is not None:
            self.versions.unsent.move(stepped.rows, stepped.moved)
        if not sound:
            log.error("step %d of the fine-tuning is not finite: it changed nothing, and ends", self.finetuned)
        self.finetuned += 1
        if not sound or self.finetuned >= self.online.finetune_steps:
            self.finetuned = None
            self.optimisation.use(self.online.mode)

    def _passed(self, what: str, now: int, interval: int) -> bool:
        """Whether so much time has passed since the last time; it begins with the first question."""
        return now - self._last.setdefault(what, now) >= interval


def _bound(kept: OrderedDict[int, int], most: int) -> None:
    while len(kept) > most:
        kept.popitem(last=False)
