"""The machine that a number was measured on, as reports record it."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

from liverank.local.broker import Broker
from liverank.local.jars import KAFKA_VERSION
from ranker.serving.scorer import providers


def machine(broker: Broker, provider: str) -> dict[str, Any]:
    """What `bare_machine` says, the broker, and where the model is run.

    Args:
        broker: what the records go through.
        provider: the setting: auto, cpu or cuda.
    """
    return {
        **bare_machine(),
        "broker": {"kind": broker.kind, "version": _version(broker), "address": broker.address},
        "provider": providers(provider)[0],
    }


def bare_machine() -> dict[str, Any]:
    """Cores, processor, memory, load and Python."""
    return {
        "cpus": len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count(),
        "cpu": _processor(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / (1 << 30), 1),
        "load_average": round(os.getloadavg()[0], 2),  # of the minute before: others may be at work
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def _version(broker: Broker) -> str | None:
    """What was started here; of a broker that ran before nobody knows."""
    return KAFKA_VERSION if broker.kind == "kafka" else None
