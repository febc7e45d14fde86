"""Looking into a running system: what was refused, and what is known of a user."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
from confluent_kafka import Message

from liverank.operate.reading import ANSWER_S, read_to_end
from liverank.settings import Settings
from ranker.contracts.decoding import decoded
from ranker.contracts.errors import InvalidRecord, LiverankError
from ranker.contracts.records import DeadLetter
from ranker.contracts.schema import WORD_ACTIONS
from ranker.contracts.topics import DEAD_LETTERS
from ranker.registry.bundle import newest_version, read_remote_manifest
from ranker.state.codec import assembled, decode_list, decode_row, list_prefix
from ranker.state.row import EVENT, NO_TIME, UserRow
from streams.kafka.admin import check_row_names
from streams.kafka.connection import partition_of

log = logging.getLogger(__name__)

_dead_letter = msgspec.json.Decoder(DeadLetter)


def newest_dead_letters(settings: Settings, count: int, answer_s: float = ANSWER_S) -> list[dict[str, Any]]:
    """The newest dead letters, the newest last, as JSON values.

    Args:
        settings: where the broker is.
        count: how many.
        answer_s: how long to wait for the broker.

    Raises:
        LiverankError: the broker does not answer, or has no such topic.
    """
    broker = settings.broker
    messages = list(read_to_end(broker, DEAD_LETTERS, range(broker.partitions), newest=count, answer_s=answer_s))
    messages.sort(key=_sent_at)
    letters = (_letter(message) for message in messages[-count:])
    return [letter for letter in letters if letter is not None]


def state_of(settings: Settings, user_id: str) -> dict[str, Any]:
    """A user's row as the changelog has it, as JSON values.

    Raises:
        LiverankError: as `stored_row`.
    """
    partition, row = stored_row(settings, user_id)
    return {"user_id": user_id, "partition": partition, **_shown(row, _action_names(settings))}


def stored_row(settings: Settings, user_id: str) -> tuple[int, UserRow]:
    """A user's row as the changelog has it, and its partition.

    Raises:
        LiverankError: nothing is known of the user, or the broker does not answer; or rows are stored under another
            key.
    """
    broker, key = settings.broker, user_id.encode()
    check_row_names(broker)
    name = broker.row_names.of(key)
    likely = partition_of(key, broker.partitions)
    others = [number for number in range(broker.partitions) if number != likely]
    for partitions in ([likely], others):  # producers may spread keys in another way
        for partition in partitions:
            values = _stored(settings, partition, name)
            if name in values:
                return partition, _row(name, values)
    raise LiverankError(f"no worker has a row of user {user_id!r}: nothing was sent for it, or nothing was handled yet")


def _stored(settings: Settings, partition: int, name: bytes) -> dict[bytes, bytes]:
    """What a partition of the changelog holds of a user: the newest value under each key that begins with the name of
    the user's row.
    """
    values: dict[bytes, bytes] = {}
    for message in read_to_end(settings.broker, settings.broker.changelog, [partition]):
        key = bytes(message.key() or b"")
        if key == name or key.startswith(list_prefix(name)):
            values[key] = bytes(message.value() or b"")
    return values


def _row(name: bytes, values: dict[bytes, bytes]) -> UserRow:
    lists = [decode_list(value) for key, value in values.items() if key != name and value]
    return assembled(decode_row(values[name]), {listed.request_id: listed for listed in lists})


def _letter(message: Message) -> dict[str, Any] | None:
    """A dead letter; None, and a line on the log, where somebody else has sent something there."""
    try:
        letter = decoded(_dead_letter, message.value() or b"")
    except InvalidRecord as why:
        log.warning("%s-%s:%s is left out: %s", message.topic(), message.partition(), message.offset(), why)
        return None
    key = message.key()
    return {
        "sent": _time(_sent_at(message)),
        "reason": letter.reason,
        "error": letter.error,
        "topic": letter.topic,
        "partition": letter.partition,
        "offset": letter.offset,
        "key": None if key is None else bytes(key).decode(errors="replace"),
        "value": letter.value.decode(errors="replace"),
    }


def _shown(row: UserRow, actions: tuple[str, ...]) -> dict[str, Any]:
    return {
        "revision": row.revision,
        "count": row.count,
        "applied": row.applied,
        "erased_at": None if row.erased_at == NO_TIME else _time(row.erased_at),
        "attributes": row.attributes,
        "attributes_ts": None if row.attributes_ts == NO_TIME else _time(row.attributes_ts),
        "lists": [
            {
                "request_id": listed.request_id,
                "ts": _time(listed.ts),
                "expires_at": _time(listed.expires_at),
                "items": list(listed.item_ids),
            }
            for listed in reversed(row.current)
        ],
        "events": [
            {
                "ts": _time(int(event["ts"])),
                "action": _action(int(event["action"]), actions),
                "item_hash": int(event["item"]),
            }
            for event in np.frombuffer(row.events, EVENT)
        ],
        "words": [
            {"ts": _time(one.ts), "action": _action(one.action, actions), "encoder": one.encoder or None}
            for one in row.words
        ],
    }  # fmt: skip


def _action(number: int, actions: tuple[str, ...]) -> str | int:
    """What an action is called, of events and of texts alone; its number where nobody knows."""
    known = dict(enumerate(actions)) | {undeclared: name for name, undeclared in WORD_ACTIONS.items()}
    return known.get(number, number)


def _action_names(settings: Settings) -> tuple[str, ...]:
    """The actions by number, of the newest bundle; none where there is none: rows hold numbers."""
    try:
        version = newest_version(settings.registry.address, settings.registry.model)
        if version is None:
            return ()
        return read_remote_manifest(settings.registry, version)[0].schema.action_names
    except LiverankError:
        return ()


def _sent_at(message: Message) -> int:
    return int(message.timestamp()[1])


def _time(ms: int) -> str:
    try:
        return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
    except (ValueError, OverflowError):
        return f"{ms} ms"
