"""What the demo sees of the learning: which versions serve and since when, what was announced, how old the rows are.

Everything here is a fold of records that come by on Kafka, and of the pages that worker and trainer show to Prometheus.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct

from liverank.measure.freshness import Freshness, FreshnessReport
from liverank.measure.pages import samples
from ranker.contracts.records import Example, ModelDelta, ModelUpdate, Ranking
from ranker.contracts.topics import EXAMPLES, MODEL_DELTAS, MODEL_UPDATES
from ranker.mapping.topic_map import TopicMap
from ranker.rollout.stages import PROMOTED

#: Topics of the learning, beside `rankings`.
LEARNED = (EXAMPLES, MODEL_UPDATES, MODEL_DELTAS)
RANKERS = ("trainer", "serving", "first")

_NEWEST = 8  # announcements kept to be shown
_example = msgspec.json.Decoder(Example)
_update = msgspec.json.Decoder(ModelUpdate)
_delta = msgspec.json.Decoder(ModelDelta)


class Learning:
    """How what was learned reaches the users. Times are milliseconds since the epoch."""

    def __init__(self, model: str, topics: TopicMap | None = None) -> None:
        """
        Args:
            model: the model's name, with which its users' names begin; records of others are passed over.
            topics: what they are called.
        """
        self._topics = topics or TopicMap()
        self.serving: str | None = None  # the version of the newest ranking
        self.since: int | None = None  # when the first ranking by it came
        self.delta: int | None = None  # when the last delta was made
        self.updates: deque[ModelUpdate] = deque(maxlen=_NEWEST)  # newest first
        self.freshness = Freshness(topic=self._topics.called(EXAMPLES))
        self._model = model
        self._promoted: set[str] = set()
        self._ranked: set[str] = set()
        self._base, self._began = "", 0

    def start(self, offsets: Mapping[str, int]) -> None:
        """Nothing has come yet; these are the offsets of the first examples that will, by `topic-partition`."""
        self.freshness = Freshness(offsets, self._topics.called(EXAMPLES))

    def took(self, message: Any) -> None:
        """A record came from one of the topics `LEARNED`."""
        topic = self._topics.own(message.topic)
        if topic == EXAMPLES:
            example = _example.decode(message.value)
            if not example.user_id.startswith(self._model):
                example = msgspec.structs.replace(example, outcome=None)
            self.freshness.example(message.partition, message.offset, example)
        elif topic == MODEL_UPDATES:
            update = _update.decode(message.value)
            if update.model == self._model:
                self.updates.appendleft(update)
                if update.stage == PROMOTED:
                    self._promoted.add(update.version)
        elif topic == MODEL_DELTAS:
            delta = _delta.decode(message.value)
            if delta.model == self._model:
                self.delta = delta.sequence
                self.freshness.delta(delta)

    def ranked(self, ranking: Ranking, now: int) -> None:
        """A ranking came, of whatever user. Versions sort by age: one that is late changes nothing."""
        self._base = self._base or ranking.model
        self._ranked.add(ranking.model)
        if ranking.model > (self.serving or ""):
            self.serving, self.since = ranking.model, now
        self.freshness.ranking(now / 1000, ranking.model, ranking.delta)

    def begin(self, now: int) -> None:
        """From now on swaps and clicks count."""
        self._base, self._began = self.serving or "", now

    @property
    def swaps(self) -> int:
        """How many promoted versions have begun to rank since the beginning."""
        return sum(version > self._base for version in self._promoted & self._ranked)

    def fresh(self, until: int | None = None) -> FreshnessReport:
        """How soon clicks were in the weights that ranked, of those since the beginning and before `until`."""
        return self.freshness.report(self._began / 1000, float("inf") if until is None else until / 1000)


class Pages(Struct):
    """Figures of the pages that worker and trainer show to Prometheus."""

    refused: int = 0  # versions that the worker did not let serve
    bundles: dict[str, int] = {}  # the trainer's candidates by what became of them
    windows: list[dict[str, float]] = []  # reciprocal rank by ranker, of each window of progressive validation

    def worker(self, page: str) -> None:
        """Take the worker's page in."""
        self.refused = round(sum(value for _, value in samples(page, "liverank_model_rejected_total")))

    def trainer(self, page: str) -> None:
        """Take the trainer's page in; read more often than its windows end, none is missed."""
        self.bundles = {
            labels["decision"]: round(value) for labels, value in samples(page, "liverank_trainer_bundles_total")
        }
        window = {
            labels["ranker"]: value
            for labels, value in samples(page, "liverank_progressive_rank_quality")
            if labels["measure"] == "mrr"
        }
        if window and (not self.windows or window != self.windows[-1]):
            self.windows.append(window)

    def progressive(self) -> dict[str, float] | None:
        """Mean reciprocal rank by ranker over all windows, on the same examples, none of them learned from before."""
        if not self.windows:
            return None
        mean = {name: sum(window[name] for window in self.windows) / len(self.windows) for name in RANKERS}
        return {name: round(value, 4) for name, value in mean.items()}
