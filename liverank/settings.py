"""The settings of every process: read once from `liverank.toml` and the environment, then frozen.

Each group belongs to the process that reads it (`streams.settings`, `online_learning.settings`,
`liverank.gateway_settings`, `liverank.web_settings`, `ranker.registry.settings`) and is a table of the file:
`[broker]`, `[registry]`, `[worker]`, `[trainer]`, `[gateway]`, `[web]`; `[topics]` is everybody's
(`ranker.mapping.topic_map`). In the environment, which wins, each key is a variable, named in `VARIABLES`.
A key of the file that nobody reads is an error.
What a log's folder says of its log (`[schema]`, `[recipe]`, `[model]`, `[data]`) passes, once it is checked.
"""

from __future__ import annotations

import difflib
import logging
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import msgspec
from msgspec import Struct

from liverank.gateway_settings import GatewaySettings
from liverank.web_settings import WebSettings
from online_learning.folder.description import parse_config
from online_learning.settings import TrainerSettings
from ranker.contracts.errors import LiverankError
from ranker.contracts.schema import FeatureSchema
from ranker.contracts.topics import TOPICS
from ranker.mapping.topic_map import TopicMap, topic_map
from ranker.registry.settings import RegistrySettings, shown_address
from streams.settings import BrokerSettings, WorkerSettings

log = logging.getLogger(__name__)

PREFIX = "LIVERANK_"
GROUPS: dict[str, type[Struct]] = {
    "broker": BrokerSettings, "registry": RegistrySettings, "worker": WorkerSettings, "trainer": TrainerSettings,
    "gateway": GatewaySettings, "web": WebSettings,
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
} | {(name, key): f"{name}_{key}".upper() for name in ("gateway", "web") for key in GROUPS[name].__struct_fields__}
#: (group, key) -> the environment's variable, without its prefix. Worker and trainer share some.
VARIABLES: dict[tuple[str, str], str] = {
    (group, key): _UNLIKE_THEIR_KEY.get((group, key), key.upper())
    for group, kind in GROUPS.items()
    for key in kind.__struct_fields__
    if key not in (*_SHARED, *_ELSEWHERE)
} | {(TOPICS_TABLE, key): f"TOPICS_{key.upper().replace('-', '_')}" for key in ("prefix", *TOPICS)}


#: Variables that are no settings: where jars come from and stay, what tests read.
BESIDE = ("MAVEN", "CACHE", "TEST_BROKER", "FAULT_ROUNDS", "SCREENSHOTS")
#: What Kubernetes tells every container of a service that is called `liverank` or `liverank-…`.
_OF_KUBERNETES = re.compile(r"(.*_)?SERVICE_(HOST|PORT.*)=.*|(.*_)?PORT(_\d+_.*=.*|=(tcp|udp|sctp).*)", re.DOTALL)


#: What only the environment holds: read where it is used, shown and written nowhere.
SECRETS = {
    "SASL_PASSWORD": ("broker", "sasl_password"), "SSL_KEY_PASSWORD": ("broker", "ssl_key_password"),
    "SIGNING_KEY": ("registry", "signing_key"), "ERASURE_KEY": ("worker", "erasure_key"),
    "PSEUDONYM_KEY": ("broker", "pseudonym_key"),
    "GATEWAY_TOKENS": ("gateway", "tokens"), "GATEWAY_TOKEN": ("gateway", "token"),  # of who asks one
    "WEB_TOKENS": ("web", "tokens"), "WEB_OPERATOR_TOKEN": ("web", "operator_token"),
}  # fmt: skip


class SettingsError(LiverankError):
    """A setting that cannot be used: which one, and what would be right."""


