"""What the worker does, without Kafka: one file of events in, one ranking out."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import msgspec

from liverank.offline.messages import placed_messages
from liverank.settings import Settings
from ranker.contracts.clock import now_ms
from ranker.contracts.decoding import InputDecoder
from ranker.contracts.errors import InvalidRecord, LiverankError
from ranker.contracts.inputs import Position
from ranker.contracts.records import Cause, Item, ItemVector, Ranking
from ranker.items.catalog import Catalog, item_text, text_hash
from ranker.registry.bundle import fetch_bundle, newest_version, read_manifest
from ranker.registry.encoder import EncoderError, TextEncoder, load_encoder
from ranker.registry.settings import shown_address
from ranker.registry.words import WordsOf, no_words, words_of
from ranker.serving.model import load_model
from ranker.serving.ranking import encode_ranking
from ranker.serving.reasons import reasons_of
from ranker.state.fold import apply_input
from ranker.state.row import EMPTY, UserRow
from ranker.state.words import typed_text

log = logging.getLogger(__name__)
_decode = msgspec.json.Decoder(Ranking).decode


class Folded(NamedTuple):
    """A user's row, and the input that was applied last."""

    row: UserRow
    cause: Cause


def open_bundle(settings: Settings, version: str | None = None) -> Path:
    """A local, checked copy of a bundle of the registry; the newest where no version is given.

    Raises:
        LiverankError: the registry has no such bundle.
    """
    version = version or newest_version(settings.registry.address, settings.registry.model)
    if version is None:
        where = shown_address(settings.registry.address)
        raise LiverankError(
            f"the registry {where} has no model {settings.registry.model!r}; `liverank train` makes a first one"
        )
    return fetch_bundle(settings.registry, version, settings.worker.data / "bundles")


def bundle_encoder(folder: Path, settings: Settings) -> TextEncoder | None:
    """The sentence encoder that a bundle's tables expect; None where the registry has it no more, as a worker does."""
    name = read_manifest(folder).encoder
    try:
        return load_encoder(settings.registry, name, settings.worker.data / "encoders")
    except EncoderError as error:
        log.warning("texts of items stay unread: %s", error)
        return None


def rank_file(path: Path, user_id: str | None, settings: Settings, version: str | None = None) -> Ranking:
    """Rank the newest list of a user from a JSONL file of events, lists and items.

    Args:
        path: the file.
        user_id: whose list; None where the file holds one user's.
        settings: where the registry is.
        version: of the model; the newest where None.

    Raises:
        LiverankError: a line that a worker would refuse, by its place, or no list to rank.
    """
    folder = open_bundle(settings, version)
    catalog = Catalog(read_manifest(folder).schema.item_numeric)
    model = load_model(folder, catalog, settings.worker.serving)
    decoder = InputDecoder(model.schema, settings.worker.limits)
    now = now_ms()
    users: dict[str, Folded] = {}
    described: dict[str, Item] = {}
    words: WordsOf = no_words
    for offset, (where, message) in enumerate(placed_messages(path)):
        at = Position(message.topic, 0, offset, now)
        try:
            record = decoder(at, message.key, message.value, now)
        except InvalidRecord as error:
            raise LiverankError(f"{where}: {error}") from error
        if record is None:
            catalog.withdraw((message.key or b"").decode())
        elif isinstance(record, Item):
            catalog.put(record)
            described[record.item_id] = record
        else:
            before = users[record.user_id].row if record.user_id in users else EMPTY
            if typed_text(record) is not None and words is no_words:
                words = words_of(bundle_encoder(folder, settings))
            row = apply_input(before, record, at, model.schema, settings.worker.rows, words(record))
            event_id = getattr(record, "event_id", None)
            ts = getattr(record, "ts", None) or now
            cause = Cause(kind=message.topic, topic=message.topic, partition=0, offset=offset, ts=ts, event_id=event_id)
            users[record.user_id] = Folded(row, cause)
    if described:
        _encode([*described.values()], catalog, bundle_encoder(folder, settings))
    user_id, folded = _whose(users, user_id, path)
    listed = folded.row.candidates
    assert listed is not None
    row = folded.row.of(listed)
    (ranked,) = model.rank([(user_id, row)])
    told = reasons_of(model, user_id, row, ranked, ranked) if listed.reasons else ()
    return _decode(encode_ranking(user_id, row, ranked, folded.cause, model.version, reasons=told))


def _encode(items: list[Item], catalog: Catalog, encoder: TextEncoder | None) -> None:
    wanted = [item for item in items if encoder is not None and catalog.wants_vector(item, encoder.name)]
    if encoder is None or not wanted:
        return
    for item, vector in zip(wanted, encoder.encode([item_text(item) for item in wanted]), strict=True):
        catalog.put_vector(
            ItemVector(
                item_id=item.item_id,
                encoder=encoder.name,
                text_hash=text_hash(item_text(item)),
                vector=vector.astype("<f2").tobytes(),
            )
        )


def _whose(users: dict[str, Folded], user_id: str | None, path: Path) -> tuple[str, Folded]:
    with_list = [name for name, folded in users.items() if folded.row.candidates is not None]
    if user_id is None and len(with_list) == 1:
        user_id = with_list[0]
    if user_id is None:
        found = ", ".join(sorted(with_list)[:10]) or "nobody"
        raise LiverankError(f"{path} holds a candidate list of {found}; name one user with --user")
    if user_id not in with_list:
        raise LiverankError(f"{path} holds no candidate list of user {user_id!r}; it must have one to rank")
    return user_id, users[user_id]
