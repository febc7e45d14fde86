"""What the trainer makes of the stages on `model-updates`: where a new version may start, which bundles may go."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from ranker.rollout.stages import CANARY, PINNED, PROMOTED, ROLLED_BACK, Stages, follow, key_of, stage_of

__all__ = [
    "CANARY",
    "PINNED",
    "PROMOTED",
    "ROLLED_BACK",
    "Stages",
    "follow",
    "key_of",
    "next_stage",
    "overtaken",
    "prunable",
    "stage_of",
    "starts_over",
]

#: Versions begin with the time they were made at, and that with the hour; see `ranker.registry.bundle.new_version`.
_TIMED, _HOUR, _HOURS = re.compile(r"\d{8}T\d{6}"), len("20261123T08"), 24


def next_stage(stages: Stages, canary_share: float) -> str | None:
    """The stage in which a new version may start now; None while one is pinned or a canary is being watched."""
    if stages.pinned or stages.canary is not None:
        return None
    return CANARY if canary_share > 0 else PROMOTED


def overtaken(stages: Stages, stage: str, parent: str, canary_share: float) -> str | None:
    """Why a version may not be announced any more; None where it may.

    Writing it took a while, in which somebody else may have said what serves: that must not be replaced unseen.

    Args:
        stages: by everything announced up to now.
        stage: the one that was chosen when the version was taken.
        parent: the version that served then.
        canary_share: as for `next_stage`.
    """
    if stages.serving not in (None, parent):
        return f"{stages.serving} was made to serve meanwhile"
    if next_stage(stages, canary_share) != stage:
        return f"{stages.serving} was pinned meanwhile" if stages.pinned else f"{stages.canary} is a canary meanwhile"
    return None


def prunable(versions: Sequence[str], stages: Stages, keep: int, protected: Collection[str] = ()) -> list[str]:
    """The versions to delete, oldest first: all but the newest `keep` and whatever serves, served, or may serve.

    With a version every few seconds the newest few reach back for a minute. So that a rollback can go further, the
    newest one of each hour stays too, of the last 24 hours in which any was made.

    Args:
        versions: of the registry, oldest first.
        stages: where they stand. Before anything was announced the newest serves, and is kept as such.
        keep: at least 1.
        protected: versions to keep for another reason.
    """
    hours = list({version[:_HOUR]: version for version in versions if _TIMED.match(version)}.values())[-_HOURS:]
    kept = {stages.serving, stages.previous, stages.canary, *protected, *hours, *versions[-max(keep, 1) :]}
    return [version for version in versions if version not in kept]


def starts_over(
    stages: Stages, serving: str, bases: Collection[str], made: Collection[str] = (), learned: bool = False
) -> bool:
    """Whether a checkpoint is of another line than what serves, so that learning starts over from that.

    Args:
        stages: where the versions stand.
        serving: the version that serves.
        bases: versions that the checkpoint goes on from: the one that served, and one that was on its way then.
        made: all that its trainer made.
        learned: whether what serves was made by a trainer; one whose newest checkpoint is torn may not know of it.
    """
    if stages.previous is not None and stages.previous > serving and stages.previous in bases:
        return True  # what was on its way has served since, and was rolled back
    return serving not in bases and (serving in made or not learned)
