"""Benchmarks of one part by itself: no broker, and no process but those that are measured."""
