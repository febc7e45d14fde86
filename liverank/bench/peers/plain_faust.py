"""A worker as Faust's own documentation has one: a table entry, a ranking and a `send` for each event.

It reads the same topics, folds by the same function, ranks with the same model, and its rankings say the same. It has
no micro-batches, no checkpoints of its own, no examples for a trainer, no swaps and no dead letters.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from pathlib import Path
from typing import Any

import faust
import uvloop
from faust.contrib.asgi import bind_to_running_loop
from prometheus_client import REGISTRY

from liverank.serve.page import open_page
from liverank.settings import load_settings
from ranker.contracts.clock import now_ms
from ranker.contracts.decoding import InputDecoder
from ranker.contracts.errors import InvalidRecord, LiverankError
from ranker.contracts.inputs import Position, UserInput
from ranker.contracts.records import Cause
from ranker.contracts.topics import RANKINGS, USER_INPUTS
from ranker.items.catalog import Catalog
from ranker.registry.bundle import fetch_bundle, newest_version, read_manifest
from ranker.serving.model import ServingModel, load_model
from ranker.serving.ranking import encode_ranking
from ranker.state.codec import decode_row, encode_row
from ranker.state.fold import apply_input
from streams.kafka import connection
from streams.kafka.follower import Follower
from streams.models.catalogue import catalog_handlers
from streams.settings import TABLE, WorkerSettings
from streams.telemetry.logs import quieten


def run_plain_faust() -> None:
    """Serve until SIGTERM."""
    quieten()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    uvloop.run(_serve(load_settings().worker))


async def _serve(settings: WorkerSettings) -> None:
    model = _model(settings)
    decoder = InputDecoder(model.schema, settings.limits, settings.broker.topics.translated)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    follower = Follower(
        settings.broker, catalog_handlers(model.catalog, decoder, settings.broker.topics), lambda error: ended.set()
    )
    await follower.start()
    app = _app(settings, model, decoder)
    open_page(settings.metrics_host, settings.metrics_port, "")(REGISTRY, lambda: None, lambda: None)
    bind_to_running_loop(app)
    await app.start()
    await ended.wait()
    os._exit(0)  # nothing that a benchmark leaves has to be put in order


def _model(settings: WorkerSettings) -> ServingModel:
    version = newest_version(settings.registry.address, settings.registry.model)
    if version is None:
        raise LiverankError("the registry has no version")
    folder = fetch_bundle(settings.registry, version, settings.data)
    return load_model(folder, Catalog(read_manifest(folder).schema.item_numeric), settings.serving)


def _app(settings: WorkerSettings, model: ServingModel, decoder: InputDecoder) -> Any:
    topics = settings.broker.topics
    app = faust.App(
        settings.broker.group,
        **connection.for_faust(settings.broker),
        store="rocksdb://?driver=rocksdict",
        datadir=str(settings.data),
        consumer_auto_offset_reset="earliest",
        topic_partitions=settings.broker.partitions,
        key_serializer="raw",
        value_serializer="raw",
        cython_optimizations=True,
        web_enabled=False,
        autodiscover=False,
    )
    rows = app.Table(TABLE, partitions=settings.broker.partitions, key_type=bytes, value_type=bytes, default=bytes)
    rankings = app.topic(topics.called(RANKINGS), key_type=bytes, value_type=bytes)

    async def handled(at: Position, key: bytes, value: bytes) -> None:
        try:
            record = decoder(at, key, value, now_ms())
        except InvalidRecord:
            return
        assert isinstance(record, UserInput)
        before = decode_row(rows[key])
        row = apply_input(before, record, at, model.schema, settings.rows)
        rows[key] = encode_row(row)
        user_id = key.decode()
        for listed in row.current:
            shown = row.of(listed)
            (ranked,) = model.rank([(user_id, shown)])
            cause = Cause(kind=at.topic, topic=at.broker_topic, partition=at.partition, offset=at.offset, ts=at.ts)
            await rankings.send(key=key, value=encode_ranking(user_id, shown, ranked, cause, model.version))

    def agent_of(topic: str) -> Any:
        async def agent(stream: Any) -> None:
            async for event in stream.events():
                found = event.message
                called, ts = topics.called(topic), round(1000 * found.timestamp)
                await handled(Position(topic, found.partition, found.offset, ts, called), found.key, event.value)

        return agent

    for topic in USER_INPUTS:
        inputs = app.topic(
            topics.called(topic), key_type=bytes, value_type=bytes, partitions=settings.broker.partitions
        )
        app.agent(inputs, name=topic)(agent_of(topic))

    @app.task  # type: ignore[untyped-decorator]  # Faust starts tasks once tables are recovered
    async def ready() -> None:
        if settings.ready_file is not None:
            Path(settings.ready_file).write_text("ready\n", encoding="utf-8")  # noqa: ASYNC240 (once)

    return app
