"""What a gateway tells Prometheus."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

_WAITS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class GatewayMetrics:
    """All numbers of one gateway, in a registry of its own."""

    def __init__(self, users: Callable[[], float]) -> None:
        """
        Args:
            users: how many are remembered.
        """
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "liverank_gateway_requests", "Requests answered", ["route", "status"], registry=registry
        )
        self.records = Counter(
            "liverank_gateway_records", "Records that the broker has confirmed", ["topic"], registry=registry
        )
        self.refused = Counter(
            "liverank_gateway_refused", "Records that no worker would take", ["reason"], registry=registry
        )
        self.waits = Histogram(
            "liverank_gateway_rank_seconds", "From a list that is accepted to its answer", buckets=_WAITS,
            registry=registry,
        )  # fmt: skip
        self.stale = Counter("liverank_gateway_stale", "Lists answered at the deadline", registry=registry)
        self.streams = Gauge("liverank_gateway_streams", "Users' rankings that are followed", registry=registry)
        Gauge("liverank_gateway_users", "Users who are remembered", registry=registry).set_function(users)
