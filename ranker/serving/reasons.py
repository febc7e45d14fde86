"""Why each item of a list stands where it does, told with its ranking where the list asks for that.

An effect is measured, never read out of weights: it is the item's score minus the score without one thing.

* An *event* that is left out never was: the list is encoded and scored anew for who has done everything else.
* A *relation* of an event to the item is one term of the sum over relations and events on which the score is built
  (`ranker.network.transformer.Relations`). It is taken out of that sum exactly, by what the score graph is told of the
  event; but the distance in the list, which other events' recency goes by too, and which is left out as a whole.
* *Features*, attributes, fields of the context and the long-term summary are taken for not known.
* A *rule* and *exploration* are told by the place where the item would stand without them.

All of one list is a few calls of the graphs, whatever it asks for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from msgspec.structs import replace

from ranker.contracts.records import RankReason
from ranker.features.leaving_out import things_known
from ranker.features.user import UserInputs
from ranker.serving import rules, words
from ranker.serving.explaining import ALIKE, rows_without
from ranker.serving.model import ServingModel
from ranker.serving.ranking import Ranked
from ranker.serving.scorer import Encoding
from ranker.state.fold import without_event
from ranker.state.row import EVENT, UserRow

#: Of a ranking the first items are explained, by the newest events.
EXPLAINED_ITEMS, EXPLAINED_EVENTS = 20, 24
_AT_ONCE = 64  # variants in one call of the score graph
_LEAST = 1e-6  # what moves a score less is no reason
#: What the score graph reads of candidates, but for their number.
_OF_CANDIDATES = ("cand_vec", "cand_feat", "cand_item", "cand_cat", "cand_pos", "cand_text", "covisit", "said")

#: Inputs of the score graph that are other than they were, by name.
_Change = Mapping[str, np.ndarray]


def reasons_of(
    model: ServingModel, user_id: str, row: UserRow, by_score: Ranked, shown: Ranked
) -> list[list[RankReason]]:
    """The reasons of the first items of a ranking: as many of each as the list asks for, those that count most first.

    Args:
        model: that ranked.
        user_id: whose list it is.
        row: that was ranked, as `UserRow.of` gives it for the list.
        by_score: what the model gave.
        shown: the same after exploration.
    """
    listed = row.candidates
    assert listed is not None
    places = shown.order[:EXPLAINED_ITEMS]
    found: list[list[RankReason]] = [[] for _ in places]
    if not len(places):
        return found
    terms = _Terms(model, user_id, row, places)
    for told in (
        _left_out(model, row, terms),
        _features(model, user_id, row, terms),
        _moved(model, user_id, terms, by_score, shown),
    ):
        for at, reason in told:
            if abs(reason.effect) >= _LEAST or reason.rank_without is not None:
                found[at].append(reason)
    return [sorted(some, key=_order)[: listed.reasons] for some in found]


def _order(reason: RankReason) -> tuple[bool, float]:
    """What moved an item whatever its score is comes first."""
    return reason.rank_without is None, -abs(reason.effect)


class _Terms:
    """What the score graph reads of a list's shown items, and their scores with something of it changed.

    Without a list block the candidates do not see each other, so the others are left out.
    """

    def __init__(self, model: ServingModel, user_id: str, row: UserRow, places: np.ndarray) -> None:
        ((_, self.inputs),) = model.inputs([(user_id, row)])
        self._model, self.places = model, places
        self.alone = not model.manifest.config["list_block"]
        self.rows = np.arange(len(places)) if self.alone else places  # of the feed
        self.feed = self._of_shown([self.inputs], model.scorer.encode([(user_id, self.inputs)]))
        self.base = self.scores([{}])[0]

    def _of_shown(self, users: Sequence[UserInputs], encodings: Sequence[Encoding]) -> dict[str, np.ndarray]:
        feed = self._model.scorer.feed(users, encodings)
        return feed | {name: feed[name][:, self.places] for name in _OF_CANDIDATES} if self.alone else feed

    def scores(self, changes: Sequence[_Change]) -> np.ndarray:
        """float64 [changes, P] of the shown items."""
        found = [np.empty((0, len(self.places)))]
        for start in range(0, len(changes), _AT_ONCE):
            some = changes[start : start + _AT_ONCE]
            feed = {name: np.concatenate([one.get(name, given) for one in some]) for name, given in self.feed.items()}
            found.append(self._worth(feed))
        return np.concatenate(found)

    def scores_of(self, rows: Sequence[UserRow]) -> np.ndarray:
        """float64 [rows, P] of the same items of the same list, for people who might have been."""
        found, model = [np.empty((0, len(self.places)))], self._model
        for start in range(0, len(rows), _AT_ONCE):
            users = model.inputs_anew(rows[start : start + _AT_ONCE])
            found.append(self._worth(self._of_shown(users, model.scorer.encode_anew(users))))
        return np.concatenate(found)

    def _worth(self, feed: Mapping[str, np.ndarray]) -> np.ndarray:
        return self._model.worth(self._model.chances(self._model.scorer.run(feed)[:, self.rows]))

    def effects(self, changes: Sequence[_Change]) -> np.ndarray:
        """float64 [changes, P]: what each change takes from the scores."""
        effects: np.ndarray = self.base - self.scores(changes)
        return effects

    def without_relation(self, relation: str, at: int) -> _Change:
        """An event's item is not so related to any."""
        name, nothing = {
            words.SAME_ITEM: ("hist_item", 0), words.SAME_CATEGORY: ("hist_cat", 0),
            words.SIMILAR_TEXT: ("hist_text", 0), words.CHOSEN_TOGETHER: ("covisit", 0),
            words.DISTANCE: ("hist_pos", -1),
        }[relation]  # fmt: skip
        changed = self.feed[name].copy()
        changed[(0, slice(None), at) if name == "covisit" else (0, at)] = nothing
        return {name: changed}

    def related(self) -> dict[str, np.ndarray]:
        """bool [P, L] for each relation: whether an event's item is so related to a shown one."""
        feed, rows = self.feed, self.rows
        categories = feed["cand_cat"][0, rows][:, None]
        return {
            words.SAME_ITEM: feed["cand_item"][0, rows][:, None] == feed["hist_item"][0],
            words.SAME_CATEGORY: (categories != 0) & (categories == feed["hist_cat"][0]),
            words.SIMILAR_TEXT: feed["cand_text"][0, rows] @ feed["hist_text"][0].T >= ALIKE,
            words.CHOSEN_TOGETHER: feed["covisit"][0, rows] > 0,
            words.DISTANCE: (feed["hist_pos"][0] >= 0) & (self.below() != 0),
        }

    def below(self) -> np.ndarray:
        """int [P, L]: how far each shown item came below each event's in the list."""
        below: np.ndarray = self.feed["cand_pos"][0, self.rows][:, None] - self.feed["hist_pos"][0]
        return below


