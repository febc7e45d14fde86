"""`liverank bench gateway`: a list that is ranked over a gateway, beside the same over Kafka itself.

One broker, one worker, one gateway; a client over Kafka and one of HTTP in this process. The same question, a list and
a click on it, goes now one way and now the other, in windows that take turns, so that what else the machine does falls
on both alike. The load is open: nobody waits for an answer before asking the next question.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
import numpy as np
import uvloop
from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console

from liverank.bench.load import Load, attended, prepare
from liverank.bench.models import bench_people
from liverank.bench.system import BenchSystem, started_system
from liverank.bench.tasks import beside
from liverank.client import AsyncClient
from liverank.client.http import RankAnswer
from liverank.measure.ratios import p99_ratio, p99_ratio_interval, spread_ms
from liverank.simulate.users import SimulatedUser
from ranker.contracts.clock import now_ms
from ranker.contracts.errors import LiverankError
from ranker.contracts.records import Candidate, CandidateList, Interaction

_WITHIN_S, _WATCH_S = 10.0, 0.5
_SETTLE_S = 1.0  # of each window before it is measured: connections are opened, caches are warm
_CPU = "process_cpu_seconds_total"
_answer = msgspec.json.Decoder(RankAnswer)


@dataclass(frozen=True)
class GatewayOptions:
    """What the user chose."""

    broker: str = "kafka"  # an address, or kafka
    pairs: int = 15  # windows of each way
    seconds: float = 5.0  # of each window that are measured
    rate: float = 100.0  # questions a second
    users: int = 1000
    candidates: int = 100
    history: int = 50  # events that a user has done when it begins
    items: int = 10_000


class _Question(NamedTuple):
    """A list, and what its user has just done."""

    candidates: CandidateList
    click: Interaction


#: Has a question answered; whether the answer knows of all that was sent.
_Ask = Callable[[_Question], Awaitable[bool]]


class _Window(Struct):
    """What came of a stretch of questions."""

    waits_ms: list[float] = []
    late_ms: list[float] = []  # by which questions were asked after their time
    stale: int = 0
    asked: int = 0  # those that were not measured too
    gateway_cpu_s: float = 0.0


def bench_gateway(options: GatewayOptions, console: Console) -> dict[str, Any]:
    """Run it; what it started is gone when this returns or raises.

    Raises:
        LiverankError: something is missing or went wrong, with the end of the log of the process concerned.
    """
    if min(options.pairs, options.seconds, options.rate) <= 0 or not 1 <= options.candidates <= options.items:
        raise LiverankError("pairs, seconds and rate must be above 0, candidates 1 to items")
    with started_system(options.broker, ("worker",), options.items, console, {"gateway_port": 0}) as bench:
        address = bench.start_ready("gateway").address()
        if address is None:
            raise bench.failure("the gateway does not say where it is")
        windows = uvloop.run(_perform(bench, options, address))
    return {**_figures(windows), "options": asdict(options), **bench.report}


async def _perform(bench: BenchSystem, options: GatewayOptions, address: str) -> dict[str, list[_Window]]:
    """Give the users histories and lists, then have windows take turns."""
    users = bench_people(bench.settings.broker.app, bench.items, options.users, options.candidates)
    load = Load(bench)
    await attended(bench, load, prepare(bench, load, users, options.history))
    return await beside(_in_turns(bench, options, address, users), _watch(bench))


async def _in_turns(
    bench: BenchSystem, options: GatewayOptions, address: str, users: Sequence[SimulatedUser]
) -> dict[str, list[_Window]]:
    windows: dict[str, list[_Window]] = {"kafka": [], "gateway": []}
    over, order = _OverHttp(address), Random(0)
    async with AsyncClient(settings=bench.settings, give_up_after_s=_WITHIN_S) as client:

        async def by_kafka(question: _Question) -> bool:
            ranked = await client.rank(question.candidates, [question.click], _WITHIN_S)
            return not ranked.stale

        async def by_gateway(question: _Question) -> bool:
            body = {"candidates": question.candidates, "events": [question.click], "within_ms": round(1000 * _WITHIN_S)}
            answer = _answer.decode(await over.ask("POST", "/v1/rank", msgspec.json.encode(body)))
            return not answer.stale

        ways: dict[str, _Ask] = {"kafka": by_kafka, "gateway": by_gateway}
        with bench.console.status("") as status:
            for pair in range(options.pairs):
                for name in list(ways)[:: -1 if pair % 2 else 1]:
                    status.update(f"pair {pair + 1} of {options.pairs}: {name}")
                    before = await over.cpu_s()
                    window = await _asked(ways[name], options, users, order)
                    window.gateway_cpu_s = await over.cpu_s() - before
                    windows[name].append(window)
    over.close()
    return windows


async def _asked(ask: _Ask, options: GatewayOptions, users: Sequence[SimulatedUser], order: Random) -> _Window:
    """Ask for as long as a window lasts, by the clock, and wait for the last answer."""
    window = _Window()

    async def timed(question: _Question, at: float, *, counts: bool) -> None:
        complete = await ask(question)
        window.stale += not complete
        if counts:
            window.waits_ms.append(1000 * (time.perf_counter() - at))

    # As in `Load.running`: none of this process's own garbage is collected while it measures.
    gc.collect()
    gc.disable()
    due = began = time.perf_counter()
    waiting: list[asyncio.Task[None]] = []
    try:
        while due < began + _SETTLE_S + options.seconds:
            question = _question(order.choice(users), order)
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            at, counts = time.perf_counter(), due >= began + _SETTLE_S
            window.late_ms.append(1000 * (at - due))
            waiting.append(asyncio.create_task(timed(question, at, counts=counts)))
            due += order.uniform(0.5, 1.5) / options.rate
        await asyncio.gather(*waiting)
    finally:
        gc.enable()
        for task in waiting:
            task.cancel()
    window.asked = len(waiting)
    return window


def _question(user: SimulatedUser, order: Random) -> _Question:
    """The user's list again, with a click on it."""
    items = [Candidate(item_id=item) for item in user.shown]
    click = Interaction(
        user_id=user.user_id, item_id=order.choice(user.shown), action="click", request_id=user.request_id, ts=now_ms()
    )
    return _Question(CandidateList(request_id=user.request_id, user_id=user.user_id, items=items), click)


