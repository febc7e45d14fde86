"""When what fails: drawn from a seed, so that a seed replays it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from random import Random

from msgspec import Struct

from ranker.contracts.errors import LiverankError

#: Kind of fault -> what happens.
KINDS: dict[str, str] = {
    "worker-killed": "kill -9 of a worker, which starts again",
    "workers-killed": "kill -9 of all workers at once",
    "worker-stopped": "a worker stands still (SIGSTOP) for longer than its session, and goes on",
    "worker-cut-off": "the line between a worker and its brokers is cut for longer than its session",
    "worker-slow": "the line between a worker and its brokers is slow",
    "worker-joins": "one more worker joins, and leaves in order or by kill -9",
    "worker-leaves": "a worker leaves in order (SIGTERM), and starts again",
    "workers-rolled": "each worker in turn ends in order and starts again",
    "disk-lost": "a worker is killed, and starts again with an empty folder",
    "disk-torn": "a worker is killed, and the newest file of its rows is cut short before it starts again",
    "disk-full": "a worker's disk is full for a while",
    "broker-killed": "kill -9 of a broker, which starts again",
    "broker-stopped": "a broker stands still (SIGSTOP), and goes on",
    "trainer-killed": "kill -9 of the trainer, which starts again",
    "trainer-stopped": "the trainer stands still (SIGSTOP), and goes on",
    "registry-gone": "the registry's folder is renamed away, and back",
    "all-killed": "kill -9 of every process at once: brokers, workers, trainer",
}
#: Kinds that have to outlast the session timeout.
_PAST_SESSION = ("worker-stopped", "worker-cut-off")
_SHORTEST_S, _QUIET_S = 1.0, (0.5, 3.0)


class Fault(Struct, frozen=True):
    """One round."""

    round: int  # from 1
    kind: str
    target: int  # which worker, or broker; taken modulo how many there are
    after_s: float  # of undisturbed load before it
    lasts_s: float  # how long what fails is away
    draw: float  # 0 to 1: which of two variants


def schedule(
    seed: int, rounds: int, kinds: Sequence[str], session_s: float, longest_s: float = 10.0
) -> Iterator[Fault]:
    """The faults of a run: every kind once in a drawn order, then again.

    Args:
        seed: of every draw.
        rounds: how many.
        kinds: those to draw from.
        session_s: the workers' session timeout.
        longest_s: how long something is away at most.

    Raises:
        LiverankError: there is no such kind.
    """
    if unknown := set(kinds) - set(KINDS) or (set() if kinds else {"none"}):
        raise LiverankError(f"no such kind of fault: {', '.join(sorted(unknown))}; valid are {', '.join(KINDS)}")
    rng, waiting = Random(seed), list[str]()
    for number in range(1, rounds + 1):
        if not waiting:
            waiting = rng.sample(list(kinds), len(kinds))
        kind = waiting.pop()
        least = session_s + 2 if kind in _PAST_SESSION else _SHORTEST_S
        # The square draws short ones more often than long ones.
        lasts = least + (max(longest_s, least + 2) - least) * rng.random() ** 2
        yield Fault(number, kind, rng.randrange(6), rng.uniform(*_QUIET_S), round(lasts, 2), rng.random())
