"""The users of the benchmarks that measure time: histories of one length, and a list each, before anything starts."""

from __future__ import annotations

from random import Random

from liverank.bench.load import Load
from liverank.bench.system import BenchSystem
from liverank.simulate.users import SimulatedUser
from ranker.contracts.clock import now_ms
from ranker.contracts.records import Interaction

_PREPARED_S = 120.0


async def prepare(bench: BenchSystem, load: Load, users: list[SimulatedUser], events: int) -> None:
    """So many events of the past, then a list for every user; until every list is ranked and all of the past is known.

    Raises:
        LiverankError: not in time.
    """
    with bench.console.status(f"{len(users)} users with {events} events each, and their lists"):
        for user in users:
            *earlier, last = _past(user, events, bench.items)
            for event in earlier:
                load.send_unnoted(event)
            load.send(last)
            await load.room()
        for user in users:
            load.send(user.next_record(now_ms()))
            await load.room()
        if None in await load.covered(_PREPARED_S):
            raise bench.failure(f"the users' lists are not ranked after {_PREPARED_S:.0f} s")


def _past(user: SimulatedUser, count: int, items: list[str]) -> list[Interaction]:
    """So many views, a minute apart."""
    random, now = Random(user.user_id), now_ms()
    return [
        Interaction(
            user_id=user.user_id, item_id=random.choice(items), action="view", event_id=f"past-{number}",
            ts=now - (count - number) * 60_000,
        )
        for number in range(count)
    ]  # fmt: skip
