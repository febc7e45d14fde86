"""The broker, as the worker touches it: connection, topics, consumer, outbox, progress, transactions, followers."""
