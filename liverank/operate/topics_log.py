"""The retained topics of a running system as a log to train from: the records that a folder's files would give, in the
same order, through the same code.

Read from outside every group, up to where each topic ended when this began, and what was committed alone.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

import msgspec
from confluent_kafka import Message

from liverank.operate.reading import OffsetSpan, read_spans, spans_of
from liverank.settings import Settings
from online_learning.data.dataset import DataSet, LogRecord, arrivals
from online_learning.folder.log import by_time
from online_learning.folder.sorting import Keyed, merge_sorted
from online_learning.progress import ProgressReport, Report
from online_learning.recipe import Recipe
from ranker.contracts.clock import now_ms
from ranker.contracts.decoding import InputDecoder
from ranker.contracts.errors import InvalidRecord, LiverankError
from ranker.contracts.inputs import Position
from ranker.contracts.records import CandidateList, Erasure, Interaction, Item, User
from ranker.contracts.schema import FeatureSchema
from ranker.contracts.topics import CANDIDATES, CLICKS, ERASURES, EXAMPLES, INTERACTIONS, ITEMS, USERS, VIEWS

log = logging.getLogger(__name__)

_TIMED = (CANDIDATES, CLICKS, VIEWS, INTERACTIONS)
_NAMED = 3  # messages that are left out, of each topic
_SHOWN_EVERY = 1000  # messages

_Decoded = tuple[Position, Interaction | CandidateList | User | Erasure | Item | None]


class TopicsLog:
    """What the topics hold at this moment. `left_out`, `examples` and `told` are whole once `records` has ended."""

    def __init__(
        self, settings: Settings, schema: FeatureSchema, since: int | None, until: int | None, show: Report
    ) -> None:
        """
        Args:
            settings: where the broker is, and what an input may be.
            schema: to train by; a message that it cannot take is left out.
            since: milliseconds since the epoch: lists and events before it are left out; compacted topics never are.
            until: and from this time on.
            show: is told how far reading is.

        Raises:
            LiverankError: the broker does not answer, or a topic is not there.
        """
        self._broker, self._schema, self._show = settings.broker, schema, show
        self._since, self._until = since, until
        self._topics = self._broker.topics
        self._decode = InputDecoder(schema, settings.worker.limits, self._topics.translated)
        #: Where `examples` ended before any input was looked at: all that was made of later inputs lies behind it.
        self._examples = spans_of(self._broker, EXAMPLES)
        # A message comes no earlier than what it tells of, but for a clock that is ahead.
        first = None if since is None else max(0, since - settings.worker.max_ahead_ms)
        self._spans = {topic: spans_of(self._broker, topic, first) for topic in _TIMED}
        self._spans |= {topic: spans_of(self._broker, topic) for topic in (ITEMS, USERS, ERASURES)}
        self.left_out: Counter[str] = Counter()  # by reason
        self.named: dict[str, list[str]] = {}  # topic -> the first of them, each with what would be right
        self.erased = 0  # records of users who asked to be forgotten

    @property
    def offsets(self) -> dict[str, int]:
        """`examples-PARTITION` -> the offset after the examples that this log knows of; none where it ends earlier."""
        if self._until is not None:
            return {}
        called = self._topics.called(EXAMPLES)
        return {f"{called}-{number}": span.end for number, span in self._examples.items()}

    def data_set(self, recipe: Recipe) -> DataSet:
        """This log for whoever trains."""
        return DataSet(
            name="topics", schema=self._schema, records=lambda _: self.records(), source=self._broker.addresses,
            lists=True, recipe=recipe,
        )  # fmt: skip

    def records(self) -> Iterator[LogRecord]:
        """Items, users, then lists and events by time; nothing of a user up to the time of their erasure.

        Raises:
            LiverankError: there are no lists, or no positive actions.
        """
        erased = self._erasures()
        yield from self._newest(ITEMS, {})
        yield from self._newest(USERS, erased)
        yield from arrivals(by_time(self._timed(erased)))

    def report(self) -> dict[str, Any]:
        """What was left out, for a person."""
        return {"left_out": dict(self.left_out), "left_out_first": self.named, "of_erased_users": self.erased}

    def _erasures(self) -> dict[str, int]:
        until: dict[str, int] = {}
        for _, record in self._read(ERASURES):
            assert isinstance(record, Erasure)
            assert record.ts is not None
            until[record.user_id] = max(record.ts, until.get(record.user_id, record.ts))
        return until

    def _newest(self, topic: str, erased: Mapping[str, int]) -> Iterator[Item | User]:
        """The newest record of each key; none of one that was withdrawn."""
        decoder: msgspec.msgpack.Decoder[Item | User] = msgspec.msgpack.Decoder(Item if topic == ITEMS else User)
        for _, versions in groupby(merge_sorted(self._versions(topic, erased)), key=lambda pair: pair.key[0]):
            *_, newest = versions
            if newest.body:
                yield decoder.decode(newest.body)

    def _versions(self, topic: str, erased: Mapping[str, int]) -> Iterator[Keyed]:
        encode = msgspec.msgpack.encode
        for number, (message, (at, record)) in enumerate(self._with_messages(topic)):
            key = (message.key() or b"").decode()
            ts = 0
            if isinstance(record, User):  # the newest by its own time holds, as in a row
                assert record.ts is not None
                ts, record = record.ts, msgspec.structs.replace(record, ts=None)  # noqa: PLW2901
            gone = record is None or (ts or at.ts) <= erased.get(key, (ts or at.ts) - 1)
            yield Keyed((key, ts, number), b"" if gone else encode(record))

    def _timed(self, erased: Mapping[str, int]) -> Iterator[Interaction | CandidateList]:
        lists = positives = 0
        for topic in _TIMED:
            for _, record in self._read(topic):
                assert isinstance(record, Interaction | CandidateList)
                assert record.ts is not None
                if record.ts <= erased.get(record.user_id, record.ts - 1):
                    self.erased += 1
                elif self._within(record.ts):
                    if isinstance(record, CandidateList):
                        lists += 1
                    else:
                        positives += self._schema.actions[self._schema.action_number(record.action)].positive
                    yield record
        self._tell()
        if not lists or not positives:
            missing = "list" if not lists else f"event that is {' or '.join(a.name for a in self._schema.positives)}"
            raise LiverankError(
                f"the topics on {self._broker.addresses} hold no {missing}{self._span_said()}; there is nothing to "
                "learn from"
            )

    def _within(self, ts: int) -> bool:
        return (self._since is None or ts >= self._since) and (self._until is None or ts < self._until)

    def _span_said(self) -> str:
        said = " of the time asked for" if self._since is not None or self._until is not None else ""
        return said + (f" ({sum(self.left_out.values())} messages are left out)" if self.left_out else "")

    def _read(self, topic: str) -> Iterator[_Decoded]:
        return (decoded for _, decoded in self._with_messages(topic))

    def _with_messages(self, topic: str) -> Iterator[tuple[Message, _Decoded]]:
        """Each message of a topic with what it holds; one that cannot be used is counted, and the first are named."""
        spans: dict[int, OffsetSpan] = self._spans[topic]
        total, now = sum(span.end - span.start for span in spans.values()), now_ms()
        for number, message in enumerate(read_spans(self._broker, topic, spans)):
            if number % _SHOWN_EVERY == 0:
                self._show(ProgressReport(topic, number, total))
            at = self._position(message, topic, now)
            try:
                yield message, (at, self._decode(at, message.key(), message.value(), now))
            except InvalidRecord as why:
                self.left_out[why.reason] += 1
                named = self.named.setdefault(topic, [])
                if len(named) < _NAMED:
                    named.append(f"{at.place}: {why}")

    def _position(self, message: Message, topic: str, now: int) -> Position:
        """Where a message stands; one without a time of its own gets this machine's, as in a worker."""
        ts = message.timestamp()[1]
        stamp = ts if ts >= 0 else now
        return Position(topic, message.partition() or 0, message.offset() or 0, stamp, message.topic() or topic)

    def _tell(self) -> None:
        if self.left_out:
            reasons = ", ".join(f"{reason} {count}" for reason, count in self.left_out.most_common())
            first = next(iter(self.named.values()))[0]
            log.warning("%d messages are left out (%s), the first %s", self.left_out.total(), reasons, first)
