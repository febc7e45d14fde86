"""A candidate's way into the registry: written, checked against torch, judged by the gate, published."""

from __future__ import annotations

from pathlib import Path

import msgspec

from online_learning.releases.gate import Evidence, GateRules, Promote, Reject, decide_release
from online_learning.releases.origins import golden_fault, model_of, put_candidate, written
from online_learning.releases.snapshot import Snapshot
from online_learning.releases.versions import Origin, ReleaseCandidate
from online_learning.settings import TrainerSettings
from ranker.contracts.clock import now_ms
from ranker.contracts.records import ModelUpdate
from ranker.rollout.stages import CANARY, PROMOTED


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


def publish_again(
    origin: Origin, version: str, parent: str, settings: TrainerSettings, graphs: Path
) -> ModelUpdate | Reject:
    """Publish what an earlier version was under a new name: whoever loads it has none of the earlier one's deltas.

    Args:
        origin: the earlier version.
        version: the new name.
        parent: what serves.
        settings: where the registry is.
        graphs: as for `publish_candidate`.

    Raises:
        BundleError: the registry cannot be written.
        OSError: this machine's disk cannot be.
    """
    again = ReleaseCandidate(
        version=version, parent=origin.version, weights=origin.weights, tables=origin.tables, evidence=Evidence(),
        learned_until=origin.learned_until, trained=0, offsets=origin.offsets, recipe=origin.recipe,
        since_starter=origin.since_starter,
    )  # fmt: skip
    model = model_of(origin)
    with written(again, model, graphs) as folder:
        golden = golden_fault(folder, settings)
        if golden is not None:
            return Reject(reason=f"golden outputs: {golden}")
        sha256 = put_candidate(folder, again, model, origin.schema, origin.encoder, settings)
    return ModelUpdate(
        model=settings.registry.model, version=version, sha256=sha256, stage=PROMOTED, ts=now_ms(), previous=parent,
        reason=f"{'what was learned since' if origin.version == parent else parent} ranks worse what people choose: "
        f"back to {origin.version}, as it was made",
    )  # fmt: skip


def _reason(verdict: Promote) -> str:
    return (
        f"reciprocal rank {verdict.difference:+.4f} [{verdict.low:+.4f}, {verdict.high:+.4f}] against what serves, "
        f"on {verdict.queries} examples"
    )
