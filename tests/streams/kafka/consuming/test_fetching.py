"""What is fetched of a real broker: every committed record once and in order, whatever is sought meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from liverank.local.broker import Broker, start_broker
from streams.kafka.consuming import fetching
from streams.kafka.consuming.assigned import FetchError
from streams.kafka.consuming.fetching import FetchedRecord, RecordFetcher
from streams.kafka.progress import Place
from streams.settings import BrokerSettings
from tests.conftest import NewTopicFactory
from tests.support.waiting import eventually

_WAIT_S = 60.0


@pytest.fixture
async def fetcher(kafka: str) -> AsyncIterator[RecordFetcher]:
    """Of the tests' broker."""
    made = RecordFetcher(BrokerSettings(addresses=kafka))
    yield made
    await made.close()


@pytest.fixture
def place(kafka: str, new_topic: NewTopicFactory) -> Place:
    """The partition of a topic of its own."""
    return new_topic(kafka), 0


def produce(address: str, place: Place, *values: str, **options: str) -> None:
    """Records in one go; their keys are their values."""
    producer = Producer({"bootstrap.servers": address, "linger.ms": 50, **options})
    for value in values:
        producer.produce(place[0], value, value, place[1])
    assert producer.flush(_WAIT_S) == 0


class Transactions:
    """A producer's, on one partition."""

    def __init__(self, address: str, place: Place) -> None:
        self._producer = Producer({"bootstrap.servers": address, "transactional.id": f"{place[0]}-transactions"})
        self._producer.init_transactions()
        self._place = place

    def begin(self, *values: str) -> None:
        """A transaction with these records, left open."""
        self._producer.begin_transaction()
        for value in values:
            self._producer.produce(self._place[0], value, partition=self._place[1])
        assert self._producer.flush(_WAIT_S) == 0

    def commit(self) -> None:
        """Its records count."""
        self._producer.commit_transaction()

    def abort(self) -> None:
        """They never happened."""
        self._producer.abort_transaction()


async def taken(fetcher: RecordFetcher, *places: Place, count: int) -> list[FetchedRecord]:
    """The next so many records."""
    found: list[FetchedRecord] = []
    async with asyncio.timeout(_WAIT_S):
        while len(found) < count:
            for records in (await fetcher.take(places, 1.0, count - len(found))).values():
                found += records
    return found


async def until(holds: Callable[[], bool]) -> None:
    """Wait for the fetching thread."""
    await asyncio.to_thread(eventually, "it was fetched so far", holds, _WAIT_S)


def values(records: list[FetchedRecord]) -> list[str]:
    return [(record.value or b"").decode() for record in records]


def offsets(records: list[FetchedRecord]) -> list[int]:
    return [record.offset for record in records]


@pytest.mark.parametrize("codec", ["none", "gzip", "snappy", "lz4", "zstd"])
async def test_records_come_whole_whatever_packs_them(
    kafka: str, place: Place, fetcher: RecordFetcher, codec: str
) -> None:
    """Topic, partition, offset, timestamp, key and value, from the midst of a batch on; a value may be missing."""
    produce(kafka, place, *map(str, range(100)), **{"compression.type": codec})
    producer = Producer({"bootstrap.servers": kafka})
    producer.produce(place[0], None, None, timestamp=1_700_000_000_123)
    producer.flush(_WAIT_S)
    fetcher.seek({place: 40})
    *records, last = await taken(fetcher, place, count=61)
    assert offsets(records) == list(range(40, 100))
    assert all((record.topic, record.partition) == place for record in records)
    assert [record.key for record in records] == [record.value for record in records] == [
        str(number).encode() for number in range(40, 100)
    ]  # fmt: skip
    assert last == FetchedRecord(*place, 100, 1_700_000_000_123, None, None)


async def test_what_comes_after_a_seek_begins_there(kafka: str, place: Place, fetcher: RecordFetcher) -> None:
    """Also where records wait to be taken, or are on their way: none of before comes after it, and none is left out."""
    produce(kafka, place, *map(str, range(1500)))
    fetcher.seek({place: 0})
    for offset in (700, 3, 3, 1200, 0, 699, 1, 1499, 2):
        await fetcher.take([place], 0.01, 200)
        fetcher.seek({place: offset})
        assert fetcher.position(place) == offset
        count = min(1500 - offset, 300)
        assert offsets(await taken(fetcher, place, count=count)) == list(range(offset, offset + count))


