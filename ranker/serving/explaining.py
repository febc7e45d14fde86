"""Why an item stands where it does: what is known of the user and the list is left out, one thing after the other.

Nothing is guessed from weights: the model ranks the list again as if an event had not been, a feature had not been
given, an attribute or a field of the context were not known, and the difference of the item's score is what that was
worth. Things are left out one at a time, so what two of them are worth only together is in neither. `nobody` is the
score for a person of whom nothing is known.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from msgspec import Struct
from msgspec.structs import replace

from ranker.contracts.errors import LiverankError
from ranker.contracts.schema import WORD_ACTIONS, FeatureSchema
from ranker.features.batch import list_arrays
from ranker.serving.model import ServingModel
from ranker.serving.ranking import Ranked
from ranker.state.fold import without_event
from ranker.state.row import EVENT, KnownFields, UserRow

_AT_ONCE = 16  # rows ranked together
#: Texts whose cosine is below that are not said to be alike.
ALIKE = 0.5

ContributionKind = Literal["event", "words", "feature", "attribute", "context", "summary"]


class Contribution(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that is known, and what it is worth to an item."""

    kind: ContributionKind
    name: str  # of an event and of words the action; else the feature's, the attribute's or the field's
    effect: float  # the score, minus the score without it
    rank_without: int | None  # where the item would stand; None where it would not be shown
    ts: int | None = None  # of an event, and of words
    item: int | None = None  # of an event: the hash of its item's id
    item_id: str | None = None  # the same, where the list has that item
    related: tuple[str, ...] = ()  # how the event's item is related to this one


class Explanation(Struct, frozen=True, kw_only=True):
    """An item of a ranking: `reasons` by the size of their effect, `nobody` the score for whom nothing is known of."""

    item_id: str
    rank: int | None  # None: not shown
    rank_by_score: int  # before the rules, which lift, cap and leave out
    position: int  # in the list as it came, from 1
    score: float
    nobody: float
    reasons: list[Contribution]


class _Without(NamedTuple):
    """A row without one thing."""

    row: UserRow
    reason: Contribution  # but for its effect


def explain(model: ServingModel, user_id: str, row: UserRow, item_ids: Sequence[str]) -> list[Explanation]:
    """Explain the places of some items of a list.

    Args:
        model: that ranks.
        user_id: whose row it is.
        row: the state, as `UserRow.of` gives it for the list.
        item_ids: of the list; each takes a ranking for each of its features that are given.

    Raises:
        LiverankError: an item is not in the list.
    """
    listed = row.candidates
    assert listed is not None
    if strangers := [item for item in item_ids if item not in listed.item_ids]:
        raise LiverankError(
            f"{', '.join(strangers)} is not in the list {listed.request_id!r}: {_some(listed.item_ids)}"
        )
    whole = replace(row, lists=(replace(listed, k=None),))
    shown, scored = _ranked(model, [row])[0], _ranked(model, [whole])[0]
    nobody = _scores(_ranked(model, [_unknown(whole)])[0])
    common = list(_without_common(model, whole))
    ranked_without = _ranked(model, [one.row for one in common])
    relations = _Relations(model, user_id, whole)
    found = []
    for item in item_ids:
        own = list(_without_features(whole, item))
        without = [
            *zip(common, ranked_without, strict=True),
            *zip(own, _ranked(model, [one.row for one in own]), strict=True),
        ]
        place, scores = listed.item_ids.index(item), _scores(scored)
        reasons = [
            _told(one, ranked, item, scores.get(item), relations.of(one.reason, place)) for one, ranked in without
        ]
        found.append(
            Explanation(
                item_id=item,
                rank=_rank(shown, item),
                rank_by_score=1 + sum(score > scores.get(item, 0.0) for score in scores.values()),
                position=place + 1,
                score=scores.get(item, 0.0),
                nobody=nobody.get(item, 0.0),
                reasons=sorted(reasons, key=lambda one: -abs(one.effect)),
            )
        )
    return found


def _told(one: _Without, ranked: Ranked, item: str, score: float | None, related: tuple[str, ...]) -> Contribution:
    without = _scores(ranked).get(item)
    effect = 0.0 if score is None or without is None else score - without
    return replace(one.reason, effect=effect, rank_without=_rank(ranked, item), related=related)


def _ranked(model: ServingModel, rows: Sequence[UserRow]) -> list[Ranked]:
    """Each row's list as the model ranks it; nothing is kept of them."""
    ranked: list[Ranked] = []
    for start in range(0, len(rows), _AT_ONCE):
        named = [(f"\0explained-{number}", row) for number, row in enumerate(rows[start : start + _AT_ONCE])]
        ranked += model.rank(named)
        for name, _ in named:
            model.forget(name)
    return ranked


def _scores(ranked: Ranked) -> dict[str, float]:
    return dict(zip(ranked.item_ids, ranked.scores.tolist(), strict=True))


def _rank(ranked: Ranked, item: str) -> int | None:
    return int(ranked.ranks[ranked.listed.index(item)]) or None


