"""`liverank gateway`: what a client does over Kafka, for who speaks HTTP."""
