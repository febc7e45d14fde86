"""The files of Apache Kafka that come with this package."""

from __future__ import annotations

from pathlib import Path

from liverank.local.errors import BrokerError


def kafka_resources() -> Path:
    """Where jars.lock, server.properties and log4j2.yaml are: in the package if installed, in deploy/ in a checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "kafka", package.parent / "deploy" / "kafka"):
        if (folder / "jars.lock").is_file():
            return folder
    raise BrokerError(f"the files of Apache Kafka are neither in {package / 'kafka'} nor in a checkout's deploy/kafka")
