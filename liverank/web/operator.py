"""The operator's side: figures of metrics pages, what topics say of versions and dead letters, and the commands.

Nothing is read while nobody looks.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
import urllib.request
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Literal, TypeVar

from msgspec import Struct
from msgspec.structs import asdict

from liverank.gateway.admission import SHORTEST_TOKEN
from liverank.measure.figures import FigureMeter, Figures
from liverank.operate.look import newest_dead_letters
from liverank.operate.models import pin, promote, read_control, rollback
from liverank.settings import Settings
from liverank.web.events import Told, server_sent
from ranker.contracts.clock import now_ms
from ranker.contracts.errors import LiverankError
from ranker.contracts.records import ModelUpdate
from ranker.registry.bundle import read_remote_manifest, registry_versions
from ranker.rollout.stages import stage_of

log = logging.getLogger(__name__)

_Read = TypeVar("_Read")
_PAGE_S, _BROKER_S, _KEEP_ALIVE_S = 2.0, 3.0, 15.0
_TOPICS_EVERY = 2.5  # of as many readings of the metrics one reads the topics
_SHOWN_VERSIONS, _SHOWN_LETTERS, _HISTORY = 8, 12, 300
_SHOWN_VALUE = 300  # letters of what was refused
_FORGOTTEN_MS = 60_000  # after so long without anybody who looks the lines begin anew
#: No proxy stands between this process and those of its installation.
_open = urllib.request.build_opener(urllib.request.ProxyHandler({})).open


class ModelCommand(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What an operator asks of the models. Without a version: what `liverank model` takes then."""

    what: Literal["promote", "rollback", "pin"]
    version: str | None = None
    reason: str | None = None


class ShownVersion(Struct, frozen=True, kw_only=True):
    """A version of the registry. `created`: milliseconds since the epoch."""

    version: str
    stage: str | None = None
    created: int | None = None
    metrics: dict[str, float] = {}


class ControlView(Struct, frozen=True, kw_only=True):
    """What the topics say of models and refused inputs; `problems`: what could not be read, a sentence each."""

    serving: str | None = None
    pinned: bool = False
    canary: str | None = None
    share: float = 0.0
    versions: list[ShownVersion] = []
    dead_letters: list[dict[str, Any]] = []
    problems: list[str] = []


