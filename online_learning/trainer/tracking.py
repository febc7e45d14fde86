"""Progressive reports in TensorBoard or MLflow, through their own libraries, where someone wants them there."""

from __future__ import annotations

from typing import Protocol

from online_learning.evaluation.progressive import Window
from ranker.contracts.errors import LiverankError


class TrackingError(LiverankError):
    """A tracker that is not known, or whose library is not installed."""


class Tracker(Protocol):
    """Takes numbers by name."""

    def log(self, numbers: dict[str, float], step: int) -> None:
        """Numbers as of a step."""

    def close(self) -> None:
        """Write what is still to be written."""


class Silent:
    """Nobody wants them."""

    def log(self, numbers: dict[str, float], step: int) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


class TensorBoard:
    """Event files in a folder."""

    def __init__(self, folder: str) -> None:
        try:
            from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415  # an option of its own
        except ImportError as error:
            raise TrackingError(f"tracking=tensorboard:… needs a library: pip install tensorboard ({error})") from error
        self._writer = SummaryWriter(folder)

    def log(self, numbers: dict[str, float], step: int) -> None:
        """One scalar a number."""
        for name, value in numbers.items():
            self._writer.add_scalar(name, value, step)

    def close(self) -> None:
        """Flush."""
        self._writer.close()


class MlFlow:
    """One run in the experiment `liverank`."""

    def __init__(self, address: str) -> None:
        try:
            import mlflow  # noqa: PLC0415  # an option of its own
        except ImportError as error:
            raise TrackingError(f"tracking=mlflow:… needs a library: pip install mlflow-skinny ({error})") from error
        self._mlflow = mlflow
        mlflow.set_tracking_uri(address)
        mlflow.set_experiment("liverank")
        mlflow.start_run()

    def log(self, numbers: dict[str, float], step: int) -> None:
        """One metric a number. A server that does not answer raises, and the caller goes on without."""
        self._mlflow.log_metrics({name.replace("@", "_at_"): value for name, value in numbers.items()}, step=step)

    def close(self) -> None:
        """End the run."""
        self._mlflow.end_run()


def open_tracker(setting: str) -> Tracker:
    """The tracker that a setting names: `tensorboard:FOLDER`, `mlflow:ADDRESS`, or empty for none.

    Raises:
        TrackingError: it names something else, or the library is not installed.
    """
    kind, _, where = setting.partition(":")
    if not setting:
        return Silent()
    if kind not in ("tensorboard", "mlflow") or not where:
        raise TrackingError(f"tracking is {setting!r}; valid are tensorboard:FOLDER, mlflow:ADDRESS, or nothing")
    return TensorBoard(where) if kind == "tensorboard" else MlFlow(where)


def numbers_of(window: Window) -> dict[str, float]:
    """A report as flat numbers: `trainer/mrr`, `serving/log_loss/click` …"""
    flat: dict[str, float] = {}
    for ranker, figures in window.rankers.items():
        flat |= {f"{ranker}/mrr": figures.mrr, f"{ranker}/ndcg@10": figures.ndcg}
        flat |= {f"{ranker}/log_loss/{action}": value for action, value in figures.log_loss.items()}
        flat |= {f"{ranker}/calibration/{action}": value for action, value in figures.calibration.items()}
    return flat
