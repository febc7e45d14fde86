"""Messages in files: one JSON object a line, either a record or `{"topic", "key"?, "value" | "raw"}`.

A bare record goes where its fields say: `items` makes it a candidate list, `user_id` with `item_id` or `text` an
interaction, `user_id` with `attributes` a user, `item_id` alone an item. `raw` is a string that is sent as it stands,
to try what a worker makes of bad input.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from liverank.client.messages import INPUT_TOPICS, Message
from ranker.contracts.errors import LiverankError
from ranker.contracts.topics import CANDIDATES, CLICKS, INTERACTIONS, ITEMS, TOPIC_OF_ACTION, TOPICS, USERS


def read_messages(path: Path) -> Iterator[Message]:
    """The messages of a JSONL file.

    Raises:
        LiverankError: as for `placed_messages`.
    """
    return (message for _, message in placed_messages(path))


def placed_messages(path: Path) -> Iterator[tuple[str, Message]]:
    """The messages of a JSONL file, each with its place, `FILE:LINE`.

    Raises:
        LiverankError: a line that is neither a record nor an envelope, by its place.
    """
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    where = f"{path}:{number}"
                    yield where, _message(line.removeprefix(codecs.BOM_UTF8), where)
    except OSError as error:
        raise LiverankError(f"{path} cannot be read: {error.strerror}; give a JSONL file") from error


def _message(line: bytes, where: str) -> Message:
    try:
        parsed = msgspec.json.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise LiverankError(f"{where}: not JSON in UTF-8: {error}; a JSON object is expected on each line") from error
    if not isinstance(parsed, dict):
        raise LiverankError(f"{where}: a JSON object is expected on each line")
    if "topic" in parsed:
        return _enveloped(parsed, where)
    if "items" in parsed:
        topic = CANDIDATES
    elif "user_id" in parsed and ("item_id" in parsed or "text" in parsed):
        topic = TOPIC_OF_ACTION.get(str(parsed.get("action", TOPICS[CLICKS].action)), INTERACTIONS)
    elif "user_id" in parsed and "attributes" in parsed:
        topic = USERS
    elif "item_id" in parsed:
        topic = ITEMS
    else:
        raise LiverankError(
            f"{where}: no record; a list has items, an event user_id and item_id or text, a user attributes, an item "
            'item_id, and anything else stands in {"topic": ..., "value": ...}'
        )
    return Message(topic, _key(topic, parsed), line.strip())


def _enveloped(parsed: dict[str, Any], where: str) -> Message:
    topic = parsed["topic"]
    if topic not in INPUT_TOPICS:
        raise LiverankError(f"{where}: the topic is {topic!r}; valid are {', '.join(INPUT_TOPICS)}")
    if "raw" in parsed:
        value: bytes | None = str(parsed["raw"]).encode()
    elif "value" in parsed:
        value = None if parsed["value"] is None else msgspec.json.encode(parsed["value"])
    else:
        raise LiverankError(f'{where}: the message to {topic} has neither "value" nor "raw"')
    if "key" in parsed:
        return Message(topic, None if parsed["key"] is None else str(parsed["key"]).encode(), value)
    body = parsed.get("value")
    return Message(topic, _key(topic, body) if isinstance(body, dict) else None, value)


def _key(topic: str, record: dict[str, Any]) -> bytes | None:
    own = record.get(TOPICS[topic].key if topic in TOPICS else "user_id")
    return None if own is None else str(own).encode()
