"""The trainer on a simulated clock: a log is ranked as it would have been, and learned from as it comes."""