async def _watch(bench: BenchSystem) -> None:
    while True:
        bench.check()
        await asyncio.sleep(_WATCH_S)


class _OverHttp:
    """Asks a gateway over connections that stay open, with no more of HTTP than that takes."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        """The answer's body.

        Raises:
            LiverankError: it is none that was hoped for.
        """
        asked = (
            f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
            + body
        )
        while True:
            reused, (reader, writer) = bool(self._idle), await self._connection()
            try:
                writer.write(asked)
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                answer = await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n")[0]))
            except (OSError, asyncio.IncompleteReadError) as error:
                writer.close()
                if not reused:  # else it may have rested for too long
                    raise LiverankError(f"the gateway answers no more: {error!r}") from error
                continue
            self._idle.append((reader, writer))
            if head.split(b" ", 2)[1] != b"200":
                raise LiverankError(f"the gateway answers {answer.decode(errors='replace')}")
            return answer

    async def cpu_s(self) -> float:
        """Processor time that the gateway has taken so far; 0 where the system does not tell."""
        families = text_string_to_metric_families((await self.ask("GET", "/metrics")).decode())
        return next((one.value for family in families for one in family.samples if one.name == _CPU), 0.0)

    def close(self) -> None:
        """Close all connections."""
        for _, writer in self._idle:
            writer.close()

    async def _connection(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        while self._idle:
            reader, writer = self._idle.pop()
            if not reader.at_eof() and not writer.is_closing():  # the gateway closes those that rest for long
                return reader, writer
        try:
            return await asyncio.open_connection(self._host, self._port)
        except OSError as error:
            raise LiverankError(f"the gateway takes no connection: {error}") from error


def _figures(windows: dict[str, list[_Window]]) -> dict[str, Any]:
    waits = {name: [np.array(window.waits_ms) for window in some] for name, some in windows.items()}
    over, under = waits["gateway"], waits["kafka"]
    paired = list(zip(over, under, strict=True))
    cpu_us = {
        name: 1e6 * sum(one.gateway_cpu_s for one in some) / sum(one.asked for one in some)
        for name, some in windows.items()
    }
    return {
        **{f"{name}_ms": spread_ms(np.concatenate(some)) for name, some in waits.items()},
        "p99_ratio": p99_ratio(over, under),
        "p99_ratio_interval": p99_ratio_interval(over, under),
        "p99_ratio_median": round(statistics.median(p99_ratio([one], [other]) for one, other in paired), 3),
        "p50_ratio": round(float(np.median(np.concatenate(over)) / np.median(np.concatenate(under))), 3),
        "added_p50_ms": round(float(np.median(np.concatenate(over)) - np.median(np.concatenate(under))), 3),
        "stale": {name: sum(window.stale for window in some) for name, some in windows.items()},
        # What the gateway takes to follow the rankings of others, and what it takes to answer.
        "gateway_cpu_us": {name: round(each, 1) for name, each in cpu_us.items()},
        "load_late_p99_ms": round(
            float(np.percentile([late for some in windows.values() for one in some for late in one.late_ms], 99)), 3
        ),
    }
