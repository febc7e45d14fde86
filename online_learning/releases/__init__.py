"""From learned weights to a version in the registry: candidates, the gate, writing, publishing, pruning."""
