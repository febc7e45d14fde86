"""What the trainer tells Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from online_learning.evaluation.progressive import Window
from online_learning.trainer.outcomes import Learned
from online_learning.trainer.trainer import Trainer

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30)


class TrainerMetrics:
    """All numbers of one trainer, in a registry of its own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)  # processor time, memory, open files
        self.trained = Counter("liverank_trainer_examples", "Examples learned from", registry=registry)
        self.thinned = Counter(
            "liverank_trainer_thinned",
            "Examples counted and not learned from, since too many waited",
            registry=registry,
        )
        self.lag = Gauge("liverank_trainer_lag", "Examples that are still to be read", registry=registry)
        self.repeated = Counter("liverank_trainer_repeated", "Examples that came again", registry=registry)
        self.refused = Counter(
            "liverank_trainer_refused", "Examples that cannot be learned from", ["reason"], registry=registry
        )
        self.set_aside = Counter(
            "liverank_trainer_set_aside", "Records that cannot be used", ["topic"], registry=registry
        )
        self.missed = Counter(
            "liverank_trainer_missed", "Records that the broker deleted before they were read", registry=registry
        )
        self.rollbacks = Counter(
            "liverank_trainer_rollbacks", "Returns to a checkpoint after a loss that was not finite", registry=registry
        )
        self.deltas = Counter("liverank_trainer_deltas", "Deltas sent", registry=registry)
        self.delta_rows = Counter("liverank_trainer_delta_rows", "Item rows sent in deltas", registry=registry)
        self.bundles = Counter(
            "liverank_trainer_bundles", "Candidates by what became of them", ["decision"], registry=registry
        )
        self.returns = Counter(
            "liverank_trainer_returns", "Returns to an earlier version after what served was worse", registry=registry
        )
        self.held = Gauge("liverank_trainer_deltas_held", "1 while row changes wait after a loss", registry=registry)
        self._anchors = Gauge(
            "liverank_anchor_difference", "Reciprocal rank above that of the version that served an hour or a day ago",
            ["anchor", "ranker"], registry=registry,
        )  # fmt: skip
        self.loss = Gauge("liverank_trainer_loss", "Loss of the newest step", registry=registry)
        self.learned_until = Gauge(
            "liverank_trainer_learned_until_seconds", "Time of the newest example learned from", registry=registry
        )
        self.replay = Gauge("liverank_trainer_replay_examples", "Examples remembered", registry=registry)
        self.step = Histogram("liverank_trainer_learn_seconds", "Time of a batch", buckets=_SECONDS, registry=registry)
        self.checkpoint = Histogram(
            "liverank_trainer_checkpoint_seconds", "Time of a checkpoint", buckets=_SECONDS, registry=registry
        )
        self.publish = Histogram(
            "liverank_trainer_publish_seconds", "From a candidate taken to its announcement", buckets=_SECONDS,
            registry=registry,
        )  # fmt: skip
        self._ranks = Gauge(
            "liverank_progressive_rank_quality", "Of the newest window", ["ranker", "measure"], registry=registry
        )
        self._losses = Gauge(
            "liverank_progressive_log_loss", "Of the newest window", ["ranker", "action"], registry=registry
        )
        self._calibration = Gauge(
            "liverank_progressive_calibration", "Expected over happened, newest window", ["ranker", "action"],
            registry=registry,
        )  # fmt: skip

    def learned(self, done: Learned, trainer: Trainer, seconds: float) -> None:
        """A batch was learned from."""
        self.trained.inc(done.trained)
        self.thinned.inc(done.thinned)
        self.repeated.inc(done.repeated)
        self.refused.labels("schema, state or loss").inc(len(done.refused))
        self.step.observe(seconds)
        self.learned_until.set(trainer.learned_until / 1000)
        self.replay.set(len(trainer.replay))
        self.held.set(trainer.versions.held)
        for name, anchor in trainer.versions.anchors.by_span.items():
            self._anchors.labels(name, "trainer").set(anchor.trainer.mean)
            self._anchors.labels(name, "serving").set(anchor.serving.mean)
        if done.loss is not None:
            self.loss.set(done.loss)

    def window(self, window: Window) -> None:
        """A progressive report."""
        for ranker, figures in window.rankers.items():
            self._ranks.labels(ranker, "mrr").set(figures.mrr)
            self._ranks.labels(ranker, "ndcg@10").set(figures.ndcg)
            for action, value in figures.log_loss.items():
                self._losses.labels(ranker, action).set(value)
            for action, value in figures.calibration.items():
                self._calibration.labels(ranker, action).set(value)
