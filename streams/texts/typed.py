"""Inputs with a text that somebody typed: each waits until the text is encoded, and nobody else does.

The fold must know what was typed, and an input is acknowledged only once a ranking covers it. So the input is held: its
partition is committed only up to it (`PartitionProgress.hold`), while the records after it are handled. Those of the
same user on the same topic alone wait behind it, since a row knows of a topic how far it has come. After a kill, or
where the partition leaves, what was held comes again.

Texts are encoded together, by one thread. One that the encoder fails on counts as an event all the same, without words;
so does every one where there is no encoder.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from ranker.contracts.inputs import Position, UserInput
from ranker.registry.encoder import TextEncoder
from ranker.registry.words import encode_words
from ranker.state.words import EncodedText, typed_text
from streams.kafka.progress import Hold, PartitionProgress
from streams.state.store import DamagedStore
from streams.telemetry.metrics import Metrics

#: Texts encoded in one call: some 100 ms of a core.
_TOGETHER = 32
#: Inputs that may wait before intake does.
_MOST_WAITING = 512

_Lane = tuple[str, int, bytes]  # topic, partition and user


class DecodedInput(NamedTuple):
    """An input that is decoded and not yet applied."""

    at: Position
    key: bytes
    value: bytes | None
    record: UserInput


class _Held:
    """An input that waits, in its lane."""

    __slots__ = ("hold", "input", "ready", "text", "typed")

    def __init__(self, given: DecodedInput, hold: Hold, text: str | None) -> None:
        self.input, self.hold, self.text = given, hold, text
        self.typed: EncodedText | None = None
        self.ready = text is None

    @property
    def lane(self) -> _Lane:
        at = self.input.at
        return at.broker_topic, at.partition, self.input.key


class TypedInputs:
    """Holds inputs until their texts are encoded. Belongs to the event loop."""

    def __init__(
        self,
        encoder: TextEncoder | None,
        progress: PartitionProgress,
        apply: Callable[[DecodedInput, EncodedText | None], None],
        failed: Callable[[BaseException], None],
        metrics: Metrics,
    ) -> None:
        """
        Args:
            encoder: of the items' texts; where None no input waits.
            progress: keeps what is held from being committed.
            apply: takes an input that has waited, and its text, encoded.
            failed: takes what ends the process.
            metrics: counts.
        """
        self._encoder, self._progress, self._metrics = encoder, progress, metrics
        self._apply, self._failed = apply, failed
        self._lanes: dict[_Lane, deque[_Held]] = {}
        self._texts: deque[_Held] = deque()
        self._waiting = 0
        self._encoding: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        self._room.set()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="words")

    def take(self, given: DecodedInput) -> bool:
        """Whether the input waits here, so that whoever brings it is done with it."""
        text = typed_text(given.record)
        if text is not None and self._encoder is None:
            self._metrics.words.labels("no-encoder").inc()
            text = None
        lane = given.at.broker_topic, given.at.partition, given.key
        if text is None and lane not in self._lanes:
            return False
        held = _Held(given, self._progress.hold(lane[:2], given.at.offset), text)
        self._lanes.setdefault(lane, deque()).append(held)
        self._count(1)
        if text is not None:
            self._texts.append(held)
            if self._encoding is None:
                self._encoding = asyncio.create_task(self._encode_all())
        return True

    @property
    def full(self) -> bool:
        """Whether more inputs should wait before they come here."""
        return not self._room.is_set()

    async def room(self) -> None:
        """Wait until there is room."""
        await self._room.wait()

    def clear(self) -> None:
        """Partitions may have left, and what was held comes again."""
        self._lanes.clear()
        self._texts.clear()
        self._count(-self._waiting)

    def close(self) -> None:
        """End the thread after the texts in work."""
        if self._encoding is not None:
            self._encoding.cancel()
        self._thread.shutdown(wait=False, cancel_futures=True)

    async def _encode_all(self) -> None:
        try:
            while self._texts:
                together = [self._texts.popleft() for _ in range(min(_TOGETHER, len(self._texts)))]
                await self._encode(together)
                for held in together:
                    self._hand_on(held.lane)
        except Exception as error:
            self._failed(error)
        finally:
            self._encoding = None

    async def _encode(self, together: list[_Held]) -> None:
        assert self._encoder is not None
        failures = list[Exception]()
        work = partial(encode_words, self._encoder, [held.text or "" for held in together], failures.append)
        found = await asyncio.get_running_loop().run_in_executor(self._thread, work)
        for held, typed in zip(together, found, strict=True):
            held.typed, held.ready = typed, True
        self._metrics.unencoded(failures, len(together))

    def _hand_on(self, lane: _Lane) -> None:
        """What waits for nothing any more, in the order in which it came."""
        waiting = self._lanes.get(lane)
        while waiting and waiting[0].ready:
            held = waiting.popleft()
            self._count(-1)
            if not self._progress.holds(held.hold):
                continue  # its partition has left since
            try:
                self._apply(held.input, held.typed)
            except DamagedStore:
                continue  # the partition is recovered, and then it comes again: it stays held
            self._progress.release(held.hold)
        if not waiting:
            self._lanes.pop(lane, None)

    def _count(self, more: int) -> None:
        self._waiting += more
        if self._waiting >= _MOST_WAITING:
            self._room.clear()
        elif self._waiting < _MOST_WAITING // 2:
            self._room.set()