class Operator:
    """Reads while somebody looks, and tells all who do. Belongs to one event loop."""

    def __init__(self, settings: Settings) -> None:
        """
        Args:
            settings: whose pages, topics and registry.

        Raises:
            LiverankError: the token of the environment is none.
        """
        self._settings = settings
        self._token = settings.web.operator_token
        if self._token and len(self._token) < SHORTEST_TOKEN:
            raise LiverankError(
                f"LIVERANK_WEB_OPERATOR_TOKEN has less than {SHORTEST_TOKEN} letters; give a longer one"
            )
        own, worker, trainer = settings.web, settings.worker, settings.trainer
        self._workers = page_addresses(own.workers, worker.metrics_host, worker.metrics_port)
        self._trainers = page_addresses(own.trainer, trainer.metrics_host, trainer.metrics_port)
        self._meter, self._told = FigureMeter(), Told()
        self._history: deque[Figures] = deque(maxlen=_HISTORY)
        self._manifests: dict[str, ShownVersion] = {}
        self._watchers = 0
        self._reading: list[asyncio.Task[None]] = []
        self._ending = False

    @property
    def has_token(self) -> bool:
        """Whether anybody may have another model serve from here."""
        return bool(self._token)

    def knows(self, token: str) -> bool:
        """Whether this is the operator's token; compared in constant time."""
        return self.has_token and hmac.compare_digest(token.encode(), self._token.encode())

    def end(self) -> None:
        """Whoever looks is told no more."""
        self._ending = True
        self._stop()
        self._last = asyncio.ensure_future(self._told.tell("end", None))  # so that nobody waits for it

    async def watched(self) -> AsyncIterator[bytes]:
        """The figures as server-sent events: those of the last minutes, then each reading."""
        self._watchers += 1
        try:
            if not self._reading:
                self._begin()
                self._reading = [asyncio.create_task(one) for one in (self._tell_figures(), self._tell_control())]
            for figures in list(self._history):
                yield server_sent("past", figures)
            turn = 0
            while not self._ending:
                turn, events = await self._told.after(turn, _KEEP_ALIVE_S)
                yield events
        finally:
            self._watchers -= 1
            if not self._watchers:
                self._stop()

    async def command(self, asked: ModelCommand) -> ModelUpdate:
        """Do what `liverank model` does, and look again at once.

        Raises:
            LiverankError: as the command.
        """
        done = await asyncio.to_thread(_commanded, self._settings, asked)
        log.warning("an operator of the page has %s %s", done.version, done.stage)
        await self._told.tell("control", await asyncio.to_thread(self._control))
        return done

    def _begin(self) -> None:
        """Nobody has looked for a while: what was known then is not of now."""
        self._told = Told()
        if self._history and now_ms() - self._history[-1].at > _FORGOTTEN_MS:
            self._history.clear()

    def _stop(self) -> None:
        for task in self._reading:
            task.cancel()
        self._reading = []

    async def _tell_figures(self) -> None:
        every_s = self._settings.web.refresh_ms / 1000
        async for figures in _again_and_again(self._figures, every_s):
            self._history.append(figures)
            await self._told.tell("figures", figures)

    async def _tell_control(self) -> None:
        every_s = _TOPICS_EVERY * self._settings.web.refresh_ms / 1000
        async for view in _again_and_again(self._control, every_s):
            await self._told.tell("control", view)

    def _figures(self) -> Figures:
        missing: list[str] = []

        def pages(addresses: list[str], what: str, variable: str) -> list[str]:
            if not addresses:
                missing.append(f"no metrics page of a {what} is named; {variable} is host:port of one")
            found = []
            for address in addresses:
                try:
                    found.append(page_at(address))
                except OSError as error:
                    reason = getattr(error, "reason", error)
                    missing.append(f"no {what} answers at {address} ({getattr(reason, 'strerror', None) or reason})")
            return found

        workers = pages(self._workers, "worker", "LIVERANK_WEB_WORKERS")
        trainers = pages(self._trainers, "trainer", "LIVERANK_WEB_TRAINER")
        return self._meter.read(now_ms(), workers, trainers[0] if trainers else None, missing)

    def _control(self) -> ControlView:
        settings, problems = self._settings, list[str]()
        found: dict[str, Any] = {}
        with _told_in(problems):
            stages = read_control(settings, _BROKER_S).stages
            found = {name: getattr(stages, name) for name in ("serving", "pinned", "canary", "share")}
            found["versions"] = self._versions(lambda version: stage_of(version, stages))
            named = {stages.serving, stages.canary} - {one.version for one in found["versions"]} - {None}
            found["versions"] += [ShownVersion(version=str(one), stage=stage_of(str(one), stages)) for one in named]
        with _told_in(problems):
            letters = newest_dead_letters(settings, _SHOWN_LETTERS, _BROKER_S)[::-1]
            found["dead_letters"] = [letter | {"value": letter["value"][:_SHOWN_VALUE]} for letter in letters]
        return ControlView(**found, problems=problems)

    def _versions(self, stage: Callable[[str], str | None]) -> list[ShownVersion]:
        """The newest versions of the registry, and those in a stage, the newest first."""
        registry = self._settings.registry
        held = registry_versions(registry.address, registry.model)
        shown = [one for at, one in enumerate(held[::-1]) if at < _SHOWN_VERSIONS or stage(one) is not None]
        for version in shown:
            if version not in self._manifests:
                with suppress(LiverankError):  # it was pruned meanwhile, or is being written
                    manifest = read_remote_manifest(registry, version)[0]
                    self._manifests[version] = ShownVersion(
                        version=version, created=manifest.created, metrics=manifest.metrics
                    )
        self._manifests = {version: self._manifests[version] for version in shown if version in self._manifests}
        return [ShownVersion(**asdict(one) | {"stage": stage(one.version)}) for one in self._manifests.values()]


async def _again_and_again(read: Callable[[], _Read], every_s: float) -> AsyncIterator[_Read]:
    """What a reading gives, on a thread and with a pause between two; one that fails is left out."""
    while True:
        try:
            found = await asyncio.to_thread(read)
        except Exception:
            log.exception("figures cannot be read")
        else:
            yield found
        await asyncio.sleep(every_s)


@contextmanager
def _told_in(problems: list[str]) -> Iterator[None]:
    """What is wrong becomes a sentence in a list."""
    try:
        yield
    except LiverankError as error:
        problems.append(str(error))


def page_addresses(given: str, host: str, port: int) -> list[str]:
    """The addresses of metrics pages.

    Args:
        given: `host:port` or whole addresses, with commas; empty: what the process itself is told.
        host: on which that listens.
        port: where; below 1 nobody knows where.
    """
    named = [one.strip() for one in given.split(",") if one.strip()]
    if not named and port > 0:
        reached = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, f"[{host}]" if ":" in host else host)  # noqa: S104
        named = [f"{reached}:{port}"]
    addresses = [one if "://" in one else f"http://{one}" for one in named]
    return [one if "/" in one.partition("://")[2] else f"{one}/metrics" for one in addresses]


def page_at(address: str) -> str:
    """A metrics page as it is now.

    Raises:
        OSError: nobody answers there.
    """
    with _open(address, timeout=_PAGE_S) as answer:
        return str(answer.read(), "utf-8")


def _commanded(settings: Settings, asked: ModelCommand) -> ModelUpdate:
    reason = asked.reason or "by the page"
    if asked.what == "promote":
        if asked.version is None:
            raise LiverankError("name the version that is to serve")
        return promote(settings, asked.version, reason)
    return (pin if asked.what == "pin" else rollback)(settings, asked.version, reason)
