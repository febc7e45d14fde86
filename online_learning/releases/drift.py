"""An alarm when the trainer gets worse at what the serving version still does well."""

from __future__ import annotations

from river.drift import ADWIN


class DriftAlarm:
    """ADWIN (A. Bifet and R. Gavalda, "Learning from time-changing data with adaptive windowing", SDM 2007).

    It watches the trainer's progressive loss minus the serving version's on the same example: what changes for both,
    such as the users, is no alarm; that is what there is to learn. An alarm lasts for `hold` examples.
    """

    def __init__(self, hold: int, delta: float = 0.002) -> None:
        """
        Args:
            hold: examples for which an alarm lasts.
            delta: chance of a false alarm, ADWIN's own parameter.
        """
        self._hold, self._delta = hold, delta
        self._left = 0
        self._detector = ADWIN(delta=delta)

    @property
    def raised(self) -> bool:
        """Whether there is an alarm now."""
        return self._left > 0

    def update(self, difference: float) -> bool:
        """One example's difference in loss; whether it raised the alarm."""
        before = self._detector.estimation
        self._detector.update(difference)
        self._left = max(0, self._left - 1)
        risen = bool(self._detector.drift_detected) and self._detector.estimation > before
        if risen:
            self._left = self._hold
        return risen

    def restart(self) -> None:
        """Another version serves: what was measured against the last one says nothing."""
        self._detector, self._left = ADWIN(delta=self._delta), 0
