"""One step of a full fine-tuning on what is remembered; what it learns when is in `curriculum`."""

from __future__ import annotations

import numpy as np

from online_learning.learning import curriculum
from online_learning.learning.optimisation import Optimisation, Stepped
from online_learning.learning.replay_buffer import ReplayBuffer, restored
from ranker.contracts.schema import FeatureSchema


def finetune_step(
    step: int, optimisation: Optimisation, replay: ReplayBuffer, schema: FeatureSchema, rng: np.random.Generator
) -> Stepped | None:
    """Take this step, counted from 0, of a fine-tuning; None where nothing is remembered.

    Args:
        step: of `OnlineRecipe.finetune_steps`.
        optimisation: the weights; every dense one learns.
        replay: what is remembered.
        schema: of the model.
        rng: draws examples and negatives.
    """
    online, learner = optimisation.online, optimisation.learner
    at = curriculum.lesson(step, online.finetune_steps)
    # Of a few times a batch those that the lesson allows are taken: nobody has to look at the whole buffer.
    pool = [restored(entry, learner.tables, schema) for entry in replay.sample(4 * online.batch)]
    if not pool:
        return None
    lengths = [len(example.inputs.history) for example in pool]
    examples = [pool[place] for place in curriculum.draw(lengths, at, online.batch, rng)]
    logits = learner.scores([example.inputs for example in examples]) if at.negatives else []
    scores = [line[:, example.head] for line, example in zip(logits, examples, strict=False)]
    mask = curriculum.considered(scores, [one.chosen for one in examples], at, rng) if scores else None
    return optimisation.step(examples, curriculum.rate(step, online.finetune_steps), mask)
