"""The feature schema: which actions, item fields, candidate features and context fields a model is made of.

Declared in `liverank.toml`, frozen, and named by a hash that every bundle and every example carries.
"""

from __future__ import annotations

import enum
import hashlib
import math
from collections import Counter
from collections.abc import Iterator
from functools import cached_property

import msgspec
import numpy as np
from msgspec import Struct

from ranker.contracts.errors import InvalidRecord, SchemaError

#: The first two actions of every schema, in this order: what the topics `views` and `clicks` imply.
BUILT_IN_ACTIONS = ("view", "click")
MAX_ACTIONS = 32
#: What an event of words alone may be called without a declaration, and the number that names such an event then.
WORD_ACTIONS = {"search": 224, "question": 225, "comment": 226, "answer": 227}


class Normalise(enum.StrEnum):
    """How a candidate's number becomes a feature."""

    NONE = "none"  # as it comes
    LOG = "log"  # sign(x) log(1 + |x|)
    LIST = "list"  # (x - mean of the list) / (deviation of the list + 0.05), cut at 3
    LIST_LOG = "list-log"  # the same of its logarithm
    LIST_FLOOR = "list-floor"  # of its logarithm, what lies above the smallest of the list
    LIST_RANK = "list-rank"  # 0 for the list's smallest, 1 for its largest


