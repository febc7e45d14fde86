"""The trainer: what a batch of the stream does, its state, its checkpoints, its releases, its process."""
