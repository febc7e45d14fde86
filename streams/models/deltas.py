"""Changed item rows between bundles: queued where they arrive, applied on the scorer thread between two batches."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict, deque
from collections.abc import Collection, Iterable

from ranker.contracts.records import ModelDelta
from ranker.serving.model import ServingModel
from streams.telemetry.model_metrics import ModelMetrics

log = logging.getLogger(__name__)

#: Rows applied between two batches at most, a fraction of a millisecond; more wait for the next pause.
_ROWS_AT_ONCE = 256
#: Kept for versions that nobody has announced yet, of all of them together: deltas, and bytes.
_MOST_WAITING, _MOST_BYTES = 600, 64 << 20
_ROW = 200  # bytes of Python's objects beside a row's


class Deltas:
    """Applies deltas in order of their sequence, each only onto the version it was made for.

    One for a version that still loads, or is newer than any announced one, waits; one for any other version is dropped
    and counted. So is one that is not newer than the last that was applied.
    """

    def __init__(self, metrics: ModelMetrics) -> None:
        self._metrics = metrics
        self._lock = threading.Lock()
        self._wanted: set[str] = set()
        self._newest = ""
        self._waiting: defaultdict[str, deque[ModelDelta]] = defaultdict(deque)
        self._early: dict[str, int] = {}  # bytes that wait for versions that are not wanted yet, as they came up

    def want(self, versions: Collection[str]) -> None:
        """The versions that serve or load: deltas for others, unless they are newer, are of no use any more."""
        with self._lock:
            self._wanted = set(versions)
            self._newest = max(self._newest, *versions, "")
            for base in [base for base in self._waiting if not self._useful(base)]:
                self._count("other-version", len(self._waiting.pop(base)))
            self._early = {base: size for base, size in self._early.items() if base in self._waiting}
            for base in self._wanted & self._early.keys():
                del self._early[base]

    def receive(self, delta: ModelDelta) -> bool:
        """Queue a delta; whether it was of use."""
        with self._lock:
            if not self._useful(delta.base):
                self._count("other-version")
                return False
            self._waiting[delta.base].append(delta)
            if delta.base not in self._wanted:
                self._early[delta.base] = self._early.get(delta.base, 0) + _bytes(delta)
                self._bound()
            return True

    def apply(self, models: Iterable[ServingModel]) -> bool:
        """Apply some of what waits for these models; whether more of it is left. Belongs to the scorer thread."""
        if not self._waiting:
            return False
        left = False
        for model in models:
            rows = 0
            while rows < _ROWS_AT_ONCE and (delta := self._next(model)) is not None:
                rows += len(delta.rows)
                self._put(model, delta)
            left = left or bool(self._waiting.get(model.version))
        return left

    def _useful(self, base: str) -> bool:
        return base in self._wanted or base > self._newest

    def _bound(self) -> None:
        """Of versions that may never come the oldest deltas go, however many versions somebody names."""
        count = sum(len(self._waiting[base]) for base in self._early)
        while count > _MOST_WAITING or sum(self._early.values()) > _MOST_BYTES:
            base = next(iter(self._early))
            self._early[base] -= _bytes(self._waiting[base].popleft())
            count -= 1
            self._count("too-many")
            if not self._waiting[base]:
                del self._waiting[base], self._early[base]

    def _next(self, model: ServingModel) -> ModelDelta | None:
        """The next delta of a model in order; a large one comes in parts of one sequence."""
        with self._lock:
            self._early.pop(model.version, None)
            queue = self._waiting.get(model.version)
            while queue:
                delta = queue.popleft()
                if delta.sequence <= model.sequence:
                    self._count("out-of-order")
                    continue
                names = list(delta.rows)
                if len(names) <= _ROWS_AT_ONCE:
                    return delta
                queue.appendleft(_part(delta, names[_ROWS_AT_ONCE:], delta.sequence))
                return _part(delta, names[:_ROWS_AT_ONCE], delta.sequence - 1)
            self._waiting.pop(model.version, None)
            return None

    def _put(self, model: ServingModel, delta: ModelDelta) -> None:
        try:
            model.put_rows(delta.rows)
        except (OSError, MemoryError):
            raise
        except Exception as error:  # BundleError, or an item's hash that is no number of 64 bits
            log.error("a delta for %s is left out: %s", model.version, error)
            self._count("refused")
            return
        model.sequence = max(model.sequence, delta.sequence)
        model.learned_until = max(model.learned_until, delta.learned_until)
        self._metrics.delta_rows.inc(len(delta.rows))
        self._count("applied")

    def _count(self, outcome: str, count: int = 1) -> None:
        self._metrics.deltas.labels(outcome).inc(count)


def _bytes(delta: ModelDelta) -> int:
    return sum(_ROW + len(row) for row in delta.rows.values())


def _part(delta: ModelDelta, names: list[str], sequence: int) -> ModelDelta:
    return ModelDelta(
        model=delta.model,
        base=delta.base,
        sequence=sequence,
        learned_until=delta.learned_until,
        offsets=delta.offsets,
        rows={name: delta.rows[name] for name in names},
    )