class Action(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """An action. `positive` ones are what the model predicts; their probabilities add up with `weight`.

    A `retired` one is taken no more; its number stays its own, since stored rows hold it.
    """

    name: str
    positive: bool = False
    weight: float = 1.0
    retired: bool = False


class CandidateFeature(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A number that candidates carry in `features`, or their recall `score`."""

    name: str
    normalise: tuple[Normalise, ...] = (Normalise.NONE,)


class ContextField(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A field of the list's `context` or of the user's attributes: one-hot over `values`, or a number where none."""

    name: str
    values: tuple[str, ...] = ()


class FeatureSchema(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """All that host and model must agree on. Actions are appended, and retired, never inserted or taken out: rows store
    their numbers.
    """

    actions: tuple[Action, ...] = (Action(name="view"), Action(name="click", positive=True))
    candidate_features: tuple[CandidateFeature, ...] = ()
    context: tuple[ContextField, ...] = ()
    item_numeric: tuple[str, ...] = ()  # item fields used as candidate features, by their logarithm
    half_life_hours: float = 168.0  # of the long-term summary
    window: int = 64  # events of history that the model may see

    def __post_init__(self) -> None:
        names = [action.name for action in self.actions]
        if tuple(names[:2]) != BUILT_IN_ACTIONS:
            raise SchemaError(f"the schema's first actions are {names[:2]}; they must be {list(BUILT_IN_ACTIONS)}")
        if len(set(names)) != len(names):
            raise SchemaError(f"an action is declared twice among {names}; name each once")
        if len(names) > MAX_ACTIONS:
            raise SchemaError(f"{len(names)} actions declared; at most {MAX_ACTIONS} are possible")
        if not any(action.positive for action in self.actions):
            raise SchemaError("no action is positive; mark at least one with positive = true")
        self._check_actions()
        if self.window < 2 or self.window % 2:
            raise SchemaError(f"window is {self.window}; it must be an even number of events, at least 2")
        if not 0 < self.half_life_hours < math.inf:
            raise SchemaError(f"half_life_hours is {self.half_life_hours}; it must be a number above 0")
        fields = (field.name for field in self.context)
        features = (feature.name for feature in self.candidate_features)
        for what, given in (
            ("candidate feature", features),
            ("context field", fields),
            ("item's number", self.item_numeric),
        ):
            for name, times in Counter(given).items():
                if times > 1 or not name:
                    raise SchemaError(
                        f"the {what} {name!r} is declared {times} times; each has a name, and is declared once"
                    )

    def _check_actions(self) -> None:
        for action in self.actions:
            if action.retired and (action.positive or action.name in BUILT_IN_ACTIONS):
                raise SchemaError(
                    f"the action {action.name!r} is retired, and "
                    + ("a topic implies it; it must stay" if action.name in BUILT_IN_ACTIONS else
                       "still positive; take positive = true out")
                )  # fmt: skip
            if not math.isfinite(action.weight):
                raise SchemaError(f"the weight of {action.name!r} is {action.weight}; it must be a finite number")

    @cached_property
    def action_names(self) -> tuple[str, ...]:
        """Names in order: an action's index here is its number in rows and in the model."""
        return tuple(action.name for action in self.actions)

    @cached_property
    def valid_actions(self) -> tuple[str, ...]:
        """The names that an input may have: all but the retired ones."""
        return tuple(action.name for action in self.actions if not action.retired)

    @cached_property
    def positives(self) -> tuple[Action, ...]:
        """The actions that the model has a head for, in the heads' order."""
        return tuple(action for action in self.actions if action.positive)

    @cached_property
    def positive_numbers(self) -> np.ndarray:
        """bool [MAX_ACTIONS]: whether the action of that number is positive."""
        positive = np.zeros(MAX_ACTIONS, bool)
        positive[[number for number, action in enumerate(self.actions) if action.positive]] = True
        return positive

    def action_number(self, name: str | None) -> int:
        """Index of a named action.

        Raises:
            InvalidRecord: where the schema has no such action, or it is retired.
        """
        for number, action in enumerate(self.actions):
            if action.name == name and not action.retired:
                return number
        raise InvalidRecord("unknown-action", f"{_given(name)} is given; valid are {', '.join(self.valid_actions)}")

    def word_action_number(self, name: str | None) -> int:
        """What names the action of an event of words alone: its index, or the number of one that needs no declaration.

        Raises:
            InvalidRecord: it is neither.
        """
        if name not in WORD_ACTIONS or name in self.action_names:
            try:
                return self.action_number(name)
            except InvalidRecord:
                valid = dict.fromkeys((*self.valid_actions, *WORD_ACTIONS))
                raise InvalidRecord(
                    "unknown-action", f"{_given(name)} is given; without an item_id valid are {', '.join(valid)}"
                ) from None
        return WORD_ACTIONS[name]

    @cached_property
    def hash(self) -> str:
        """16 hex digits that name what host and model must agree on: the actions' weights are no part of it."""
        return self._digest(weighted=False)

    @cached_property
    def full_hash(self) -> str:
        """The same of everything, weights too: what release 0.1 reads and wrote in bundles and examples."""
        return self._digest(weighted=True)

    def named(self, digest: str) -> bool:
        """Whether a bundle or an example with this hash is of this schema."""
        return digest in (self.hash, self.full_hash)

    def _digest(self, *, weighted: bool) -> str:
        actions = [
            {"name": one.name, "positive": one.positive, "weight": one.weight if weighted else 1.0}
            | ({"retired": True} if one.retired else {})
            for one in self.actions
        ]
        return hashlib.sha256(msgspec.json.encode(msgspec.to_builtins(self) | {"actions": actions})).hexdigest()[:16]

    def reads(self, other: FeatureSchema) -> bool:
        """Whether an example of another schema means here what it meant there, so that it can be learned from."""
        positive = {action.name: action.positive for action in other.actions}
        kept = [action for action in self.actions if action.name in positive and not action.retired]
        return (
            renumbered(self, other) is None
            and all(action.positive == positive[action.name] for action in kept)
            and self.half_life_hours == other.half_life_hours
            and self.window >= other.window
        )


def _given(name: str | None) -> str:
    return "no action" if name is None else f"the action {name!r}"


def renumbered(ours: FeatureSchema, theirs: FeatureSchema) -> str | None:
    """Why rows that were written by one schema mean something else to the other; None where they do not."""
    for number, (here, there) in enumerate(zip(ours.action_names, theirs.action_names, strict=False)):
        if here != there:
            return (
                f"stored rows hold actions by number, and number {number} is {there!r} there and {here!r} here: append "
                "new actions at the end, and leave one that is not used any more in its place, with retired = true"
            )
    return None


def refuse_renumbering(new: FeatureSchema, before: FeatureSchema, version: str) -> None:
    """See that rows which were written by the schema of a version keep their meaning by a new one, for ever.

    Raises:
        SchemaError: an action has another number than before, or is gone, so that another one would get its number.
    """
    why = renumbered(new, before)
    if why is None and len(new.actions) < len(before.actions):
        gone = ", ".join(map(repr, before.action_names[len(new.actions) :]))
        why = f"{gone} is gone, and stored rows hold its number: leave it in its place, with retired = true"
    if why is not None:
        raise SchemaError(f"[schema] does not go on from that of {version}: {why}")


def differences(new: FeatureSchema, old: FeatureSchema) -> tuple[str, ...]:
    """What is another in a new schema than in an old one, a phrase each, the actions' weights too; empty where nothing
    is.
    """
    return tuple(_differences(new, old))


def _differences(new: FeatureSchema, old: FeatureSchema) -> Iterator[str]:
    groups = (("action", "actions"), ("candidate feature", "candidate_features"), ("context field", "context"))
    for kind, group in groups:
        here, there = ({entry.name: entry for entry in getattr(schema, group)} for schema in (new, old))
        yield from (f"the {kind} {name!r} is new" for name in here if name not in there)
        yield from (f"the {kind} {name!r} is gone" for name in there if name not in here)
        for name in here:
            if name in there:
                yield from _changed_fields(f" of the {kind} {name!r}", here[name], there[name])
        kept = [name for name in here if name in there]
        if kept != [name for name in there if name in here]:
            yield f"the {group} stand in another order"
    for field in ("item_numeric", "half_life_hours", "window"):
        yield from _changed_field(field, "", getattr(new, field), getattr(old, field))


def _changed_fields(of: str, new: Struct, old: Struct) -> Iterator[str]:
    for field in new.__struct_fields__:
        yield from _changed_field(field, of, getattr(new, field), getattr(old, field))


def _changed_field(field: str, of: str, new: object, old: object) -> Iterator[str]:
    if new != old:
        yield f"{field}{of} is {_shown(new)} instead of {_shown(old)}"


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(msgspec.to_builtins(value))


def unlike(own: FeatureSchema | None, served: FeatureSchema, version: str) -> str | None:
    """What a process whose settings have another [schema] than what serves must tell; None where there is nothing.

    Args:
        own: of the settings; None where they have none.
        served: of the version that serves, which counts.
        version: its name.
    """
    found = differences(own, served) if own is not None else ()
    if own is None or not found:
        return None
    said = f"[schema] is not that of {version}, which serves and counts: {'; '.join(found)}. "
    if own.hash == served.hash:
        return said + "A trainer with the new weights brings them into the versions that it makes"
    return said + (
        "`liverank train --from-kafka --warm-from serving` makes a version of the new one, `liverank model promote` "
        "announces it, and processes that start then run with it: docs/operations.md, Change the schema"
    )
