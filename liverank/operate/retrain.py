"""Training in production: from the topics of a running system, and from a version that it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from liverank.operate.models import read_control
from liverank.operate.topics_log import TopicsLog
from liverank.settings import Settings
from online_learning.first_model.fit import FirstModel, fit
from online_learning.first_model.warm import open_version, recipe_like
from online_learning.folder.description import FolderConfig, parse_config, read_tables
from online_learning.progress import Report
from online_learning.releases.versions import Origin
from ranker.contracts.schema import refuse_renumbering
from ranker.registry.bundle import newest_version

#: Stands for the version that serves: with one every few seconds its name is soon another.
SERVING = "serving"


class Retraining(Struct, frozen=True, kw_only=True):
    """What a person asks for."""

    since: int | None = None  # milliseconds since the epoch
    until: int | None = None
    warm_from: str | None = None  # a version, or `SERVING`
    epochs: int | None = None
    encoder: str = "minilm"


def train_from_topics(
    settings: Settings, config: Path | None, asked: Retraining, show: Report
) -> tuple[FirstModel, dict[str, Any]]:
    """Train a version on what the topics hold, and publish it; and what to tell of the reading.

    What liverank.toml leaves open, `[schema]` or `[recipe]` and `[model]`, is as in the version to begin with, else as
    in what serves.

    Args:
        settings: where broker and registry are.
        config: the liverank.toml, where there is one.
        asked: what to train.
        show: is told how far it is.

    Raises:
        LiverankError: the broker does not answer, or there is nothing to learn from.
        SchemaError: rows that are stored would mean something else by this schema.
    """
    model = version_to_begin_with(settings, asked.warm_from)
    given, tables = _given(config)
    schema, recipe = given.schema, given.recipe
    if model is not None:
        schema = schema if "schema" in tables else model.schema
        recipe = recipe if {"recipe", "model"} & set(tables) else recipe_like(model)
        refuse_renumbering(schema, model.schema, model.version)
    if asked.epochs is not None:
        recipe = msgspec.structs.replace(recipe, epochs=asked.epochs)
    log = TopicsLog(settings, schema, asked.since, asked.until, show)
    made = fit(
        log.data_set(recipe), Path(settings.broker.addresses), settings.registry.address,
        model=settings.registry.model, recipe=recipe, encoder=asked.encoder,
        warm=model if asked.warm_from is not None else None, offsets=log.offsets, report=show,
    )  # fmt: skip
    return made, log.report()


def version_to_begin_with(settings: Settings, version: str | None) -> Origin | None:
    """The version that is named, else what serves, else the newest; None where there is none.

    Raises:
        LiverankError: the broker does not answer, or the version is missing or broken.
    """
    registry = settings.registry
    if version in (None, SERVING):
        version = read_control(settings).stages.serving or newest_version(registry.address, registry.model)
    return None if version is None else open_version(registry, version)


def _given(config: Path | None) -> tuple[FolderConfig, dict[str, Any]]:
    tables = {} if config is None else read_tables(config)
    return parse_config(tables, str(config)), tables
