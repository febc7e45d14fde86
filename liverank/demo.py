"""`liverank demo`: the whole loop on this machine, with nothing set up before and nothing left behind.

A broker, MovieLens-100K, a first model trained on it, a real worker process, and simulated users who click by a taste
that the model does not see (`liverank.demo_users`). For each click the figures compare where the chosen film stood in
the order of the recall stage and in liverank's newest ranking, which covers what the user did before
(`liverank.demo_traffic.Tally`).
"""

from __future__ import annotations

import asyncio
import gc
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import uvloop
from rich.console import Console
from rich.live import Live

from liverank.brokers import BrokerError, cache_dir, start_broker
from liverank.demo_data import movielens_100k
from liverank.demo_tastes import tastes
from liverank.demo_traffic import Tally, Traffic, all_or_first_error, connected, set_within
from liverank.demo_training import Cinema, first_model, read_cinema
from liverank.demo_users import Recall, SimulatedUser
from liverank.demo_view import screen
from liverank.endings import ENDING, handled
from liverank.processes import Process, environment_of
from ranker.errors import LiverankError
from ranker.settings import Settings
from streams import connection, topics

_READY_S, _REFRESH_S, _WATCH_S = 120.0, 0.25, 0.2
#: Settings that the demo makes; all others may come from the environment.
_OWN = ("brokers", "registry", "data", "app", "model", "metrics_port", "ready_file")


@dataclass(frozen=True)
class DemoOptions:
    """What the user chose."""

    broker: str = "auto"  # an address, kafka, embedded or auto
    live: bool = False  # whether there is a terminal to draw on
    seconds: float = 0.0  # how long the users click; 0: until Ctrl-C
    users: int = 40
    rate: float = 40.0  # events a second, of all users together
    data: Path | None = None  # MovieLens-100K; fetched where None


@dataclass
class Stage:
    """What runs, by the time the users come: further processes, such as a trainer, join `processes`."""

    settings: Settings
    cinema: Cinema
    report: dict[str, Any]
    processes: list[Process] = field(default_factory=list)

    def check(self) -> None:
        """Nothing, while every process runs.

        Raises:
            ProcessError: one ended.
        """
        for process in self.processes:
            process.check()


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
            stage = _set_up(options, console, stack)
            return uvloop.run(_perform(stage, options, console))
    except BrokerError as error:
        raise LiverankError(str(error)) from error
    finally:
        # Ctrl-C reaches this process twice where uv or make runs it: the second must not interrupt the end.
        with handled(signal.SIG_IGN):
            stack.close()


def _set_up(options: DemoOptions, console: Console, stack: ExitStack) -> Stage:
    """Broker, data, model, topics and worker, in this order; each is on the stack as soon as it runs."""
    folder = Path(stack.enter_context(TemporaryDirectory(prefix="liverank-demo-")))
    broker = stack.enter_context(start_broker(options.broker, folder / "broker"))
    console.print(f"broker: {broker.kind} at {broker.address}", highlight=False)
    path = options.data or movielens_100k(cache_dir(), lambda line: console.print(line, highlight=False))
    cinema = read_cinema(path)
    settings = Settings(
        brokers=broker.address,
        registry=str(folder / "registry"),
        data=folder / "worker" / "data",
        app="liverank-demo",
        model=f"demo-{folder.name[-8:]}",  # of its own: a broker that was there before may know another demo's model
        metrics_port=-1,
        ready_file=folder / "worker" / "ready",
    )
    model = first_model(cinema, path, settings.registry, settings.model, console)
    console.print(
        f"first model: {model.version}, from {model.examples} clicks in {model.seconds:.0f} s", highlight=False
    )
    topics.create(settings)
    stage = Stage(
        settings,
        cinema,
        {
            "broker": {"kind": broker.kind, "address": broker.address},
            "data": str(path),
            "training": msgspec.to_builtins(model),
        },
    )
    worker = Process(["worker"], environment_of(settings, *_OWN), folder / "worker")
    stack.callback(worker.stop)
    stage.processes.append(worker)
    assert settings.ready_file is not None
    with console.status("the worker starts"):
        worker.await_file(settings.ready_file, _READY_S)
    # What training left in memory is not looked through again: a collection of it would take longer than a ranking.
    gc.collect()
    gc.freeze()
    stack.callback(gc.unfreeze)
    return stage


async def _perform(stage: Stage, options: DemoOptions, console: Console) -> dict[str, Any]:
    """Fill the catalogue, warm up, and let the users click until the time is over."""
    tally, name = Tally(), stage.settings.model
    *users, early = simulated_users(stage.cinema, [f"{name}-{number:02}" for number in range(options.users + 1)])
    async with connected(connection.aiokafka(stage.settings), tally) as traffic:
        with console.status("the worker encodes the films' titles"):
            await traffic.send_items(stage.cinema.items)
            await traffic.vectors_of(stage.cinema.items, stage.check)
        await traffic.warm_up(early)
        stop, began = _stop_event(options.seconds), time.monotonic()
        until = f"for {options.seconds:g} s" if options.seconds else "until Ctrl-C"
        console.print(f"{options.users} users, {options.rate:g} events a second, {until}", highlight=False)
        await all_or_first_error(
            [
                traffic.run(users, options.rate, Random(0), stop),
                _watch(stage, traffic, stop),
                _draw(stage, traffic, users, console, stop) if options.live else stop.wait(),
            ]
        )
        seconds = round(time.monotonic() - began, 1)
    return {**stage.report, "users": len(users), "seconds": seconds, **tally.report()}


def simulated_users(cinema: Cinema, names: Sequence[str]) -> list[SimulatedUser]:
    """A user for each name, with the tastes of the people left out of training, in turn."""
    recall = Recall(cinema.popularity)
    people = tastes(cinema.records, cinema.left_out, recall.films)
    return [SimulatedUser(name, people[seed % len(people)], recall, seed) for seed, name in enumerate(names)]


def _stop_event(seconds: float) -> asyncio.Event:
    """Set when the time is over, or by Ctrl-C or SIGTERM: from here on these end the demo with its figures.

    The loop forgets the handlers when it closes, not before: what is open then is still to be closed in order.
    """
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    if threading.current_thread() is threading.main_thread():
        for number in ENDING:
            loop.add_signal_handler(number, stop.set)
    if seconds:
        loop.call_later(seconds, stop.set)
    return stop


async def _watch(stage: Stage, traffic: Traffic, stop: asyncio.Event) -> None:
    """An error as soon as a process ended or nothing is received any more, rather than when a ranking is overdue."""
    while not await set_within(stop, _WATCH_S):
        stage.check()
        traffic.check()


async def _draw(
    stage: Stage, traffic: Traffic, users: Sequence[SimulatedUser], console: Console, stop: asyncio.Event
) -> None:
    titles = stage.cinema.titles
    with Live(console=console, auto_refresh=False) as live:
        while not await set_within(stop, _REFRESH_S):
            live.update(screen(traffic.tally, users, traffic.arrivals.newest, titles), refresh=True)
