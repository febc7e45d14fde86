"""The scorer thread's work: rows in, ranking records out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from time import monotonic, time
from typing import NamedTuple

import msgspec
import numpy as np

from ranker.contracts.errors import InvalidRecord
from ranker.contracts.records import Cause, RankReason
from ranker.contracts.topics import RANKINGS
from ranker.serving.exploration import explore
from ranker.serving.model import ServingModel
from ranker.serving.ranking import Ranked, encode_ranking, ranking_id
from ranker.serving.reasons import reasons_of
from ranker.serving.slot import ModelSlot, Serving
from ranker.state.bounded import BoundedCache
from ranker.state.row import UserRow
from streams.kafka.faults import Faults
from streams.kafka.outbox import Outbox, Outgo
from streams.models.canary_watch import CanaryWatch
from streams.models.deltas import Deltas
from streams.pipeline.dead_letters import DeadLetters
from streams.pipeline.examples import Examples, LastRanking, ranking_bytes
from streams.pipeline.jobs import ForgetUser, Job, RankList
from streams.settings import WorkerSettings
from streams.state.recent import RecentRows
from streams.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

_EARLIER_KEPT = 2  # rankings of a list before its last: those that somebody may still look at
_NONE: dict[str, LastRanking] = {}
#: Users in a row that the model failed on, one by one, before it counts as broken and not they.
_MOST_FAILURES = 16


class _Asked(NamedTuple):
    """A ranking that is to say why."""

    model: ServingModel
    job: RankList
    result: Ranked


class Rankings:
    """Ranks batches of jobs with the serving models and sends the records out. Lives on the scorer thread."""

    def __init__(
        self,
        *,
        settings: WorkerSettings,
        slot: ModelSlot,
        deltas: Deltas,
        recent: RecentRows,
        examples: Examples,
        watch: CanaryWatch,
        outbox: Outbox,
        dead_letters: DeadLetters,
        metrics: Metrics,
        again: Callable[[], None],
    ) -> None:
        """
        Args:
            settings: how to explore, and what a ranking says.
            slot: the models.
            deltas: changed item rows, applied between batches.
            recent: takes the rows that were ranked.
            examples: inputs to join once the rankings are sent.
            watch: hears of a canary that fails.
            outbox: takes the rankings.
            dead_letters: takes the inputs of users on whom the model fails.
            metrics: counts.
            again: asks for another call, though there may be nothing to rank.
        """
        self._explore, self._explore_after = settings.exploration, settings.exploration_after
        self._detail = settings.ranking_detail
        self._batch, self._reasons_s = settings.batch, settings.reasons_ms / 1000
        self._slot, self._deltas, self._recent = slot, deltas, recent
        self._examples, self._watch = examples, watch
        self._outbox = outbox
        self._dead_letters = dead_letters
        self._metrics = metrics
        self._again = again
        self._lists = settings.lists
        self._previous: BoundedCache[str, dict[str, LastRanking]] = BoundedCache(  # by user and request
            settings.budget.rankings, lambda lists: sum(map(ranking_bytes, lists.values()))
        )
        self._failures = 0
        self._faults = Faults()

    def __call__(self, jobs: Sequence[Job]) -> None:
        """Rank and send one batch, by the versions that serve as it begins, whatever is swapped meanwhile.

        Inputs that wait to be joined are, after that, for about as long as the rankings took.
        """
        serving, asked = self._slot.serving, list[_Asked]()
        left = self._deltas.apply(serving.models)
        started = monotonic()
        for job in jobs:
            if isinstance(job, ForgetUser):
                self._forget(job.user.decode())
        ranked = [job for job in jobs if isinstance(job, RankList)]
        for wave in _waves(ranked):
            for model, some in _by_model(serving, wave):
                asked += self._rank_and_send(serving, model, some)
        self._explain(asked, behind=len(jobs) >= self._batch)
        took = monotonic() - started
        if ranked:
            self._metrics.batch(len(ranked), took)
        if self._examples.drain(took) or left:
            self._again()

    def last(self, user_id: str) -> Mapping[str, LastRanking]:
        """The last rankings of a user's lists, as far as they are remembered, by request. Any thread may ask."""
        return self._previous.peek(user_id) or _NONE

    def _rank_and_send(self, serving: Serving, model: ServingModel, jobs: Sequence[RankList]) -> list[_Asked]:
        """What a canary fails on is ranked by the other model, and the canary's watch hears of it. Lists that ask for
        reasons wait until all others are sent.
        """
        results: Sequence[Ranked | None]
        if model is serving.canary and serving.current is not None:
            try:
                results = model.rank([(job.user.decode(), job.row) for job in jobs])
            except Exception as error:
                self._watch.failed(model, error)
                model = serving.current
                results = self._rank(model, jobs)
        else:
            results = self._rank(model, jobs)
        asked = []
        for job, result in zip(jobs, results, strict=True):
            if result is None:
                continue
            if job.row.lists[-1].reasons:
                asked.append(_Asked(model, job, result))
            else:
                self.send(model, job, result)
        return asked

    def _explain(self, asked: Sequence[_Asked], *, behind: bool) -> None:
        """Send the lists that ask for reasons: with them as long as there is time for that, and without them then."""
        end = monotonic() + self._reasons_s
        for model, job, result in asked:
            late = behind or monotonic() >= end
            self.send(model, job, result, reasons=not late)
            if late:
                self._metrics.reasons.labels("behind").inc()

    def _rank(self, model: ServingModel, jobs: Sequence[RankList]) -> Sequence[Ranked | None]:
        try:
            results = model.rank([(job.user.decode(), job.row) for job in jobs])
        except Exception:
            log.exception("a batch of %d users cannot be ranked; trying them one by one", len(jobs))
            return [self._rank_alone(model, job) for job in jobs]
        self._failures = 0
        return results

    def _rank_alone(self, model: ServingModel, job: RankList) -> Ranked | None:
        """One user's ranking. A user on whom the model fails must not stop all others: that is a dead letter."""
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

    def send(self, model: ServingModel, job: RankList, result: Ranked, *, reasons: bool = False) -> None:
        """Make the record of a ranking and send it; one that no record can be made of costs itself.

        Args:
            model: what ranked.
            job: what it was asked.
            result: what it gave.
            reasons: whether it says why.
        """
        try:
            self._send(model, job, result, reasons=reasons)
        except Exception as error:
            self._dead_letters.send(job.at, job.user, job.value, self._faults.blamed(job.at, error))
        else:
            self._faults.sound()

    def _send(self, model: ServingModel, job: RankList, result: Ranked, *, reasons: bool) -> None:
        row, user_id = job.row, job.user.decode()
        assert row.candidates is not None
        at = job.at
        cause = Cause(
            kind=job.kind,
            topic=at.broker_topic,
            partition=at.partition,
            offset=at.offset,
            ts=at.ts,
            event_id=job.event_id,
        )
        by_score = result
        if self._explore:
            name = ranking_id(user_id, row, model.version)
            result = explore(result, self._explore, self._explore_after, name)
        told = self._reasons(model, user_id, row, by_score, result) if reasons else ()
        last = self.last(user_id).get(row.candidates.request_id)
        previous = None if last is None else last.ranks_of(row.candidates.item_ids)
        ranking = encode_ranking(
            user_id, row, result, cause, model.version, previous, model.sequence, self._detail, told
        )
        self._outbox.send(RANKINGS, job.user, ranking, instead=partial(self._too_large, job, len(ranking)))
        self._metrics.ranked(time() - at.ts / 1000)
        self._remember(user_id, row, model.version, result, last)
        self._recent.put(user_id, row)

    def _too_large(self, job: RankList, size: int) -> Outgo:
        """A list of long ids whose ranking its topic does not take must not stop all others: that is a dead letter."""
        wrong = (
            f"the ranking has {size} bytes, more than max.message.bytes of its topic; raise that, or send fewer "
            "items or shorter ids, or ask for the first `k`; the state itself is kept"
        )
        return self._dead_letters.letter(job.at, job.user, job.value, InvalidRecord("unrankable", wrong))

    def _reasons(
        self, model: ServingModel, user_id: str, row: UserRow, by_score: Ranked, shown: Ranked
    ) -> Sequence[Sequence[RankReason]]:
        """What fails here costs the reasons alone."""
        try:
            found = reasons_of(model, user_id, row, by_score, shown)
        except Exception:
            log.exception("no reasons are found for a list of %d items", len(by_score.listed))
            self._metrics.reasons.labels("failed").inc()
            return ()
        self._metrics.reasons.labels("told").inc()
        return found

    def _remember(self, user_id: str, row: UserRow, version: str, result: Ranked, before: LastRanking | None) -> None:
        current = row.candidates
        assert current is not None
        earlier: tuple[LastRanking, ...] = ()
        if before is not None and before.listed == current.item_ids:
            earlier = (msgspec.structs.replace(before, earlier=(), statistics=None), *before.earlier)[:_EARLIER_KEPT]
        last = LastRanking(
            listed=current.item_ids,
            ranking_id=ranking_id(user_id, row, version),
            revision=row.revision,
            model=version,
            ranks=result.ranks,
            propensities=None if result.propensities is None else _of_items(result, result.propensities),
            statistics=result.statistics,
            earlier=earlier,
        )
        # Made anew, since others may read what is there.
        others = [one for one in self.last(user_id).items() if one[0] != current.request_id]
        self._previous.put(user_id, dict([*others[len(others) + 1 - self._lists :], (current.request_id, last)]))

    def _forget(self, user_id: str) -> None:
        self._previous.pop(user_id)
        self._recent.forget(user_id)
        for model in self._slot.serving.models:
            model.forget(user_id)


