"""Which version is in which stage: a pure fold of the records of `model-updates`.

The topic is compacted. So that a canary does not wipe out what serves, a record of what serves (`promoted`, `pinned`)
has the model's name as its key, and one of a canary (`canary`, `rolled-back`) the model's name and `/canary`.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import msgspec
from msgspec import Struct

from ranker.records import ModelUpdate

PROMOTED, PINNED, CANARY, ROLLED_BACK = "promoted", "pinned", "canary", "rolled-back"


class Stages(Struct, frozen=True, kw_only=True):
    """Where the versions of one model stand."""

    serving: str | None = None
    previous: str | None = None  # what served before: kept for a rollback
    pinned: bool = False  # nothing may replace what serves until something is promoted
    canary: str | None = None
    rolled_back: str | None = None  # the newest version that was a canary and failed


def key_of(update: ModelUpdate) -> bytes:
    """The record's key on `model-updates`."""
    beside = update.stage in (CANARY, ROLLED_BACK)
    return f"{update.model}/canary".encode() if beside else update.model.encode()


def follow(stages: Stages, update: ModelUpdate) -> Stages:
    """The stages after a record; one of an unknown stage changes nothing."""
    change = msgspec.structs.replace
    if update.stage in (PROMOTED, PINNED):
        return change(
            stages,
            serving=update.version,
            previous=stages.previous if stages.serving == update.version else stages.serving,
            pinned=update.stage == PINNED,
            canary=None if stages.canary == update.version else stages.canary,
        )
    if update.stage == CANARY:
        return change(stages, canary=update.version)
    if update.stage == ROLLED_BACK:
        return change(
            stages,
            canary=None if stages.canary == update.version else stages.canary,
            rolled_back=update.version,
        )
    return stages


def stage_of(version: str, stages: Stages) -> str | None:
    """The stage that a version is in; None for one that waits, or has been replaced."""
    if version == stages.serving:
        return PINNED if stages.pinned else PROMOTED
    if version == stages.canary:
        return CANARY
    return ROLLED_BACK if version == stages.rolled_back else None


def next_stage(stages: Stages, canary_share: float) -> str | None:
    """The stage in which a new version may start now; None while one is pinned or a canary is being watched."""
    if stages.pinned or stages.canary is not None:
        return None
    return CANARY if canary_share > 0 else PROMOTED


def prunable(versions: Sequence[str], stages: Stages, keep: int, protected: Collection[str] = ()) -> list[str]:
    """The versions to delete, oldest first: all but the newest `keep` and whatever serves, served, or may serve.

    Args:
        versions: of the registry, oldest first.
        stages: where they stand. Before anything was announced the newest serves, and is kept as such.
        keep: at least 1.
        protected: versions to keep for another reason.
    """
    kept = {stages.serving, stages.previous, stages.canary, *protected, *versions[-max(keep, 1) :]}
    return [version for version in versions if version not in kept]
