"""Whether a broker takes this process, and what each role may do there."""
