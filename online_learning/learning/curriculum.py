"""Periodic full fine-tuning on what is remembered: easy examples first, hard ones later (Y. Bengio et al., ICML 2009).

Easy is a short history and a few random negatives; hard is a long history and the negatives that the model itself
puts highest. The last lesson is the task as it is: every history, every candidate.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Lesson(NamedTuple):
    """What is learned at one point of a fine-tuning."""

    history: float  # share of the examples, those with the shortest histories, that are drawn from
    negatives: int | None  # candidates beside the chosen one in the softmax; None: all of them
    hard: float  # share of those negatives that are the highest scored, the others are random


LESSONS = (Lesson(0.34, 8, 0.0), Lesson(0.67, 16, 0.5), Lesson(1.0, 32, 1.0), Lesson(1.0, None, 0.0))


def lesson(step: int, steps: int) -> Lesson:
    """The lesson of a step, counted from 0; all lessons are equally long."""
    return LESSONS[min(len(LESSONS) * step // max(steps, 1), len(LESSONS) - 1)]


def rate(step: int, steps: int, warmup: float = 0.1) -> float:
    """Factor of the learning rate: linear warm-up, then half a cosine to 0 (I. Loshchilov and F. Hutter, 2017)."""
    warm = max(1, int(warmup * steps))
    if step < warm:
        return (step + 1) / warm
    return 0.5 * (1 + math.cos(math.pi * (step - warm) / max(1, steps - warm)))


def draw(lengths: Sequence[int], at: Lesson, count: int, rng: np.random.Generator) -> np.ndarray:
    """int64 places of the examples to learn from, out of those that the lesson allows, without replacement.

    Args:
        lengths: events in each example's history.
        at: the lesson.
        count: how many, at most.
        rng: draws them.
    """
    easiest = np.argsort(np.asarray(lengths), kind="stable")
    allowed = easiest[: max(1, math.ceil(at.history * len(easiest)))] if len(easiest) else easiest
    return rng.choice(allowed, min(count, len(allowed)), replace=False)


def considered(
    scores: Sequence[np.ndarray], chosen: Sequence[int | None], at: Lesson, rng: np.random.Generator
) -> np.ndarray | None:
    """bool [B, C]: the candidates that the softmax is over, the chosen one among them; None where it is all.

    Args:
        scores: float [candidates] of each of B lists, by the model as it is.
        chosen: place of the chosen item.
        at: the lesson.
        rng: draws the random negatives.
    """
    if at.negatives is None:
        return None
    mask = np.zeros((len(scores), max(len(line) for line in scores)), bool)
    for row, line, place in zip(mask, scores, chosen, strict=True):
        others = np.array([candidate for candidate in range(len(line)) if candidate != place], np.int64)
        hard = min(round(at.hard * at.negatives), len(others))
        highest = others[np.argsort(-line[others], kind="stable")]
        row[highest[:hard]] = True
        easy = highest[hard:]
        row[rng.choice(easy, min(at.negatives - hard, len(easy)), replace=False)] = True
        if place is not None:
            row[place] = True
    return mask
