"""`liverank up`: broker, topics, a first model, worker, trainer and the page for people; all supervised.

They are the same processes as on many machines. What it keeps lies in `DIR/.liverank`,
so a second `up` goes on where the first one ended.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console, RenderableType
from rich.live import Live

from liverank.local.broker import Broker, kind_of, start_broker
from liverank.local.processes import Process, ProcessError
from liverank.local.signals import handled
from liverank.measure.figures import FigureMeter, Figures
from liverank.settings import Settings, changed, environment_of
from liverank.up.first_model import check_files, prepare_registry
from liverank.up.places import Places, with_page
from liverank.up.supervisor import Part
from liverank.up.view import PartLine, screen_of, traffic_lines
from liverank.web_settings import why_no_page
from ranker.contracts.clock import now_ms
from streams.kafka.admin import create_topics

log = logging.getLogger(__name__)

_TEND_S, _PAGE_EVERY_S, _SUMMARY_EVERY_S = 0.2, 1.0, 10.0
_ERRORS_KEPT = 20


@dataclass(frozen=True)
class UpOptions:
    """What the person chose."""

    folder: Path
    broker: str = "kafka"  # an address, or kafka
    port: int | None = None  # of the broker that is started here; 0: any free one
    live: bool = False  # whether there is a terminal to draw on
    web: bool = True  # whether the page is served


@dataclass
class Installation:
    """What runs, and what is known of it."""

    places: Places
    settings: Settings
    address: str
    parts: list[Part] = field(default_factory=list)
    figures: Figures = field(default_factory=lambda: Figures(at=0, workers=0, missing=[]))
    learned: int = 0
    page: str | None = None  # where people find it
    errors: deque[str] = field(default_factory=lambda: deque(maxlen=_ERRORS_KEPT))
    meter: FigureMeter = field(default_factory=FigureMeter)

    def lines(self, now: float) -> list[PartLine]:
        """Each part as it is shown."""
        return [PartLine(part.name, part.state(now), part.attempt.restarts, part.attempt.reason) for part in self.parts]

    def read_pages(self) -> None:
        """Take in what worker and trainer tell; one that is down, or not up yet, tells nothing."""
        running = {part.name: part.running for part in self.parts}
        worker, trainer, web = (running.get(name) for name in ("worker", "trainer", "web"))
        if self.page is None and isinstance(web, Process):
            self.page = web.address()
        told, learner = _page_of(worker), _page_of(trainer)
        if told is not None:
            self.figures = self.meter.read(now_ms(), [told], learner)
            self.learned = self.figures.trainer.examples if self.figures.trainer is not None else self.learned


def _page_of(running: object) -> str | None:
    """What a process tells; None while it tells nothing."""
    with suppress(ProcessError):
        return running.page() if isinstance(running, Process) else None
    return None


class _OwnBroker:
    """The broker as a part: it is started on its port again where it ended."""

    def __init__(self, broker: Broker) -> None:
        self._broker = broker

    def ended(self) -> str | None:
        return None if self._broker.running else "the process is gone; its log is broker.log"

    def stop(self) -> None:
        """Its context ends it, after everything that uses it."""


def run_up(options: UpOptions, console: Console) -> None:
    """Run an installation until Ctrl-C or SIGTERM; what it started is gone when this returns or raises.

    Args:
        options: what the person chose.
        console: where it tells what it does.

    Raises:
        LiverankError: it cannot start; what is missing or wrong.
    """
    places, stop = Places(options.folder), threading.Event()
    with ExitStack() as stack:
        stack.enter_context(places.held())
        stack.enter_context(handled(lambda *_: stop.set()))
        try:
            installation = _set_up(options, places, stack, console, stop)
            if installation is not None:
                _go_on(installation, options, console, stop)
        finally:
            with handled(signal.SIG_IGN):  # a second Ctrl-C must not interrupt the end
                stack.close()
    console.print("all ended")


def _set_up(
    options: UpOptions, places: Places, stack: ExitStack, console: Console, stop: threading.Event
) -> Installation | None:
    """Everything, in the order in which it needs each other; None where it was asked to stop before."""
    broker, own = None, kind_of(options.broker) == "kafka"
    check_files(places, places.settings(None))
    if own:
        console.print("the broker starts")
        port = places.port(options.port)
        broker = stack.enter_context(start_broker("kafka", places.of("kafka"), port=port))
    settings = places.settings(broker.address if broker else options.broker)
    no_page = why_no_page(settings.web, wanted=options.web)
    settings = settings if no_page else with_page(settings)
    installation = Installation(places, settings, settings.broker.addresses)
    console.print(f"broker: {installation.address}")
    if no_page:
        console.print(f"no page: {no_page}")
    made = create_topics(settings.broker)
    if made:
        console.print(f"topics: {', '.join(made)}")
    prepare_registry(places, settings, console, stop)
    if stop.is_set():
        return None
    now = time.monotonic()
    if broker is not None:
        installation.parts.append(Part("broker", lambda: _restarted(broker), lambda: broker.running, now))
    for name in ("worker", "trainer", *([] if no_page else ["web"])):
        ready = places.of(name) / "ready"
        part = Part(name, _starter(name, places, settings, ready), ready.exists, now)
        stack.callback(part.stop)
        installation.parts.append(part)
    stack.callback(_ask_to_stop, installation.parts)  # all of them, before the first is waited for
    return installation


def _restarted(broker: Broker) -> _OwnBroker:
    broker.start()
    return _OwnBroker(broker)


def _starter(name: str, places: Places, settings: Settings, ready: Path) -> Callable[[], Process]:
    def start() -> Process:
        ready.unlink(missing_ok=True)
        given = environment_of(changed(settings, **{"web_ready_file" if name == "web" else "ready_file": ready}))
        config = ["--config", str(places.config)] if places.config is not None else []
        return Process([name, *config], given, places.of(name))

    return start


def _ask_to_stop(parts: list[Part]) -> None:
    for part in parts:
        if isinstance(part.running, Process):
            part.running.ask_to_stop()


def _go_on(installation: Installation, options: UpOptions, console: Console, stop: threading.Event) -> None:
    """Tend the parts until asked to stop."""
    tell, told_page = _teller(installation, options, console), False
    live = Live(console=console, auto_refresh=False) if options.live else None
    with live or nullcontext():
        page_at = summary_at = time.monotonic()
        while not stop.wait(_TEND_S):
            now = time.monotonic()
            for part in installation.parts:
                told = part.tend(now)
                if told is not None:
                    tell(told)
            if now >= page_at:
                installation.read_pages()
                page_at = now + _PAGE_EVERY_S
                if installation.page is not None and not told_page:
                    console.print(f"page: {installation.page}")
                    told_page = True
            if live is not None:
                live.update(_screen(installation, now), refresh=True)
            elif now >= summary_at:
                states = ", ".join(f"{line.name} {line.state}" for line in installation.lines(now))
                log.info("%s; %s", states, "; ".join(traffic_lines(installation.figures, installation.learned)))
                summary_at = now + _SUMMARY_EVERY_S


def _teller(installation: Installation, options: UpOptions, console: Console) -> Callable[[str], None]:
    def tell(line: str) -> None:
        if "ended" in line or "does not start" in line:
            installation.errors.append(f"{time.strftime('%H:%M:%S')} {line}")
        if not options.live:
            log.warning("%s", line)

    return tell


def _screen(installation: Installation, now: float) -> RenderableType:
    return screen_of(
        installation.address,
        installation.lines(now),
        installation.figures,
        installation.learned,
        list(installation.errors),
    )
