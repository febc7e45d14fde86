"""`liverank bench faults`: rounds of faults over a workload, each stretch of them checked, and a report."""

from __future__ import annotations

import shutil
import signal
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from liverank.faults.check import amounts_of, check_records, check_state_and_rankings, check_trainer
from liverank.faults.checker.violations import Violation, shortened
from liverank.faults.load import poison
from liverank.faults.load.inputs import Planned, Recorded
from liverank.faults.load.sender import Sender, input_producer, produce, send_transactions
from liverank.faults.load.workload import Workload, described
from liverank.faults.offline import OfflineRanker
from liverank.faults.readback import ReadBack
from liverank.faults.schedule import KINDS, Fault, schedule
from liverank.faults.strikes import kinds_left_out, strike
from liverank.faults.system import FaultSystem, ends_of, running
from liverank.local.signals import handled
from liverank.terminal import progress_bars
from online_learning.progress import ProgressReport, Report
from online_learning.trainer.checkpoint import newest_checkpoint
from ranker.contracts.clock import now_ms
from ranker.contracts.errors import LiverankError
from ranker.contracts.topics import EXAMPLES

SESSION_S = 6.0
_LEARN_TRIES = 4
_PHASE = "faults"


@dataclass(frozen=True)
class FaultOptions:
    """What the user chose."""

    rounds: int = 20
    seed: int = 0
    kinds: Sequence[str] = tuple(KINDS)
    brokers: int = 1  # Apache Kafka nodes: 1, or 3 with three copies of each topic
    rate: float = 20.0  # inputs a second, outside bursts
    users: int = 60  # new ones in each stretch
    stretch: int = 3  # rounds between two checks
    longest_s: float = 10.0  # how long something is away at most
    keep: Path | None = None  # where everything is left to be looked at


@dataclass
class FaultRun:
    """What there is while it runs."""

    options: FaultOptions
    system: FaultSystem
    back: ReadBack
    rank: OfflineRanker
    refused: dict[bytes, str]
    sent: int = 0
    unacknowledged: int = 0  # which the broker did not confirm in time: nothing is promised of them
    found: list[tuple[str, Violation]] = field(default_factory=list)  # with the rounds before it
    happened: Counter[str] = field(default_factory=Counter)
    compared: int = 0
    bursts: int = 0


def run_faults(options: FaultOptions, console: Console) -> dict[str, Any]:
    """Run it; what it started is gone when this returns or raises.

    Raises:
        LiverankError: something is missing or does not start.
    """
    if min(options.rounds, options.rate, options.stretch, options.longest_s) <= 0 or options.brokers not in (1, 3):
        raise LiverankError("rounds, rate, stretch and longest-s must be above 0, brokers 1 or 3")
    list(schedule(options.seed, 1, options.kinds, SESSION_S))
    folder = Path(tempfile.mkdtemp(prefix="liverank-faults-"))
    stack = ExitStack()
    began = time.monotonic()
    try:
        with handled(signal.default_int_handler, [signal.SIGTERM]), progress_bars(console, {_PHASE: "faults"}) as tell:
            tell(ProgressReport(_PHASE, 0, options.rounds, "brokers, workers and trainer start"))
            with running(folder, options.brokers, SESSION_S, stack) as system:
                run = _begun(options, system, folder)
                _rounds(run, tell)
                _learned(run)
        return _report(run, time.monotonic() - began)
    finally:
        with handled(signal.SIG_IGN):
            stack.close()
            _left(folder, options.keep)


def _begun(options: FaultOptions, system: FaultSystem, folder: Path) -> FaultRun:
    """The items are known to everybody before the first list."""
    refused: dict[bytes, str] = {}
    back = ReadBack(system.settings, poison.PRICED, refused)
    run = FaultRun(options, system, back, OfflineRanker(system.settings, back.catalog, folder / "offline"), refused)
    _send(run, described())
    _send(run, poison.control(system.settings.registry.model, str(folder / "outside"), now_ms()))
    _send(run, poison.vectors("minilm"))
    return run


def _rounds(run: FaultRun, tell: Report) -> None:
    """Stretches of rounds: load and faults together, then quiet, then the check."""
    options = run.options
    kinds = [kind for kind in options.kinds if kind not in kinds_left_out(run.system)]
    faults = list(schedule(options.seed, options.rounds, kinds, SESSION_S, options.longest_s))
    for start in range(0, len(faults), options.stretch):
        some = faults[start : start + options.stretch]
        name = f"s{start // options.stretch}"
        sender = _opened(run, name)
        strangers = threading.Thread(
            target=send_transactions, args=(run.system.settings.broker, f"{name}-stranger"), daemon=True
        )
        sender.start()
        strangers.start()
        for fault in some:
            note = f"{KINDS[fault.kind]}; {len(run.found)} violations"
            tell(ProgressReport(_PHASE, fault.round - 1, options.rounds, note))
            time.sleep(fault.after_s)  # the drawn moment itself, nothing is waited for
            strike(run.system, fault)
            run.happened[fault.kind] += 1
        recorded = sender.finish()
        strangers.join()
        run.bursts += sender.bursts
        run.sent += len(recorded)
        run.unacknowledged += sum(one.place is None for one in recorded)
        tell(ProgressReport(_PHASE, some[-1].round, options.rounds, "checking"))
        _check(run, some, recorded)


