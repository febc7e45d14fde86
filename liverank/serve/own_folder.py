"""A process's own folder: of two that are told the same one, the second says so and ends."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ranker.contracts.errors import LiverankError


@contextmanager
def held(folder: Path, taken: str) -> Iterator[None]:
    """Nobody else works in the folder meanwhile; the system lets go of it however this process ends.

    Args:
        folder: made where it is missing.
        taken: what to say where somebody else holds it; `{holder}` in it becomes their process id.

    Raises:
        LiverankError: somebody else does, or it cannot be written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise LiverankError(f"{folder} cannot be written: {error.strerror or error}") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            holder = lock.read().strip() or "unknown"
            raise LiverankError(taken.replace("{holder}", holder)) from error
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        yield
