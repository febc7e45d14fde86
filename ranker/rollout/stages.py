"""Which version is in which stage: a pure fold of the records of `model-updates`.

The topic is compacted. So that a canary does not wipe out what serves, a record of what serves (`promoted`, `pinned`)
has the model's name as its key, and one of a canary (`canary`, `rolled-back`) the model's name and `/canary`.

Several workers may decide about one canary at the same moment. The first decision on the topic counts: a promotion that
was decided by clicks changes nothing where the version has been rolled back before it. `previous` in such a record
says what serves then, since compaction may have removed the record that did.

A producer that was not answered sends again, so a record may come twice, others between the two. The second one changes
nothing, unless compaction has taken the first one and those between: who starts later then follows the second.
"""

from __future__ import annotations

import msgspec
from msgspec import Struct

from ranker.contracts.records import ModelUpdate

PROMOTED, PINNED, CANARY, ROLLED_BACK = "promoted", "pinned", "canary", "rolled-back"

_KNOWN_AGAIN = 64  # records; a retry comes within a few


class Stages(Struct, frozen=True, kw_only=True):
    """Where the versions of one model stand."""

    serving: str | None = None
    previous: str | None = None  # what served before: kept for a rollback
    pinned: bool = False  # nothing may replace what serves until something is promoted
    canary: str | None = None
    share: float = 0.0  # of users that get the canary
    rolled_back: str | None = None  # the newest version that was a canary and failed
    followed: tuple[tuple[str, str, int], ...] = ()  # version, stage and time of the newest records, to know them again


def key_of(update: ModelUpdate) -> bytes:
    """The record's key on `model-updates`."""
    beside = update.stage in (CANARY, ROLLED_BACK)
    return f"{update.model}/canary".encode() if beside else update.model.encode()


def follow(stages: Stages, update: ModelUpdate) -> Stages:
    """The stages after a record; one of an unknown stage, or that was followed already, changes nothing."""
    mark = update.version, update.stage, update.ts
    if mark in stages.followed:
        return stages
    if update.ts:
        stages = msgspec.structs.replace(stages, followed=(*stages.followed[1 - _KNOWN_AGAIN :], mark))
    return _followed(stages, update)


def _followed(stages: Stages, update: ModelUpdate) -> Stages:
    change = msgspec.structs.replace
    if update.stage in (PROMOTED, PINNED):
        if update.measured and stages.rolled_back == update.version:
            return stages if stages.serving else change(stages, serving=update.previous)
        known = stages.previous if stages.serving == update.version else stages.serving
        return change(
            stages,
            serving=update.version,
            previous=known or (update.previous if update.previous != update.version else None),
            pinned=update.stage == PINNED,
            canary=None if stages.canary == update.version else stages.canary,
            rolled_back=None if stages.rolled_back == update.version else stages.rolled_back,
        )
    if update.stage == CANARY:
        # One that failed before is tried anew: what was decided then does not count against it now.
        failed = None if stages.rolled_back == update.version else stages.rolled_back
        return change(stages, canary=update.version, share=update.share or 0.0, rolled_back=failed)
    if update.stage == ROLLED_BACK:
        if update.measured and stages.serving == update.version:
            return stages
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
