"""What the worker tells: Prometheus and the log."""