def _opened(run: FaultRun, name: str) -> Sender:
    """A sender whose users' first lists are ranked."""
    options = run.options
    workload = Workload(name, options.seed, options.users)
    sender = Sender(run.system.settings.broker, workload, options.rate, seed=options.seed, refused=run.refused)
    sender.open()
    _note(run, name, run.system.await_handled())
    return sender


def _check(run: FaultRun, faults: Sequence[Fault], recorded: Sequence[Recorded]) -> None:
    """Wait until all is handled, read everything back and compare."""
    with (run.system.folder / "sent.jsonl").open("ab") as record:
        record.writelines(msgspec.json.encode(one) + b"\n" for one in recorded)
    found = run.system.await_handled()
    run.back.read()
    wrong, compared = check_state_and_rankings(run.back, run.rank)
    found += [*wrong, *check_records(run.back, recorded), *run.system.take_found()]
    run.compared += compared
    before = ", ".join(f"{fault.round} {fault.kind}" for fault in faults)
    _note(run, before, list(shortened(found)))


def _note(run: FaultRun, after: str, found: Sequence[Violation]) -> None:
    """Keep what was found, in the report and at once beside the logs: a run takes hours, and may be broken off."""
    run.found += [(after, one) for one in found]
    with (run.system.folder / "violations.jsonl").open("ab") as record:
        record.writelines(
            msgspec.json.encode({"after": after, "kind": one.kind, "what": one.what}) + b"\n" for one in found
        )


def _learned(run: FaultRun) -> None:
    """The trainer has learned once from each example, and refuses those that are spoiled."""
    run.system.trainer.await_ready()
    good = run.back.good_example()
    if good is not None:
        spoiled = poison.spoiled(good, now_ms())
        run.back.doubtful |= {one.example_id for one in spoiled}
        key = good.user_id.encode()
        bodies = [*map(msgspec.json.encode, spoiled), *poison.undecodable()]
        _send(run, (Planned(topic=EXAMPLES, key=key, value=body) for body in bodies))
    state, ends = None, dict[str, int]()
    for _ in range(_LEARN_TRIES):  # a last checkpoint comes with an end, others only where something new was learned
        run.system.await_learned()
        run.system.trainer.stop()
        state = newest_checkpoint(run.system.trainer.data)
        ends = ends_of(run.system.settings.broker, EXAMPLES)
        if state is not None and all(state.facts["offsets"].get(place, 0) >= end for place, end in ends.items()):
            break
        run.system.trainer.start()
        run.system.trainer.await_ready()
    else:
        read = {} if state is None else state.facts["offsets"]
        _note(run, "the end", [Violation("not-learned", f"the trainer has read up to {read} of {ends}")])
    run.back.read()
    for worker in run.system.workers:
        worker.check_log()
    found = [*check_trainer(run.back, state), *run.system.take_found()]
    _note(run, "the end", list(shortened(found)))


def _send(run: FaultRun, planned: Iterator[Planned]) -> None:
    settings = run.system.settings.broker
    producer = input_producer(settings)
    for one in planned:
        produce(producer, settings, one)
    if producer.flush(60):
        raise LiverankError("the broker did not take what was sent before the first round")


def _report(run: FaultRun, seconds: float) -> dict[str, Any]:
    options = run.options
    return {
        "rounds": options.rounds,
        "seed": options.seed,
        "faults": dict(sorted(run.happened.items())),
        "violations": [{"after": after, "kind": one.kind, "what": one.what} for after, one in run.found],
        "left_out": kinds_left_out(run.system),
        "brokers": options.brokers,
        "sent": run.sent,
        "unacknowledged": run.unacknowledged,
        "bursts": run.bursts,
        **amounts_of(run.back),
        "compared_by_score": run.compared,
        "ended_by_themselves": {one.name: one.restarts for one in run.system.members if one.restarts},
        "longest_end_s": round(max(one.longest_end_s for one in run.system.tending.members), 1),
        "seconds": round(seconds, 1),
    }


def _left(folder: Path, keep: Path | None) -> None:
    """Remove everything, or leave it where the user wants to look at it."""
    if keep is None:
        shutil.rmtree(folder, ignore_errors=True)
    else:
        shutil.move(folder, keep)