async def test_what_is_aborted_is_passed(kafka: str, place: Place, fetcher: RecordFetcher) -> None:
    """The position goes on over aborted records and markers, to the partition's end, with records there or not."""
    transactions = Transactions(kafka, place)
    transactions.begin("a", "b")
    transactions.abort()
    fetcher.seek({place: 0})
    await until(lambda: fetcher.position(place) == 3)
    transactions.begin("c")
    transactions.commit()
    transactions.begin("d")
    transactions.abort()
    (record,) = await taken(fetcher, place, count=1)
    assert (record.offset, record.value) == (3, b"c")
    await until(lambda: fetcher.position(place) == 7)
    assert fetcher.ends(place) == (7, 7)


async def test_a_record_that_waits_is_not_passed(kafka: str, place: Place, fetcher: RecordFetcher) -> None:
    """What was read behind it counts once it was taken."""
    produce(kafka, place, "a", "b")
    transactions = Transactions(kafka, place)
    transactions.begin("c")
    transactions.abort()
    fetcher.seek({place: 0})
    await until(lambda: place in fetcher._partitions and fetcher._partitions[place].stable == 4)
    assert fetcher.position(place) == 0
    assert values(await taken(fetcher, place, count=1)) == ["a"]
    assert fetcher.position(place) == 1
    assert values(await taken(fetcher, place, count=1)) == ["b"]
    assert fetcher.position(place) == 4


async def test_an_open_transaction_is_told(kafka: str, place: Place, fetcher: RecordFetcher) -> None:
    """The end for who reads what is committed is where it begins, until it is over."""
    produce(kafka, place, "a")
    transactions = Transactions(kafka, place)
    transactions.begin("b", "c")
    produce(kafka, place, "d")
    fetcher.seek({place: 0})
    assert values(await taken(fetcher, place, count=1)) == ["a"]
    await until(lambda: fetcher.ends(place) == (1, 4))
    assert await fetcher.take([place], 0.1, 10) == {}
    transactions.commit()
    assert values(await taken(fetcher, place, count=3)) == ["b", "c", "d"]
    await until(lambda: fetcher.ends(place) == (5, 5))


async def test_nothing_is_told_of_what_is_not_read(kafka: str, place: Place, fetcher: RecordFetcher) -> None:
    """Neither before a partition is sought, nor after it was let go of; and none of its records comes."""
    produce(kafka, place, "a")
    assert (fetcher.position(place), fetcher.ends(place)) == (None, None)
    fetcher.seek({place: 0})
    await until(lambda: fetcher.ends(place) == (1, 1))
    fetcher.keep([(place[0], 1)])
    assert (fetcher.position(place), fetcher.ends(place)) == (None, None)
    assert await fetcher.take([place], 0.2, 10) == {}
    fetcher.seek({place: 0})
    assert values(await taken(fetcher, place, count=1)) == ["a"]


