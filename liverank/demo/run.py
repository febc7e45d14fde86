"""`liverank demo`: the whole loop on this machine, with nothing set up before and nothing left behind.

A broker, MovieLens-100K, a first model trained on it, worker and trainer as real processes, and simulated users who
click by a taste that the model does not see (`liverank.simulate.users`). For each click the figures compare where the
chosen film stood in the order of the recall stage and in liverank's newest ranking, which covers what the user did
before (`liverank.demo.traffic.Tally`). Meanwhile the trainer learns from the clicks, and its versions replace each
other under the users (`liverank.demo.learning.Learning`).
"""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import uvloop
from rich.console import Console
from rich.live import Live

from liverank.demo.first_model import Cinema, first_model, read_cinema
from liverank.demo.learning import Learning, Pages
from liverank.demo.movielens import movielens_100k
from liverank.demo.traffic import Tally, Traffic, all_or_first_error, connected, set_within
from liverank.demo.view import DemoView, screen
from liverank.local.broker import start_broker
from liverank.local.jars import cache_dir
from liverank.local.ports import free_ports, page_port
from liverank.local.processes import Process
from liverank.local.signals import ENDING, handled
from liverank.settings import Settings, changed, environment_of, load_settings, with_topics
from liverank.simulate.tastes import tastes
from liverank.simulate.users import PopularityRecall, SimulatedUser
from liverank.web_settings import why_no_page
from ranker.contracts.clock import now_ms
from ranker.contracts.errors import BundleError, LiverankError
from ranker.registry.bundle import read_manifest
from streams.kafka import connection
from streams.kafka.admin import create_topics

_READY_S, _REFRESH_S, _WATCH_S, _PAGES_S = 120.0, 0.25, 0.2, 1.0
_FIRST_SWAP_S = 60.0  # for so long the trainer's first version is waited for
_LAST_CLICKS_S = 15.0  # ... and afterwards the rankings that have learned from the last clicks
#: Settings that the demo makes; all others may come from the environment.
_OWN = ("BROKERS", "REGISTRY", "APP", "MODEL", "READY_FILE")
_OF = {
    "worker": (*_OWN, "DATA", "METRICS_PORT", "LISTS"),
    "trainer": (*_OWN, "TRAINER_DATA", "TRAINER_METRICS_PORT", "ID_DROPOUT"),
    "web": (*_OWN, "METRICS_PORT", "TRAINER_METRICS_PORT", "LISTS", "WEB_PORT", "WEB_READY_FILE"),
}


@dataclass(frozen=True)
class DemoOptions:
    """What the user chose."""

    broker: str = "kafka"  # an address, or kafka
    live: bool = False  # whether there is a terminal to draw on
    seconds: float = 0.0  # how long the users click; 0: until Ctrl-C
    users: int = 40
    rate: float = 40.0  # events a second, of all users together
    data: Path | None = None  # MovieLens-100K; fetched where None
    web: bool = True  # whether the page for people is served


@dataclass
class DemoSystem:
    """What runs, by the time the users come."""

    settings: Settings
    cinema: Cinema
    report: dict[str, Any]
    worker: Process
    trainer: Process
    web: Process | None = None  # the page for people
    pages: Pages = field(default_factory=Pages)

    def check(self) -> None:
        """Nothing, while every process runs.

        Raises:
            ProcessError: one ended.
        """
        for process in (self.worker, self.trainer, self.web):
            if process is not None:
                process.check()

    def read_pages(self) -> None:
        """Take in what worker and trainer tell Prometheus.

        Raises:
            ProcessError: one ended, or shows nothing.
        """
        self.pages.worker(self.worker.page())
        self.pages.trainer(self.trainer.page())

    def read_manifests(self, learning: Learning) -> None:
        """Tell what the bundles of versions that ranked had learned from.

        One that the trainer has pruned meanwhile, as it does where a worker is ten versions behind, counts as having
        learned from nothing: the waits that it would have ended only get longer.
        """
        for version in learning.freshness.unknown:
            folder = Path(self.settings.registry.address) / self.settings.registry.model / version
            offsets: dict[str, int] = {}
            with suppress(BundleError):
                offsets = read_manifest(folder).offsets
            learning.freshness.manifest(version, offsets)


