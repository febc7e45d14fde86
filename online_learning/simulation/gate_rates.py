"""How often the gate is right: versions of a known quality on made-up choices, judged as a trainer's own are.

    python -m online_learning.simulation.gate_rates [--runs 200] [--seed 0]

prints what `docs/online-learning.md` quotes, as JSON. Every version has the chosen item at one of 20 ranks, a rank r
with a chance of 1 / r. The trainer's weights and what serves, seconds apart, agree on nine examples of ten; with an
anchor, from long ago, on half. A loss is a share of the examples on which a version puts the chosen item last.
"""

from __future__ import annotations

import argparse
import json
import sys

import numpy as np
from msgspec import Struct

from online_learning.releases.anchors import BACK_ALPHA, Anchor
from online_learning.releases.compared import Newest
from online_learning.releases.gate import Evidence, GateRules, Promote, decide_release

_RANKS = np.arange(1, 21)
_CHANCES = 1 / _RANKS / (1 / _RANKS).sum()
_SIBLINGS, _COUSINS = 0.95, 0.7  # share of the examples on which a version does as its line, or as all lines, do
#: What falling to the last place costs on average, in reciprocal rank.
_FALL = float((_CHANCES / _RANKS).sum() - 1 / _RANKS[-1])


class Course(Struct, frozen=True, kw_only=True):
    """What one line of versions does, each judged once."""

    loss: float  # of reciprocal rank, by which each version is worse than the one that serves; 0: all are equal
    once: bool = False  # only the first one loses, and those after it are as it is
    versions: int = 60
    queries: int = 30  # between two versions
    sampled: int = 30  # of them ranked by the anchor; 0: there is none
    rules: GateRules = GateRules()


class Ended(Struct, frozen=True, kw_only=True):
    """What became of it."""

    passed: int  # versions that were promoted, of those judged
    judged: int
    back: bool  # what served was found to be worse than the anchor, or learning to be
    served: float  # what it lost of reciprocal rank, in truth, to the anchor, where it ended


def follow_course(course: Course, rng: np.random.Generator) -> Ended:
    """Judge versions one after the other, until there are no more or what was lost is taken back."""
    serving, passed, against, anchor = 0.0, 0, Newest(512), Anchor("anchor")
    for number in range(1, course.versions + 1):
        trainer = min(_FALL, course.loss if course.once else serving + course.loss)
        ranks = _ranks(trainer, serving, course.queries, rng)
        for at, (ours, theirs, anchored) in enumerate((1 / ranks).tolist()):
            user = (number * course.queries + at) % 200
            against.add(ours - theirs, user)
            if at < course.sampled:
                anchor = anchor.plus(number, user, ours - anchored, theirs - anchored)
        if anchor.serving.worse(BACK_ALPHA) or anchor.trainer.worse(BACK_ALPHA):
            return Ended(passed=passed, judged=number, back=True, served=serving)
        evidence = Evidence(serving=against.value, anchors={"anchor": anchor.trainer} if course.sampled else {})
        if isinstance(decide_release(evidence, course.rules), Promote):
            serving, passed = trainer, passed + 1
            against.restart()
    return Ended(passed=passed, judged=course.versions, back=False, served=serving)


def _ranks(trainer: float, serving: float, queries: int, rng: np.random.Generator) -> np.ndarray:
    """int64 [queries, 3]: ranks by two that lose so much, and by an anchor that loses nothing.

    Who loses more fails on what the other fails on too.
    """
    own = rng.choice(_RANKS, (5, queries), p=_CHANCES)
    shares = np.array([_COUSINS, _SIBLINGS, _SIBLINGS, _COUSINS])[:, None]
    agrees = rng.random((4, queries)) < shares
    line = np.where(agrees[0], own[0], own[1])
    ranks = np.where(agrees[1:], (line, line, own[0]), own[2:])
    fallen = rng.random(queries) < np.minimum(1.0, np.array([trainer, serving, 0.0])[:, None] / _FALL)
    found: np.ndarray = np.where(fallen, _RANKS[-1], ranks).T
    return found


def rates(course: Course, runs: int, seed: int) -> dict[str, float]:
    """Over many runs: versions promoted when first judged, lines taken back, and what served in the end had lost."""
    rng = np.random.default_rng(seed)
    ended = [follow_course(course, rng) for _ in range(runs)]
    return {
        "promoted": sum(one.passed for one in ended) / sum(one.judged for one in ended),
        "taken back": sum(one.back for one in ended) / runs,
        "versions until then": float(np.median([one.judged for one in ended])),
        "lost by what served": float(np.mean([one.served for one in ended])),
    }


def _print_rates(arguments: list[str]) -> None:
    """Print the rates."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=200, help="lines of versions of each kind")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    courses = {
        "equal": Course(loss=0.0),
        "equal, 1,000 versions": Course(loss=0.0, versions=1000),
        "each loses .035": Course(loss=0.035),
        "each loses .035, one in eight ranked by the anchor": Course(loss=0.035, sampled=4),
        "each loses .035, no anchor": Course(loss=0.035, sampled=0),
        "one loses .035": Course(loss=0.035, once=True, versions=200),
        "one loses .035, no anchor": Course(loss=0.035, once=True, versions=200, sampled=0),
        "each loses .002": Course(loss=0.002, versions=400),
        "each loses .002, no anchor": Course(loss=0.002, versions=200, sampled=0),
    }
    print(json.dumps({name: rates(course, asked.runs, asked.seed) for name, course in courses.items()}, indent=1))


if __name__ == "__main__":
    _print_rates(sys.argv[1:])
