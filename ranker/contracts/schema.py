"""The feature schema: which actions, item fields, candidate features and context fields a model is made of.

Declared in `liverank.toml`, frozen, and named by a hash that every bundle and every example carries.
"""

from __future__ import annotations

import enum
import hashlib
from functools import cached_property

import msgspec
import numpy as np
from msgspec import Struct

from ranker.contracts.errors import InvalidRecord, SchemaError

#: The first two actions of every schema, in this order: what the topics `views` and `clicks` imply.
BUILT_IN_ACTIONS = ("view", "click")
MAX_ACTIONS = 32


class Normalise(enum.StrEnum):
    """How a candidate's number becomes a feature."""

    NONE = "none"  # as it comes
    LOG = "log"  # sign(x) log(1 + |x|)
    LIST = "list"  # (x - mean of the list) / (deviation of the list + 0.05), cut at 3
    LIST_LOG = "list-log"  # the same of its logarithm
    LIST_FLOOR = "list-floor"  # of its logarithm, what lies above the smallest of the list
    LIST_RANK = "list-rank"  # 0 for the list's smallest, 1 for its largest


class Action(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An action. `positive` ones are what the model predicts; their probabilities add up with `weight`."""

    name: str
    positive: bool = False
    weight: float = 1.0


class CandidateFeature(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A number that candidates carry in `features`, or their recall `score`."""

    name: str
    normalise: tuple[Normalise, ...] = (Normalise.NONE,)


class ContextField(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A field of the list's `context` or of the user's attributes: one-hot over `values`, or a number where none."""

    name: str
    values: tuple[str, ...] = ()


class FeatureSchema(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, dict=True):
    """All that host and model must agree on. New actions are appended, never inserted: rows store their numbers."""

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
        if self.window < 2 or self.window % 2:
            raise SchemaError(f"window is {self.window}; it must be an even number of events, at least 2")
        if self.half_life_hours <= 0:
            raise SchemaError(f"half_life_hours is {self.half_life_hours}; it must be above 0")

    @cached_property
    def action_names(self) -> tuple[str, ...]:
        """Names in order: an action's index here is its number in rows and in the model."""
        return tuple(action.name for action in self.actions)

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
            InvalidRecord: where the schema has no such action.
        """
        for number, action in enumerate(self.actions):
            if action.name == name:
                return number
        given = "no action" if name is None else f"the action {name!r}"
        raise InvalidRecord("unknown-action", f"{given} is given; valid are {', '.join(self.action_names)}")

    @cached_property
    def hash(self) -> str:
        """16 hex digits that name this schema."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:16]
