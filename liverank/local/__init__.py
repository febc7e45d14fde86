"""What runs on this machine: Apache Kafka without containers, `liverank` processes, signals."""
