"""The worker process: from settings to a served stream, and to an orderly end.

It ends with status 0 on SIGTERM or SIGINT, and with 1 and one line that says why on anything that it cannot go on with.
What was not committed by then comes again.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import uvloop
from faust.contrib.asgi import bind_to_running_loop
from threadpoolctl import threadpool_limits

from ranker.contracts.decoding import InputDecoder
from ranker.contracts.errors import LiverankError
from ranker.contracts.schema import unlike
from ranker.registry.encoder import EncoderError, TextEncoder, load_encoder
from ranker.serving.model import ServingModel
from streams.access.preflight import check_reached
from streams.access.rights import WORKER, check_access
from streams.assembly import Assembly
from streams.kafka.admin import TopicError, check_row_names
from streams.kafka.checks import check_topics
from streams.kafka.faults import FATAL
from streams.kafka.follower import Follower
from streams.models.catalogue import catalog_handlers
from streams.models.manager import ModelManager
from streams.settings import WorkerSettings
from streams.state.store import check_folder
from streams.telemetry.health import Health
from streams.telemetry.logs import quieten
from streams.telemetry.metrics import Metrics

log = logging.getLogger(__name__)

#: A stop that takes longer ends without the broker's confirmation of what was in flight.
STOP_WITHIN_S = 4.5
#: A ranking makes some 200 objects: with the usual thresholds (700, 10, 10) a full collection comes every few minutes.
_COLLECT_AT = (2000, 20, 1000)


#: Opens the page of a process: its numbers, what keeps it from being ready, why it should be started anew.
_Page = Callable[[Any, Callable[[], str | None], Callable[[], str | None]], None]


def run_worker(settings: WorkerSettings, page: _Page) -> None:
    """Serve until a signal asks to stop.

    Args:
        settings: of the process.
        page: opens its page.

    The process ends with it: with status 1 after a fatal error, else with 0.
    """
    quieten()
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())  # for the loop of Faust's consumer thread too
    # A second thread of numpy's spins on after each product, for 100 ms, on a core that rankings want.
    with threadpool_limits(settings.threads, "blas"):
        uvloop.run(_serve(settings, page))


async def _serve(settings: WorkerSettings, page: _Page) -> None:
    error = await WorkerProcess(settings, page).serve()
    if error is not None:
        log.critical("the worker ends: %s", " ".join(str(error).split()) or repr(error))
    logging.shutdown()
    # All that has to be ended in order is; threads that are left may wait for a lost broker or registry.
    os._exit(0 if error is None else 1)


class WorkerProcess:
    """One process's life. Belongs to one event loop."""

    def __init__(self, settings: WorkerSettings, page: _Page) -> None:
        self._settings, self._page = settings, page
        self._metrics = Metrics()
        self._stop = asyncio.Event()
        self._fatal: BaseException | None = None
        self._parts: Assembly | None = None
        self._follower: Follower | None = None
        self._models: ModelManager | None = None

    async def serve(self) -> BaseException | None:
        """Run to the end; returns the error that ended it, if one did."""
        self._loop = asyncio.get_running_loop()
        self._health = Health(self._loop)
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop.set)
        serving = asyncio.create_task(self._serve())
        stopping = asyncio.create_task(self._stop.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        if self._fatal is None and serving.done() and (error := serving.exception()):
            self._fatal = error
        if self._fatal is None:
            try:
                await asyncio.wait_for(self._close(serving), STOP_WITHIN_S)
            except TimeoutError:
                self._fatal = LiverankError(f"not stopped within {STOP_WITHIN_S} s; what was in flight comes again")
            except Exception as error:
                self._fatal = error
        return self._fatal

    def failed(self, error: BaseException) -> None:
        """End the process for an error with which it cannot go on. Any thread may call it; the first error counts."""

        def end() -> None:
            if self._fatal is None:
                self._fatal = error
                if not isinstance(error, FATAL):
                    log.error("unexpected", exc_info=error)
            self._stop.set()

        self._loop.call_soon_threadsafe(end)

    async def _serve(self) -> None:
        settings, health = self._settings, self._health
        self._page(self._metrics.registry, health.not_ready, health.dead)
        health.unready = "looking at the topics"
        await asyncio.to_thread(check_reached, settings.broker)
        await asyncio.to_thread(check_row_names, settings.broker)  # before rights: another key's changelog has none
        check_folder(settings)
        await asyncio.to_thread(check_access, settings.broker, WORKER)
        if problems := await asyncio.to_thread(check_topics, settings.broker):
            raise TopicError("; ".join(problems))
        health.unready = "loading a model"
        self._models = models = ModelManager(settings, self._metrics, self.failed)
        await models.start()
        catalog, model = models.catalog, models.slot.current
        assert model is not None
        encoder = await asyncio.to_thread(self._encoder, model)
        topics = settings.broker.topics
        handlers = catalog_handlers(catalog, InputDecoder(model.schema, settings.limits, topics.translated), topics)
        health.unready = "reading the catalogue"
        self._follower = Follower(settings.broker, handlers, self.failed, set_aside=self._metrics.set_aside)
        await self._follower.start()
        log.info("model %s serves; the catalogue holds %d items", model.version, catalog.count - 1)
        if (told := unlike(settings.schema, model.schema, model.version)) is not None:
            log.warning("%s", told)
        self._parts = parts = Assembly(
            settings=settings,
            models=models,
            encoder=encoder,
            metrics=self._metrics,
            failed=self.failed,
        )
        await models.follow(parts.wake, parts.watch.refused)
        health.unready = "recovering rows"
        bind_to_running_loop(parts.app)
        watching = asyncio.create_task(self._watch(parts))
        await parts.start()
        _set_up_is_no_garbage()
        self._ready()
        await parts.checkpoint(self._stop)
        await watching

    async def _watch(self, parts: Assembly) -> None:
        """A service of Faust's that crashes takes the app down without a word to its caller."""
        crashed = asyncio.create_task(parts.app._crashed.wait())
        stopped = asyncio.create_task(self._stop.wait())
        await asyncio.wait({crashed, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if crashed.done():
            self.failed(parts.app.crash_reason or LiverankError("Faust's app crashed"))

    def _encoder(self, model: ServingModel) -> TextEncoder | None:
        try:
            return load_encoder(self._settings.registry, model.encoder, self._settings.data / "encoders")
        except EncoderError as error:
            log.warning("new items' texts are not encoded: %s", error)
            return None

    def _ready(self) -> None:
        assert self._parts is not None
        if self._fatal is not None:
            return  # it ends in a moment
        self._health.follow(self._parts.work, self._parts.serves)
        self._health.unready = None
        log.info("ready")
        if self._settings.ready_file is not None:
            self._settings.ready_file.write_text(f"{os.getpid()}\n", encoding="utf-8")

    async def _close(self, serving: asyncio.Task[None]) -> None:
        """Finish what is in flight, in the order in which it came."""
        self._health.unready = "stopping"
        if self._parts is None or not self._parts.app.started:
            serving.cancel()
        if self._models is not None:
            await self._models.stop()
        if self._parts is not None:
            await self._parts.app.stop()
            self._parts.close(1.0)
        with suppress(asyncio.CancelledError):
            await serving
        if self._follower is not None:
            await self._follower.stop()
        log.info("stopped")


def _set_up_is_no_garbage() -> None:
    """Full garbage collections pass over everything that is there by now, and are rare.

    Each of them stood the whole process still for 60 ms and found nothing (10,000 items, 1,000 users).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AT)
