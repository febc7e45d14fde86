"""Learning from the stream: examples, losses, metrics, the registry and the trainer. Knows no Faust."""