def _unknown(row: UserRow) -> UserRow:
    """The same list for somebody of whom nothing is known."""
    return UserRow(lists=row.lists)


def _without_common(model: ServingModel, row: UserRow) -> Iterator[_Without]:
    """The row without each thing that counts for all items of the list."""
    listed, actions = row.candidates, model.schema.action_names
    assert listed is not None
    visible, size = len(row.visible(model.schema.window)), EVENT.itemsize
    names = {int(hashed): item for hashed, item in zip(listed.hashes, listed.item_ids, strict=True)}
    for start in range(len(row.events) - visible, len(row.events), size):
        event = np.frombuffer(row.events, EVENT, 1, start)[0]
        action, item = int(event["action"]), int(event["item"])
        yield _Without(
            without_event(row, start, model.schema),
            _reason(
                "event",
                actions[action] if action < len(actions) else str(action),
                ts=int(event["ts"]),
                item=item,
                item_id=names.get(item),
            ),
        )
    for kind, name, ts, without in rows_without(model.schema, row):
        yield _Without(without, _reason(kind, name, ts=ts))


def rows_without(schema: FeatureSchema, row: UserRow) -> Iterator[tuple[ContributionKind, str, int | None, UserRow]]:
    """The row without each thing that is known of the user or the moment beside the events: its kind, its name, and of
    words when they were typed.

    Args:
        schema: of the model.
        row: the state, as `UserRow.of` gives it for a list.
    """
    listed = row.candidates
    assert listed is not None
    actions = dict(enumerate(schema.action_names)) | {number: name for name, number in WORD_ACTIONS.items()}
    for typed in row.words:
        if typed.vector:
            left = tuple(one for one in row.words if one is not typed)
            yield "words", actions.get(typed.action, str(typed.action)), typed.ts, replace(row, words=left)
    if row.summary:
        yield "summary", "all events so far", None, replace(row, summary=b"")
    for field in schema.context:
        if field.name in row.attributes:
            yield "attribute", field.name, None, replace(row, attributes=_less(row.attributes, field.name))
        if field.name in listed.context:
            changed = replace(listed, context=_less(listed.context, field.name))
            yield "context", field.name, None, replace(row, lists=(changed,))


def _without_features(row: UserRow, item: str) -> Iterator[_Without]:
    """The row without each feature that its list gives of an item."""
    listed = row.candidates
    assert listed is not None
    place, width = listed.item_ids.index(item), len(listed.columns)
    for number, name in enumerate(listed.columns):
        given = np.frombuffer(listed.features, "<f4").reshape(-1, width).copy()
        if np.isnan(given[place, number]):
            continue
        given[place, number] = np.nan
        yield _Without(replace(row, lists=(replace(listed, features=given.tobytes()),)), _reason("feature", name))


def _reason(kind: ContributionKind, name: str, **more: object) -> Contribution:
    return msgspec.convert({"kind": kind, "name": name, "effect": 0.0, "rank_without": None, **more}, Contribution)


def _less(known: KnownFields, name: str) -> KnownFields:
    return {key: value for key, value in known.items() if key != name}


def _some(items: Sequence[str], most: int = 20) -> str:
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")


class _Relations:
    """How the items of a user's events are related to those of the list, as the model sees it."""

    def __init__(self, model: ServingModel, user_id: str, row: UserRow) -> None:
        ((_, inputs),) = model.inputs([(f"\0explained-{user_id}", row)])
        model.forget(f"\0explained-{user_id}")
        arrays = list_arrays([inputs], model.tables, max(1, len(inputs.history)))
        self._events = {
            (int(ts), int(item), int(action)): at
            for at, (ts, item, action) in enumerate(np.frombuffer(inputs.events, EVENT)[["ts", "item", "action"]])
        }
        self._actions = model.schema.action_names
        self._item = arrays["cand_item"][0][:, None] == arrays["hist_item"][0]
        categories = arrays["cand_cat"][0][:, None]
        self._category = (categories != 0) & (categories == arrays["hist_cat"][0])
        self._text = arrays["cand_text"][0] @ arrays["hist_text"][0].T
        self._followed = arrays["covisit"][0] > 0
        self._distance = np.arange(len(inputs.candidates))[:, None] - arrays["hist_pos"][0]
        self._listed = arrays["hist_pos"][0] >= 0

    def of(self, reason: Contribution, place: int) -> tuple[str, ...]:
        """In words, for the list's item at a place."""
        action = self._actions.index(reason.name) if reason.name in self._actions else -1
        at = self._events.get((reason.ts or 0, reason.item or 0, action))
        if reason.kind != "event" or at is None:
            return ()
        if self._item[place, at]:
            return ("the same item",)
        found = []
        if self._category[place, at]:
            found.append("same category")
        if self._text[place, at] >= ALIKE:
            found.append(f"similar text ({self._text[place, at]:.2f})")
        if self._followed[place, at]:
            found.append("often chosen together")
        if self._listed[at] and (distance := int(self._distance[place, at])):
            found.append(f"{abs(distance)} {'below' if distance > 0 else 'above'} it in the list")
        return tuple(found)
