"""The worker process: Kafka in, rankings out. Never imports torch."""
