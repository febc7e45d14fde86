"""Epochs over examples: batches of like lengths, a schedule of the learning rate, an average of the weights."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from online_learning.first_model.stored_examples import StoredExamples
from online_learning.learning.learner import Learner, TrainingExample
from online_learning.progress import ProgressReport, Report
from online_learning.recipe import Recipe


def train_epochs(learner: Learner, examples: StoredExamples, report: Report) -> float:
    """Epochs over the examples; the mean loss of the last one. The averaged weights are what stays."""
    recipe = learner.recipe
    rng = np.random.default_rng(recipe.seed)
    total, step, loss = recipe.epochs * -(-len(examples) // recipe.batch), 0, 0.0
    average = Average(learner.model, recipe.averaging)
    for epoch in range(recipe.epochs):
        losses = []
        for batch in batches(examples, recipe.batch, rng):
            losses.append(learner.learn(batch, scheduled(recipe, step, total)))
            step += 1
            average.update(learner.model, step)
            report(
                ProgressReport("epochs", step, total, f"epoch {epoch + 1}/{recipe.epochs} loss {np.mean(losses):.4f}")
            )
        loss = float(np.mean(losses))
    average.put(learner.model)
    return loss


class Average:
    """An exponential moving average of a model's weights (B. Polyak and A. Juditsky, 1992), short at the start."""

    def __init__(self, model: nn.Module, share: float) -> None:
        self._share = share
        self._weights = [weight.detach().clone() for weight in model.parameters()]

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take the weights after a step into the average."""
        kept = min(self._share, step / (step + 10))
        for mean, weight in zip(self._weights, model.parameters(), strict=True):
            mean.lerp_(weight, 1 - kept)

    @torch.no_grad()
    def put(self, model: nn.Module) -> None:
        """Make the averages the model's weights."""
        for mean, weight in zip(self._weights, model.parameters(), strict=True):
            weight.copy_(mean)


def batches(examples: StoredExamples, size: int, rng: np.random.Generator) -> Iterator[list[TrainingExample]]:
    """All examples in random batches of histories of about the same length, which need little padding."""
    lengths = np.log1p(examples.lengths, dtype=np.float64) + rng.normal(0, 0.3, len(examples))
    order = np.argsort(lengths)
    starts = rng.permutation(range(0, len(order), size))
    for start in starts:
        yield examples.batch(order[start : start + size].tolist())


def scheduled(recipe: Recipe, step: int, total: int) -> float:
    """The learning rate of a step: linear warm-up times half a cosine down to a fiftieth."""
    warm = min(1.0, (step + 1) / recipe.warmup) if recipe.warmup else 1.0
    return float(recipe.learning_rate * warm * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * step / max(total, 1)))))