def _of_items(result: Ranked, chances: np.ndarray) -> np.ndarray:
    """float64 [C]: the chance of each candidate's place, of the chances of the places; 0 where it is not shown."""
    found = np.zeros(len(result.listed))
    found[result.order] = chances
    return found


def _waves(jobs: Sequence[RankList]) -> list[list[RankList]]:
    """The jobs in groups in which a user comes with the same events alone, as the model asks.

    A key may have rows in two partitions, and the newer row of one list may be in work beside the older of another.
    """
    waves: list[dict[bytes, list[RankList]]] = []
    for job in jobs:
        for wave in waves:
            beside = wave.setdefault(job.user, [])
            if not beside or (beside[0].row.events, beside[0].row.count) == (job.row.events, job.row.count):
                beside.append(job)
                break
        else:
            waves.append({job.user: [job]})
    return [[job for jobs in wave.values() for job in jobs] for wave in waves]


def _by_model(serving: Serving, jobs: Sequence[RankList]) -> list[tuple[ServingModel, list[RankList]]]:
    """The jobs of each model that ranks for some of the users; nearly always there is one."""
    current = serving.current
    assert current is not None
    if serving.canary is None:
        return [(current, list(jobs))] if jobs else []
    parts: dict[str, tuple[ServingModel, list[RankList]]] = {}
    for job in jobs:
        model = serving.model_of(job.user.decode()) or current
        parts.setdefault(model.version, (model, []))[1].append(job)
    return list(parts.values())
