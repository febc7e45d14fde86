"""`liverank bench scale`: what a worker and a trainer take as users, and then items, become many.

For each number of users a changelog is filled with their rows, ten events each and a list that has ended. A worker
reads all of it, serves a steady load of some of them, gets kill -9 and is started again; then a user who has not been
seen since asks for a ranking. For each number of items there is a catalogue of text vectors and a model that knows all
of them: how long worker and trainer take to be ready, what they hold, what an input costs, and how long another version
takes to serve.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from random import Random
from typing import Any

import msgspec
import numpy as np
import uvloop
from rich.console import Console

from liverank.bench.load import Load, attended
from liverank.bench.models import bench_people
from liverank.bench.system import BenchSystem, started_system
from liverank.local.processes import Process
from liverank.measure.freshness import percentiles
from liverank.measure.processes import processor_seconds, resident_bytes
from liverank.simulate.users import SimulatedUser
from liverank.terminal import progress_bars
from online_learning.progress import ProgressReport
from ranker.contracts.clock import now_ms
from ranker.contracts.errors import LiverankError
from ranker.contracts.ids import hash_id
from ranker.contracts.records import ModelUpdate
from ranker.state.codec import encode_head
from ranker.state.row import EMPTY, EVENT, CurrentList

_EVENTS, _DAY_MS = 10, 86_400_000
_ITEMS_OF_USERS, _USERS_OF_ITEMS = 10_000, 1000
_READY_S, _ANSWERS_S = 1800.0, 120.0
_QUIET_S = 3.0  # before a swap, and after it
_SHOWN_EVERY = 10_000  # rows
_MB = 1e6


@dataclass(frozen=True)
class ScaleOptions:
    """What the user chose."""

    broker: str = "kafka"  # an address, or kafka
    users: tuple[int, ...] = (1000, 100_000, 1_000_000)
    items: tuple[int, ...] = (10_000, 100_000, 1_000_000)
    rate: float = 100.0  # inputs a second
    seconds: float = 20.0
    candidates: int = 100


def bench_scale(options: ScaleOptions, console: Console) -> dict[str, Any]:
    """Run it, one size after another; what it started is gone when this returns or raises.

    Raises:
        LiverankError: something is missing or went wrong, with the end of the log of the process concerned.
    """
    if min(options.rate, options.seconds, options.candidates, *options.users, *options.items) <= 0:
        raise LiverankError("rate, seconds, candidates and every number of users and items must be above 0")
    if options.candidates > min(_ITEMS_OF_USERS, *options.items):
        raise LiverankError("candidates must be at most as many as the items")
    users, items, report = [], [], dict[str, Any]()
    for count in options.users:
        with started_system(options.broker, (), _ITEMS_OF_USERS, console) as bench:
            users.append(_of_users(bench, count, options))
            report = bench.report
    for count in options.items:
        with started_system(options.broker, (), count, console) as bench:
            items.append(_of_items(bench, options))
            report = bench.report
    return {"users": users, "items": items, "options": asdict(options), **report}


def _of_users(bench: BenchSystem, count: int, options: ScaleOptions) -> dict[str, Any]:
    seeded = _seed_rows(bench, count)
    ready_s, worker = _started(bench, "worker")
    disk = sum(path.stat().st_size for path in (bench.folder / "worker").rglob("*") if path.is_file())
    people = _people(bench, count, options)
    load = Load(bench)
    found = uvloop.run(attended(bench, load, _serve(bench, load, people[:-1], worker, options)))
    bench.kill(worker)
    killed = time.perf_counter()
    back_s, _ = _started(bench, "worker")
    load = Load(bench)
    came = uvloop.run(attended(bench, load, _ask(bench, load, people[-1])))
    return {
        "users": count,
        "row_bytes": round(seeded / count),
        "first_ready_s": ready_s,
        "disk_mb": round(disk / _MB, 1),
        **found,
        "killed_ready_s": back_s,
        "kill_to_ranking_s": round(came - killed, 2),
    }


def _of_items(bench: BenchSystem, options: ScaleOptions) -> dict[str, Any]:
    ready_s, worker = _started(bench, "worker")
    people, load = _people(bench, _USERS_OF_ITEMS, options), Load(bench)
    found = uvloop.run(attended(bench, load, _serve(bench, load, people, worker, options)))
    with bench.console.status("the version to swap to"):
        update = bench.versions.publish()
    load = Load(bench)
    swap_s = uvloop.run(attended(bench, load, _swap(bench, load, people, update, options)))
    after_mb = round(resident_bytes(worker.pid) / _MB)
    bench.kill(worker)
    trainer_s, trainer = _started(bench, "trainer")
    return {
        "items": len(bench.items),
        "ready_s": ready_s,
        **found,
        **swap_s,
        "after_swap_mb": after_mb,
        "trainer_ready_s": trainer_s,
        "trainer_mb": round(resident_bytes(trainer.pid) / _MB),
    }


def _started(bench: BenchSystem, command: str) -> tuple[float, Process]:
    began = time.perf_counter()
    process = bench.start(command)
    with bench.console.status(f"until the {command} is ready"):
        process.await_file(bench.folder / command / "ready", _READY_S)
    return round(time.perf_counter() - began, 2), process


def _people(bench: BenchSystem, count: int, options: ScaleOptions) -> list[SimulatedUser]:
    """Some of the users, spread over all of them."""
    app = bench.settings.broker.app
    people = bench_people(app, bench.items, min(count, _USERS_OF_ITEMS), options.candidates)
    for number, person in enumerate(people):
        person.user_id = f"{app}-{number * count // len(people)}"
    return people


def _seed_rows(bench: BenchSystem, count: int) -> int:
    """Fill the changelog with rows; the bytes of all of them."""
    rng, written = np.random.default_rng(2), 0
    hashes = np.array([hash_id(item) for item in bench.items], np.int64)
    names, topic = bench.settings.broker.row_names, bench.settings.broker.changelog
    with progress_bars(bench.console) as show:
        for number, row in enumerate(_rows(rng, hashes, count)):
            user = f"{bench.settings.broker.app}-{number}".encode()
            written += len(row)
            bench.hand_over(topic, row, names.of(user))
            if not number % _SHOWN_EVERY:
                show(ProgressReport("rows", number, count))
        bench.flush()
    return written


def _rows(rng: np.random.Generator, hashes: np.ndarray, count: int) -> Iterator[bytes]:
    """Heads of users who did ten things, an hour apart, on one of the last thirty days but the last one."""
    now = now_ms()
    for number in range(count):
        last = now - int(rng.integers(_DAY_MS, 30 * _DAY_MS))
        events = np.zeros(_EVENTS, EVENT)
        events["ts"] = last - 3_600_000 * np.arange(_EVENTS)[::-1]
        events["id"] = rng.integers(1, 1 << 62, _EVENTS)
        events["item"] = rng.choice(hashes, _EVENTS)
        events["position"] = -1
        ended = CurrentList(last, f"old-{number}", None, {}, (), (), b"", last + _DAY_MS // 2)
        row = msgspec.structs.replace(
            EMPTY, revision=_EVENTS + 1, count=_EVENTS, events=events.tobytes(), lists=(ended,), newest=last, epoch=last
        )
        yield encode_head(row)


async def _serve(
    bench: BenchSystem, load: Load, people: Sequence[SimulatedUser], worker: Process, options: ScaleOptions
) -> dict[str, Any]:
    """The steady load: what the worker holds and what an input costs it.

    Raises:
        LiverankError: the lists are not ranked.
    """
    random = Random(0)
    for person in people:
        load.send(person.next_record(now_ms()))
        await load.room()
    if None in await load.covered(_ANSWERS_S):
        raise bench.failure(f"the users' lists are not ranked after {_ANSWERS_S:.0f} s")
    first, used = len(load.sent), processor_seconds(worker.pid)
    with bench.console.status(f"{options.rate:g} inputs a second for {options.seconds:g} s"):
        async with load.running(options.rate, lambda now: random.choice(people).next_record(now), random):
            await asyncio.sleep(options.seconds)
    used, held = processor_seconds(worker.pid) - used, resident_bytes(worker.pid)
    covered = await load.covered(_ANSWERS_S)
    waits = [
        1000 * (at - sent.at) for sent, at in zip(load.sent[first:], covered[first:], strict=True) if at is not None
    ]
    return {
        "memory_mb": round(held / _MB),
        "worker_cpu_us": round(1e6 * used / max(1, len(load.sent) - first)),
        "latency_ms": msgspec.to_builtins(percentiles(waits)),
        "missing": covered.count(None),
    }


async def _swap(
    bench: BenchSystem, load: Load, people: Sequence[SimulatedUser], update: ModelUpdate, options: ScaleOptions
) -> dict[str, Any]:
    """Announce another version under load; how long until it ranks somebody.

    Raises:
        LiverankError: it does not.
    """
    random = Random(1)
    with bench.console.status("the swap"):
        async with load.running(options.rate, lambda now: random.choice(people).next_record(now), random):
            await asyncio.sleep(_QUIET_S)
            announced = time.perf_counter()
            bench.announce(update)
            if not await load.until(lambda: update.version in load.first_of, _READY_S):
                raise bench.failure(f"{update.version} ranks nothing {_READY_S:.0f} s after its announcement")
            served = load.first_of[update.version]
            await asyncio.sleep(_QUIET_S)
    covered = await load.covered(_ANSWERS_S)
    events = [(sent.at, at) for sent, at in zip(load.sent, covered, strict=True) if at is not None]
    before = [1000 * (at - sent) for sent, at in events if at < announced]
    during = [1000 * (at - sent) for sent, at in events if at >= announced and sent <= served]
    return {
        "swap_s": round(served - announced, 2),
        "before_swap_ms": msgspec.to_builtins(percentiles(before)),
        "during_swap_ms": msgspec.to_builtins(percentiles(during)),
    }


async def _ask(bench: BenchSystem, load: Load, person: SimulatedUser) -> float:
    """When the ranking of a user's new list came, by `time.perf_counter`.

    Raises:
        LiverankError: it did not.
    """
    load.send(person.next_record(now_ms()))
    (came,) = await load.covered(_ANSWERS_S)
    if came is None:
        raise bench.failure(f"a list is not ranked {_ANSWERS_S:.0f} s after the worker was ready again")
    return came
