"""Whether a candidate may serve: a pure function of what was measured."""

from __future__ import annotations

from collections.abc import Mapping

from msgspec import Struct

from online_learning.releases.compared import Compared


class Evidence(Struct, frozen=True, kw_only=True):
    """What is known of a candidate: the reciprocal rank of its line less that of others, on examples yet unlearned."""

    serving: Compared = Compared()  # against the version that serves, since it does
    anchors: Mapping[str, Compared] = {}  # against versions that served an hour and a day ago
    drift: bool = False  # the candidate's loss has risen against the serving version's
    finite: bool = True  # every weight is a number
    golden: str | None = None  # why the bundle's golden outputs are not what torch gave; None where they are


class GateRules(Struct, frozen=True, kw_only=True):
    """What is asked of a candidate."""

    least: int = 30  # queries without which nothing is decided; 0 promotes on golden outputs alone
    margin: float = 0.05  # of reciprocal rank: a mean that is worse than what serves by more is refused, certain or not
    alpha: float = 0.05  # chance of ever calling what is as good as the serving version worse
    anchor_alpha: float = 0.01  # and as good as an anchor, whose verdict lasts longer


class Promote(Struct, frozen=True, kw_only=True):
    """It may serve. The numbers are the candidate's reciprocal rank minus the serving version's."""

    difference: float
    low: float
    high: float
    queries: int


class Reject(Struct, frozen=True, kw_only=True):
    """It must not."""

    reason: str


def decide_release(evidence: Evidence, rules: GateRules) -> Promote | Reject:
    """Promote what is sound, and not worse for certain than what serves or than an anchor.

    A loss too small to be seen in the few examples between two versions is seen against the anchors once enough of
    them have come. One that is large must not wait for that: hence the margin.
    """
    fault = _fault(evidence, rules)
    if fault is not None:
        return Reject(reason=fault)
    serving = evidence.serving
    if serving.worse(rules.alpha) or serving.mean < -rules.margin:
        return Reject(
            reason=f"reciprocal rank is {serving.told(rules.alpha)} against the serving version's on {serving.count} "
            "examples"
        )
    for version, compared in evidence.anchors.items():
        if compared.worse(rules.anchor_alpha):
            return Reject(
                reason=f"reciprocal rank is {compared.told(rules.anchor_alpha)} against that of {version}, which "
                f"served earlier, on {compared.count} examples"
            )
    low, high = serving.bounds(rules.alpha)
    return Promote(difference=serving.mean, low=low, high=high, queries=serving.count)


def _fault(evidence: Evidence, rules: GateRules) -> str | None:
    """What forbids to serve it, whatever the comparisons say."""
    if evidence.golden is not None:
        return f"golden outputs: {evidence.golden}"
    if not evidence.finite:
        return "a weight is not finite"
    if evidence.serving.count < rules.least:
        return f"{evidence.serving.count} examples tested against the serving version; {rules.least} are needed"
    return "the loss has drifted up against the serving version's" if evidence.drift else None
