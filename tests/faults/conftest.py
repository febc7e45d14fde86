"""One Apache Kafka for all fault tests, with an installation on it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from liverank.settings import Settings, changed
from tests.support.installation import Installation
from tests.support.tiny import tiny_bundle


@pytest.fixture(scope="module")
def installation(kafka: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """Topics, a model and no worker yet."""
    folder = tmp_path_factory.mktemp("installation")
    tiny_bundle(folder / "registry")
    settings = changed(
        Settings(),
        brokers=kafka,
        registry=str(folder / "registry"),
        app="faults",
        metrics_port=-1,
        session_timeout_s=6.0,
    )
    made = Installation(settings, folder)
    made.create_topics()
    try:
        yield made
    finally:
        made.close()
