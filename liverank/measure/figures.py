"""How a system does, from the metrics pages of its workers and its trainer: pure, two readings make a rate."""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise

from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

#: Rates are of what happened within so many seconds.
_RATES_OVER_S = 10.0
_SHARES_OVER_S = 60.0  # percentiles and means, which want more to go by


class PartitionLag(Struct, frozen=True):
    """Inputs of a partition that no worker has handled yet."""

    topic: str
    partition: int
    waiting: int


class VersionRanks(Struct, frozen=True):
    """Clicks on the lists of a version, and their mean reciprocal rank."""

    version: str
    clicks: int
    mean: float


class LiveDifference(Struct, frozen=True):
    """By how much a canary is above what serves, by one worker's clicks, and the bounds of the true difference."""

    worker: int
    measure: str
    difference: float
    low: float
    high: float


class TrainerFigures(Struct, frozen=True, kw_only=True):
    """How far the trainer is."""

    examples: int
    examples_a_second: float
    waiting: int
    loss: float
    learned_age_s: float | None
    deltas: int
    bundles: dict[str, int]
    ranks: dict[str, float]  # ranker -> mean reciprocal rank of the newest window


class Figures(Struct, frozen=True, kw_only=True):
    """How the system does at one moment. Rates are a second, over the last ten; percentiles are of the last minute."""

    at: int  # milliseconds since the epoch
    workers: int
    missing: list[str]  # pages that do not answer, a sentence each
    events_a_second: float = 0.0
    rankings_a_second: float = 0.0
    p50_ms: float | None = None
    p99_ms: float | None = None
    lag: list[PartitionLag] = []
    versions: list[str] = []  # that serve, usually one
    swaps: int = 0
    rejected: int = 0
    restart_needed: bool = False
    deltas: dict[str, int] = {}
    delta_rows: int = 0
    learned_age_s: float | None = None  # of the newest event that what serves has learned from
    ranks: list[VersionRanks] = []
    rank_now: float | None = None  # mean reciprocal rank of the last minute's clicks
    comparison: list[LiveDifference] = []
    dead_letters: int = 0
    trainer: TrainerFigures | None = None


class Numbers:
    """One metrics page, or several as if they were one, parsed once."""

    def __init__(self, pages: Iterable[str]) -> None:
        self._samples: dict[str, list[tuple[Mapping[str, str], float]]] = {}
        for page in pages:
            for family in text_string_to_metric_families(page):
                for sample in family.samples:
                    self._samples.setdefault(sample.name, []).append((sample.labels, sample.value))

    def of(self, name: str) -> list[tuple[Mapping[str, str], float]]:
        """Labels and value of each sample."""
        return self._samples.get(name, [])

    def total(self, name: str, **labels: str) -> float:
        """The sum over all samples with these labels."""
        return sum(value for found, value in self.of(name) if labels.items() <= found.items())

    def by(self, name: str, label: str) -> dict[str, float]:
        """The sum for each value of a label."""
        sums: Counter[str] = Counter()
        for labels, value in self.of(name):
            sums[labels.get(label, "")] += value  # type: ignore[assignment]
        return dict(sums)

    def newest(self, name: str) -> float | None:
        """The largest value that was ever set; None where none was."""
        return max((value for _, value in self.of(name) if value > 0), default=None)


class _Moment(Struct, frozen=True):
    """What rates are made of."""

    at_s: float
    events: float
    rankings: float
    buckets: dict[str, float]
    clicks: float
    reciprocal: float
    examples: float


