"""What must hold of the topics after any faults: pure functions from what was read back to violations."""
