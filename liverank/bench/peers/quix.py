"""A worker as Quix Streams has one: the topics put together, a stateful function, a `to_topic`.

It reads the same topics, folds by the same function and ranks with the same model; RocksDB, changelog and checkpoints
are Quix's. It has no micro-batches, no examples for a trainer, no swaps and no dead letters. Quix Streams wants other
releases of what liverank needs, so it is no dependency: an environment that has both runs this.
"""

from __future__ import annotations

import logging
import os
import signal
from functools import reduce
from operator import methodcaller
from pathlib import Path
from typing import Any

from prometheus_client import REGISTRY
from quixstreams import Application, State, message_context

from liverank.bench.peers.work import PeerWork
from liverank.operate.reading import read_spans, spans_of
from liverank.serve.page import open_page
from liverank.settings import load_settings
from ranker.contracts.decoding import decode_vector
from ranker.contracts.inputs import Position
from ranker.contracts.topics import ITEM_VECTORS, RANKINGS, USER_INPUTS
from streams.settings import WorkerSettings
from streams.telemetry.logs import quieten

_ROW = "row"


def run_quix() -> None:
    """Serve until SIGTERM."""
    quieten()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    settings = load_settings().worker
    work = PeerWork(settings)
    for record in read_spans(settings.broker, ITEM_VECTORS, spans_of(settings.broker, ITEM_VECTORS)):
        value = record.value()
        if value is not None:
            work.model.catalog.put_vector(decode_vector(value))
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))  # nothing that a benchmark leaves has to be put in order
    open_page(settings.metrics_host, settings.metrics_port, "")(REGISTRY, lambda: None, lambda: None)
    app = _app(settings, work)
    if settings.ready_file is not None:
        Path(settings.ready_file).write_text("ready\n", encoding="utf-8")
    app.run()


def _app(settings: WorkerSettings, work: PeerWork) -> Any:
    topics = settings.broker.topics
    app = Application(
        broker_address=settings.broker.addresses,
        consumer_group=settings.broker.group,
        auto_offset_reset="earliest",
        commit_interval=settings.checkpoint_ms / 1000,
        state_dir=settings.data / "quix",
        auto_create_topics=True,  # its changelog; the others are there
    )
    own = {topics.called(topic): topic for topic in USER_INPUTS}
    as_bytes = {"value_deserializer": "bytes", "value_serializer": "bytes"}
    inputs = [app.dataframe(app.topic(name, **as_bytes)) for name in own]
    together = reduce(lambda one, other: methodcaller("concat", other)(one), inputs)

    def handled(value: bytes, key: bytes, timestamp: int, headers: Any, state: State) -> list[bytes]:
        context = message_context()
        at = Position(own[context.topic], context.partition, context.offset, timestamp, context.topic)
        done = work(at, key, value, state.get_bytes(_ROW, b""))
        if done is None:
            return []
        state.set_bytes(_ROW, done[0])
        return done[1]

    together.apply(handled, stateful=True, metadata=True, expand=True).to_topic(
        app.topic(topics.called(RANKINGS), **as_bytes)
    )
    return app
