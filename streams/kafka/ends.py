"""Where partitions end, as a fetch sees it.

Asked for its latest offset (ListOffsets), the embedded broker names the one after the first record of the last batch.
Faust believes it, and its recovery then leaves out the rest of that batch. What a fetch says is right on every broker.
"""

from __future__ import annotations

from collections.abc import Iterable

import aiokafka
from aiokafka import TopicPartition

from liverank.settings import Settings
from streams.kafka import connection

_POLL_MS = 200


async def read_ends(settings: Settings, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
    """The offsets that the next records of these partitions will get."""
    consumer = aiokafka.AIOKafkaConsumer(
        **connection.aiokafka(settings),
        group_id=None,
        enable_auto_commit=False,
        max_partition_fetch_bytes=1,  # one record of each is enough to hear of the end
    )
    await consumer.start()
    try:
        ends: dict[TopicPartition, int] = await consumer.end_offsets(list(partitions))
        missing = {place for place, end in ends.items() if end > 0}
        consumer.assign(list(missing))
        for place in missing:
            consumer.seek(place, ends[place] - 1)
        while missing:
            await consumer.getmany(*missing, timeout_ms=_POLL_MS, max_records=len(missing))
            for place in list(missing):
                if (end := consumer.highwater(place)) is not None:
                    ends[place] = max(end, ends[place])
                    missing.discard(place)
        return ends
    finally:
        await consumer.stop()
