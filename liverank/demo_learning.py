"""What the demo sees of the learning: which versions serve and since when, what was announced, how old the rows are.

Everything here is a fold of records that come by on Kafka, and of the pages that worker and trainer show to Prometheus.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

import msgspec
from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

from ranker.records import ModelUpdate, Ranking
from ranker.stages import PROMOTED

#: Topics of the learning, beside `rankings`.
LEARNED = ("model-updates", "model-deltas")
RANKERS = ("trainer", "serving", "first")

_NEWEST = 8  # announcements kept to be shown


class _Delta(Struct):
    """What the demo wants to know of a `ModelDelta`; its rows are left as they are."""

    model: str
    sequence: int


_update = msgspec.json.Decoder(ModelUpdate)
_delta = msgspec.json.Decoder(_Delta)


class Learning:
    """How what was learned reaches the users. Times are milliseconds since the epoch."""

    def __init__(self, model: str) -> None:
        """
        Args:
            model: the model's name; records of others are passed over.
        """
        self.serving: str | None = None  # the version of the newest ranking
        self.since: int | None = None  # when the first ranking by it came
        self.delta: int | None = None  # when the last delta was made
        self.updates: deque[ModelUpdate] = deque(maxlen=_NEWEST)  # newest first
        self._model = model
        self._promoted: set[str] = set()
        self._ranked: set[str] = set()
        self._base = ""

    def took(self, topic: str, value: bytes) -> None:
        """A record came from one of the topics `LEARNED`."""
        if topic == "model-updates":
            update = _update.decode(value)
            if update.model == self._model:
                self.updates.appendleft(update)
                if update.stage == PROMOTED:
                    self._promoted.add(update.version)
        elif topic == "model-deltas":
            delta = _delta.decode(value)
            if delta.model == self._model:
                self.delta = delta.sequence

    def ranked(self, ranking: Ranking, now: int) -> None:
        """A ranking came, of whatever user. Versions sort by age: one that is late changes nothing."""
        self._base = self._base or ranking.model
        self._ranked.add(ranking.model)
        if ranking.model > (self.serving or ""):
            self.serving, self.since = ranking.model, now

    def begin(self) -> None:
        """From now on swaps count."""
        self._base = self.serving or ""

    @property
    def swaps(self) -> int:
        """How many promoted versions have begun to rank since the beginning."""
        return sum(version > self._base for version in self._promoted & self._ranked)


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


def samples(page: str, name: str) -> Iterable[tuple[dict[str, Any], float]]:
    """Labels and values of one metric of a page."""
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name == name:
                yield sample.labels, sample.value
