"""The trainer's share of the processor, where it runs beside a worker: rankings come first."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from ranker.errors import SchemaError

log = logging.getLogger(__name__)

# Where Linux schedules sessions as groups (kernel.sched_autogroup_enabled), a process is nice within its own session
# alone; towards the others this file says how nice the session is.
_SESSION = Path("/proc/self/autogroup")


def yield_to_others(nice: int) -> None:
    """Leave the processor to whoever else wants it.

    Args:
        nice: 0, as everybody, to 19, only what nobody else wants.

    Raises:
        SchemaError: a number that is none of these.
    """
    if not 0 <= nice <= 19:
        raise SchemaError(f"trainer_nice is {nice}; valid are 0 to 19")
    if not nice:
        return
    os.nice(nice)
    try:
        _SESSION.write_text(str(nice), encoding="ascii")
    except OSError:
        log.debug("sessions are not scheduled as groups here")
