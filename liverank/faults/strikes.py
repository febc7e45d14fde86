"""How each kind of fault is done, and undone."""

from __future__ import annotations

import time
from collections.abc import Callable

from liverank.faults.members import Member
from liverank.faults.schedule import Fault
from liverank.faults.system import NO_DELTAS_MS, FaultSystem
from liverank.local.broker import Broker

_DELTAS_MS, _DELAY_S = 500, 0.05
#: Files of RocksDB that hold rows.
_ROWS = ("*.sst", "*.log")


def strike(system: FaultSystem, fault: Fault) -> None:
    """Have a fault happen, and everything be there again.

    Args:
        system: what it happens to.
        fault: which.
    """
    STRIKES[fault.kind](system, fault)
    system.await_ready()


def kinds_left_out(system: FaultSystem) -> dict[str, str]:
    """Kinds of fault that this machine does not let us make, and why."""
    return {} if system.disks else {"disk-full": "a small file system needs the right to mount one"}


def _worker(system: FaultSystem, fault: Fault) -> Member:
    return system.workers[fault.target % len(system.workers)]


def _broker(system: FaultSystem, fault: Fault) -> Broker:
    return system.brokers[fault.target % len(system.brokers)]


def _worker_killed(system: FaultSystem, fault: Fault) -> None:
    _killed(_worker(system, fault), fault)


def _trainer_killed(system: FaultSystem, fault: Fault) -> None:
    every = _DELTAS_MS if fault.draw < 0.5 else NO_DELTAS_MS
    system.trainer.environment["LIVERANK_DELTA_MS"] = str(every)
    _killed(system.trainer, fault)


def _lasts(fault: Fault) -> None:
    """The fault itself: what fails is away for the drawn time, and nothing is waited for."""
    time.sleep(fault.lasts_s)


def _killed(gone: Member | Broker, fault: Fault) -> None:
    gone.kill()
    _lasts(fault)
    gone.start()


def _workers_killed(system: FaultSystem, fault: Fault) -> None:
    for member in system.workers:
        member.kill()
    _lasts(fault)
    for member in system.workers:
        member.start()


def _worker_stopped(system: FaultSystem, fault: Fault) -> None:
    _stopped(_worker(system, fault), fault)


def _trainer_stopped(system: FaultSystem, fault: Fault) -> None:
    _stopped(system.trainer, fault)


def _stopped(stands_still: Member | Broker, fault: Fault) -> None:
    stands_still.pause()
    try:
        _lasts(fault)
    finally:
        stands_still.resume()


def _worker_cut_off(system: FaultSystem, fault: Fault) -> None:
    link = system.links[fault.target % len(system.links)]
    link.cut()
    _lasts(fault)
    link.mend(reset=fault.draw < 0.5)


def _worker_slow(system: FaultSystem, fault: Fault) -> None:
    link = system.links[fault.target % len(system.links)]
    link.slow(_DELAY_S)
    _lasts(fault)
    link.slow(0)


def _worker_joins(system: FaultSystem, fault: Fault) -> None:
    if fault.target % 2:  # else it finds the rows of its last stay
        system.joiner.lose_data()
    system.joiner.start()
    system.joiner.await_ready()
    _lasts(fault)
    if fault.draw < 0.5:
        system.joiner.stop()
    else:
        system.joiner.kill()


def _worker_leaves(system: FaultSystem, fault: Fault) -> None:
    member = _worker(system, fault)
    member.stop()
    _lasts(fault)
    member.start()


def _workers_rolled(system: FaultSystem, fault: Fault) -> None:
    del fault
    for member in system.workers:
        member.stop()
        member.start()
        member.await_ready()


def _disk_lost(system: FaultSystem, fault: Fault) -> None:
    member = _worker(system, fault)
    member.kill()
    member.lose_data()
    _lasts(fault)
    member.start()


def _disk_torn(system: FaultSystem, fault: Fault) -> None:
    member = _worker(system, fault)
    member.kill()
    tables, logs = ([path for path in member.data.rglob(name) if path.stat().st_size] for name in _ROWS)
    files = (tables or logs) if fault.draw < 0.5 else (logs or tables)
    for path in sorted(files, key=lambda path: path.stat().st_mtime)[-1:]:
        with path.open("r+b") as torn:
            torn.truncate(path.stat().st_size // 2)
    member.start()


def _disk_full(system: FaultSystem, fault: Fault) -> None:
    disk = system.disks[fault.target % len(system.disks)]
    disk.fill()
    _lasts(fault)
    disk.empty()


def _broker_killed(system: FaultSystem, fault: Fault) -> None:
    _killed(_broker(system, fault), fault)


def _broker_stopped(system: FaultSystem, fault: Fault) -> None:
    _stopped(_broker(system, fault), fault)


def _registry_gone(system: FaultSystem, fault: Fault) -> None:
    away = system.registry.with_name("registry-away")
    system.registry.rename(away)
    system.registry.touch()  # a file in its place: no folder can be made there meanwhile
    _lasts(fault)
    system.registry.unlink()
    away.rename(system.registry)


def _all_killed(system: FaultSystem, fault: Fault) -> None:
    for broker in system.brokers:
        broker.kill()
    for member in system.members:
        member.kill()
    _lasts(fault)
    system.start_brokers()
    for member in system.members:
        member.start()


#: Kind of fault -> what does it.
STRIKES: dict[str, Callable[[FaultSystem, Fault], None]] = {
    "worker-killed": _worker_killed,
    "workers-killed": _workers_killed,
    "worker-stopped": _worker_stopped,
    "worker-cut-off": _worker_cut_off,
    "worker-slow": _worker_slow,
    "worker-joins": _worker_joins,
    "worker-leaves": _worker_leaves,
    "workers-rolled": _workers_rolled,
    "disk-lost": _disk_lost,
    "disk-torn": _disk_torn,
    "disk-full": _disk_full,
    "broker-killed": _broker_killed,
    "broker-stopped": _broker_stopped,
    "trainer-killed": _trainer_killed,
    "trainer-stopped": _trainer_stopped,
    "registry-gone": _registry_gone,
    "all-killed": _all_killed,
}
