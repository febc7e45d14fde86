"""What is learned from: each applied input joined with the lists it came after, onto `examples`.

The join itself is `ranker.state.attribution`. It runs on the scorer thread after a batch's rankings have been sent, so
no ranking of that batch waits for it, and for about as long as the batch took, so none of the next one does for long:
users take turns (`streams.pipeline.turns`), what is left waits for the next batch, and intake where too much waits. A
checkpoint waits for both, so an input is acknowledged only after its examples are confirmed. At least once: an example
has the same id each time it is made.

A list that drew nothing is closed by its user's next input. For a user who does nothing more, the partition's newest
event time closes it (`AttributionWindows`): that example is the very one that the next input would have given.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from functools import partial
from time import monotonic

import msgspec
import numpy as np
from msgspec import Struct

from ranker.contracts.clock import now_ms
from ranker.contracts.inputs import UserInput
from ranker.contracts.records import Example, Interaction
from ranker.contracts.schema import FeatureSchema
from ranker.contracts.topics import EXAMPLES
from ranker.items.catalog import UNKNOWN
from ranker.serving.model import ServingModel
from ranker.serving.slot import ModelSlot
from ranker.state.attribution import ShownList, astray, example_of_silence, examples_of, first_click_in_time
from ranker.state.row import CurrentList, UserRow
from streams.kafka.outbox import Outbox
from streams.models.canary_watch import CanaryWatch
from streams.pipeline.turns import Turns
from streams.pipeline.windows import AttributionWindows
from streams.settings import WorkerSettings
from streams.state.store import Key
from streams.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

_encode = msgspec.json.Encoder().encode

#: Inputs that may wait to be joined before intake does: some 10 MB, and a second of the scorer's thread.
_MOST_WAITING = 2048
_MOST_UNCONFIRMED = 10_000  # examples
#: For so long at least inputs are joined between two batches, in seconds.
_JOIN_S = 0.005
#: Lists whose windows an input closes at most; others that are due wait for the next one, or for the next look.
_CLOSED_AT_ONCE = 16
_LOOK_S = 0.002  # between two looks whether there is room
_RANKING, _ARRAY, _STRING = 400, 120, 57  # bytes of Python's objects beside what they hold


class LastRanking(Struct, frozen=True):
    """What a user looks at: a list as it was ranked last."""

    listed: tuple[str, ...]  # the list as it came
    ranking_id: str
    revision: int
    model: str
    ranks: np.ndarray  # int32 [listed] of each item of the list as it came, from 1; 0 where it was not shown
    propensities: np.ndarray | None = None  # float64 [listed] the chances of these ranks, where the ranking explored
    statistics: np.ndarray | None = None  # float32 [listed, len(STATISTICS)] that it was ranked with
    earlier: tuple[LastRanking, ...] = ()  # of the same list, the newest first, without statistics

    def rank_of(self, item: str) -> int | None:
        """The rank of one item, from 1; None where it was not shown."""
        return (int(self.ranks[self.listed.index(item)]) or None) if item in self.listed else None

    def ranks_of(self, items: tuple[str, ...]) -> np.ndarray:
        """int [items]: the ranks of another list's items, 0 where there is none."""
        if items == self.listed:
            return self.ranks
        known = dict(zip(self.listed, self.ranks.tolist(), strict=True))
        return np.array([known.get(item, 0) for item in items], np.int64)

    def shown_to(self, record: UserInput | str) -> LastRanking | None:
        """The ranking that the user looked at: the one that an event names, if it is remembered; else this one."""
        if not isinstance(record, Interaction) or (record.ranking_id is None and record.revision is None):
            return self
        for one in (self, *self.earlier):
            if record.ranking_id in (None, one.ranking_id) and record.revision in (None, one.revision):
                return one
        return None


def ranking_bytes(last: LastRanking) -> int:
    """About what it takes in memory, the ids of its items included, of which the row may hold others by now."""
    ids = len(last.listed) * (_STRING + 8 + len(last.listed[0]) if last.listed else 0)
    own = 0 if last.statistics is None else _ARRAY + last.statistics.nbytes
    return ids + own + sum(_RANKING + _array(one.ranks) + _array(one.propensities) for one in (last, *last.earlier))


def _array(held: np.ndarray | None) -> int:
    return 0 if held is None else _ARRAY + held.nbytes


class _Work(Struct, frozen=True):
    """An input to join, or the request of a list whose time is up."""

    user: bytes
    before: UserRow
    record: UserInput | str
    after: UserRow
    last: Mapping[str, LastRanking]  # by request


