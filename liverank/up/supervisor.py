"""Supervision: what ended is started again, after a pause that grows while it goes on ending, and says why."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from msgspec import Struct

#: Seconds until what ended is started again: the first pause, and the longest, each twice the one before it.
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
#: What ran for so long has recovered: its next pause is the first one again.
_SOUND_S = 60.0


class Running(Protocol):
    """A process that was started."""

    def ended(self) -> str | None:
        """Why it ended; None while it runs."""

    def stop(self) -> None:
        """End it in order, or without where that takes too long."""


class Starts(Struct, frozen=True):
    """What is known of a part's starts so far."""

    failures: int = 0  # in a row
    began: float = 0.0  # when it was last started, by a monotonic clock
    again_at: float | None = None  # when to start it again; None while it runs
    reason: str = ""  # why it ended the last time
    restarts: int = 0


def pause_s(failures: int) -> float:
    """How long to wait before a start, after so many that failed in a row."""
    return min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** max(0, failures - 1))


def after_end(attempt: Starts, now: float, reason: str) -> Starts:
    """It ended: when it is to be started again."""
    failures = 1 if now - attempt.began >= _SOUND_S else attempt.failures + 1
    return Starts(failures, attempt.began, now + pause_s(failures), reason, attempt.restarts)


def after_start(attempt: Starts, now: float) -> Starts:
    """It was started again."""
    return Starts(attempt.failures, now, None, attempt.reason, attempt.restarts + 1)


class Part:
    """A part of the installation. All methods belong to one thread."""

    def __init__(self, name: str, start: Callable[[], Running], ready: Callable[[], bool], now: float) -> None:
        """Start it.

        Args:
            name: what it is called.
            start: starts the process.
            ready: whether it does its work by now.
            now: by a monotonic clock, seconds.
        """
        self.name, self._start, self._ready = name, start, ready
        self.running: Running | None = start()
        self.attempt = Starts(began=now)

    def tend(self, now: float) -> str | None:
        """Look after it; what is to be told, if anything is."""
        if self.running is not None:
            reason = self.running.ended()
            if reason is None:
                return None
            self.running = None
            self.attempt = after_end(self.attempt, now, reason)
            wait = (self.attempt.again_at or now) - now
            return f"{self.name} ended ({reason}); it is started again in {wait:.0f} s"
        if self.attempt.again_at is not None and now >= self.attempt.again_at:
            self.attempt = after_start(self.attempt, now)
            return self._start_again(now)
        return None

    def _start_again(self, now: float) -> str:
        try:
            self.running = self._start()
        except Exception as error:
            self.attempt = after_end(self.attempt, now, str(error))
            wait = (self.attempt.again_at or now) - now
            return f"{self.name} does not start ({error}); it is tried again in {wait:.0f} s"
        return f"{self.name} is started again"

    def state(self, now: float) -> str:
        """In a word or two, for a person."""
        if self.running is not None:
            return "ready" if self._ready() else "starting"
        return f"again in {max(0.0, (self.attempt.again_at or now) - now):.0f} s"

    def stop(self) -> None:
        """End it."""
        if self.running is not None:
            self.running.stop()
            self.running = None
