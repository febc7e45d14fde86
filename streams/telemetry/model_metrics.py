"""What the worker tells Prometheus about its models."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from ranker.rollout.canary import Comparison

_RECIPROCAL_RANKS = (0.05, 0.1, 0.15, 0.2, 0.25, 0.34, 0.5, 1.0)
_VERSIONS = 8  # whose clicks are told
_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class ModelMetrics:
    """Numbers about the versions that serve."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.swaps = Counter("liverank_model_swaps", "Versions that began to serve", registry=registry)
        self.rejected = Counter(
            "liverank_model_rejected", "Bundles that must not serve, by reason", ["reason"], registry=registry
        )
        self.restart_needed = Gauge(
            "liverank_restart_needed", "1 while what serves has inputs that only a worker started anew takes",
            registry=registry,
        )  # fmt: skip
        self.load_seconds = Histogram(
            "liverank_model_load_seconds", "From a version's announcement to its first ranking's turn",
            buckets=_SECONDS, registry=registry,
        )  # fmt: skip
        self.stage = Gauge(
            "liverank_model_stage", "1 for a version in a stage", ["version", "stage"], registry=registry
        )
        self.learned_until = Gauge(
            "liverank_model_learned_until_seconds",
            "Time of the newest event that the serving rows have learned from",
            registry=registry,
        )
        self.deltas = Counter("liverank_model_deltas", "Deltas, by what became of them", ["outcome"], registry=registry)
        self.delta_rows = Counter("liverank_model_delta_rows", "Item rows replaced in place", registry=registry)
        self.reciprocal_rank = Histogram(
            "liverank_reciprocal_rank", "1 / rank of clicked items, by the version that ranked them",
            ["version"], buckets=_RECIPROCAL_RANKS, registry=registry,
        )  # fmt: skip
        self._clicked: dict[str, None] = {}  # versions, the one clicked last at the end
        self._canary_difference = Gauge(
            "liverank_canary_difference",
            "Mean reciprocal rank of the canary less that of the others",
            registry=registry,
        )
        self._canary_clicks_difference = Gauge(
            "liverank_canary_clicks_difference",
            "Share of the canary's lists that drew a click in time, less that of the others",
            registry=registry,
        )

        self._canary_bounds = Gauge(
            "liverank_canary_bound",
            "Bounds of the true differences that hold at every moment: of reciprocal ranks, of clicks per list",
            ["measure", "bound"], registry=registry,
        )  # fmt: skip

    def compared(self, compared: Comparison, alpha: float) -> None:
        """What clicks say of a canary so far; its bounds are those by which it is decided.

        Args:
            compared: what people did.
            alpha: the chance of ever deciding wrongly.
        """
        self._canary_difference.set(compared.ranks.difference)
        self._canary_clicks_difference.set(compared.lists.difference)
        for name, measured in (("ranks", compared.ranks), ("lists", compared.lists)):
            for bound, value in zip(("low", "high"), measured.interval(alpha / 2), strict=True):
                self._canary_bounds.labels(name, bound).set(value)

    def clicked(self, version: str, value: float) -> None:
        """The reciprocal rank of a click, by the version that ranked it. Only the newest versions keep their figures:
        each is ten numbers on the page.
        """
        known = self._clicked
        known.pop(version, None)
        known[version] = None
        self.reciprocal_rank.labels(version).observe(value)
        if len(known) > _VERSIONS:
            oldest = next(iter(known))
            del known[oldest]
            self.reciprocal_rank.remove(oldest)

    def stages(self, serving: str | None, canary: str | None) -> None:
        """What serves now."""
        self.stage.clear()
        if serving is not None:
            self.stage.labels(serving, "serving").set(1)
        if canary is not None:
            self.stage.labels(canary, "canary").set(1)
