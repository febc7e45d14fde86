"""What is learned from: each applied input joined with the list it came after, onto `examples`.

The join itself is `ranker.state.attribution`. It runs on the scorer thread after a batch's rankings have been sent, so
no ranking of that batch waits for it; a checkpoint waits for both, so an input is acknowledged only after its examples
are confirmed. At least once: an example has the same id each time it is made.

A list that drew nothing is closed by its user's next input. For a user who does nothing more, the partition's newest
event time closes it (`AttributionWindows`): that example is the very one that the next input would have given.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Mapping
from functools import lru_cache

import msgspec
import numpy as np
from msgspec import Struct

from ranker.contracts.ids import hash_id
from ranker.contracts.inputs import UserInput
from ranker.contracts.records import Example
from ranker.contracts.schema import FeatureSchema
from ranker.contracts.topics import EXAMPLES
from ranker.items.catalog import UNKNOWN
from ranker.serving.model import ServingModel
from ranker.serving.slot import ModelSlot
from ranker.state.attribution import astray, example_of_silence, examples_of, first_click_in_time
from ranker.state.row import UserRow
from streams.kafka.outbox import Outbox
from streams.models.canary_watch import CanaryWatch
from streams.pipeline.windows import AttributionWindows
from streams.settings import WorkerSettings
from streams.state.store import Key
from streams.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

_encode = msgspec.json.Encoder().encode


class LastRanking(Struct, frozen=True):
    """What a user looks at."""

    request_id: str
    listed: tuple[str, ...]  # the list as it came
    model: str
    ranks: dict[str, int]
    propensities: dict[str, float] | None = None
    statistics: np.ndarray | None = None  # float32 [listed, len(STATISTICS)] that it was ranked with


class _Work(Struct, frozen=True):
    """An input to join; without a record, a list whose time is up."""

    user: bytes
    before: UserRow
    record: UserInput | None
    after: UserRow
    last: LastRanking | None


class Examples:
    """Joins inputs on the scorer thread and sends what comes of it."""

    def __init__(
        self, settings: WorkerSettings, slot: ModelSlot, outbox: Outbox, watch: CanaryWatch, metrics: Metrics
    ) -> None:
        assert slot.current is not None
        self._window_ms = settings.attribution_ms
        self._schema: FeatureSchema = slot.current.schema
        self._slot, self._outbox, self._watch = slot, outbox, watch
        self._metrics = metrics
        self._waiting: deque[_Work] = deque()
        self.windows = AttributionWindows(settings.attribution_ms)

    def applied(self, key: Key, before: UserRow, record: UserInput, after: UserRow, last: LastRanking | None) -> None:
        """Queue an input that was applied; `drain` joins it. Belongs to the event loop."""
        if after.revision == before.revision:
            return
        if astray(before, record, self._schema):
            self._metrics.examples.labels("astray").inc()
        if before.candidates is not None:
            self._waiting.append(_Work(key[1], before, record, after, _of(before, last)))
        current = after.candidates
        if current is not None and (before.candidates is None or before.candidates.request_id != current.request_id):
            self.windows.opened(key, current.request_id, current.ts)

    def passed(
        self,
        partition: int,
        ts: int,
        row_of: Callable[[Key], UserRow],
        last_of: Callable[[str], LastRanking | None],
    ) -> bool:
        """Queue the lists whose windows close with an event of this time; whether there are any."""
        queued = False
        for key, request_id in self.windows.closed(partition, ts):
            row = row_of(key)
            if row.candidates is not None and row.candidates.request_id == request_id:
                last = _of(row, last_of(key[1].decode()))
                self._waiting.append(_Work(key[1], row, None, row, last))
                queued = True
        return queued

    def drain(self) -> None:
        """Join and send all that waits. Belongs to the scorer thread."""
        while self._waiting:
            work = self._waiting.popleft()
            try:
                self._join(work)
            except Exception:
                self._metrics.examples.labels("failed").inc()
                log.exception("no example is made of an input of %s", work.user.decode(errors="replace"))

    def _join(self, work: _Work) -> None:
        user_id = work.user.decode()
        model = self._model(user_id, work.last)
        ranks: Mapping[str, int] = work.last.ranks if work.last else {}
        chances = work.last.propensities if work.last else None
        version = work.last.model if work.last else model.version

        def statistics(items: tuple[str, ...]) -> np.ndarray:
            # Deltas may have come since the ranking: what it saw counts, not what is known now.
            seen = work.last.statistics if work.last else None
            return statistics_of(model, items) if seen is None else seen

        if work.record is None:
            silence = example_of_silence(
                user_id, work.before, self._schema, self._window_ms, version, statistics, ranks, chances
            )
            if silence is not None:
                self._send(work.user, silence)
            return
        for example in examples_of(
            work.before, work.record, work.after, self._schema, self._window_ms, version, statistics, ranks, chances
        ):
            self._send(work.user, example)
            if work.last is not None and first_click_in_time(work.before, example, self._schema):
                assert example.outcome is not None
                self._watch.clicked(version, ranks.get(example.outcome.item_id))

    def _model(self, user_id: str, last: LastRanking | None) -> ServingModel:
        """The model that ranked the list, where it is still loaded."""
        serving = self._slot.serving
        if last is not None:
            for model in serving.models:
                if model.version == last.model:
                    return model
        ranks_now = serving.model_of(user_id)
        assert ranks_now is not None
        return ranks_now

    def _send(self, user: bytes, example: Example) -> None:
        self._metrics.examples.labels(
            "none" if example.outcome is None else "late" if example.late else "in-time"
        ).inc()
        self._outbox.send(EXAMPLES, user, _encode(example))


def _of(row: UserRow, last: LastRanking | None) -> LastRanking | None:
    """The last ranking, if it is of the row's list."""
    current = row.candidates
    if last is None or current is None or (last.request_id, last.listed) != (current.request_id, current.item_ids):
        return None
    return last


@lru_cache(maxsize=1024)
def _hashes(items: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(hash_id(item) for item in items)


def statistics_of(model: ServingModel, items: tuple[str, ...]) -> np.ndarray:
    """float32 [items, len(STATISTICS)] of a model's tables; zeros for an item that they do not know."""
    find, table = model.catalog.index_of.get, model.tables.statistics
    indexes = [find(item, UNKNOWN) for item in _hashes(items)]
    known = [index if index < len(table) else UNKNOWN for index in indexes]
    found: np.ndarray = table[known]
    return found