class FigureMeter:
    """Makes figures of one reading after another."""

    def __init__(self) -> None:
        self._seen: deque[_Moment] = deque()

    def read(self, now_ms: int, workers: Sequence[str], trainer: str | None, missing: Sequence[str] = ()) -> Figures:
        """Take a reading in.

        Args:
            now_ms: milliseconds since the epoch.
            workers: the pages that answered.
            trainer: its page; None where it does not answer.
            missing: what does not answer, a sentence each.
        """
        numbers, learner = Numbers(workers), None if trainer is None else Numbers([trainer])
        now = self._note(now_ms / 1000, numbers, learner)
        short, long = self._before(now, _RATES_OVER_S), self._before(now, _SHARES_OVER_S)
        span = max(now.at_s - short.at_s, 1e-9)
        grown = {le: count - long.buckets.get(le, 0.0) for le, count in now.buckets.items()}
        clicks = now.clicks - long.clicks
        return Figures(
            at=now_ms, workers=len(workers), missing=list(missing),
            events_a_second=(now.events - short.events) / span,
            rankings_a_second=(now.rankings - short.rankings) / span,
            p50_ms=_in_ms(quantile(grown, 0.5)), p99_ms=_in_ms(quantile(grown, 0.99)),
            lag=_lags(numbers),
            versions=sorted({labels["version"] for labels, value in numbers.of("liverank_model_info") if value}),
            swaps=round(numbers.total("liverank_model_swaps_total")),
            rejected=round(numbers.total("liverank_model_rejected_total")),
            restart_needed=numbers.total("liverank_restart_needed") > 0,
            deltas=_counts(numbers, "liverank_model_deltas_total", "outcome"),
            delta_rows=round(numbers.total("liverank_model_delta_rows_total")),
            learned_age_s=_age_s(now.at_s, numbers.newest("liverank_model_learned_until_seconds")),
            ranks=_ranks(numbers),
            rank_now=(now.reciprocal - long.reciprocal) / clicks if clicks > 0 else None,
            comparison=[one for number, page in enumerate(workers) for one in _comparison(number, page)],
            dead_letters=round(numbers.total("liverank_dead_letters_total")),
            trainer=None if learner is None else _trainer(learner, now, short, span),
        )  # fmt: skip

    def _note(self, at_s: float, numbers: Numbers, learner: Numbers | None) -> _Moment:
        now = _Moment(
            at_s, numbers.total("liverank_events_total"), numbers.total("liverank_rankings_total"),
            numbers.by("liverank_ranking_seconds_bucket", "le"),
            numbers.total("liverank_reciprocal_rank_count"), numbers.total("liverank_reciprocal_rank_sum"),
            0.0 if learner is None else learner.total("liverank_trainer_examples_total"),
        )  # fmt: skip
        last = self._seen[-1] if self._seen else now
        if now.events < last.events or now.clicks < last.clicks or now.examples < last.examples:
            self._seen.clear()  # a process was started again, or does not answer: it counts from zero
        if now.at_s - last.at_s > _SHARES_OVER_S:
            self._seen.clear()  # nobody has looked meanwhile
        self._seen.append(now)
        while now.at_s - self._seen[0].at_s > _SHARES_OVER_S and len(self._seen) > 2:
            self._seen.popleft()
        return now

    def _before(self, now: _Moment, seconds: float) -> _Moment:
        """The oldest reading within so many seconds; the one before now where there is none."""
        within = [one for one in self._seen if now.at_s - one.at_s <= seconds and one is not now]
        return within[0] if within else self._seen[-2] if len(self._seen) > 1 else now


def quantile(buckets: Mapping[str, float], share: float) -> float | None:
    """A quantile of a histogram as Prometheus estimates it: linear within a bucket; None of nothing.

    Args:
        buckets: upper bound as on the page -> how many were at most so much.
        share: 0.5 is the median.
    """
    ordered = sorted((float(bound), count) for bound, count in buckets.items())
    if not ordered or ordered[-1][1] <= 0:
        return None
    wanted = share * ordered[-1][1]
    for (low, below), (high, count) in pairwise([(0.0, 0.0), *ordered]):
        if count >= wanted:
            if math.isinf(high):
                return low
            return low + (high - low) * (wanted - below) / max(count - below, 1e-9)
    return ordered[-1][0]


def _in_ms(seconds: float | None) -> float | None:
    return None if seconds is None else 1000 * seconds


def _age_s(now_s: float, then_s: float | None) -> float | None:
    return None if then_s is None else max(0.0, now_s - then_s)


def _counts(numbers: Numbers, name: str, label: str) -> dict[str, int]:
    return {key: round(value) for key, value in numbers.by(name, label).items()}


def _lags(numbers: Numbers) -> list[PartitionLag]:
    found = [
        PartitionLag(labels["topic"], int(labels["partition"]), round(value))
        for labels, value in numbers.of("liverank_lag")
    ]
    return sorted(found, key=lambda one: (one.topic, one.partition))


def _ranks(numbers: Numbers) -> list[VersionRanks]:
    clicks = numbers.by("liverank_reciprocal_rank_count", "version")
    sums = numbers.by("liverank_reciprocal_rank_sum", "version")
    return [
        VersionRanks(version, round(count), sums.get(version, 0.0) / count)
        for version, count in sorted(clicks.items())
        if count > 0
    ]


def _comparison(number: int, page: str) -> list[LiveDifference]:
    """What one worker's clicks say of a canary; nothing while there is none."""
    if 'stage="canary"' not in page:
        return []
    numbers = Numbers([page])
    found = []
    for measure, name in (("ranks", "liverank_canary_difference"), ("lists", "liverank_canary_clicks_difference")):
        if numbers.of("liverank_canary_bound"):
            low, high = (numbers.total("liverank_canary_bound", measure=measure, bound=end) for end in ("low", "high"))
            found.append(LiveDifference(number, measure, numbers.total(name), low, high))
    return found


def _trainer(numbers: Numbers, now: _Moment, before: _Moment, span: float) -> TrainerFigures:
    return TrainerFigures(
        examples=round(now.examples),
        examples_a_second=(now.examples - before.examples) / span,
        waiting=round(numbers.total("liverank_trainer_lag")),
        loss=numbers.total("liverank_trainer_loss"),
        learned_age_s=_age_s(now.at_s, numbers.newest("liverank_trainer_learned_until_seconds")),
        deltas=round(numbers.total("liverank_trainer_deltas_total")),
        bundles=_counts(numbers, "liverank_trainer_bundles_total", "decision"),
        ranks={
            labels["ranker"]: value
            for labels, value in numbers.of("liverank_progressive_rank_quality")
            if labels["measure"] == "mrr"
        },
    )
