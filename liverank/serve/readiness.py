"""The file that says that a process is ready, before it is."""

from __future__ import annotations

import os
from pathlib import Path

from ranker.contracts.errors import LiverankError


def not_ready(file: Path | None) -> None:
    """A process starts: what one before it has left must not speak for it, and the file can be written in time.

    Args:
        file: as the settings name it, if they do; its folder is made where it is missing.

    Raises:
        LiverankError: it could not be written, and the process would never be taken for ready.
    """
    if file is None:
        return
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
        tried = file.with_name(f".{file.name}.{os.getpid()}")  # not the file itself, for which somebody may wait
        tried.touch()
        tried.unlink()
    except OSError as error:
        raise LiverankError(f"the ready file {file} cannot be written: {error.strerror or error}") from error