def run_demo(options: DemoOptions, console: Console) -> dict[str, Any]:
    """Run the demo until its seconds are over, or Ctrl-C; what it started is gone when this returns or raises.

    Args:
        options: what the user chose.
        console: where it tells what it does.

    Returns:
        The figures, with how the broker, the data and the first model came about.

    Raises:
        LiverankError: something is missing or went wrong, with the end of the log of the process concerned.
    """
    if options.users < 1 or options.rate <= 0 or options.seconds < 0:
        raise LiverankError("users must be at least 1, rate above 0, and seconds 0 or more")
    stack = ExitStack()
    try:
        with handled(signal.default_int_handler, [signal.SIGTERM]):  # as Ctrl-C does, it raises KeyboardInterrupt
            system = _set_up(options, console, stack)
            return uvloop.run(_perform(system, options, console))
    finally:
        # Ctrl-C reaches this process twice where uv or make runs it: the second must not interrupt the end.
        with handled(signal.SIG_IGN):
            stack.close()


def _set_up(options: DemoOptions, console: Console, stack: ExitStack) -> DemoSystem:
    """Data, broker, model, topics, worker and trainer, in this order; each is on the stack as soon as it runs."""
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="liverank-demo-")))
    path = options.data or movielens_100k(cache_dir(), console.print)
    cinema = read_cinema(path)
    broker = stack.enter_context(start_broker(options.broker, folder / "broker"))
    console.print(f"broker: {broker.kind} at {broker.address}")
    served, ports = load_settings(), free_ports(2)
    if no_page := why_no_page(served.web, wanted=options.web):
        console.print(f"no page: {no_page}")
    settings = changed(
        with_topics(Settings(), served.topics),
        brokers=broker.address,
        registry=str(folder / "registry"),
        data=folder / "worker" / "data",
        trainer_data=folder / "trainer" / "data",
        app="liverank-demo",
        model=f"demo-{folder.name[-8:]}",  # of its own: a broker that was there before may know another demo's model
        lists=1,  # its people look at one list at a time
        metrics_port=ports[0],
        trainer_metrics_port=ports[1],
        web_port=-1 if no_page else page_port(served.web.port, Settings().web.port),
        id_dropout=0.2,  # the first model hides no id row, but learning on from single clicks has to
    )
    model = first_model(cinema, path, settings.registry.address, settings.registry.model, console)
    console.print(f"first model: {model.version}, from {model.examples} clicks in {model.seconds:.0f} s")
    create_topics(settings.broker)
    processes = _processes(settings, folder, console, stack)
    # What training left in memory is not looked through again: a collection of it would take longer than a ranking.
    gc.collect()
    gc.freeze()
    stack.callback(gc.unfreeze)
    report = {
        "broker": {"kind": broker.kind, "address": broker.address},
        "data": str(path),
        "training": msgspec.to_builtins(model),
    }
    return DemoSystem(settings, cinema, report, processes["worker"], processes["trainer"], processes.get("web"))


def _processes(settings: Settings, folder: Path, console: Console, stack: ExitStack) -> dict[str, Process]:
    """Worker, trainer and the page, all ready."""
    ready, processes = {}, {}
    for name in _OF if settings.web.port >= 0 else ("worker", "trainer"):
        ready[name] = folder / name / "ready"
        given = changed(settings, **{"web_ready_file" if name == "web" else "ready_file": ready[name]})
        processes[name] = Process([name], environment_of(given, *_OF[name]), folder / name)
        stack.callback(processes[name].stop)
    for process in processes.values():
        stack.callback(process.ask_to_stop)  # all of them, before the first is waited for
    for name, process in processes.items():
        with console.status(f"the {name} starts"):
            process.await_file(ready[name], _READY_S)
    if "web" in processes:
        console.print(f"page: {processes['web'].address()}")
    return processes


async def _perform(system: DemoSystem, options: DemoOptions, console: Console) -> dict[str, Any]:
    """Fill the catalogue, warm up, and let the users click until the time is over."""
    tally, name, broker = Tally(), system.settings.registry.model, system.settings.broker
    learning = Learning(name, broker.topics)
    people = demo_people(system.cinema, [f"{name}-{number:02}" for number in range(2 * options.users)])
    users, others = people[: options.users], people[options.users :]
    async with connected(connection.aiokafka(broker), broker.topics, tally, learning) as traffic:
        with console.status("the worker encodes the films' titles"):
            await traffic.send_items(system.cinema.items)
            await traffic.vectors_of(system.cinema.items, system.check)
        await traffic.warm_up(others[0])
        aside = partial(_click_aside, system, traffic, others, options.rate)
        if options.seconds:  # the trainer's first bundle takes longer than all later ones
            with console.status("the trainer makes its first version"):
                await aside(_limit(_FIRST_SWAP_S), lambda: learning.swaps > 0)
        report = await _measure(system, traffic, users, options, console)
        ended = now_ms()
        if 0 < options.seconds <= report["seconds"]:  # no click's wait is left out because it was long
            with console.status("the last clicks are learned from"):
                await aside(_stop_event(_LAST_CLICKS_S), lambda: learning.fresh(ended).delta_s.n >= tally.clicks)
    fresh = learning.fresh(ended)
    freshness = {**msgspec.to_builtins(fresh.delta_s), "never": tally.clicks - fresh.delta_s.n}
    return {**system.report, **report, "swap_errors": system.pages.refused, "freshness_s": freshness}


