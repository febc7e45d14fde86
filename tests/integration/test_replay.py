"""What a log says offline is what its replay through Kafka and a real worker says."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from liverank.offline.evaluate import Question, run_evaluation
from liverank.offline.replay import replay
from liverank.settings import Settings, changed
from online_learning.data import DATASETS
from online_learning.first_model.fit import fit
from streams.kafka.connection import aiokafka
from tests.support.installation import Installation
from tests.support.synthetic import START, write_log

DATA = DATASETS["trivago"]
NOON = (START + 43_200) * 1000


@pytest.mark.timeout(300)
def test_replay_and_evaluation_agree(kafka: str, tmp_path: Path) -> None:
    """Every clickout of the log has a ranking that a worker made before it, from the past alone, and the MRR of the
    `rankings` topic is that of `liverank evaluate` to three decimals."""
    log = write_log(tmp_path / "log.parquet", users=40)
    registry = str(tmp_path / "registry")
    fit(DATA, log, registry, until=NOON, recipe=msgspec.structs.replace(DATA.recipe, epochs=2))
    settings = changed(
        Settings(),
        brokers=kafka,
        registry=registry,
        app="replay",
        metrics_port=-1,
        data=tmp_path / "data",
        session_timeout_s=6.0,
    )
    offline = run_evaluation(DATA, log, settings, Question(), lambda _: None)
    installation = Installation(settings, tmp_path / "installation")
    try:
        installation.create_topics()
        installation.worker("one").start().ready()
        online = asyncio.run(replay(DATA.records(log), aiokafka(settings.broker), settings.topics, users_at_once=16))
    finally:
        installation.close()
    assert online.ranked_before_click == online.lists == offline["n"] == 160
    for metric in ("mrr", "ndcg@10"):
        assert online.metrics[metric]["value"] == pytest.approx(
            offline["rankers"]["liverank"][metric]["value"], abs=5e-4
        )