async def test_a_partition_that_nobody_takes_holds_up_no_other(
    kafka: str, new_topic: NewTopicFactory, fetcher: RecordFetcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of it a bounded number waits; the rest comes in order when it is taken."""
    monkeypatch.setattr(fetching, "_MOST_WAITING", 100)
    topic = new_topic(kafka, partitions=2)
    left, other = (topic, 0), (topic, 1)
    produce(kafka, left, *map(str, range(3000)))
    fetcher.seek({left: 0, other: 0})
    await until(lambda: fetcher._partitions[left].held)
    produce(kafka, other, *map(str, range(1000)))
    assert offsets(await taken(fetcher, other, count=1000)) == list(range(1000))
    assert len(fetcher._partitions[left].waiting) < 1000
    assert offsets(await taken(fetcher, left, count=3000)) == list(range(3000))


async def test_a_large_record_comes(kafka: str, fetcher: RecordFetcher, new_topic: NewTopicFactory) -> None:
    """Larger than what is asked for of a partition at once."""
    place = new_topic(kafka, config={"max.message.bytes": str(8 << 20)}), 0
    produce(kafka, place, "a", **{"message.max.bytes": str(8 << 20)})
    producer = Producer({"bootstrap.servers": kafka, "message.max.bytes": 8 << 20})
    producer.produce(place[0], b"x" * (6 << 20))
    producer.produce(place[0], b"b")
    assert producer.flush(_WAIT_S) == 0
    fetcher.seek({place: 0})
    assert [len(record.value or b"") for record in await taken(fetcher, place, count=3)] == [1, 6 << 20, 1]


async def test_what_retention_deleted_is_passed(kafka: str, place: Place, fetcher: RecordFetcher) -> None:
    """Reading goes on with the first record that is left; the position is still where it was sought."""
    produce(kafka, place, *map(str, range(10)))
    admin = AdminClient({"bootstrap.servers": kafka})
    for gone in admin.delete_records([TopicPartition(*place, 6)]).values():
        gone.result(_WAIT_S)
    fetcher.seek({place: 2})
    assert offsets(await taken(fetcher, place, count=4)) == [6, 7, 8, 9]


async def test_who_waits_is_woken(kafka: str, place: Place, fetcher: RecordFetcher) -> None:
    """Before the time is over, though nothing came."""
    fetcher.seek({place: 0})
    waiting = asyncio.create_task(fetcher.take([place], 10 * _WAIT_S, 10))
    await until(lambda: fetcher._waiter is not None)
    fetcher.wake()
    async with asyncio.timeout(_WAIT_S):
        assert await waiting == {}


async def test_an_error_ends_who_waits(kafka: str, place: Place, fetcher: RecordFetcher) -> None:
    """The first one counts, from then on."""
    fetcher.seek({place: 0})
    waiting = asyncio.create_task(fetcher.take([place], 10 * _WAIT_S, 10))
    await until(lambda: fetcher._waiter is not None)
    fetcher.fail(RuntimeError("the first"))
    fetcher.fail(RuntimeError("the second"))
    for failed in (waiting, fetcher.take([place], 1.0, 10)):
        with pytest.raises(FetchError, match="the first"):
            async with asyncio.timeout(_WAIT_S):
                await failed


async def test_it_ends_where_no_broker_answers() -> None:
    """Its thread is gone when it says so, though librdkafka still looks for the broker."""
    fetcher = RecordFetcher(BrokerSettings(addresses="127.0.0.1:1"))
    fetcher.seek({("clicks", 0): 0})
    assert await fetcher.take([("clicks", 0)], 0.1, 10) == {}
    await fetcher.close()
    assert fetcher._thread is not None
    assert not fetcher._thread.is_alive()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    """One that is stopped, with its log in the test's folder."""
    with start_broker("kafka", tmp_path, heap_mb=256) as made:
        yield made


def created(address: str, topic: str) -> None:
    """A topic of this name is there."""
    admin = AdminClient({"bootstrap.servers": address})
    admin.create_topics([NewTopic(topic, 1, 1)], operation_timeout=30)[topic].result(_WAIT_S)


async def on(broker: Broker, read: Callable[[RecordFetcher], Awaitable[None]]) -> None:
    """Read with a fetcher that ends before its broker does."""
    fetcher = RecordFetcher(BrokerSettings(addresses=broker.address))
    try:
        await read(fetcher)
    finally:
        await fetcher.close()


def damage(broker: Broker, folder: Path, partition: str) -> None:
    """Change a letter of a record on the broker's disk, while the broker is down."""
    broker.stop()
    (log,) = folder.rglob(f"{partition}/00000000000000000000.log")
    log.write_bytes(log.read_bytes().replace(b"damaged\x00", b"Damaged\x00"))
    broker.start()


async def test_a_batch_that_was_damaged_ends_it(broker: Broker, tmp_path: Path) -> None:
    """Nothing behind it is handed on: librdkafka would pass it over."""
    place = "damaged", 0
    created(broker.address, place[0])
    for value in ("before", "damaged", "behind"):
        produce(broker.address, place, value)
    damage(broker, tmp_path, "damaged-0")

    async def read(fetcher: RecordFetcher) -> None:
        fetcher.seek({place: 0})
        found: list[str] = []
        with pytest.raises(FetchError, match=r"damaged-0 at 1 .*CRC"):
            async with asyncio.timeout(_WAIT_S):
                while True:
                    for records in (await fetcher.take([place], 1.0, 10)).values():
                        found += values(records)
        assert found in ([], ["before"])

    await on(broker, read)


async def test_a_topic_made_anew_is_read_from_its_beginning(broker: Broker) -> None:
    """By a client that knows nothing of the one before, of which it has read more, under a leader of later epochs."""
    place = "anew", 0
    created(broker.address, place[0])
    produce(broker.address, place, "old", "older")

    async def read(fetcher: RecordFetcher) -> None:
        fetcher.seek({place: 0})
        assert values(await taken(fetcher, place, count=2)) == ["old", "older"]
        for _ in range(2):
            await asyncio.to_thread(broker.restart)
        produce(broker.address, place, "oldest")
        assert values(await taken(fetcher, place, count=1)) == ["oldest"]
        admin = AdminClient({"bootstrap.servers": broker.address})
        admin.delete_topics([place[0]])[place[0]].result(_WAIT_S)
        created(broker.address, place[0])
        produce(broker.address, place, "new")
        fetcher.renew()
        fetcher.seek({place: 0})
        assert values(await taken(fetcher, place, count=1)) == ["new"]

    await on(broker, read)
