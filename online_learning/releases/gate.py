"""Whether a candidate may serve: a pure function of what was measured."""

from __future__ import annotations

import numpy as np
from msgspec import Struct

from online_learning.evaluation.metrics import of_ranks, paired_bootstrap

#: Users below which the interval is no evidence: drawn from a few, it is far too narrow (from one, a single point).
FEWEST_USERS = 10


class Evidence(Struct, frozen=True, kw_only=True):
    """What is known of a candidate. Neither ranker had learned from any of these examples when it ranked them."""

    candidate: np.ndarray  # int [queries], ranks of the chosen items by the candidate's lineage, newest last
    serving: np.ndarray  # int [queries], by the serving version, of the same examples
    users: np.ndarray  # int64 [queries], whose they are: the bootstrap draws users, not lists
    drift: bool = False  # the candidate's loss has risen against the serving version's
    finite: bool = True  # every weight is a number
    golden: str | None = None  # why the bundle's golden outputs are not what torch gave; None where they are


class GateRules(Struct, frozen=True, kw_only=True):
    """What is asked of a candidate."""

    least: int = 30  # queries without which nothing is decided; 0 promotes on golden outputs alone
    margin: float = 0.05  # of reciprocal rank: a mean that is worse by more is refused, significant or not


class Promote(Struct, frozen=True, kw_only=True):
    """It may serve. The numbers are the candidate's reciprocal rank minus the serving version's."""

    difference: float
    low: float
    high: float
    queries: int


class Reject(Struct, frozen=True, kw_only=True):
    """It must not."""

    reason: str


def decide_release(evidence: Evidence, rules: GateRules, seed: int = 0) -> Promote | Reject:
    """Promote what is sound and not worse than what serves, by a paired bootstrap over users.

    "Not worse" is: the 95 % interval of the difference in reciprocal rank does not lie below 0, and its mean does not
    lie below -margin. With few queries the interval is wide, which is why there is a margin and a least number; of
    fewer than `FEWEST_USERS` users it means nothing, and the margin alone decides.

    Args:
        evidence: what was measured.
        rules: what is asked.
        seed: of the bootstrap's draws.
    """
    fault = _fault(evidence, rules)
    if fault is not None:
        return Reject(reason=fault)
    queries = len(evidence.candidate)
    if not queries:
        return Promote(difference=0.0, low=0.0, high=0.0, queries=0)
    ours, theirs = (of_ranks(np.asarray(ranks))["RR"] for ranks in (evidence.candidate, evidence.serving))
    found = paired_bootstrap(ours, theirs, evidence.users, seed=seed)
    significant = found.high < 0 and len(np.unique(evidence.users)) >= FEWEST_USERS
    if significant or found.value < -rules.margin:
        return Reject(
            reason=f"reciprocal rank is {found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}] against the serving "
            f"version's on {queries} examples"
        )
    return Promote(difference=found.value, low=found.low, high=found.high, queries=queries)


def _fault(evidence: Evidence, rules: GateRules) -> str | None:
    """What forbids to serve it, whatever the comparison says."""
    if evidence.golden is not None:
        return f"golden outputs: {evidence.golden}"
    if not evidence.finite:
        return "a weight is not finite"
    if len(evidence.candidate) < rules.least:
        return f"{len(evidence.candidate)} examples tested against the serving version; {rules.least} are needed"
    return "the loss has drifted up against the serving version's" if evidence.drift else None
