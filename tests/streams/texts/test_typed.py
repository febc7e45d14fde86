"""What people type waits for the encoder, and nobody else does."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable

import numpy as np
import pytest

from ranker.contracts.inputs import Position
from ranker.contracts.records import Interaction
from ranker.state.words import EncodedText
from streams.kafka.progress import PartitionProgress
from streams.state.store import DamagedStore
from streams.telemetry.metrics import Metrics
from streams.texts import typed
from streams.texts.typed import DecodedInput, TypedInputs

PLACE = ("interactions", 0)


class Encoder:
    """Encodes while it is let; fails on some texts."""

    name, dim = "held-back", 4

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.calls: list[list[str]] = []

    def encode(self, texts: list[str]) -> np.ndarray:
        """A vector that says how long the text is."""
        assert self.go_on.wait(20)
        self.calls.append(list(texts))
        if "broken" in texts:
            raise ValueError("no such text")
        return np.array([[len(text), 1, 0, 0] for text in texts], np.float32)


class Bench:
    """The stage with what stands around it."""

    def __init__(self, encoder: Encoder | None) -> None:
        self.progress, self.metrics = PartitionProgress(), Metrics()
        self.progress.start({PLACE: 0})
        self.applied: list[tuple[int, EncodedText | None]] = []
        self.errors: list[BaseException] = []
        self.came, self.ended = asyncio.Event(), asyncio.Event()
        self.raises: Exception | None = None
        self.inputs = TypedInputs(encoder, self.progress, self._apply, self._failed, self.metrics)
        self.offset = 0

    def _apply(self, given: DecodedInput, found: EncodedText | None) -> None:
        self.came.set()
        if self.raises is not None:
            raise self.raises
        self.applied.append((given.at.offset, found))

    def _failed(self, error: BaseException) -> None:
        self.errors.append(error)
        self.ended.set()

    def bring(self, user: str, text: str | None, topic: str = "interactions") -> bool:
        """A record comes, as intake has it handled; whether it waits."""
        record = Interaction(user_id=user, item_id="a", action="view", event_id="e", ts=1, text=text)
        given = DecodedInput(Position(topic, 0, self.offset, 1), user.encode(), b"", record)
        waits = self.inputs.take(given)
        if topic == "interactions":
            self.progress.done(PLACE, self.offset)
        self.offset += 1
        return waits

    async def until(self, applied: int) -> None:
        """Wait for so many."""
        async with asyncio.timeout(20):
            while len(self.applied) < applied:
                self.came.clear()
                await self.came.wait()

    def count(self, outcome: str) -> float:
        """Of the metric."""
        return self.metrics.registry.get_sample_value("liverank_words_total", {"outcome": outcome}) or 0.0


def run(act: Callable[[Bench, Encoder], Awaitable[None]]) -> None:
    async def on_a_loop() -> None:
        encoder = Encoder()
        bench = Bench(encoder)
        try:
            await act(bench, encoder)
        finally:
            encoder.go_on.set()
            bench.inputs.close()

    asyncio.run(on_a_loop())


def test_only_its_user_waits_and_only_on_its_topic() -> None:
    """While the encoder stands still others go on; the user's later records on the topic come after, in their order."""

    async def act(bench: Bench, encoder: Encoder) -> None:
        assert bench.bring("u", "a text")
        assert not bench.bring("v", None)
        assert bench.bring("u", None)
        assert not bench.bring("u", None, topic="clicks")
        assert bench.bring("u", "another one")
        assert bench.progress.take() == {PLACE: 0}
        encoder.go_on.set()
        await bench.until(3)
        assert [offset for offset, _ in bench.applied] == [0, 2, 4]
        first, second, third = (found for _, found in bench.applied)
        assert first is not None
        assert (first.encoder, second) == ("held-back", None)
        assert third is not None
        assert first.vector != third.vector
        assert bench.progress.take() == {PLACE: 5}
        assert not bench.bring("u", None)  # nobody waits any more
        assert bench.count("encoded") == 2

    run(act)


def test_a_text_that_the_encoder_fails_on_costs_its_words_alone() -> None:
    """It counts as an event without words, and the others have theirs."""

    async def act(bench: Bench, encoder: Encoder) -> None:
        for user, text in (("u", "one"), ("v", "broken"), ("w", "three")):
            assert bench.bring(user, text)
        encoder.go_on.set()
        await bench.until(3)
        assert [(offset, found is None) for offset, found in bench.applied] == [(0, False), (1, True), (2, False)]
        assert (bench.count("encoded"), bench.count("failed")) == (2, 1)
        assert bench.progress.take() == {PLACE: 3}
        assert not bench.errors

    run(act)


def test_texts_that_wait_are_encoded_together() -> None:
    """What came while the encoder worked goes in one call, but for no more than a call should have."""

    async def act(bench: Bench, encoder: Encoder) -> None:
        for number in range(40):
            bench.bring(f"u{number}", "text")
        encoder.go_on.set()
        await bench.until(40)
        assert [len(call) for call in encoder.calls] == [32, 8]

    run(act)


def test_what_its_partition_left_is_dropped() -> None:
    """It comes again elsewhere; what came again here meanwhile is not taken for it."""

    async def act(bench: Bench, encoder: Encoder) -> None:
        bench.bring("u", "a text")
        await asyncio.sleep(0)
        bench.progress.clear()
        bench.inputs.clear()
        bench.progress.start({PLACE: 0})
        bench.offset = 0
        bench.bring("u", "a text")
        encoder.go_on.set()
        await bench.until(1)
        await asyncio.sleep(0)
        assert [offset for offset, _ in bench.applied] == [0]
        assert bench.progress.take() == {PLACE: 1}

    run(act)


def test_what_a_damaged_store_fails_on_stays_held() -> None:
    """The partition is recovered, and what waited comes again: it must not be committed."""

    async def act(bench: Bench, encoder: Encoder) -> None:
        bench.raises = DamagedStore()
        bench.bring("u", "a text")
        encoder.go_on.set()
        async with asyncio.timeout(20):
            await bench.came.wait()
        assert bench.progress.take() == {PLACE: 0}
        assert not bench.errors

    run(act)


def test_any_other_error_ends_the_process() -> None:
    """What is no record's fault is not passed over."""

    async def act(bench: Bench, encoder: Encoder) -> None:
        bench.raises = OSError("the disk")
        bench.bring("u", "a text")
        encoder.go_on.set()
        async with asyncio.timeout(20):
            await bench.ended.wait()
        assert bench.errors == [bench.raises]

    run(act)


def test_intake_waits_where_too_many_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Full at the limit, and there is room again once most are through."""
    monkeypatch.setattr(typed, "_MOST_WAITING", 4)

    async def act(bench: Bench, encoder: Encoder) -> None:
        for number in range(4):
            assert not bench.inputs.full
            bench.bring(f"u{number}", "text")
        assert bench.inputs.full
        encoder.go_on.set()
        async with asyncio.timeout(20):
            await bench.inputs.room()
        assert not bench.inputs.full

    run(act)


def test_without_an_encoder_nobody_waits() -> None:
    """The text counts as an event, and the metric says that nobody read it."""

    async def act() -> None:
        bench = Bench(None)
        assert not bench.bring("u", "a text")
        assert bench.count("no-encoder") == 1
        bench.inputs.close()

    asyncio.run(act())
