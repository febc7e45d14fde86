"""The broker, as the worker touches it: connection, topics, reading, outbox, progress, transactions, followers."""