def _left_out(model: ServingModel, row: UserRow, terms: _Terms) -> Iterator[tuple[int, RankReason]]:
    """What each of the newest events, and all else that is known of the user and the moment, is worth to each item."""
    length, size = len(terms.inputs.history), EVENT.itemsize
    newest = range(max(0, length - EXPLAINED_EVENTS), length)
    begin = len(row.events) - length * size
    others = list(rows_without(model.schema, row))
    rows = [without_event(row, begin + at * size, model.schema) for at in newest] + [one for *_, one in others]
    whole, *without = terms.scores_of([row, *rows])
    yield from _events(model, row, terms, {at: whole - one for at, one in zip(newest, without, strict=False)})
    for (kind, name, ts, _), one in zip(others, without[len(newest) :], strict=True):
        said = words.known_in_words(kind, name) if ts is None else words.typed_in_words(name, (row.now - ts) / 1000)
        for at, effect in enumerate((whole - one).tolist()):
            yield at, _reason(kind, name, said, effect, ts=ts)


def _events(
    model: ServingModel, row: UserRow, terms: _Terms, worth: Mapping[int, np.ndarray]
) -> Iterator[tuple[int, RankReason]]:
    """What each event is worth to each item, and what each relation to it is by itself.

    Args:
        model: that ranks.
        row: that was ranked.
        terms: of the list.
        worth: place in the window -> float64 [P].
    """
    assert row.candidates is not None
    related, below = terms.related(), terms.below()
    asked = [(name, at) for at in worth for name, which in related.items() if which[:, at].any()]
    parts = dict(zip(asked, terms.effects([terms.without_relation(*one) for one in asked]), strict=True))
    named = dict(zip(row.candidates.hashes.tolist(), row.candidates.item_ids, strict=True))
    events, actions = np.frombuffer(terms.inputs.events, EVENT), model.schema.action_names
    for at, effects in worth.items():
        item, action, ts = (int(events[at][name]) for name in ("item", "action", "ts"))
        item_id = named.get(item) or model.catalog.name_of(item)
        did = actions[action] if action < len(actions) else str(action)
        for place, effect in enumerate(effects.tolist()):
            own = {name: float(parts[name, at][place]) for name in related if related[name][place, at]}
            said = words.event_in_words(
                did, item_id, (row.now - ts) / 1000, _main_relation(own, effect), int(below[place, at])
            )
            yield place, _reason("event", did, said, effect, ts=ts, item_id=item_id, related=own)


