"""How soon what people do is in the weights that rank them: a join of examples, deltas, manifests and rankings.

Nothing is guessed. An example has its place on the topic `examples`; a delta and a bundle's manifest name, as offsets,
what they had learned from; a ranking names its weights, the version and the last delta applied to it. So the first
ranking, of any user, whose weights had learned from an event is known exactly:

* by a delta: the delta covers the example, holds the row of the item that was acted on, and is among those applied; or
  the version's own bundle covers it;
* by the dense weights: the version's bundle covers it.

Pure: whoever consumes the topics feeds their records, each topic in its order, as they come. Between topics no order is
asked for: a ranking is looked at once everything that its weights may have learned from is known.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from msgspec import Struct

from ranker.contracts.ids import hash_id
from ranker.contracts.records import Example, ModelDelta
from ranker.contracts.topics import EXAMPLES


class Percentiles(Struct, frozen=True):
    """Of `n` waits, in seconds; None where there is none."""

    p50: float | None
    p99: float | None
    n: int


class FreshnessReport(Struct, frozen=True, kw_only=True):
    """Seconds from an event to the first ranking by weights that had learned from it; events that none had."""

    events: int
    delta_s: Percentiles
    dense_s: Percentiles
    never_in_delta: int
    never_in_dense: int


class _Learned(NamedTuple):
    """A delta, as far as it matters here."""

    sequence: int
    rows: frozenset[str]
    offsets: Mapping[str, int]


class _Seen(NamedTuple):
    """A ranking, as far as it matters here."""

    at: float
    model: str
    delta: int


class _Event:
    """An example with an outcome, and when it was first in weights that ranked."""

    __slots__ = ("delta_at", "dense_at", "item", "offset", "partition", "ts")

    def __init__(self, partition: str, offset: int, item: str, ts: float) -> None:
        self.partition, self.offset, self.item, self.ts = partition, offset, item, ts
        self.delta_at: float | None = None
        self.dense_at: float | None = None

    def in_what(self, offsets: Mapping[str, int]) -> bool:
        """Whether something that had read so far has learned from it."""
        return self.offset < offsets.get(self.partition, 0)


class Freshness:
    """Takes records in as they are consumed. Not for several threads at a time."""

    def __init__(self, starts: Mapping[str, int] | None = None, topic: str = EXAMPLES) -> None:
        """
        Args:
            starts: `TOPIC-PARTITION` -> the first offset that will be fed; 0 where it is not named.
            topic: what `examples` is called on the broker: offsets in deltas and manifests go by that name.
        """
        self._topic = topic
        self._next = dict(starts or {})  # the examples known, as `offsets` in deltas and manifests say it
        self._ids: set[str] = set()
        self._events: list[_Event] = []
        self._for_delta: list[_Event] = []  # events that no ranking by a delta has covered yet
        self._for_dense: list[_Event] = []
        self._manifests: dict[str, Mapping[str, int]] = {}
        self._deltas: dict[str, deque[_Learned]] = {}
        self._last_delta = 0
        self._applied: dict[str, int] = {}  # version -> the last delta of rankings looked at
        self._noted: dict[str, int] = {}  # ... and of those that wait to be
        self._waiting: deque[_Seen] = deque()

    def example(self, partition: int, offset: int, example: Example) -> None:
        """An example, by its place on the topic. One without an outcome, or that came before, is not waited for."""
        name = f"{self._topic}-{partition}"
        outcome, known = example.outcome, example.example_id in self._ids
        if outcome is not None and not known:
            self._ids.add(example.example_id)
            event = _Event(name, offset, str(hash_id(outcome.item_id)), outcome.ts / 1000)
            self._events.append(event)
            self._for_delta.append(event)
            self._for_dense.append(event)
        self._next[name] = offset + 1
        self._look()

    def delta(self, delta: ModelDelta) -> None:
        """A delta."""
        self._deltas.setdefault(delta.base, deque()).append(
            _Learned(delta.sequence, frozenset(delta.rows), delta.offsets)
        )
        self._last_delta = max(self._last_delta, delta.sequence)
        self._look()

    def manifest(self, version: str, offsets: Mapping[str, int]) -> None:
        """What a version's bundle had learned from; see `unknown`."""
        self._manifests[version] = offsets
        self._look()

    def ranking(self, received: float, model: str, delta: int) -> None:
        """A ranking's weights, and when it was received, in seconds since the epoch."""
        if delta > self._noted.get(model, -1):
            self._noted[model] = delta
            self._waiting.append(_Seen(received, model, delta))
            self._look()

    @property
    def unknown(self) -> list[str]:
        """Versions that ranked and whose manifests are asked for."""
        return list(dict.fromkeys(seen.model for seen in self._waiting if seen.model not in self._manifests))

    def waiting(self, since: float = 0.0, until: float = float("inf")) -> int:
        """Events of this time, in seconds since the epoch, that are not in dense weights yet, or in no delta."""
        late = {id(event): event for event in (*self._for_delta, *self._for_dense)}
        return sum(since <= event.ts < until for event in late.values())

    def report(self, since: float = 0.0, until: float = float("inf")) -> FreshnessReport:
        """The figures of the events with since <= ts < until, in seconds since the epoch."""
        events = [event for event in self._events if since <= event.ts < until]
        delta = [event.delta_at - event.ts for event in events if event.delta_at is not None]
        dense = [event.dense_at - event.ts for event in events if event.dense_at is not None]
        return FreshnessReport(
            events=len(events),
            delta_s=percentiles(delta),
            dense_s=percentiles(dense),
            never_in_delta=len(events) - len(delta),
            never_in_dense=len(events) - len(dense),
        )

    def _look(self) -> None:
        """Go through the rankings that wait, as far as all is known that their weights may have learned from."""
        while self._waiting and self._known(self._waiting[0]):
            self._take(self._waiting.popleft())

    def _known(self, seen: _Seen) -> bool:
        """Whether the manifest, all deltas up to the last one applied, and all examples in them have been fed."""
        manifest = self._manifests.get(seen.model)
        if manifest is None or seen.delta > self._last_delta:
            return False
        reads = [manifest, *(delta.offsets for delta in self._applied_by(seen))]
        return all(
            offset <= self._next.get(name, 0)
            for offsets in reads
            for name, offset in offsets.items()
            if name.startswith(f"{self._topic}-")
        )

    def _applied_by(self, seen: _Seen) -> list[_Learned]:
        """The deltas that no ranking before knew of. A large delta comes in parts: its last one has its sequence."""
        return [delta for delta in self._deltas.get(seen.model, ()) if delta.sequence <= seen.delta]

    def _take(self, seen: _Seen) -> None:
        if seen.model not in self._applied:
            in_bundle = self._manifests[seen.model]
            for event in self._for_dense:
                if event.in_what(in_bundle):
                    event.dense_at = seen.at
                    event.delta_at = seen.at if event.delta_at is None else event.delta_at
        for delta in self._applied_by(seen):
            for event in self._for_delta:
                if event.delta_at is None and event.item in delta.rows and event.in_what(delta.offsets):
                    event.delta_at = seen.at
            self._deltas[seen.model].popleft()
        self._applied[seen.model] = seen.delta
        self._for_delta = [event for event in self._for_delta if event.delta_at is None]
        self._for_dense = [event for event in self._for_dense if event.dense_at is None]


def percentiles(seconds: Iterable[float]) -> Percentiles:
    """Median and 99th percentile, to the millisecond."""
    values = list(seconds)
    if not values:
        return Percentiles(None, None, 0)
    p50, p99 = np.percentile(values, [50, 99])
    return Percentiles(round(float(p50), 3), round(float(p99), 3), len(values))
