"""Whether a broker answers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError


def wait_until_ready(address: str, cluster_id: str | None, deadline_s: float, alive: Callable[[], bool]) -> bool:
    """Whether the broker answers before the deadline; False at once where it is no longer `alive`.

    With a `cluster_id`, only answers of that cluster count: the port may be that of another broker.
    """

    abandoned = threading.Event()

    async def answered() -> None:
        while not await _answers(address, cluster_id):  # noqa: ASYNC110 (another process's state sets no event here)
            await asyncio.sleep(0.05)

    async def ended() -> None:
        while alive() and not abandoned.is_set():  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    async def wait() -> bool:
        answer, end = asyncio.create_task(answered()), asyncio.create_task(ended())
        done, late = await asyncio.wait({answer, end}, timeout=deadline_s, return_when=asyncio.FIRST_COMPLETED)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)  # closes the admin client of an attempt under way
        for task in done:
            task.result()
        return answer in done and alive()

    # In a thread of its own, since the caller's may already run a loop.
    with ThreadPoolExecutor(1, thread_name_prefix="broker readiness") as thread:
        try:
            return thread.submit(asyncio.run, wait()).result()
        finally:
            abandoned.set()  # Ctrl-C: the thread need not wait for the deadline


async def _answers(address: str, cluster_id: str | None) -> bool:
    """Whether an admin client can list the topics of the expected cluster."""
    # aiokafka logs an error for every refused connection: ask it only where somebody listens.
    if not any([await _listens(part) for part in address.split(",")]):
        return False
    admin = AIOKafkaAdminClient(bootstrap_servers=address.split(","), request_timeout_ms=5_000)
    try:
        await admin.start()
        await admin.list_topics()
        return cluster_id is None or (await admin.describe_cluster())["cluster_id"] == cluster_id
    except (KafkaError, OSError):
        return False
    finally:
        await admin.close()


async def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        async with asyncio.timeout(2):
            _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    except (OSError, OverflowError):  # TimeoutError is an OSError; a port past 65535 overflows
        return False
    writer.close()
    return True
