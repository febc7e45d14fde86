"""What a folder holds, what is wrong with it, and what can be learned from it, before anything is trained."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from online_learning.data.dataset import LogRecord
from online_learning.data.hash_set import HashSet
from online_learning.data.looked_at import HashedList, LookedAt
from online_learning.data.on_disk import SpillingDict
from online_learning.folder.log import FolderLog, folder_records, logged_records
from online_learning.folder.records import RejectedLine
from online_learning.progress import Report, counted_off
from ranker.contracts.records import CandidateList, Context, Interaction, Item, User
from ranker.contracts.schema import FeatureSchema
from ranker.features.list import is_value
from ranker.mapping.values import text_of

_FEW = 200  # choices below which a model learns next to nothing
_DAY_MS = 86_400_000
_FEW_LINES = 20  # that may well be of one hour
_NAMES, _NAMED = 1000, 8  # of a kind that are counted, and that a sentence holds
#: How a cell of which nothing is known is called once somebody has made a text of it.
_NOBODY = {"nan", "none", "null", "na", "n/a", "undefined"}


class Verdict(Struct, frozen=True, kw_only=True):
    """What can be learned: `cannot` says why nothing can, `doubts` what to look at first, `can` what can."""

    can: tuple[str, ...] = ()
    doubts: tuple[str, ...] = ()
    cannot: tuple[str, ...] = ()


class LogFacts(Struct, frozen=True, kw_only=True):
    """A folder in figures. Shares are of what they name, None where there is none of it; times are ISO 8601 in UTC."""

    files: dict[str, list[str]]
    lists: int
    events: int
    actions: dict[str, int]
    users: int
    users_described: int  # of those who are in events and lists
    items_described: int
    items_seen: int  # in events and lists
    first: str | None
    last: str | None
    events_with_described_item: float | None
    choices_from_a_list: float | None  # positive events whose item is in the list that they belong to
    lists_with_a_choice: float | None
    choices: int  # examples to learn from, where there are lists
    repeated_events: int  # the same user, item and action again, with the same id or time
    repeated_lists: int  # the same request of the same user again
    repeated_items: int  # described before
    lists_naming_an_item_twice: int
    backwards: int  # lines that are earlier than the line before them
    ahead: int  # events and lists from after now
    ids_alike: int  # items of events that only a described item of another spelling is like: 7, "07" and "7.0"
    rejected: int
    rejected_by: dict[str, int]  # kind.field -> lines
    rejected_first: list[RejectedLine]  # the first of each
    notes: tuple[str, ...]
    verdict: Verdict


class _Declared:
    """What the schema declares, and what the lines have of it."""

    def __init__(self, schema: FeatureSchema, lists: bool) -> None:
        features = [feature.name for feature in schema.candidate_features] if lists else []
        self._fields = {field.name: field.values for field in schema.context}
        self._missed = {f"features.{name}" for name in features} | {f"numeric.{name}" for name in schema.item_numeric}
        self._missed |= {f"context.{name}" for name in self._fields}
        self._others: dict[str, Counter[str]] = defaultdict(Counter)  # field -> values that are not among the declared

    def see(self, record: LogRecord) -> None:
        """Whatever the record says of what is declared."""
        if isinstance(record, Item):
            self._missed -= {f"numeric.{name}" for name in record.numeric or ()}
        elif isinstance(record, CandidateList):
            self._see_fields(record.context or {})
            if any(name.startswith("features.") for name in self._missed):
                self._missed -= {f"features.{name}" for item in record.items for name in item.features or ()}
                self._missed -= {"features.score"} if any(item.score is not None for item in record.items) else set()
        elif isinstance(record, User):
            self._see_fields(record.attributes)

    def _see_fields(self, given: Context) -> None:
        for name in self._fields.keys() & given.keys():
            self._missed.discard(f"context.{name}")
            value, values, others = given[name], self._fields[name], self._others[name]
            if values and not any(is_value(value, one) for one in values) and len(others) < _NAMES:
                others[text_of(value)] += 1

    def doubts(self) -> Iterator[str]:
        """What to look at first."""
        if self._missed:
            yield f"no line has {', '.join(sorted(self._missed))}, which [schema] declares: map the columns in [data]"
        for name, others in self._others.items():
            if others:
                named = _named(dict(others.most_common(_NAMED)))
                yield f"values of {name} that [schema] does not declare say nothing: {named}"


class _Tally:
    """Counts over two passes: the files as they stand, then the log in its order."""

    def __init__(self, found: FolderLog, now: int, shown: int) -> None:
        self.found, self.now, self.shown = found, now, shown
        self.positives = {action.name for action in found.config.schema.positives}
        self.counts: Counter[str] = Counter()
        self.actions: Counter[str] = Counter()
        self.rejected: Counter[str] = Counter()
        self.first_rejected: defaultdict[str, list[RejectedLine]] = defaultdict(list)
        self.users = HashSet()
        self.seen = HashSet()  # items of events and lists
        self.described = HashSet()
        self.alike = HashSet()  # how else described items are written
        self.ids_alike = HashSet()  # items of events that nobody described, but one that is written like them
        self.people = HashSet()  # users that are described
        self.nobody: Counter[str] = Counter()  # ids that stand for none, most likely
        self.unknown_actions: Counter[str] = Counter()
        self.declared = _Declared(found.config.schema, found.lists)
        self.hours: set[int] = set()  # times of day, some
        self.times: list[int] = []  # the earliest and the latest
        self._looked = SpillingDict(msgspec.msgpack.encode, msgspec.msgpack.Decoder(LookedAt).decode)

    def reject(self, line: RejectedLine) -> None:
        """A line that makes no record."""
        name = f"{line.kind}.{line.field}"
        self.rejected[name] += 1
        if len(self.first_rejected[name]) < self.shown:
            self.first_rejected[name].append(line)
        action, known, _ = line.problem.removeprefix("is ").partition("; valid are ")
        if line.field == "action" and known and len(self.unknown_actions) < _NAMES:
            self.unknown_actions[action] += 1

    def as_it_stands(self, report: Report) -> None:
        """Repeats, and lines out of order, which the log's order would hide."""
        before: dict[type, int] = {}
        known = HashSet()
        for record in logged_records(self.found, lambda _: None, report):
            ts = record.ts or 0
            self.counts["backwards"] += ts < before.get(type(record), 0)
            before[type(record)] = ts
            if ts and len(self.hours) <= 2:
                self.hours.add(ts % _DAY_MS)
            if isinstance(record, Interaction):
                what = record.user_id, record.item_id, record.action
                same = {hash((*what, record.event_id)), *([hash((*what, ts))] if ts else [])}
                self.counts["repeated_events"] += sum(known.add(one) for one in same) < len(same)
            else:
                self.counts["repeated_lists"] += not known.add(hash((record.user_id, record.request_id)))

    def in_order(self, report: Report) -> None:
        """Everything else."""
        for record in counted_off(folder_records(self.found, self.reject, report), "in order", report):
            self.declared.see(record)
            if isinstance(record, User):
                self.people.add(hash(record.user_id))
            elif isinstance(record, Item):
                self.counts["repeated_items"] += hash(record.item_id) in self.described
                self.described.add(hash(record.item_id))
                self.alike.add(hash(_spelt(record.item_id)))
            else:
                ts, user = record.ts or 0, hash(record.user_id)
                self.counts["people"] += self.users.add(user) and user in self.people
                if record.user_id.lower() in _NOBODY:
                    self.nobody[record.user_id] += 1
                self.times = [min(self.times[0], ts), max(self.times[1], ts)] if self.times else [ts, ts]
                self.counts["ahead"] += ts > self.now
                if isinstance(record, Interaction):
                    self._event(record)
                else:
                    self._list(record)

    def _list(self, shown: CandidateList) -> None:
        items = [hash(item.item_id) for item in shown.items]
        self.seen.update(items)
        self.counts["lists"] += 1
        self.counts["twice"] += len(set(items)) < len(items)
        looked = self._looked.get(shown.user_id) or LookedAt(0)
        made = HashedList(shown.request_id, shown.ts or 0, np.array(items, np.int64).tobytes())
        self._looked.put(shown.user_id, looked.showing(made))

    def _event(self, event: Interaction) -> None:
        self.actions[event.action or ""] += 1
        looked = self._looked.get(event.user_id)
        chosen = None if event.item_id is None else self._touch(event, event.item_id, looked)
        if looked is not None:
            self._looked.put(event.user_id, looked.after(event, chosen))

    def _touch(self, event: Interaction, item_id: str, looked: LookedAt | None) -> HashedList | None:
        """Counts an event of an item; the list that it chose from."""
        item = hash(item_id)
        self.seen.update((item,))
        self.counts["events"] += 1
        if item_id.lower() in _NOBODY:
            self.nobody[item_id] += 1
        if item in self.described:
            self.counts["described"] += 1
        elif hash(_spelt(item_id)) in self.alike:
            self.ids_alike.add(item)
        if event.action not in self.positives:
            return None
        self.counts["positive"] += 1
        chosen = None if looked is None else looked.chosen_from(event, item)
        if chosen is not None:
            self.counts["choices"] += 1
            self.counts["chosen_lists"] += not chosen.chosen
        return chosen


