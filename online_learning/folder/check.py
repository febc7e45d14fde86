"""What a folder holds, what is wrong with it, and what can be learned from it, before anything is trained."""

from __future__ import annotations

from collections import Counter, defaultdict
from datetime import UTC, datetime
from typing import Any

import msgspec
import numpy as np
from msgspec import Struct

from online_learning.data.hash_set import HashSet
from online_learning.data.on_disk import SpillingDict
from online_learning.folder.log import FolderLog, folder_records, logged_records
from online_learning.folder.records import RejectedLine
from online_learning.progress import Report, counted_off
from ranker.contracts.records import CandidateList, Interaction, Item

_FEW = 200  # choices below which a model learns next to nothing


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
    items_described: int
    items_seen: int  # in events and lists
    first: str | None
    last: str | None
    events_with_described_item: float | None
    choices_from_a_list: float | None  # positive events whose item is in the user's list of that time
    lists_with_a_choice: float | None
    choices: int  # examples to learn from, where there are lists
    repeated_events: int  # the same id again, or the same user, item, action and time
    repeated_lists: int  # the same request again
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


class _ShownItems(Struct, frozen=True, array_like=True):
    """A user's current list: `items` are the int64 hashes of its items, `chosen` is whether one of them was."""

    request_id: str
    items: bytes
    chosen: bool = False


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
        self.times: list[int] = []  # the earliest and the latest
        self._current = SpillingDict(msgspec.msgpack.encode, msgspec.msgpack.Decoder(_ShownItems).decode)

    def reject(self, line: RejectedLine) -> None:
        """A line that makes no record."""
        name = f"{line.kind}.{line.field}"
        self.rejected[name] += 1
        if len(self.first_rejected[name]) < self.shown:
            self.first_rejected[name].append(line)

    def as_it_stands(self, report: Report) -> None:
        """Repeats, and lines out of order, which the log's order would hide."""
        before: dict[type, int] = {}
        known = HashSet()
        for record in logged_records(self.found, lambda _: None, report):
            ts = record.ts or 0
            self.counts["backwards"] += ts < before.get(type(record), 0)
            before[type(record)] = ts
            name = record.event_id if isinstance(record, Interaction) else record.request_id
            same = {hash((type(record).__name__, name))}
            if isinstance(record, Interaction) and ts:
                same.add(hash((record.user_id, record.item_id, record.action, ts)))
            again = sum(known.add(one) for one in same) < len(same)
            self.counts["repeated_events" if isinstance(record, Interaction) else "repeated_lists"] += again

    def in_order(self, report: Report) -> None:
        """Everything else."""
        for record in counted_off(folder_records(self.found, self.reject, report), "in order", report):
            if isinstance(record, Item):
                self.counts["repeated_items"] += hash(record.item_id) in self.described
                self.described.add(hash(record.item_id))
                self.alike.add(hash(_spelt(record.item_id)))
            elif isinstance(record, Interaction | CandidateList):
                ts = record.ts or 0
                self.users.update((hash(record.user_id),))
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
        self._current.put(shown.user_id, _ShownItems(shown.request_id, np.array(items, np.int64).tobytes()))

    def _event(self, event: Interaction) -> None:
        if event.item_id is None:
            self.actions[event.action or ""] += 1
            return
        item = hash(event.item_id)
        self.seen.update((item,))
        self.actions[event.action or ""] += 1
        self.counts["events"] += 1
        if item in self.described:
            self.counts["described"] += 1
        elif hash(_spelt(event.item_id)) in self.alike:
            self.ids_alike.add(item)
        if event.action not in self.positives:
            return
        self.counts["positive"] += 1
        shown = self._current.get(event.user_id)
        if shown is None or event.request_id not in (None, shown.request_id):
            return
        if item in np.frombuffer(shown.items, np.int64):
            self.counts["choices"] += 1
            self.counts["chosen_lists"] += not shown.chosen
            self._current.put(event.user_id, _ShownItems(shown.request_id, shown.items, chosen=True))


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
    return msgspec.structs.replace(facts, verdict=_verdict(found, facts, counts["positive"], one_time))


def _verdict(found: FolderLog, facts: LogFacts, positive: int, one_time: bool) -> Verdict:
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
    return Verdict(can=tuple(can), doubts=tuple(_doubts(facts, found, positive)), cannot=tuple(cannot))


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
