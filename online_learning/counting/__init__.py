"""What is counted rather than trained, and what is remembered of whom for it."""
