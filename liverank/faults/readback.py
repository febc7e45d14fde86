"""Reads every topic back, piece by piece, into what the checker asks for."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from random import Random

import msgspec
from confluent_kafka import Message

from liverank.faults.checker.rankings import HeldRanking, KnownInput, ListName, UserPlace, hold
from liverank.faults.checker.records import EventName, Fingerprint
from liverank.faults.checker.state import RowPlace
from liverank.faults.load.inputs import InputPlace, record_digest
from liverank.operate.reading import OffsetSpan, read_spans, spans_of
from liverank.settings import Settings
from ranker.contracts.clock import now_ms
from ranker.contracts.decoding import InputDecoder
from ranker.contracts.errors import InvalidRecord
from ranker.contracts.inputs import Position, UserInput
from ranker.contracts.records import DeadLetter, Erasure, Example, Interaction, Item, Ranking
from ranker.contracts.schema import FeatureSchema
from ranker.contracts.topics import DEAD_LETTERS, EXAMPLES, ITEMS, RANKINGS, USER_INPUTS
from ranker.items.catalog import Catalog
from ranker.registry.words import WordsOf, no_words
from ranker.state.fold import apply_input
from ranker.state.row import EMPTY, UserRow
from streams.kafka.topic_ids import TopicIds

_ANSWER_S = 60.0  # a broker that has just come back takes its time
_letter = msgspec.json.Decoder(DeadLetter)
_ranking = msgspec.json.Decoder(Ranking)
_example = msgspec.json.Decoder(Example)


class ReadBack:
    """What the topics hold, as far as it was read: `read` takes in what has come since. Only committed records count.

    The inputs are folded in two orders: topic by topic, and in a drawn interleaving.
    """

    def __init__(
        self,
        settings: Settings,
        schema: FeatureSchema,
        refused: Mapping[bytes, str] | None = None,
        words: WordsOf = no_words,
    ) -> None:
        """
        Args:
            settings: of the installation, with brokers that are reached directly.
            schema: what its rows are folded by.
            refused: `record_digest` of a record -> the reason for which it is a dead letter, of those that were sent
                to be refused; whether others are the decoder says.
            words: encodes what users typed, as the workers did.
        """
        self._words = words
        self.held: dict[InputPlace, bytes] = {}  # inputs by place, as digests
        self.deserved: dict[InputPlace, str] = {}  # the reasons of dead letters
        self.folded: tuple[dict[RowPlace, UserRow], ...] = ({}, {})
        self.stored: dict[RowPlace, bytes] = {}
        self.inputs: defaultdict[UserPlace, list[KnownInput]] = defaultdict(list)
        self.erased: set[str] = set()
        self.events: set[EventName] = set()
        self.rankings: list[Ranking] = []  # those of the last `read`
        self.held_rankings: dict[ListName, HeldRanking] = {}
        self.ranked = self.repeated = 0  # rankings, and those that came before
        self.letters: defaultdict[InputPlace, set[str]] = defaultdict(set)
        self.examples: defaultdict[str, set[Fingerprint]] = defaultdict(set)
        self.example_lines: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)  # by topic and partition
        self.doubtful: set[str] = set()  # ids of examples that a stranger sent
        self.catalog = Catalog(schema.item_numeric)
        self._settings, self._schema, self._refused = settings, schema, refused or {}
        self._decode = InputDecoder(schema, settings.worker.limits, settings.topics.translated)
        self._read: dict[str, dict[int, int]] = {}  # topic -> partition -> where to read on
        self._rng = Random(7)
        self._seen: set[tuple[str, int, str, int]] = set()

    def read(self) -> None:
        """Take in everything that has come since the last time.

        Raises:
            LiverankError: the broker does not answer.
        """
        self.read_inputs()
        self.read_rows()
        self.rankings = [_ranking.decode(_value(message)) for message in self._new(RANKINGS)]
        for ranking in self.rankings:
            self._ranking(ranking)
        for message in self._new(DEAD_LETTERS):
            letter = _letter.decode(_value(message))
            self.letters[InputPlace(letter.topic, letter.partition, letter.offset)].add(letter.reason)
        for message in self._new(EXAMPLES):
            self._example(message)

    def read_inputs(self) -> None:
        """Take in the inputs alone, and fold them."""
        ids = TopicIds(self._settings.broker, map(self._settings.topics.called, USER_INPUTS))
        asyncio.run(ids.take())
        queues = [list(self._accepted(topic, ids)) for topic in USER_INPUTS]
        _fold(self.folded[0], (one for queue in queues for one in queue), self._schema, self._settings, self._words)
        _fold(self.folded[1], _interleaved(queues, self._rng), self._schema, self._settings, self._words)
        for _ in self._accepted(ITEMS, ids):
            pass

    def read_rows(self) -> None:
        """Take in the rows alone."""
        for message in self._new(self._settings.broker.changelog):
            self._changelog(message)

    @property
    def users(self) -> int:
        """How many have a row."""
        return sum(b"\xff" not in user for _, user in self.stored)

    def named(self, rows: Mapping[RowPlace, UserRow]) -> Mapping[RowPlace, UserRow]:
        """Users' rows, by the names under which rows are stored."""
        names = self._settings.broker.row_names
        if not names.hashed:
            return rows
        return {(partition, names.of(user)): row for (partition, user), row in rows.items()}

    def good_example(self) -> Example | None:
        """One with an outcome; None where there is none yet. It is read from the topic's beginning."""
        spans = spans_of(self._settings.broker, EXAMPLES, answer_s=_ANSWER_S)
        for message in read_spans(self._settings.broker, EXAMPLES, spans, _ANSWER_S):
            with suppress(msgspec.DecodeError, RecursionError):
                found = _example.decode(_value(message))
                if found.outcome is not None:
                    return found
        return None

    def _new(self, topic: str) -> Iterator[Message]:
        """A topic's records since the last time."""
        begun = self._read.setdefault(topic, {})
        spans = spans_of(self._settings.broker, topic, answer_s=_ANSWER_S)
        wanted = {at: OffsetSpan(max(span.start, begun.get(at, 0)), span.end) for at, span in spans.items()}
        yield from read_spans(self._settings.broker, topic, wanted, _ANSWER_S)
        begun |= {at: span.end for at, span in wanted.items()}

    def _accepted(self, topic: str, ids: TopicIds) -> Iterator[tuple[RowPlace, UserInput, Position]]:
        """The inputs of a topic that are used; those that are refused are noted."""
        for message in self._new(topic):
            called, partition, offset = message.topic() or "", message.partition() or 0, message.offset() or 0
            key, value = _bytes(message.key()), _bytes(message.value())
            place, known = InputPlace(called, partition, offset), record_digest(key, value)
            self.held[place] = known
            at = Position(topic, partition, offset, message.timestamp()[1], called, ids.of(called))
            if known in self._refused:
                self.deserved[place] = self._refused[known]
                continue
            try:
                record = self._decode(at, key, value, now_ms())
            except InvalidRecord as error:
                self.deserved[place] = error.reason
                continue
            assert key is not None
            if record is None:
                self.catalog.withdraw(key.decode())
            elif isinstance(record, Item):
                self.catalog.put(record)
            else:
                self._note(record, at)
                yield (partition, key), record, at

    def _note(self, record: UserInput, at: Position) -> None:
        name = None
        if isinstance(record, Interaction):
            named = record.event_id or "", record.item_id or "", record.action or ""
            self.events.add((record.user_id, *named))
            name = None if record.event_id == at.event_id else named
        elif isinstance(record, Erasure):
            self.erased.add(record.user_id)
        self.inputs[at.partition, record.user_id].append(KnownInput(at.broker_topic, at.offset, name))

    def _changelog(self, message: Message) -> None:
        place = message.partition() or 0, _bytes(message.key()) or b""
        value = _bytes(message.value())
        if value is None:
            self.stored.pop(place, None)
        else:
            self.stored[place] = value

    def _ranking(self, ranking: Ranking) -> None:
        hold(self.held_rankings, ranking)
        again = (f"{ranking.user_id} {ranking.request_id}", ranking.revision, ranking.cause.topic, ranking.cause.offset)
        self.ranked += 1
        self.repeated += again in self._seen
        self._seen.add(again)

    def _example(self, message: Message) -> None:
        try:
            example = _example.decode(_value(message))
        except (msgspec.DecodeError, RecursionError):
            return  # a stranger's
        self.examples[example.example_id].add(Fingerprint.of(example))
        line = self.example_lines[f"{message.topic()}-{message.partition()}"]
        line.append((message.offset() or 0, example.example_id))


def _fold(
    rows: dict[RowPlace, UserRow],
    inputs: Iterator[tuple[RowPlace, UserInput, Position]],
    schema: FeatureSchema,
    settings: Settings,
    words: WordsOf,
) -> None:
    for place, record, at in inputs:
        rows[place] = apply_input(rows.get(place, EMPTY), record, at, schema, settings.worker.rows, words(record))


def _interleaved(
    queues: Sequence[Sequence[tuple[RowPlace, UserInput, Position]]], rng: Random
) -> Iterator[tuple[RowPlace, UserInput, Position]]:
    """One order of all inputs that keeps each topic's own."""
    places = [number for number, queue in enumerate(queues) for _ in queue]
    rng.shuffle(places)
    heads = [iter(queue) for queue in queues]
    return (next(heads[place]) for place in places)


def _bytes(given: str | bytes | None) -> bytes | None:
    return given.encode() if isinstance(given, str) else given


def _value(message: Message) -> bytes:
    return _bytes(message.value()) or b""
