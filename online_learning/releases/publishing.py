"""A candidate's way into the registry: written, checked against torch, judged by the gate, published."""

from __future__ import annotations

from pathlib import Path

import msgspec

from online_learning.releases.gate import GateRules, Promote, Reject, decide_release
from online_learning.releases.origins import golden_fault, put_candidate, written
from online_learning.releases.snapshot import Snapshot
from online_learning.releases.versions import ReleaseCandidate
from online_learning.settings import TrainerSettings
from ranker.contracts.clock import now_ms
from ranker.contracts.records import ModelUpdate
from ranker.rollout.stages import CANARY


def publish_candidate(
    candidate: ReleaseCandidate, snapshot: Snapshot, stage: str, settings: TrainerSettings, graphs: Path
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
    rules = GateRules(least=settings.gate_least, margin=settings.gate_margin)
    with written(candidate, snapshot.model, graphs) as folder:
        golden = golden_fault(folder, settings)
        verdict = decide_release(msgspec.structs.replace(candidate.evidence, golden=golden), rules)
        if isinstance(verdict, Reject):
            return verdict
        sha256 = put_candidate(folder, candidate, snapshot.model, snapshot.schema, snapshot.tables.encoder, settings)
    return ModelUpdate(
        model=settings.registry.model,
        version=candidate.version,
        sha256=sha256,
        stage=stage,
        share=settings.canary_share if stage == CANARY else None,
        reason=_reason(verdict),
        ts=now_ms(),
        previous=candidate.parent,
    )


def _reason(verdict: Promote) -> str:
    return (
        f"reciprocal rank {verdict.difference:+.4f} [{verdict.low:+.4f}, {verdict.high:+.4f}] against what serves, "
        f"on {verdict.queries} examples"
    )
