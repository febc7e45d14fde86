"""Dead letters, examples, and what the trainer learned, against what they came of."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence, Set
from typing import NamedTuple

from msgspec import Struct

from liverank.faults.checker.violations import Violation
from liverank.faults.load.inputs import InputPlace
from ranker.contracts.errors import RowError
from ranker.contracts.ids import hash_id
from ranker.contracts.records import Example
from ranker.state.codec import decode_row

#: So many ids of examples a trainer knows again.
KNOWN_IDS = 65_536
_SHOWN = 5


#: User, event, item, action.
EventName = tuple[str, str, str, str]


class Fingerprint(NamedTuple):
    """What of an example is the same whenever and wherever it is made; the rest is of the worker and of the order."""

    user_id: str
    request_id: str
    ts: int
    late: bool
    schema: str
    items: tuple[str, ...]
    outcome: tuple[str, str, int, str] | None

    @classmethod
    def of(cls, example: Example) -> Fingerprint:
        """Of an example; it has no items where its state is no row."""
        made = example.outcome
        outcome = None if made is None else (made.item_id, made.action, made.ts, made.event_id)
        try:
            listed = decode_row(example.state).candidates
        except RowError:
            listed = None
        items = () if listed is None else listed.item_ids
        return cls(
            example.user_id, example.request_id, example.ts, example.late, example.schema, items, outcome
        )  # fmt: skip


class LearnedState(Struct, frozen=True):
    """What a trainer's checkpoint says of itself."""

    trained: int
    known: frozenset[int]  # hashes of example ids
    refused: frozenset[int]  # likewise
    offsets: Mapping[str, int]  # `topic-partition` -> after the last record read


def check_letters(letters: Mapping[InputPlace, Set[str]], deserved: Mapping[InputPlace, str]) -> Iterator[Violation]:
    """Each dead letter was deserved, for this reason, and each input that deserves one has it.

    Args:
        letters: place of an input -> the reasons that were given.
        deserved: place -> the reason that is right.
    """
    for place, reasons in letters.items():
        if place not in deserved:
            yield Violation("letter-undeserved", f"{place} was refused: {', '.join(sorted(reasons))}")
        elif reasons != {deserved[place]}:
            given = ", ".join(sorted(reasons))
            yield Violation("letter-reason", f"{place} was refused as {given} instead of {deserved[place]}")
    for place in deserved.keys() - letters.keys():
        yield Violation("letter-missing", f"{place} deserves a dead letter ({deserved[place]}), and has none")


def check_examples(
    seen: Mapping[str, Set[Fingerprint]], owed: Collection[str], events: Set[EventName]
) -> Iterator[Violation]:
    """Each example has one content however often it comes, is of something that happened, and none that is owed is
    missing.

    Args:
        seen: by id, the contents that came.
        owed: ids of the examples that must be there.
        events: all that were not refused.
    """
    for example_id, contents in seen.items():
        if len(contents) > 1:
            yield Violation("example-conflict", f"{example_id} came with {len(contents)} contents: {contents}")
        for content in contents:
            if content.outcome is not None:
                item, action, _, event = content.outcome
                if (content.user_id, event, item, action) not in events:
                    yield Violation("example-unfounded", f"{example_id} is of {action} {event}, which nobody sent")
    for example_id in owed:
        if example_id not in seen:
            yield Violation("example-missing", f"{example_id} is owed, and never came")


def check_learned(
    learned: LearnedState, examples: Mapping[str, Sequence[tuple[int, str]]], doubtful: Set[str], erased: Set[str]
) -> Iterator[Violation]:
    """The trainer has learned once from each example before its offsets.

    Args:
        learned: its checkpoint.
        examples: `topic-partition` -> offset and id of each example, repeats too, in order.
        doubtful: ids that cannot be learned from.
        erased: ids of users who were erased at some time: whether those are learned from hangs on when.
    """
    before = {
        example_id
        for place, line in examples.items()
        for offset, example_id in line
        if offset < learned.offsets.get(place, 0)
    } - doubtful
    hashes = {hash_id(example_id): example_id for example_id in before}
    known = {hashes[one] for one in learned.known if one in hashes}
    if refused := {hashes[one] for one in learned.refused if one in hashes}:
        yield Violation("example-refused", f"the trainer refused {len(refused)} good examples, {_some(refused)}")
    if len(learned.known) >= KNOWN_IDS:  # it has forgotten which came first
        least, most = len(before - erased - refused), len(before)
    else:
        least = most = len(known - refused)
        if missed := before - known - erased:
            yield Violation("not-learned", f"{len(missed)} of {len(before)} examples were not read, {_some(missed)}")
    if not least <= learned.trained <= most:
        kind = "learned-twice" if learned.trained > most else "not-learned"
        yield Violation(kind, f"{learned.trained} were learned from of {least} to {most} examples")


def check_acknowledged(group: str, ends: Mapping[str, int], committed: Mapping[str, int]) -> Iterator[Violation]:
    """What a group has committed reaches the ends.

    Args:
        group: its name.
        ends: `topic-partition` -> the offset after the last record.
        committed: the same, as the group says; a partition without a record need not be there.
    """
    for place, end in ends.items():
        if committed.get(place, 0) < end:
            yield Violation(
                "not-acknowledged", f"{group} has committed {committed.get(place, 0)} of {place}, which ends at {end}"
            )


def _some(ids: Set[str]) -> str:
    return ", ".join(sorted(ids)[:_SHOWN])