def check_log(found: FolderLog, now: int, shown: int = 3, report: Report = lambda _: None) -> LogFacts:
    """Look at every line of a folder.

    Args:
        found: the folder.
        now: milliseconds since the epoch; what is later is told.
        shown: rejected lines of each kind and field that are given in full.
        report: called with how far it is.

    Raises:
        FolderError: a file is no table.
    """
    tally = _Tally(found, now, shown)
    tally.as_it_stands(report)
    tally.in_order(report)
    counts, has_items = tally.counts, bool(found.of("items"))
    facts = LogFacts(
        files={kind: [file.path.name for file in found.of(kind)] for kind in {file.kind: None for file in found.files}},
        lists=counts["lists"],
        events=counts["events"],
        actions={name: tally.actions[name] for name in found.config.schema.action_names},
        users=len(tally.users),
        users_described=counts["people"],
        items_described=len(tally.described),
        items_seen=len(tally.seen),
        first=_iso(tally.times[0]) if tally.times else None,
        last=_iso(tally.times[1]) if tally.times else None,
        events_with_described_item=_share(counts["described"], counts["events"]) if has_items else None,
        choices_from_a_list=_share(counts["choices"], counts["positive"]) if found.lists else None,
        lists_with_a_choice=_share(counts["chosen_lists"], counts["lists"]),
        choices=counts["choices"],
        repeated_events=counts["repeated_events"],
        repeated_lists=counts["repeated_lists"],
        repeated_items=counts["repeated_items"],
        lists_naming_an_item_twice=counts["twice"],
        backwards=counts["backwards"],
        ahead=counts["ahead"],
        ids_alike=len(tally.ids_alike) if has_items else 0,
        rejected=tally.rejected.total(),
        rejected_by=dict(tally.rejected),
        rejected_first=[line for lines in tally.first_rejected.values() for line in lines],
        notes=found.notes,
        verdict=Verdict(),
    )
    # Strictly increasing times of a user move lines of one time apart, a millisecond each.
    spread = tally.times[1] - tally.times[0] if tally.times else 0
    one_time = not found.timeless and spread <= counts["events"] + counts["lists"]
    doubts = (*_doubts(facts, found, counts["positive"]), *_odd(tally, facts, spread), *tally.declared.doubts())
    return msgspec.structs.replace(facts, verdict=_verdict(found, facts, counts["positive"], one_time, doubts))