def _main_relation(parts: Mapping[str, float], effect: float) -> str | None:
    """The relation by which an event is told: that of the same item, else the one that does most of what the event
    does; None where none does anything of it.
    """
    most = max(parts, key=lambda name: parts[name] * np.sign(effect), default=None)
    if words.SAME_ITEM in parts:
        return words.SAME_ITEM
    return most if most is not None and parts[most] * effect > 0 else None


def _features(model: ServingModel, user_id: str, row: UserRow, terms: _Terms) -> Iterator[tuple[int, RankReason]]:
    """What each thing that is known of an item is worth to it."""
    changes: list[dict[str, np.ndarray]] = []
    asked: list[tuple[str, int, int]] = []  # name, item, number of the change
    for name, without in things_known(terms.inputs, model.listed(user_id, row), model.schema):
        together: np.ndarray | None = None
        for at, place in enumerate(terms.places.tolist()):
            features = without(place)
            if features is None:
                continue
            if together is None or not terms.alone:  # who does not see the others may be changed with them
                together = terms.feed["cand_feat"].copy()
                changes.append({"cand_feat": together})
            together[0, terms.rows[at]] = features
            asked.append((name, at, len(changes) - 1))
    effects = terms.effects(changes)
    for name, at, number in asked:
        effect = float(effects[number, at])
        yield at, _reason("feature", name, words.known_in_words("feature", name), effect)


def _moved(
    model: ServingModel, user_id: str, terms: _Terms, by_score: Ranked, shown: Ranked
) -> Iterator[tuple[int, RankReason]]:
    """What rules and exploration did to the places."""
    ranks = by_score.ranks
    for case in _rules(model, user_id, terms.inputs):
        for at, place in enumerate(terms.places.tolist()):
            if case.moved[place]:
                said = words.moved_in_words(int(ranks[place]), int(case.ranks[place]), case.by)
                effect = float(case.adds[place])
                yield at, _reason("rule", case.name, said, effect, rank_without=int(case.ranks[place]))
    for at, place in enumerate(terms.places.tolist()):
        if ranks[place] != at + 1:
            said = words.moved_in_words(at + 1, int(ranks[place]), "by chance, to learn what people like")
            yield at, _reason("exploration", "exploration", said, rank_without=int(ranks[place]))


class _Rule(NamedTuple):
    """A rule that is in force, and what it does."""

    name: str  # its setting
    by: str  # in words
    ranks: np.ndarray  # int [C] without it
    moved: np.ndarray  # bool [C] whether that is another one
    adds: np.ndarray  # float64 [C] to the scores that the order goes by


def _rules(model: ServingModel, user_id: str, inputs: UserInputs) -> Iterator[_Rule]:
    own, items = model.rules, inputs.candidates
    if not own.category_boosts and not own.category_cap:
        return
    categories, withdrawn = model.catalog.categories[items], model.catalog.withdrawn[items]
    (logits,) = model.scorer.score([(user_id, inputs)])
    scores = model.worth(model.chances(logits))

    def ranks_by(other: rules.Rules) -> np.ndarray:
        order = rules.order(scores, categories, withdrawn, other)
        ranks = np.zeros(len(scores), np.int64)
        ranks[order] = np.arange(1, len(order) + 1)
        return ranks

    ranks = ranks_by(own)
    if own.category_boosts:
        without = ranks_by(replace(own, category_boosts={}))
        adds = (rules.boosts(categories, own) - 1) * scores
        yield _Rule("category_boosts", "by a rule for categories", without, without != ranks, adds)
    if own.category_cap:
        without = ranks_by(replace(own, category_cap=0))
        by = f"by a rule: at most {own.category_cap} of a category among the first {own.cap_depth}"
        yield _Rule("category_cap", by, without, without != ranks, np.zeros(len(scores)))


def _reason(kind: str, name: str, said: str, effect: float = 0.0, **more: object) -> RankReason:
    weighed = said if kind in ("rule", "exploration") else words.weighed(said, effect)
    return msgspec.convert({"kind": kind, "name": name, "effect": effect, "words": weighed, **more}, RankReason)
