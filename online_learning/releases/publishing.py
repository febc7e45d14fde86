"""A candidate's way into the registry: written, checked against torch, judged by the gate, published, pruned after."""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from liverank.settings import Settings
from online_learning.releases import origins as registry
from online_learning.releases.gate import Promote, Reject, Rules, decide
from online_learning.releases.plan import CANARY, Stages, prunable
from online_learning.releases.snapshot import Snapshot
from online_learning.releases.versions import Candidate
from ranker.contracts.records import ModelUpdate
from ranker.registry import bundle

#: No upload of a bundle takes longer: what is older and not whole was left by a process that was killed.
_WRITTEN_WITHIN_MS = 6 * 3_600_000


def publish(
    candidate: Candidate, snapshot: Snapshot, stage: str, settings: Settings, graphs: Path
) -> ModelUpdate | Reject:
    """Publish a candidate that passes the gate.

    Args:
        candidate: what to publish.
        snapshot: the same, as it will serve.
        stage: in which it starts.
        settings: where the registry is, and what the gate asks.
        graphs: a folder of this process, for graphs whose weights are replaced; see `publish_model`.

    Returns:
        What to announce once it is in the registry, or why it is not.

    Raises:
        BundleError: the registry cannot be written.
        OSError: this machine's disk cannot be.
    """
    rules = Rules(least=settings.gate_least, margin=settings.gate_margin)
    with registry.written(candidate, snapshot.model, graphs) as folder:
        golden = registry.golden_fault(folder, settings)
        verdict = decide(msgspec.structs.replace(candidate.evidence, golden=golden), rules)
        if isinstance(verdict, Reject):
            return verdict
        sha256 = registry.publish_candidate(
            folder, candidate, snapshot.model, snapshot.schema, snapshot.tables.encoder, settings
        )
    return ModelUpdate(
        model=settings.model,
        version=candidate.version,
        sha256=sha256,
        stage=stage,
        share=settings.canary_share if stage == CANARY else None,
        reason=_reason(verdict),
        ts=time.time_ns() // 10**6,
        previous=candidate.parent,
    )


def prune(settings: Settings, stages: Stages, first: str) -> list[str]:
    """Delete what is neither among the newest nor needed; the versions that are gone."""
    versions = bundle.versions(settings.registry, settings.model)
    needed = [version for version in (stages.serving, stages.previous, stages.canary) if version is not None]
    registry.sweep(settings, bundle.new_version(time.time_ns() // 10**6 - _WRITTEN_WITHIN_MS), [first, *needed])
    return registry.prune(settings, prunable(versions, stages, settings.keep_bundles, {first}))


def _reason(verdict: Promote) -> str:
    return (
        f"reciprocal rank {verdict.difference:+.4f} [{verdict.low:+.4f}, {verdict.high:+.4f}] against what serves, "
        f"on {verdict.queries} examples"
    )
