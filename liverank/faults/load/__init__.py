"""What is sent: a seeded workload, what strangers send, and who sends it and keeps a record."""
