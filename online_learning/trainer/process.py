"""The trainer process: from settings to a stream that is learned from, and to an orderly end.

Exactly once: the offsets of `examples` live in the checkpoint, beside the weights that were made of what is before
them. A process killed at any moment goes on from its newest whole checkpoint and reads again what came after it; so in
the history of the weights that any checkpoint holds, each example was learned from once. Bundles and deltas of a lost
stretch have been served meanwhile; what is learned anew replaces them.

Ends with status 0 on SIGTERM or SIGINT, after a last checkpoint.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from functools import partial
from typing import Any

import msgspec
import torch
import uvloop
from aiokafka.errors import KafkaError
from threadpoolctl import threadpool_limits

from online_learning.learning.parallel import Group, join_group
from online_learning.releases.origins import fetch_origin
from online_learning.settings import TrainerSettings
from online_learning.trainer import startup
from online_learning.trainer.checkpoint import KEPT
from online_learning.trainer.connection import AT_ONCE, ENDING_S, Connection, Given, Unreached
from online_learning.trainer.metrics import TrainerMetrics
from online_learning.trainer.outcomes import Publish
from online_learning.trainer.preparing import example_mark
from online_learning.trainer.reading import Reading
from online_learning.trainer.releases import Draft, Releases
from online_learning.trainer.startup import assist
from online_learning.trainer.state import capture
from online_learning.trainer.tracking import numbers_of, open_tracker
from online_learning.trainer.trainer import Trainer
from ranker.contracts.clock import now_ms
from ranker.contracts.errors import LiverankError
from ranker.contracts.records import ModelUpdate
from ranker.contracts.topics import ERASURES, MODEL_DELTAS, MODEL_UPDATES
from ranker.items.catalog import Catalog
from ranker.registry.bundle import newest_version
from ranker.registry.settings import shown_address
from ranker.registry.signatures import check_signing
from ranker.rollout.stages import Stages, follow, key_of

log = logging.getLogger(__name__)

_REGISTRY_EVERY_S = 1.0
_HEARD_WITHIN_S = 60.0  # longer than a client takes to find a broker that is back
_PUBLISHED_WITHIN_S = 2.0  # what is being published when the process is asked to end
_ANSWER_S = 10.0  # for so long the event loop may keep silent

#: Opens the page of a process: its numbers, what keeps it from being ready, why it should be started anew.
_Page = Callable[[Any, Callable[[], str | None], Callable[[], str | None]], None]


def run_trainer(
    settings: TrainerSettings,
    connection: Mapping[str, Any],
    group_id: str,
    page: _Page,
    allowed: Callable[[], None],
) -> None:
    """Learn until a signal asks to stop. Started by torchrun, every process but the first only takes part in steps.

    Args:
        settings: of the process.
        connection: how aiokafka's clients reach the broker.
        group_id: the consumer group under which the broker is told how far it is.
        page: opens the process's page.
        allowed: asks the broker whether it takes this process and lets it do what a trainer does; raises a
            `LiverankError` where not.

    Raises:
        SystemExit: with status 1, after a fatal error.
    """
    logging.getLogger("aiokafka").setLevel(logging.WARNING)
    group = join_group()
    if group is not None and group.rank:
        assist(settings, group)
        return
    torch.set_num_threads(settings.threads)
    try:
        check_signing(settings.registry)
        allowed()
        # A second thread of numpy's spins on after each product, on a core that a worker beside it may want.
        with threadpool_limits(settings.threads, "blas"):
            uvloop.run(TrainerProcess(settings, connection, group_id, page, group).serve())
    except (LiverankError, KafkaError, OSError) as error:
        log.critical("the trainer ends: %s", " ".join(str(error).split()))
        sys.exit(1)


class TrainerProcess:
    """One process's life. The trainer and the catalogue are touched by one thread at a time."""

    def __init__(
        self,
        settings: TrainerSettings,
        connection: Mapping[str, Any],
        group_id: str,
        page: _Page,
        group: Group | None = None,
    ) -> None:
        """
        Args:
            settings: of the process.
            connection: how aiokafka's clients reach the broker.
            group_id: the consumer group's name.
            page: opens the process's page.
            group: the other processes of a step.
        """
        self._settings, self._group, self._page = settings, group, page
        self._unready: str | None = "starting"  # what it does before it learns; None: it learns
        self._stop = asyncio.Event()
        self._learning = ThreadPoolExecutor(1, "learning")
        self._metrics = TrainerMetrics()
        self._kafka = Connection(settings, connection, group_id, self._metrics, self._stop)
        self._topics = settings.topics
        self._reading = Reading(self._metrics, self._topics, settings.registry.model)
        self._tracker = open_tracker(settings.tracking)
        self._updates: list[ModelUpdate] = []  # read, and not yet complied with
        self._writing: asyncio.Task[None] | None = None
        self._purges = 0  # checkpoints to write until none holds an erased user
        self._orderly = False  # whether it has come to its offsets, and nothing is left behind that hangs

    async def serve(self) -> None:
        """Run to the end.

        Raises:
            LiverankError: what it cannot go on with.
            OSError: its folder cannot be written.
        """
        self._loop = loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)
        clients = AsyncExitStack()
        try:
            self._page(self._metrics.registry, lambda: self._unready, self._dead)
            with suppress(Unreached):
                await self._kafka.connect(clients)
                self._orderly = await self._started()
                if self._orderly:
                    with suppress(Unreached):
                        await self._go_on()
                    await self._end()
        finally:
            self._learning.shutdown(wait=self._orderly, cancel_futures=True)
            self._tracker.close()
            # aiokafka lets out that it ends a fetch of its own that waits for a broker.
            with suppress(TimeoutError, asyncio.CancelledError):
                async with asyncio.timeout(ENDING_S):
                    await clients.aclose()
        log.info("stopped")
        if not self._orderly:
            logging.shutdown()
            os._exit(0)  # an orderly end would wait for threads, and they perhaps for a registry

    def _dead(self) -> str | None:
        """Why only a restart would help; asked on a thread of the page's. A broker that is away is waited for."""
        answered = threading.Event()
        self._loop.call_soon_threadsafe(answered.set)
        return None if answered.wait(_ANSWER_S) else f"the event loop has not answered for {_ANSWER_S:.0f} s"

    async def _started(self) -> bool:
        """`_start`, which is left where it is once the process is asked to stop: nothing of it must be ended in order.

        Returns:
            Whether it came to its end, and the trainer stands at its offsets.
        """
        starting, asked = asyncio.create_task(self._start()), asyncio.create_task(self._stop.wait())
        await asyncio.wait({starting, asked}, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        if starting.done():
            return starting.result()
        starting.cancel()
        return False

    async def _start(self) -> bool:
        """Read what is known, take up the trainer, and stand at its offsets; False where asked to stop before."""
        settings = self._settings
        await self._kafka.read_all(self._kafka.control, self._control_record)
        known = Stages()
        announced: dict[str, str] = {}  # version -> sha256 of its manifest
        for update in self._updates:
            known = follow(known, update)
            announced[update.version] = update.sha256
        self._updates.clear()
        version = known.serving or await self._first_version()
        if version is None:
            return False
        fetch = partial(fetch_origin, settings)
        serving = await asyncio.to_thread(fetch, version, announced.get(version))
        self._catalog = Catalog(serving.schema.item_numeric)
        self._catalog.expect(serving.encoder, len(serving.tables.reduction))
        self._reading = Reading(self._metrics, self._topics, settings.registry.model, serving.schema)
        await self._kafka.read_all(self._kafka.items, self._item_record)
        if self._group is not None:
            self._group.broadcast(serving)
        opening = partial(startup.open_trainer, settings, serving, known, self._catalog, fetch, self._group)
        self._trainer: Trainer = await self._in_turn(opening)
        self._releases: Releases = await self._in_turn(partial(Releases, settings, self._trainer, known, self._metrics))
        await self._in_turn(self._releases.begin)
        await self._kafka.assign(self._trainer.offsets)
        self._unready = None
        log.info("learning on from %s; %d examples so far", version, self._trainer.trained)
        if settings.ready_file is not None:
            settings.ready_file.write_text(f"{os.getpid()}\n", encoding="utf-8")
        return True

    async def _first_version(self) -> str | None:
        """The newest version of the registry, where nothing was announced; it is waited for."""
        settings, told = self._settings, False
        while not self._stop.is_set():
            version = await asyncio.to_thread(newest_version, settings.registry.address, settings.registry.model)
            if version is not None:
                return version
            if not told:
                where = shown_address(settings.registry.address)
                log.warning("waiting for the first bundle of model %r in %s", settings.registry.model, where)
            told, self._unready = True, "waiting for the first bundle"
            await asyncio.sleep(_REGISTRY_EVERY_S)
        return None

    async def _go_on(self) -> None:
        """The stream: follow, learn, publish, until asked to stop."""
        while not self._stop.is_set():
            await self._follow()
            records = await self._kafka.gather(self._settings.batch * self._trainer.one_of)
            if records and not await self._learn(records):
                continue
            now = now_ms()
            due = self._trainer.due(now)
            if Publish.DELTA in due and not (self._releases.stages.pinned or self._trainer.versions.held):
                await self._send_deltas(now)
            if (Publish.BUNDLE in due or self._purges) and self._writing is None:
                self._purges = max(0, self._purges - 1)
                await self._take_up_partitions()
                # Held by no name here: a draft's state would stay until the next one is made.
                self._writing = asyncio.create_task(
                    self._write(await self._in_turn(partial(self._releases.draft, now)))
                )

    async def _end(self) -> None:
        """The last checkpoint."""
        self._unready = "stopping"
        if self._writing is not None:
            await asyncio.wait({self._writing}, timeout=_PUBLISHED_WITHIN_S)
            if not self._writing.done():
                log.warning("a publication that does not end is left behind; learning goes on from the last checkpoint")
                self._orderly = False
                return
            with suppress(Unreached):
                self._writing.result()
        state = await self._in_turn(partial(capture, self._trainer))
        await asyncio.to_thread(self._releases.save, state)
        await self._kafka.commit(state.facts["offsets"])
        await self._in_turn(self._trainer.optimisation.dismiss)
        self._releases.close()

    async def _learn(self, records: list[Any]) -> bool:
        """Learn from records in their order; False where the trainer went back to its checkpoint instead."""
        await self._kafka.tell_of_missing(self._trainer.offsets, records)
        examples = []
        for record in records:
            if self._topics.own(record.topic) == ERASURES:
                await self._in_turn(partial(self._reading.erasure, record, self._erase))
            elif (example := self._reading.example(record)) is not None:
                examples.append(example)
        offsets = {f"{record.topic}-{record.partition}": record.offset + 1 for record in records}
        began = time.monotonic()
        waiting = await self._kafka.waiting()
        self._metrics.lag.set(waiting)
        done = await self._in_turn(partial(self._trainer.learn, examples, now_ms(), offsets, waiting))
        self._metrics.learned(done, self._trainer, time.monotonic() - began)
        for window in done.windows:
            self._metrics.window(window)
            self._tracker.log(numbers_of(window), self._trainer.trained)
            log.info("progressive: %s", msgspec.json.encode(window).decode())
        if done.diverged:
            await self._roll_back(done.refused)
        return not done.diverged

    def _erase(self, user_id: str, until: int) -> None:
        """Forget a user, up to a time."""
        gone = self._trainer.forget(user_id, until)
        self._purges = KEPT
        log.info("a user was erased, and %d of their examples", gone)

    async def _roll_back(self, refused: tuple[str, ...]) -> None:
        """Take the newest checkpoint up again, and read what came after it anew, but for the refused examples."""
        if self._writing is not None:
            await self._writing
        await self._in_turn(self._releases.roll_back)
        self._trainer.refuse(refused)
        await self._kafka.assign(self._trainer.offsets)
        self._metrics.rollbacks.inc()
        named = ", ".join(map(example_mark, refused))
        log.error("back at the checkpoint of %d examples; never learned from: %s", self._trainer.trained, named)

    async def _send_deltas(self, now: int) -> None:
        model = self._settings.registry.model
        for delta in await self._in_turn(partial(self._trainer.deltas, now, model)):
            await self._kafka.reached(self._kafka.announce(MODEL_DELTAS, model.encode(), delta))
            self._metrics.deltas.inc()
            self._metrics.delta_rows.inc(len(delta.rows))

    async def _write(self, draft: Draft) -> None:
        """Checkpoint, registry, announcement, in this order; learning goes on meanwhile.

        Raises:
            LiverankError: the broker does not say what was announced meanwhile.
        """
        releases, kafka = self._releases, self._kafka
        await asyncio.to_thread(releases.save, draft.state)
        await self._kafka.commit(draft.state.facts["offsets"])
        draft = draft.kept()
        update = await asyncio.to_thread(releases.write, draft)
        if update is None:
            return
        try:
            async with asyncio.timeout(_HEARD_WITHIN_S):
                await kafka.reached(kafka.read_all(kafka.control, self._control_record, while_stopping=True))
        except TimeoutError as error:
            raise LiverankError(f"{MODEL_UPDATES} cannot be read to its end, so nothing is announced on it") from error
        self._take_updates()
        if releases.confirm(draft, update):
            await kafka.reached(kafka.announce(MODEL_UPDATES, key_of(update), update))
            await asyncio.to_thread(releases.prune)

    async def _take_up_partitions(self) -> None:
        """Topics may have been given more of them since they were taken."""
        if self._kafka.grown:
            log.warning("more partitions are read from now on: examples or erasures have some that they had not")
            await self._kafka.assign(self._trainer.offsets)

    async def _follow(self) -> None:
        """Items, and which versions serve, as of now."""
        for consumer, handle in ((self._kafka.items, self._item_record), (self._kafka.control, self._control_record)):
            fetched = await consumer.getmany(timeout_ms=0, max_records=AT_ONCE)
            for records in fetched.values():
                for record in records:
                    handle(record)
        if self._writing is not None and self._writing.done():
            writing, self._writing = self._writing, None
            writing.result()  # a checkpoint that cannot be written, or a broker that is gone, ends the process
        self._take_updates()
        if await self._in_turn(self._releases.comply):
            self._purges = max(self._purges, 1)  # a checkpoint of the new line, soon

    def _take_updates(self) -> None:
        """Nothing is awaited between reading an update and this, so they are taken in the topic's order."""
        for update in self._updates:
            self._releases.announced(update)
        self._updates.clear()

    def _control_record(self, record: Any) -> None:
        self._reading.update(record, self._take)

    def _take(self, update: ModelUpdate) -> None:
        if update.model == self._settings.registry.model:
            self._updates.append(update)

    def _item_record(self, record: Any) -> None:
        self._reading.item(record, self._catalog)

    async def _in_turn(self, work: Callable[[], Given]) -> Given:
        """Run what touches the trainer, on its thread."""
        return await asyncio.get_running_loop().run_in_executor(self._learning, work)