class Settings(Struct, frozen=True, kw_only=True):
    """What the file and the environment say, by process."""

    worker: WorkerSettings = WorkerSettings()
    trainer: TrainerSettings = TrainerSettings()
    gateway: GatewaySettings = GatewaySettings()
    web: WebSettings = WebSettings()

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
    places = {(group, key): str(path) for group, table in given.items() for key in table}
    environ = os.environ if environ is None else environ
    for (group, key), variable in VARIABLES.items():
        if PREFIX + variable in environ:
            value = environ[PREFIX + variable]
            table = given[group].get(key) if group == TOPICS_TABLE else None
            given[group][key] = {**table, "name": value} if isinstance(table, dict) else value
            places[group, key] = PREFIX + variable
    _tell_of_misspelt(environ)
    try:
        named = sorted(place for (group, _), place in places.items() if group == TOPICS_TABLE and place != str(path))
        topics = topic_map(given.pop(TOPICS_TABLE), ", ".join([*([str(path)] if path else []), *named]))
    except LiverankError as error:
        raise SettingsError(str(error)) from error
    made = {group: _converted(group, table, places) for group, table in given.items()}
    shared: dict[str, Any] = {group: GROUPS[group](**made[group]) for group in _SHARED}
    return with_topics(
        Settings(
            worker=WorkerSettings(**made["worker"], **shared),
            trainer=TrainerSettings(**made["trainer"], registry=shared["registry"]),
            gateway=GatewaySettings(**made["gateway"]),
            web=WebSettings(**made["web"]),
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
    return msgspec.structs.replace(
        settings,
        worker=msgspec.structs.replace(settings.worker, broker=broker),
        trainer=msgspec.structs.replace(settings.trainer, topics=topics),
    )


class SettingSource(Struct, frozen=True, kw_only=True):
    """A setting's value, and where it comes from."""

    group: str
    key: str
    variable: str = ""  # of the environment; empty where none can hold it
    value: str
    source: str  # the variable of the environment, the file, or "default"


def setting_sources(path: Path | None = None, environ: Mapping[str, str] | None = None) -> list[SettingSource]:
    """Every setting with its value and where it comes from; of secrets only whether they are there.

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
        shown = "" if value is None else shown_address(str(value))  # a registry's may hold a password
        found.append(SettingSource(group=group, key=key, variable=PREFIX + variable, value=shown, source=source))
    for name, (group, key) in SECRETS.items():
        held = bool(environ.get(PREFIX + name))
        shown, source = ("set", PREFIX + name) if held else ("", "default")
        found.append(SettingSource(group=group, key=key, variable=PREFIX + name, value=shown, source=source))
    for group, name in (("worker", "rules"), ("worker", "schema")):
        given = tables.get(group, {}).get(name, {})
        for key, value in msgspec.structs.asdict(getattr(settings.worker, name) or FeatureSchema()).items():
            source = str(path) if key in given else "default"
            shown = msgspec.json.encode(value).decode()
            found.append(SettingSource(group=_shown_group(group, name), key=key, value=shown, source=source))
    return found


def _shown_group(group: str, name: str) -> str:
    return name if name in OF_TRAINING else f"{group}.{name}"


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
        gateway=made.gateway,
        web=made.web,
    )
    return with_topics(kept, msgspec.structs.replace(made.topics, fields=settings.topics.fields))


def _tables(path: Path) -> dict[str, dict[str, Any]]:
    """The file's tables by group, those of an earlier release where they are now."""
    try:
        found = tomllib.loads(path.read_text(encoding="utf-8-sig"))
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
    known = [*GROUPS, TOPICS_TABLE, *OF_TRAINING]
    for name, table in found.items():
        if name not in (*GROUPS, TOPICS_TABLE, _EARLIER) or not isinstance(table, dict):
            raise SettingsError(
                f"{path}: {name} is {table!r}; it must be a table, [{name}]"
                if name in (*GROUPS, TOPICS_TABLE, _EARLIER)
                else f"{path}: nobody reads {name!r}; {_nearest(name, known, 'the tables', '')}"
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
    others = {} if group is None else {key: home for home, key in VARIABLES if home != group}
    near = difflib.get_close_matches(given, valid, 1) or difflib.get_close_matches(given, others, 1, 0.8)
    meant = ""
    if near:
        home = f" of [{others[near[0]]}]" if near[0] not in valid else ""
        meant = f"the nearest is {near[0]!r}{home}, and "
    return f"{meant}known in {where} are {', '.join(valid)}"


def _tell_of_misspelt(environ: Mapping[str, str]) -> None:
    """A variable of our prefix that nobody reads. No error: others name variables too, as Kubernetes does."""
    known = [*dict.fromkeys(VARIABLES.values()), *SECRETS, *BESIDE]
    for name, value in environ.items():
        own = name.removeprefix(PREFIX)
        if name == own or own in known or _OF_KUBERNETES.fullmatch(f"{own}={value}"):
            continue
        near = difflib.get_close_matches(own, known, 1)
        hint = f"the nearest is {PREFIX}{near[0]}" if near else "`liverank config show` says which there are"
        log.warning("nobody reads %s of the environment; %s", name, hint)


def _converted(group: str, table: Mapping[str, Any], places: Mapping[tuple[str, str], str]) -> dict[str, Any]:
    """The values of a table as their settings want them.

    Args:
        group: the table's name.
        table: key -> what stands there.
        places: where each of them stands.
    """
    types = {field.name: field.type for field in msgspec.structs.fields(GROUPS[group])}
    found = {}
    for key, value in table.items():
        try:
            found[key] = msgspec.convert(value, types[key], strict=False, dec_hook=_path)
        except msgspec.ValidationError as error:
            place = places[group, key]
            where = f"{place} ({key} of [{group}])" if place.startswith(PREFIX) else f"{place}: {key} of [{group}]"
            if isinstance(value, dict):
                unknown = next((name for name in value if name not in _keys(types[key])), None)
                hint = "" if unknown is None else f"; {_nearest(unknown, _keys(types[key]), f'[{group}.{key}]')}"
                raise SettingsError(f"{where}: {error}{hint}") from error
            shown = shown_address(value[:200]) if isinstance(value, str) else value
            raise SettingsError(f"{where} is {shown!r}; it must be {_wanted(types[key])}") from error
    return found


def _keys(kind: Any) -> list[str]:
    """The keys of a table within a table; none of what is no table."""
    return list(getattr(kind, "__struct_fields__", ()))


def _wanted(kind: Any) -> str:
    """What a value of this type has to be, in words."""
    found = msgspec.inspect.type_info(kind)
    if isinstance(found, msgspec.inspect.Metadata):
        return str((found.extra_json_schema or {})["description"])
    if isinstance(found, msgspec.inspect.UnionType):  # one kind of value, or none at all
        return _wanted(next(part for part in get_args(kind) if part is not type(None)))
    if isinstance(found, msgspec.inspect.LiteralType):
        return f"one of {', '.join(map(str, found.values))}"
    if isinstance(found, msgspec.inspect.EnumType):
        return f"one of {', '.join(str(member.value) for member in found.cls)}"
    if isinstance(found, msgspec.inspect.IntType | msgspec.inspect.FloatType):
        kinds = "a whole number" if isinstance(found, msgspec.inspect.IntType) else "a number"
        return ", ".join([kinds, *_bounds(found)])
    return {
        msgspec.inspect.BoolType: "true or false", msgspec.inspect.StrType: "a text",
        msgspec.inspect.CustomType: "a path",
    }.get(type(found), "a table")  # fmt: skip


def _bounds(number: msgspec.inspect.IntType | msgspec.inspect.FloatType) -> Iterator[str]:
    for bound, word in (("ge", "at least"), ("gt", "above"), ("le", "at most"), ("lt", "below")):
        limit = getattr(number, bound)
        if limit is not None and limit < 1 << 31:  # larger ones are there to keep out what no clock or memory holds
            yield f"{word} {limit:g}"


def _path(kind: type, value: object) -> Path:
    """The one type here that msgspec does not know."""
    if kind is not Path or not isinstance(value, str) or not value:
        raise TypeError(f"Expected a path, got {value!r}")
    return Path(value).expanduser()  # as a registry's is: no shell has seen what a file says
