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

from liverank.bench.peers.work import PeerWork
from liverank.serve.page import open_page
from liverank.settings import load_settings
from ranker.contracts.inputs import Position
from ranker.contracts.topics import RANKINGS, USER_INPUTS
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
    work = PeerWork(settings)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    follower = Follower(
        settings.broker,
        catalog_handlers(work.model.catalog, work.decoder, settings.broker.topics),
        lambda error: ended.set(),
    )
    await follower.start()
    app = _app(settings, work)
    open_page(settings.metrics_host, settings.metrics_port, "")(REGISTRY, lambda: None, lambda: None)
    bind_to_running_loop(app)
    await app.start()
    await ended.wait()
    os._exit(0)  # nothing that a benchmark leaves has to be put in order


def _app(settings: WorkerSettings, work: PeerWork) -> Any:
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
        done = work(at, key, value, rows[key])
        if done is None:
            return
        rows[key] = done[0]
        for ranking in done[1]:
            await rankings.send(key=key, value=ranking)

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
