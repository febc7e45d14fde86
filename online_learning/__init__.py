"""Learning from logs and from the stream: data, evaluation, learning, releases, first models, the trainer. No Faust."""
