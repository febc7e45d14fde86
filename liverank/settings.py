"""The settings of every process: read once from `liverank.toml` and the environment, then frozen.

Each group belongs to the process that reads it (`streams.settings`, `online_learning.settings`,
`ranker.registry.address`) and is a table of the file: `[broker]`, `[registry]`, `[worker]`, `[trainer]`; `[topics]` is
everybody's (`ranker.mapping.topic_map`). In the environment, which wins, each key is a variable, named in `VARIABLES`.
A key of the file that nobody reads is an error.
What a log's folder says of its log (`[schema]`, `[recipe]`, `[model]`, `[data]`) passes, once it is checked.
"""

from __future__ import annotations

import difflib
import logging
import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from online_learning.folder.description import parse_config
from online_learning.settings import TrainerSettings
from ranker.contracts.errors import LiverankError
from ranker.contracts.topics import TOPICS
from ranker.mapping.topic_map import TopicMap, topic_map
from ranker.registry.settings import RegistrySettings
from streams.settings import BrokerSettings, WorkerSettings

log = logging.getLogger(__name__)

PREFIX = "LIVERANK_"
GROUPS: dict[str, type[Struct]] = {
    "broker": BrokerSettings, "registry": RegistrySettings, "worker": WorkerSettings, "trainer": TrainerSettings,
}  # fmt: skip
#: Tables that training reads, see `online_learning.folder.description`; worker and trainer look at the schema too.
OF_TRAINING = ("schema", "model", "recipe", "data")
#: The table of the topics' names, which worker and trainer share.
TOPICS_TABLE = "topics"
#: The one table of the file up to release 0.1, whose keys are the variables' names.
_EARLIER = "liverank"
_SHARED = ("broker", "registry")  # fields of the processes' settings that are groups of their own
_ELSEWHERE = ("rules", "schema", TOPICS_TABLE)  # tables, which no variable of the environment can hold
_UNLIKE_THEIR_KEY = {
    ("broker", "addresses"): "BROKERS",
    ("registry", "address"): "REGISTRY",
    ("trainer", "data"): "TRAINER_DATA",
    ("trainer", "metrics_port"): "TRAINER_METRICS_PORT",
    ("trainer", "mode"): "TRAINER_MODE",
    ("trainer", "batch"): "TRAIN_BATCH",
    ("trainer", "gather_ms"): "TRAIN_MS",
}
#: (group, key) -> the environment's variable, without its prefix. Worker and trainer share some.
VARIABLES: dict[tuple[str, str], str] = {
    (group, key): _UNLIKE_THEIR_KEY.get((group, key), key.upper())
    for group, kind in GROUPS.items()
    for key in kind.__struct_fields__
    if key not in (*_SHARED, *_ELSEWHERE)
} | {(TOPICS_TABLE, key): f"TOPICS_{key.upper().replace('-', '_')}" for key in ("prefix", *TOPICS)}


class SettingsError(LiverankError):
    """A setting that cannot be used: which one, and what would be right."""


class Settings(Struct, frozen=True, kw_only=True):
    """What the file and the environment say, by process."""

    worker: WorkerSettings = WorkerSettings()
    trainer: TrainerSettings = TrainerSettings()

    @property
    def broker(self) -> BrokerSettings:
        """The brokers, for worker and trainer alike."""
        return self.worker.broker

    @property
    def topics(self) -> TopicMap:
        """What the topics are called, for worker and trainer alike."""
        return self.worker.broker.topics

    @property
    def registry(self) -> RegistrySettings:
        """The registry, for worker and trainer alike."""
        return self.worker.registry