def _verdict(found: FolderLog, facts: LogFacts, positive: int, one_time: bool, doubts: tuple[str, ...]) -> Verdict:
    names = ", ".join(action.name for action in found.config.schema.positives)
    cannot = []
    if not facts.events:
        cannot.append("there is no event that can be used")
    elif not positive:
        cannot.append(
            f"there is no positive action ({names}): say in [schema] which of {_named(facts.actions)} are positive"
        )
    elif found.lists and not facts.choices:
        cannot.append(
            "no positive action falls on an item of its user's list: compare the ids, the request ids and the times"
        )
    elif one_time:
        cannot.append(
            "all is at one time, so nothing is before anything else: map ts, or leave it out to keep the rows' order"
        )
    can = []
    if not cannot:
        made = facts.choices if found.lists else positive
        how = (
            "choices from the lists that were shown"
            if found.lists
            else "positive actions, from lists that are recalled"
        )
        can.append(f"a model can learn from {made} {how}, of {facts.users} users over {facts.items_seen} items")
    return Verdict(can=tuple(can), doubts=doubts, cannot=tuple(cannot))


def _doubts(facts: LogFacts, found: FolderLog, positive: int) -> list[str]:
    share = facts.choices_from_a_list
    said = {
        f"{facts.rejected} lines are left out": facts.rejected > 0,
        "there is one user: what is learned is one person's taste": facts.users == 1,
        f"there are {positive} positive actions: a model learns little from fewer than {_FEW}": 0 < positive < _FEW,
        f"{facts.ids_alike} items of events are described under another spelling (7, 07, 7.0): write ids as one text": (
            facts.ids_alike > 0
        ),
        f"{facts.ahead} lines are from after now: look at the unit of time and at the clock": facts.ahead > 0,
        f"{facts.backwards} lines are earlier than the line before: they are put in order": facts.backwards > 0,
        f"{facts.repeated_events} events come again: one whose event_id is known counts once": facts.repeated_events
        > 0,
        f"{facts.repeated_items} items are described again: the last line stays": facts.repeated_items > 0,
        f"{facts.repeated_lists} request ids come again: each list needs its own": facts.repeated_lists > 0,
        f"{facts.lists_naming_an_item_twice} lists name an item twice: the first stays": (
            facts.lists_naming_an_item_twice > 0
        ),
        f"{share or 0:.0%} of the positive actions are on an item of their list: the others teach little": (
            found.lists and share is not None and 0 < share < 0.5
        ),
    }
    return [sentence for sentence, holds in said.items() if holds]