class Examples:
    """Joins inputs on the scorer thread and sends what comes of it."""

    def __init__(
        self, settings: WorkerSettings, slot: ModelSlot, outbox: Outbox, watch: CanaryWatch, metrics: Metrics
    ) -> None:
        assert slot.current is not None
        self._window_ms, self._model_name = settings.attribution_ms, settings.registry.model
        self._schema: FeatureSchema = slot.current.schema
        self._names = settings.broker.row_names
        self._slot, self._outbox, self._watch = slot, outbox, watch
        self._metrics = metrics
        self._waiting: Turns[_Work] = Turns()
        self.windows = AttributionWindows(settings.attribution_ms)

    @property
    def full(self) -> bool:
        """Whether more inputs should wait."""
        return len(self._waiting) >= _MOST_WAITING or len(self._outbox) > _MOST_UNCONFIRMED

    async def room(self) -> None:
        """Wait until there is room for more inputs."""
        while self.full:  # another thread makes room, and the broker does
            self._outbox.poll()
            await asyncio.sleep(_LOOK_S)

    @property
    def newest(self) -> int:
        """Names what was queued last; see `joined`."""
        return self._waiting.number

    def joined(self, newest: int) -> bool:
        """Whether all that had been queued by then is joined and sent. Any thread may ask."""
        return not self._waiting.holds(newest)

    def applied(
        self, key: Key, before: UserRow, record: UserInput, after: UserRow, last: Mapping[str, LastRanking]
    ) -> None:
        """Queue an input that was applied; `drain` joins it. Belongs to the event loop.

        Args:
            key: the user.
            before: the row before it.
            record: the input.
            after: the row after it.
            last: the last rankings of the user's lists, by request.
        """
        if after is before:
            return
        if astray(before, record, self._schema):
            self._metrics.examples.labels("astray").inc()
        if before.candidates is not None:
            self._waiting.add(key[1], _Work(key[1], before, record, after, last))
        for current in after.current if after.lists is not before.lists else ():
            if before.named(current.request_id) is None:
                self.windows.opened(key, current.request_id, current.ts)

    def passed(
        self,
        partition: int,
        ts: int | None,
        row_of: Callable[[Key], UserRow],
        last_of: Callable[[str], Mapping[str, LastRanking]],
    ) -> bool:
        """Queue lists whose windows close with an event of this time, a few at once; whether there are any.

        Args:
            partition: the event's.
            ts: its time; None for windows that closed before, where there is room.
            row_of: gives a user's row.
            last_of: gives the last rankings of a user's lists.
        """
        queued = False
        for key, request_id in self.windows.closed(partition, ts, _CLOSED_AT_ONCE):
            row = row_of(key)
            if row.named(request_id) is not None:
                self._waiting.add(key[1], _Work(key[1], row, request_id, row, last_of(key[1].decode())))
                queued = True
        return queued

    def drain(self, seconds: float) -> bool:
        """Join and send what waits, for about so long; whether some is left. Belongs to the scorer thread."""
        until = monotonic() + max(seconds, _JOIN_S)
        while (work := self._waiting.take()) is not None:
            try:
                self._join(work)
            except Exception:
                self._metrics.examples.labels("failed").inc()
                log.exception("no example is made of an input of %s", self._names.shown(work.user))
            if monotonic() > until:
                self._waiting.done()
                break
        return len(self._waiting) > 0

    def _join(self, work: _Work) -> None:
        user_id = work.user.decode()
        shown_of = partial(self._shown, user_id, work.record, work.last)
        if isinstance(work.record, str):
            listed = work.before.named(work.record)
            assert listed is not None
            silence = example_of_silence(user_id, work.before, listed, self._schema, self._window_ms, shown_of)
            if silence is not None:
                self._send(work.user, silence)
                self._judge(work, silence, silence.ts)
            return
        for example in examples_of(work.before, work.record, work.after, self._schema, self._window_ms, shown_of):
            self._send(work.user, example)
            # A device whose clock is ahead must not end the time of everybody's lists.
            self._judge(work, example, min(work.after.newest, now_ms()))

    def _judge(self, work: _Work, example: Example, now: int) -> None:
        """Tell the watch what the example says of the version that ranked its list."""
        listed, last = work.before.named(example.request_id), work.last.get(example.request_id)
        if listed is None or last is None:
            return
        if example.outcome is None:
            self._watch.ignored(last.model, listed.ts, now)
        elif first_click_in_time(work.before, example, self._schema):
            shown = last.shown_to(work.record)
            if shown is not None:
                rank = shown.rank_of(example.outcome.item_id)
                self._watch.clicked(shown.model, rank, listed.ts, now)

    def _shown(
        self, user_id: str, record: UserInput | str, last: Mapping[str, LastRanking], listed: CurrentList
    ) -> ShownList:
        """How a list was shown: by the ranking that the input names, or the last one, of the list as the row has it."""
        seen = last.get(listed.request_id)
        if seen is None or seen.listed != listed.item_ids:
            model = self._slot.serving.model_of(user_id)
            assert model is not None
            return ShownList(model.version, partial(statistics_of, model))

        def statistics(listed: CurrentList) -> np.ndarray:
            # Deltas may have come since the ranking: what it saw counts, not what is known now.
            return statistics_of(self._model(user_id, seen), listed) if seen.statistics is None else seen.statistics

        shown = seen.shown_to(record)
        if shown is None:  # it names one that is not remembered: where the items stood is not known
            return ShownList(seen.model, statistics)
        return ShownList(shown.model, statistics, shown.ranks, shown.propensities)

    def _model(self, user_id: str, last: LastRanking) -> ServingModel:
        """The model that ranked the list, where it is still loaded."""
        serving = self._slot.serving
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
        body = _encode(msgspec.structs.replace(example, model_name=self._model_name))
        self._outbox.send(EXAMPLES, user, body, instead=partial(self._too_large, user, len(body)))

    def _too_large(self, user: bytes, size: int) -> None:
        """Its topic does not take it: it is not learned from."""
        self._metrics.examples.labels("failed").inc()
        log.error(
            "an example of %s is left out: it has %d bytes, more than max.message.bytes of its topic",
            self._names.shown(user), size,
        )  # fmt: skip


def statistics_of(model: ServingModel, listed: CurrentList) -> np.ndarray:
    """float32 [items, len(STATISTICS)] of a model's tables; zeros for an item that they do not know."""
    find, table = model.catalog.index_of.get, model.tables.statistics
    indexes = [find(item, UNKNOWN) for item in listed.hashes.tolist()]
    known = [index if index < len(table) else UNKNOWN for index in indexes]
    found: np.ndarray = table[known]
    return found
