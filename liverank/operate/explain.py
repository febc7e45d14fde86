"""Why a user's list is ranked as it is: a worker's row, catalogue and model, read from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import numpy as np
from aiokafka.errors import KafkaError

from liverank.operate.look import stored_row
from liverank.operate.models import version_in_use
from liverank.operate.reading import spans_of
from liverank.settings import Settings
from ranker.contracts.clock import now_ms
from ranker.contracts.decoding import InputDecoder, decoded
from ranker.contracts.errors import InvalidRecord, LiverankError
from ranker.contracts.ids import hash_id
from ranker.contracts.records import Item, ModelDelta
from ranker.contracts.topics import ITEMS, MODEL_DELTAS
from ranker.items.catalog import Catalog
from ranker.registry.bundle import fetch_bundle, read_manifest
from ranker.serving.explaining import Contribution, Explanation, explain
from ranker.serving.model import ServingModel, load_model
from ranker.serving.words import span_in_words
from ranker.state.row import EVENT, UserRow
from streams.kafka.follower import Follower
from streams.kafka.position import position
from streams.models.catalogue import catalog_handlers

_delta = msgspec.json.Decoder(ModelDelta)


class Explained(msgspec.Struct, frozen=True, kw_only=True):
    """A list, what ranked it, and why some of its items stand where they do."""

    user_id: str
    request_id: str
    model: str
    delta: int
    events: int  # of the user's that the model sees
    ts: int  # the present of the ranking, in milliseconds
    items: list[Explanation]
    titles: dict[int, str]  # of the items in it and in the events, by hash


def explained(
    settings: Settings, user_id: str, item_ids: Sequence[str], request_id: str | None, most: int
) -> Explained:
    """Rank a user's list as the serving version does now, and explain it.

    Args:
        settings: of the installation.
        user_id: whose.
        item_ids: which; where there is none the first `most`.
        request_id: the list; the newest where None.
        most: items, where none are named.

    Raises:
        LiverankError: there is no such user, list, item or version, or the broker does not answer.
    """
    row = _with_list(stored_row(settings, user_id)[1], user_id, request_id)
    version = version_in_use(settings).version
    with TemporaryDirectory(prefix="liverank-explain-") as folder:
        copy = fetch_bundle(settings.registry, version, Path(folder))
        catalog = Catalog(read_manifest(copy).schema.item_numeric)
        model = load_model(copy, catalog, settings.worker.serving)
        listed = row.candidates
        assert listed is not None
        wanted = {int(item) for item in listed.hashes} | set(np.frombuffer(row.events, EVENT)["item"].tolist())
        titles = asyncio.run(_followed(settings, model, wanted))
        if not item_ids:
            (ranked,) = model.rank([(user_id, row)])
            item_ids = ranked.item_ids[:most]
        found = explain(model, user_id, row, item_ids)
    return Explained(
        user_id=user_id,
        request_id=listed.request_id,
        model=version,
        delta=model.sequence,
        events=len(row.visible(model.schema.window)) // EVENT.itemsize,
        ts=row.now,
        items=found,
        titles=titles,
    )


def in_words(found: Explained, reasons: int) -> str:
    """What a person reads: each item with the reasons that count most.

    Args:
        found: of `explained`.
        reasons: so many of each item.
    """
    by = f"by {found.model}" + (f", delta {found.delta}" if found.delta else "")
    lines = [f"{found.user_id}, list {found.request_id}, {by}; {found.events} events"]
    for item in found.items:
        title = found.titles.get(hash_id(item.item_id))
        name = f"{item.item_id} ({title})" if title else item.item_id
        rank = f"{item.rank}." if item.rank else "not shown:"
        ruled = (
            f"; {item.rank_by_score}. by its score, the rest is rules" if item.rank not in (item.rank_by_score,) else ""
        )
        lines.append(
            f"\n{rank} {name}: {item.score:.3f}, for whom nothing is known of {item.nobody:.3f}; came as "
            f"{item.position}.{ruled}"
        )
        lines += [f"  {one.effect:+.3f}  {_reason(one, found)}" for one in item.reasons[:reasons]]
        if left := len(item.reasons) - reasons:
            lines.append(f"          and {left} more" if left > 0 else "")
    return "\n".join(line for line in lines if line)


def _reason(one: Contribution, found: Explained) -> str:
    without = f"{one.rank_without}. without it" if one.rank_without else "not shown without it"
    match one.kind:
        case "event":
            title = found.titles.get(one.item or 0)
            item = one.item_id or title or f"item {one.item}"
            shown = f"{item} ({title})" if title and title != item else item
            ago = span_in_words((found.ts - (one.ts or 0)) / 1000)
            related = f": {', '.join(one.related)}" if one.related else ""
            return f"{one.name} {shown}, {ago} before{related}; {without}"
        case "words":
            return f"what was typed ({one.name}), {span_in_words((found.ts - (one.ts or 0)) / 1000)} before; {without}"
        case "summary":
            return f"what the user has done so far, all in all; {without}"
        case "feature":
            return f"its {one.name}; {without}"
        case "attribute":
            return f"the user's {one.name}; {without}"
    return f"the list's {one.name}; {without}"


def _with_list(row: UserRow, user_id: str, request_id: str | None) -> UserRow:
    listed = row.candidates if request_id is None else row.named(request_id)
    if listed is None:
        named = ", ".join(one.request_id for one in row.current) or "none"
        raise LiverankError(
            f"user {user_id!r} has no current list{'' if request_id is None else f' {request_id!r}'}; current: {named}"
        )
    return row.of(listed)


async def _followed(settings: Settings, model: ServingModel, wanted: set[int]) -> dict[int, str]:
    """Have the model know what a worker knows by now: items, their texts, its deltas; titles of some items."""
    topics, titles, deltas = settings.broker.topics, dict[int, str](), list[ModelDelta]()
    decoder = InputDecoder(model.schema, settings.worker.limits, topics.translated)
    handlers = catalog_handlers(model.catalog, decoder, topics)
    put: Callable[[Any], None] = handlers[ITEMS]

    def item(record: Any) -> None:
        put(record)
        if record.key is not None and (hashed := hash_id(record.key.decode(errors="replace"))) in wanted:
            found = _item(decoder, record, topics)
            titles[hashed] = (found.title if found is not None else None) or record.key.decode(errors="replace")

    def delta(record: Any) -> None:
        found = decoded(_delta, record.value)
        if found.base == model.version and found.model == settings.registry.model:
            deltas.append(found)

    failed = list[BaseException]()
    follower = Follower(settings.broker, handlers | {ITEMS: item, MODEL_DELTAS: delta}, failed.append)
    try:
        await follower.start()
    except KafkaError as error:
        for topic in (*handlers, MODEL_DELTAS):
            spans_of(settings.broker, topic)  # says which is not there, or may not be read
        raise LiverankError(
            f"what workers know cannot be read from {settings.broker.addresses}: {error}; `liverank topics acls` "
            "prints what an operator needs"
        ) from error
    finally:
        await follower.stop()
    for one in sorted(deltas, key=lambda each: each.sequence):
        model.put_rows(one.rows)
        model.sequence = one.sequence
    return titles


def _item(decoder: InputDecoder, record: Any, topics: Any) -> Item | None:
    try:
        found = decoder(position(record, topics), record.key, record.value, now_ms())
    except InvalidRecord:
        return None
    return found if isinstance(found, Item) else None