def _odd(tally: _Tally, facts: LogFacts, spread: int) -> Iterator[str]:
    """What looks as if a file did not say what it was meant to say."""
    if tally.unknown_actions:
        yield f"actions that [schema] does not declare: {_named(dict(tally.unknown_actions.most_common(_NAMED)))}"
    if tally.nobody:
        named = _named(dict(tally.nobody.most_common(_NAMED)))
        yield f"ids are called {named}: leave a cell empty where nobody is known, else they are one user, or one item"
    described = facts.events_with_described_item
    if described is not None and described < 0.5:
        yield f"{described:.0%} of the events are on an item that is described: compare the ids"
    if len(tally.people) and not facts.users_described:
        yield "nobody who is described does anything: compare the ids of users"
    if len(tally.hours) <= 2 and spread > _DAY_MS and facts.events + facts.lists >= _FEW_LINES:
        yield "times are whole days: within one, lists come before events, and the order of rows stands for the rest"


def _named(actions: dict[str, int]) -> str:
    return ", ".join(f"{name} ({count})" for name, count in actions.items())


def _spelt(item_id: str) -> str:
    """An id without what spreadsheets add to numbers and take from them."""
    text = item_id.strip().removesuffix(".0")
    return text.lstrip("0") or "0" if text.isdecimal() else text.casefold()


def _share(part: int, whole: int) -> float | None:
    return round(part / whole, 4) if whole else None


def _iso(ts: int) -> str:
    try:
        return datetime.fromtimestamp(ts / 1000, UTC).isoformat(timespec="seconds")
    except (OverflowError, ValueError):
        return f"{ts} ms"


def report_of(facts: LogFacts) -> dict[str, Any]:
    """The facts as plain JSON values."""
    found: dict[str, Any] = msgspec.to_builtins(facts)
    return {**found, "rejected_first": [line._asdict() for line in facts.rejected_first]}
