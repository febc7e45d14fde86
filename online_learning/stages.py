"""What the trainer makes of the stages on `model-updates`: where a new version may start, which bundles may go."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from ranker.stages import CANARY, PINNED, PROMOTED, ROLLED_BACK, Stages, follow, key_of, stage_of

__all__ = [
    "CANARY",
    "PINNED",
    "PROMOTED",
    "ROLLED_BACK",
    "Stages",
    "follow",
    "key_of",
    "next_stage",
    "prunable",
    "stage_of",
]


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
