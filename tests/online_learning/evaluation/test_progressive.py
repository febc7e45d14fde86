"""Reports say what a hand calculation says, and go where they were asked to go."""

from __future__ import annotations

import sys
import types

import numpy as np
import pytest

from online_learning.evaluation import progressive as measuring
from online_learning.evaluation.progressive import Progressive
from online_learning.trainer.tracking import Silent, TrackingError, numbers_of, open_tracker
from tests.support import stream

WEIGHTS = np.array([1.0, 2.0])


def test_one_test_by_hand() -> None:
    """Rank by the weighted probabilities, ties against; losses and sums for each action."""
    logits = np.array([[0.0, 0.0], [0.0, 0.0], [4.0, -4.0]], np.float32)
    found = measuring.tested(logits, 1, 0, WEIGHTS)
    half, high = 0.5, 1 / (1 + np.exp(-4.0))
    assert found.rank == 2  # the first scores the same; the third scores 0.98 + 2 * 0.02, less than 1.5
    np.testing.assert_allclose(found.expected, [2 * half + high, 2 * half + 1 - high])
    np.testing.assert_allclose(found.happened, [1, 0])
    np.testing.assert_allclose(
        found.losses, [(2 * np.log(2) - np.log(1 - high)) / 3, (2 * np.log(2) - np.log(high)) / 3]
    )
    nothing = measuring.tested(logits, None, 0, WEIGHTS)
    assert nothing.rank is None
    assert nothing.happened.tolist() == [0, 0]


def test_a_window_by_hand() -> None:
    """Means over its own examples alone; an action that never happened has no calibration."""
    progressive = Progressive(stream.SCHEMA, 3)
    logits = np.array([[2.0, -9.0], [0.0, -9.0]], np.float32)
    assert progressive.add(5, {"trainer": measuring.tested(logits, 0, 0, WEIGHTS)}) is None
    assert progressive.add(9, {"trainer": measuring.tested(logits, 1, 0, WEIGHTS)}) is None
    window = progressive.add(7, {"trainer": measuring.tested(logits, None, 0, WEIGHTS)})
    assert window is not None
    figures = window.rankers["trainer"]
    assert (window.examples, window.chosen, window.since, window.until) == (3, 2, 5, 9)
    assert figures.mrr == pytest.approx(0.75)
    assert figures.ndcg == pytest.approx((1 + 1 / np.log2(3)) / 2)
    expected = 3 * (1 / (1 + np.exp(-2.0)) + 0.5)
    assert figures.calibration == {"click": pytest.approx(expected / 2)}
    assert progressive.close() is None


def test_reports_go_to_the_library_that_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """MLflow's own functions get every number, named so that it takes them."""
    logged: dict[str, float] = {}
    fake = types.ModuleType("mlflow")
    for name in ("set_tracking_uri", "set_experiment", "start_run", "end_run"):
        setattr(fake, name, lambda *_: None)
    fake.log_metrics = lambda metrics, step: logged.update(metrics)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "mlflow", fake)
    progressive = Progressive(stream.SCHEMA, 1)
    window = progressive.add(1, {"trainer": measuring.tested(np.zeros((2, 2), np.float32), 0, 1, WEIGHTS)})
    assert window is not None
    tracker = open_tracker("mlflow:http://127.0.0.1:1")
    tracker.log(numbers_of(window), 1)
    tracker.close()
    assert set(logged) == {
        "trainer/mrr", "trainer/ndcg_at_10", "trainer/log_loss/click", "trainer/log_loss/buy",
        "trainer/calibration/buy",
    }  # fmt: skip


def test_a_missing_library_or_a_wrong_name_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """It says what to install, or what is valid; nothing asked for is nothing done."""
    assert isinstance(open_tracker(""), Silent)
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(TrackingError, match="pip install mlflow"):
        open_tracker("mlflow:somewhere")
    with pytest.raises(TrackingError, match="pip install tensorboard"):
        open_tracker("tensorboard:somewhere")
    for wrong in ("wandb:x", "mlflow", "tensorboard:"):
        with pytest.raises(TrackingError, match="valid are"):
            open_tracker(wrong)