def load_settings(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Settings from a file, if given, with the environment on top.

    Raises:
        SettingsError: a key that nobody reads, or a value that it cannot have, with what would be right.
    """
    tables = _tables(path) if path is not None else {}
    given = {group: dict(tables.get(group, {})) for group in (*GROUPS, TOPICS_TABLE)}
    environ = os.environ if environ is None else environ
    for (group, key), variable in VARIABLES.items():
        if PREFIX + variable in environ:
            value = environ[PREFIX + variable]
            table = given[group].get(key) if group == TOPICS_TABLE else None
            given[group][key] = {**table, "name": value} if isinstance(table, dict) else value
    _tell_of_misspelt(environ)
    shared = {group: given.pop(group) for group in _SHARED}
    try:
        topics = topic_map(given[TOPICS_TABLE], str(path or "the environment"))
    except LiverankError as error:
        raise SettingsError(str(error)) from error
    return with_topics(
        Settings(
            worker=_converted({**given["worker"], **shared}, WorkerSettings, "worker"),
            trainer=_converted({**given["trainer"], "registry": shared["registry"]}, TrainerSettings, "trainer"),
        ),
        topics,
    )


def with_topics(settings: Settings, topics: TopicMap) -> Settings:
    """The same settings with topics called otherwise.

    Raises:
        SettingsError: one is called as the rows' changelog is.
    """
    broker = msgspec.structs.replace(settings.broker, topics=topics)
    for topic in TOPICS:
        if topics.called(topic) == broker.changelog:
            raise SettingsError(
                f"{topic} of [topics] is called {broker.changelog!r}, which is the changelog of the users' rows; give "
                "the name of another topic"
            )
    return Settings(
        worker=msgspec.structs.replace(settings.worker, broker=broker),
        trainer=msgspec.structs.replace(settings.trainer, topics=topics),
    )


class SettingSource(Struct, frozen=True, kw_only=True):
    """A setting's value, and where it comes from."""

    group: str
    key: str
    value: str
    source: str  # the variable of the environment, the file, or "default"


def setting_sources(path: Path | None = None, environ: Mapping[str, str] | None = None) -> list[SettingSource]:
    """Every setting with its value and where it comes from.

    Raises:
        SettingsError: as `load_settings`.
    """
    environ = os.environ if environ is None else environ
    settings, tables = load_settings(path, environ), _tables(path) if path is not None else {}
    found = []
    for (group, key), variable in VARIABLES.items():
        value = _value(settings, group, key)
        source = str(path) if key in tables.get(group, {}) else "default"
        source = PREFIX + variable if PREFIX + variable in environ else source
        found.append(SettingSource(group=group, key=key, value="" if value is None else str(value), source=source))
    return found


def environment_of(settings: Settings, *variables: str) -> dict[str, str]:
    """Settings as the environment's variables: those named (without the prefix), or all of them."""
    found: dict[str, str] = {}
    for (group, key), variable in VARIABLES.items():
        value = _value(settings, group, key)
        if value is not None and (not variables or variable in variables):
            found.setdefault(PREFIX + variable, str(value))
    return found


def _value(settings: Settings, group: str, key: str) -> Any:
    """A setting's value; None where there is none."""
    if group == TOPICS_TABLE:
        return settings.topics.prefix or None if key == "prefix" else settings.topics.names.get(key)
    return getattr(getattr(settings, group), key)


def changed(settings: Settings, **variables: object) -> Settings:
    """The same settings with some of them replaced, named as in the environment, in lower case and without the prefix.

    Raises:
        SettingsError: a name that is none, or a value that it cannot have.
    """
    unknown = {name.upper() for name in variables} - set(VARIABLES.values())
    if unknown:
        raise SettingsError(
            f"there is no setting {', '.join(sorted(unknown))}; known are {', '.join(VARIABLES.values())}"
        )
    new = {PREFIX + name.upper(): str(value) for name, value in variables.items()}
    made = load_settings(environ=environment_of(settings) | new)
    tables = {name: getattr(settings.worker, name) for name in _ELSEWHERE if name != TOPICS_TABLE}
    kept = Settings(
        worker=msgspec.structs.replace(made.worker, **tables),
        trainer=msgspec.structs.replace(made.trainer, schema=settings.worker.schema),
    )
    return with_topics(kept, msgspec.structs.replace(made.topics, fields=settings.topics.fields))


def _tables(path: Path) -> dict[str, dict[str, Any]]:
    """The file's tables by group, those of an earlier release where they are now."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path} cannot be read: {error}") from error
    try:
        parse_config(found, str(path))
    except LiverankError as error:
        raise SettingsError(str(error)) from error
    tables: dict[str, dict[str, Any]] = {group: {} for group in (*GROUPS, TOPICS_TABLE)}
    if "schema" in found:
        tables["worker"]["schema"] = tables["trainer"]["schema"] = found["schema"]
    for name in OF_TRAINING:
        found.pop(name, None)
    for name, table in found.items():
        if name not in (*GROUPS, TOPICS_TABLE, _EARLIER) or not isinstance(table, dict):
            raise SettingsError(
                f"{path}: nobody reads {name!r}; {_nearest(name, [*GROUPS, TOPICS_TABLE, *OF_TRAINING], 'the tables')}"
            )
    tables[TOPICS_TABLE] = found.pop(TOPICS_TABLE, {})
    _take_earlier(path, found.pop(_EARLIER, {}), tables)
    for group, table in found.items():
        keys = [key for key in GROUPS[group].__struct_fields__ if key not in (*_SHARED, "schema", TOPICS_TABLE)]
        for key in table:
            if key not in keys:
                raise SettingsError(
                    f"{path}: nobody reads {key!r} of [{group}]; {_nearest(key, keys, f'[{group}]', group)}"
                )
        tables[group] |= table
    return tables


def _take_earlier(path: Path, table: Mapping[str, Any], tables: dict[str, dict[str, Any]]) -> None:
    """`[liverank]`, the only table once: taken for one more release, with a word on what each of its keys is now."""
    homes: dict[str, list[tuple[str, str]]] = {"rules": [("worker", "rules")]}
    for home, variable in VARIABLES.items():
        homes.setdefault(variable.lower(), []).append(home)
    moved = []
    for key, value in table.items():
        if key not in homes:
            raise SettingsError(
                f"{path}: nobody reads {key!r} of [{_EARLIER}]; {_nearest(key, [*homes], f'[{_EARLIER}]')}"
            )
        for group, name in homes[key]:
            tables[group][name] = value
            moved.append(f"{key} is now {name} of [{group}]")
    if moved:
        log.warning("%s: [%s] is read for this release only: %s", path, _EARLIER, "; ".join(moved))


def _nearest(given: str, valid: list[str], where: str, group: str | None = None) -> str:
    """What was probably meant: the nearest valid name, which may be in another table, and all that are valid here."""
    others = {key: home for home, key in VARIABLES if home != group} if group else {}
    near = difflib.get_close_matches(given, valid, 1) or difflib.get_close_matches(given, others, 1, 0.8)
    meant = ""
    if near:
        home = f" of [{others[near[0]]}]" if near[0] not in valid else ""
        meant = f"the nearest is {near[0]!r}{home}, and "
    return f"{meant}known in {where} are {', '.join(valid)}"


def _tell_of_misspelt(environ: Mapping[str, str]) -> None:
    """A variable that looks like one of ours and is none. No error: others name variables too, as Kubernetes does."""
    known = {PREFIX + variable for variable in VARIABLES.values()}
    for name in environ:
        if name.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, 1, 0.9)
            if near:
                log.warning("nobody reads %s of the environment; the nearest is %s", name, near[0])


def _converted(table: Mapping[str, Any], kind: type[Any], group: str) -> Any:
    try:
        return msgspec.convert(table, kind, strict=False, dec_hook=_path)
    except msgspec.ValidationError as error:
        raise SettingsError(f"settings of [{group}]: {error}") from error


def _path(kind: type, value: object) -> Path:
    """The one type here that msgspec does not know."""
    if kind is not Path or not isinstance(value, str):
        raise TypeError(f"Expected `str`, got `{type(value).__name__}`")
    return Path(value)
