"""A person's own files as a log: what `[data]` of their liverank.toml says, read, checked, guessed, converted."""
