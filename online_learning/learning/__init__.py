"""One step of learning: the learner, its objective and optimisation, counts, memory, curriculum."""
