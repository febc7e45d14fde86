"""The scorer thread's work: rows in, ranking records out."""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Sequence
from time import monotonic, time

from msgspec import Struct

from ranker.errors import InvalidRecord
from ranker.history import Position, UserHistory
from ranker.ranking import Ranked, answer, encode_ranking
from ranker.records import Cause
from ranker.serving import ServingModel
from ranker.slot import ModelSlot
from streams.dead_letters import DeadLetters
from streams.metrics import Metrics
from streams.outbox import Outbox
from streams.topics import RANKINGS

log = logging.getLogger(__name__)

_PREVIOUS_KEPT = 50_000
#: Users in a row that the model failed on, one by one, before it counts as broken and not they.
_MOST_FAILURES = 16


class Job(Struct, frozen=True):
    """A user to rank, or (`row` is None) to forget."""

    user: bytes
    row: UserHistory | None
    at: Position  # of the newest input that the row knows of
    kind: str
    event_id: str | None = None
    value: bytes | None = None  # that input's bytes


class Rankings:
    """Ranks batches of jobs with the serving model and sends the records out. Lives on the scorer thread."""

    def __init__(self, slot: ModelSlot, outbox: Outbox, dead_letters: DeadLetters, metrics: Metrics) -> None:
        self._slot = slot
        self._outbox = outbox
        self._dead_letters = dead_letters
        self._metrics = metrics
        self._previous: OrderedDict[str, tuple[str, dict[str, int]]] = OrderedDict()
        self._failures = 0

    def __call__(self, jobs: Sequence[Job]) -> None:
        """Rank and send one batch. Its rankings are by one version of the model, whatever is swapped meanwhile."""
        model = self._slot.current
        assert model is not None
        started = monotonic()
        for job in jobs:
            if job.row is None:
                self._forget(job.user.decode())
        ranked = [job for job in jobs if job.row is not None]
        for job, result in zip(ranked, self._rank(model, ranked), strict=True):
            if result is not None:
                self._send(model, job, result)
        self._metrics.batch(len(ranked), monotonic() - started)

    def _rank(self, model: ServingModel, jobs: Sequence[Job]) -> Sequence[Ranked | None]:
        rows = [(job.user.decode(), job.row) for job in jobs if job.row is not None]
        if not rows:
            return []
        try:
            results = model.rank(rows)
        except Exception:
            log.exception("a batch of %d users cannot be ranked; trying them one by one", len(rows))
            return [self._rank_alone(model, job) for job in jobs]
        self._failures = 0
        return results

    def _rank_alone(self, model: ServingModel, job: Job) -> Ranked | None:
        """One user's ranking. A user on whom the model fails must not stop all others: that is a dead letter."""
        assert job.row is not None
        try:
            result = model.rank([(job.user.decode(), job.row)])[0]
        except Exception as error:
            self._failures += 1
            if self._failures > _MOST_FAILURES:
                raise
            wrong = f"model {model.version} fails on this user's state: {error!r}; the state itself is kept"
            self._dead_letters.send(job.at, job.user, job.value, InvalidRecord("unrankable", wrong))
            return None
        self._failures = 0
        return result

    def _send(self, model: ServingModel, job: Job, result: Ranked) -> None:
        row, user_id = job.row, job.user.decode()
        assert row is not None
        assert row.candidates is not None
        at = job.at
        cause = Cause(
            kind=job.kind, topic=at.topic, partition=at.partition, offset=at.offset, ts=at.ts, event_id=job.event_id
        )
        request_id, ranks = self._previous.get(user_id, ("", {}))
        previous = ranks if request_id == row.candidates.request_id else None
        ranking = answer(user_id, row, result, cause, model.version, previous)
        self._outbox.send(RANKINGS, job.user, encode_ranking(ranking))
        self._remember(user_id, row.candidates.request_id, result)
        self._metrics.ranked(time() - at.ts / 1000)

    def _remember(self, user_id: str, request_id: str, result: Ranked) -> None:
        self._previous[user_id] = request_id, {item_id: rank for rank, item_id in enumerate(result.item_ids, 1)}
        self._previous.move_to_end(user_id)
        if len(self._previous) > _PREVIOUS_KEPT:
            self._previous.popitem(last=False)

    def _forget(self, user_id: str) -> None:
        self._previous.pop(user_id, None)
        for model in (self._slot.current, self._slot.previous):
            if model is not None:
                model.forget(user_id)
