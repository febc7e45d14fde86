"""One Apache Kafka for all fault tests, with an installation on it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "streams")]

from rig import Installation  # noqa: E402
from tiny import tiny_bundle  # noqa: E402

from ranker.settings import Settings  # noqa: E402


@pytest.fixture(scope="module")
def installation(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Topics, a model and no worker yet."""
    folder = tmp_path_factory.mktemp("installation")
    tiny_bundle(folder / "registry")
    settings = Settings(
        brokers=kafka, registry=str(folder / "registry"), app="faults", metrics_port=-1, session_timeout_s=6.0
    )
    made = Installation(settings, folder)
    made.create_topics()
    try:
        yield made
    finally:
        made.close()