async def _click_aside(
    system: DemoSystem,
    traffic: Traffic,
    others: Sequence[SimulatedUser],
    rate: float,
    stop: asyncio.Event,
    enough: Callable[[], bool],
) -> None:
    """People who are not measured click until something has come about, or until `stop`."""
    await all_or_first_error([traffic.rehearse(others, rate, Random(1), stop), _watch(system, traffic, stop, enough)])


async def _measure(
    system: DemoSystem, traffic: Traffic, users: Sequence[SimulatedUser], options: DemoOptions, console: Console
) -> dict[str, Any]:
    """The users click, and what is measured are they."""
    stop, began = _stop_event(options.seconds), time.monotonic()
    until = f"for {options.seconds:g} s" if options.seconds else "until Ctrl-C"
    console.print(f"{options.users} users, {options.rate:g} events a second, {until}")
    traffic.learning.begin(now_ms())
    await all_or_first_error(
        [
            traffic.run(users, options.rate, Random(0), stop),
            _watch(system, traffic, stop),
            _read_pages(system, stop),
            _draw(system, traffic, users, console, stop) if options.live else stop.wait(),
        ]
    )
    return {
        "users": len(users),
        "seconds": round(time.monotonic() - began, 1),
        **traffic.tally.report(),
        "swaps": traffic.learning.swaps,
        "bundles": system.pages.bundles,
        "progressive_mrr": system.pages.progressive(),
    }


def demo_people(cinema: Cinema, names: Sequence[str]) -> list[SimulatedUser]:
    """A user for each name, with the tastes of the people left out of training, in turn."""
    recall = PopularityRecall(cinema.popularity)
    people = tastes(cinema.records, cinema.left_out, recall.films)
    return [SimulatedUser(name, people[seed % len(people)], recall, seed) for seed, name in enumerate(names)]


def _stop_event(seconds: float) -> asyncio.Event:
    """Set when the time is over, or by Ctrl-C or SIGTERM: from here on these end the demo with its figures.

    The loop forgets the handlers when it closes, not before: what is open then is still to be closed in order.
    """
    stop = _limit(seconds)
    if threading.current_thread() is threading.main_thread():
        for number in ENDING:
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def _limit(seconds: float) -> asyncio.Event:
    """Set when the time is over; 0: never."""
    stop = asyncio.Event()
    if seconds:
        asyncio.get_running_loop().call_later(seconds, stop.set)
    return stop


async def _read_pages(system: DemoSystem, stop: asyncio.Event) -> None:
    """The processes' own figures, now and then, and once more at the end."""
    while not await set_within(stop, _PAGES_S):
        await asyncio.to_thread(system.read_pages)
    await asyncio.to_thread(system.read_pages)


async def _watch(
    system: DemoSystem, traffic: Traffic, stop: asyncio.Event, enough: Callable[[], bool] = lambda: False
) -> None:
    """Until `stop`, which is set where it is enough: an error as soon as a process ended or nothing is received any
    more, rather than when a ranking is overdue.
    """
    while not enough() and not await set_within(stop, _WATCH_S):
        system.check()
        traffic.check()
        system.read_manifests(traffic.learning)
    stop.set()


async def _draw(
    system: DemoSystem, traffic: Traffic, users: Sequence[SimulatedUser], console: Console, stop: asyncio.Event
) -> None:
    shown = DemoView(
        traffic.tally, traffic.learning, system.pages, users, traffic.arrivals.newest, system.cinema.titles
    )
    with Live(console=console, auto_refresh=False) as live:
        while not await set_within(stop, _REFRESH_S):
            live.update(screen(shown, console.size, now_ms()), refresh=True)
