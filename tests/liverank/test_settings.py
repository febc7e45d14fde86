"""Settings: who reads what, what the file and the environment may say, and what a mistake is answered with."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from liverank.settings import (
    GROUPS,
    SECRETS,
    VARIABLES,
    Settings,
    SettingsError,
    changed,
    environment_of,
    load_settings,
    setting_sources,
)

EXAMPLE = """
[broker]
addresses = "kafka:9092"
partitions = 12

[registry]
address = "s3://models"
model = "shop"

[worker]
data = "/data"
threads = 2

[worker.rules]
category_cap = 3

[trainer]
mode = "rows"
threads = 4
"""

#: Every variable that release 0.1 read: applications and deployments name them.
VARIABLES_OF_0_1 = [
    "APP",
    "ATTRIBUTION_MS",
    "AVERAGING",
    "BATCH",
    "BROKERS",
    "BUNDLE_EXAMPLES",
    "BUNDLE_S",
    "CACHE_MB",
    "CANARY_ALPHA",
    "CANARY_LEAST",
    "CANARY_MARGIN",
    "CANARY_S",
    "CANARY_SHARE",
    "CHECKPOINT_MS",
    "DATA",
    "DELTA_MS",
    "DENSE_RATE",
    "EXPIRE_DAYS",
    "EXPLORATION",
    "EXPLORATION_AFTER",
    "FINETUNE_S",
    "GATE_LEAST",
    "GATE_MARGIN",
    "ID_DROPOUT",
    "KEEP_BUNDLES",
    "MAX_AHEAD_MS",
    "MAX_CANDIDATES",
    "MAX_MESSAGE_BYTES",
    "METRICS_HOST",
    "METRICS_PORT",
    "MODEL",
    "NEXT_ITEM",
    "PARTITIONS",
    "PROVIDER",
    "READY_FILE",
    "REGISTRY",
    "REPLAY",
    "REPLAYED",
    "REPLICATION",
    "ROW_RATE",
    "SASL_MECHANISM",
    "SASL_USERNAME",
    "SECURITY_PROTOCOL",
    "SESSION_TIMEOUT_S",
    "SSL_CAFILE",
    "THREADS",
    "TRACKING",
    "TRAINER_DATA",
    "TRAINER_METRICS_PORT",
    "TRAINER_MODE",
    "TRAIN_BATCH",
    "TRAIN_MS",
]


def written(folder: Path, text: str) -> Path:
    """A liverank.toml with this text."""
    path = folder / "liverank.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_each_group_reaches_the_process_that_reads_it(tmp_path: Path) -> None:
    """Worker and trainer share broker and registry, and have the rest to themselves."""
    found = load_settings(written(tmp_path, EXAMPLE), environ={})
    assert (found.worker.broker.addresses, found.worker.broker.partitions) == ("kafka:9092", 12)
    assert found.worker.registry == found.trainer.registry == found.registry
    assert (found.registry.address, found.registry.model) == ("s3://models", "shop")
    assert (found.worker.data, found.worker.threads, found.worker.rules.category_cap) == (Path("/data"), 2, 3)
    assert (found.trainer.mode, found.trainer.threads, found.trainer.data) == ("rows", 4, Path(".liverank/trainer"))


def test_what_training_reads_passes(tmp_path: Path) -> None:
    """A folder's own file may stand beside the settings of processes, and changes nothing of them."""
    of_training = "\n[recipe]\nepochs = 2\n[model]\nlayers = 2\n[data]\nitem_id = 'sku'\n"
    assert load_settings(written(tmp_path, EXAMPLE + of_training), environ={}) == load_settings(
        written(tmp_path, EXAMPLE), environ={}
    )


def test_a_starter_is_of_the_files_schema(tmp_path: Path) -> None:
    """[schema] is what training uses, and what a worker without a bundle makes its starter for; a change keeps it."""
    schema = """
[schema]
window = 8
actions = [{ name = "view" }, { name = "click", positive = true }, { name = "cart", positive = true, weight = 2.0 }]
"""
    found = load_settings(written(tmp_path, schema), environ={})
    assert found.worker.schema.action_names == ("view", "click", "cart")
    again = changed(found, batch=3)
    assert again.worker.schema == again.trainer.schema == found.trainer.schema == found.worker.schema
    assert load_settings(written(tmp_path, EXAMPLE), environ={}).worker.schema is None, (
        "nothing is said: what serves counts"
    )


def test_the_environment_wins(tmp_path: Path) -> None:
    """A variable that both processes read reaches both."""
    environ = {"LIVERANK_BROKERS": "other:1", "LIVERANK_THREADS": "3", "LIVERANK_TRAIN_MS": "50"}
    found = load_settings(written(tmp_path, EXAMPLE), environ=environ)
    assert found.broker.addresses == "other:1"
    assert (found.worker.threads, found.trainer.threads) == (3, 3)
    assert found.trainer.gather_ms == 50


def test_the_environments_names_stay() -> None:
    """Every variable of release 0.1 is still one."""
    assert set(VARIABLES_OF_0_1) <= set(VARIABLES.values())


def test_every_setting_is_read_back_from_the_environment() -> None:
    """What `environment_of` writes gives the same settings again, whatever their types."""
    given = changed(
        Settings(), brokers="a:1,b:2", data="/w", trainer_data="/t", batch=7, exploration=0.25, metrics_port=-1,
        trainer_metrics_port=0, ready_file="/r", tracking="tensorboard:x", train_batch=9, canary_share=0.1,
        gateway_port=0, gateway_rate=2.5, web_port=-1, web_workers="a:1,b:2",
    )  # fmt: skip
    assert load_settings(environ=environment_of(given)) == given
    assert environment_of(given, "BATCH", "TRAIN_BATCH") == {"LIVERANK_BATCH": "7", "LIVERANK_TRAIN_BATCH": "9"}


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[worker]\nbacth = 3", r"nobody reads 'bacth' of \[worker\]; the nearest is 'batch'"),
        (
            "[worker]\ndense_rate = 3",
            r"nobody reads 'dense_rate' of \[worker\]; the nearest is 'dense_rate' of \[trainer\]",
        ),
        ("[broker]\nsasl_password = 'x'", r"nobody reads 'sasl_password' of \[broker\]"),
        ("[wroker]\nbatch = 3", r"nobody reads 'wroker'; the nearest is 'worker'"),
        (
            "batch = 3",
            r"nobody reads 'batch'; the nearest is 'batch' of \[(worker|trainer)\], and known in the tables are broker",
        ),
        (
            "[worker.rules]\ncategory_cup = 3",
            r"rules of \[worker\]: .*category_cup.*; the nearest is 'category_cap', and known in \[worker.rules\] are",
        ),
        ("[liverank]\nbrocker = 'x'", r"nobody reads 'brocker' of \[liverank\]; the nearest is 'brokers'"),
        ("[topics]\nclick = 'x'", r"nobody reads 'click' of \[topics\]; the nearest is 'clicks'"),
        ("[topics]\nclicks = 'liverank-rows-changelog'", "which is the changelog of the users' rows"),
        ("[broker]\ntopics = 'x'", r"nobody reads 'topics' of \[broker\]"),
        ("[schema]\nwindwo = 8", r"nobody reads 'windwo' of \[schema\]; the nearest is 'window'"),
        ("[recipe]\nepoch = 8", r"nobody reads 'epoch' of \[recipe\]; the nearest is 'epochs'"),
        ("[model]\nlayer = 8", r"nobody reads 'layer' of \[model\]; the nearest is 'layers'"),
        ("[model]\nheads = 3", r"heads of \[model\] is 3; it must divide d"),
        ("[data]\nitem = 'sku'", r"nobody reads 'item' of \[data\]; the nearest is 'items'"),
        ("[data.users]\nitem_id = 'sku'", r"nobody reads 'item_id' of \[data.users\]"),
        ("[worker\n", "cannot be read"),
        ("worker = 3", r"worker is 3; it must be a table, \[worker\]"),
    ],
)
def test_what_nobody_reads_is_an_error_that_names_the_nearest(tmp_path: Path, text: str, says: str) -> None:
    """A misspelt key or table, a key of another process, a value of the wrong type, a file that is no TOML."""
    with pytest.raises(SettingsError, match=says):
        load_settings(written(tmp_path, text), environ={})


def test_topics_are_called_as_the_file_and_the_environment_say(tmp_path: Path) -> None:
    """For worker and trainer alike; names and the prefix have variables, fields are the file's alone, and stay."""
    text = "[topics]\nprefix = 'shop-a.'\nviews = 'pages'\n[topics.clicks]\nname = 'web'\nfields.item_id = 'sku'\n"
    environ = {"LIVERANK_TOPICS_CLICKS": "web.v2", "LIVERANK_TOPICS_MODEL_UPDATES": "models"}
    found = load_settings(written(tmp_path, text), environ=environ)
    called = {name: found.topics.called(name) for name in ("clicks", "views", "items", "model-updates")}
    assert called == {"clicks": "web.v2", "views": "pages", "items": "shop-a.items", "model-updates": "models"}
    assert found.trainer.topics == found.broker.topics
    assert (found.broker.group, found.broker.changelog) == ("shop-a.liverank", "shop-a.liverank-rows-changelog")
    assert list(found.topics.fields) == ["clicks"]
    assert changed(found, batch=3).topics == found.topics
    assert load_settings(environ=environment_of(found)).topics.names == found.topics.names
    assert environment_of(found)["LIVERANK_TOPICS_PREFIX"] == "shop-a."
    sources = {
        (line.group, line.key): (line.value, line.source) for line in setting_sources(tmp_path / "liverank.toml")
    }
    assert sources["topics", "prefix"] == ("shop-a.", str(tmp_path / "liverank.toml"))
    both = r"LIVERANK_TOPICS_CLICKS, LIVERANK_TOPICS_VIEWS: clicks and views of \[topics\] are both called 'x'"
    with pytest.raises(SettingsError, match=both):
        load_settings(environ={"LIVERANK_TOPICS_CLICKS": "x", "LIVERANK_TOPICS_VIEWS": "x"})


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[trainer]\nmode = 'adapter'", "mode of [trainer] is 'adapter'; it must be one of rows, adapters, full"),
        ("[trainer]\ntracking = 'wandb:x'", "tracking of [trainer] is 'wandb:x'; it must be tensorboard:FOLDER"),
        ("[trainer]\nid_dropout = 1.5", "id_dropout of [trainer] is 1.5; it must be a number, at least 0, at most 1"),
        ("[trainer]\nbundle_s = 0", "bundle_s of [trainer] is 0; it must be a number, above 0"),
        ("[trainer]\ncanary_share = 1", "canary_share of [trainer] is 1; it must be a number, at least 0, below 1"),
        ("[worker]\nbatch = 'many'", "batch of [worker] is 'many'; it must be a whole number, at least 1"),
        ("[worker]\nbatch = 1.5", "batch of [worker] is 1.5; it must be a whole number"),
        ("[worker]\nbatch = true", "batch of [worker] is True; it must be a whole number"),
        ("[worker]\nstarter = 'perhaps'", "starter of [worker] is 'perhaps'; it must be true or false"),
        ("[worker]\ndata = 3", "data of [worker] is 3; it must be a path"),
        ("[worker]\ndata = ''", "data of [worker] is ''; it must be a path"),
        ("[worker]\nprovider = 'gpu'", "provider of [worker] is 'gpu'; it must be one of auto, cpu, cuda"),
        (
            "[worker]\nmetrics_port = -2",
            "metrics_port of [worker] is -2; it must be a whole number, at least -1, at most",
        ),
        ("[worker]\nexploration = nan", "exploration of [worker] is nan; it must be a number, at least 0, at most 1"),
        ("[worker]\ncanary_s = inf", "canary_s of [worker] is inf; it must be a number, at least 0"),
        ("[worker]\nrules = 3", "rules of [worker] is 3; it must be a table"),
        ("[worker.rules]\ncategory_cap = -1", "rules of [worker]: Expected `int` >= 0 - at `$.category_cap`"),
        ("[broker]\npartitions = 0", "partitions of [broker] is 0; it must be a whole number, at least 1"),
        ("[broker]\npartitions = 'four'", "partitions of [broker] is 'four'; it must be a whole number"),
        ("[broker]\nreplication = -1", "replication of [broker] is -1; it must be a whole number, at least 0"),
        ("[broker]\nsecurity_protocol = 'TLS'", "it must be one of PLAINTEXT, SASL_PLAINTEXT, SASL_SSL, SSL"),
        ("[broker]\nsasl_mechanism = 'GSSAPI'", "it must be one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512"),
        ("[broker]\naddresses = 'kafka://k:9092'", "it must be host:port, several with commas"),
        ("[broker]\naddresses = 'k:70000'", "it must be host:port, several with commas"),
        ("[broker]\naddresses = ''", "it must be host:port, several with commas"),
        ("[broker]\napp = 'my app'", "it must be 1 to 200 letters, digits, '.', '_' and '-', as Kafka names topics"),
        ("[gateway]\nport = 65536", "port of [gateway] is 65536; it must be a whole number, at least 0, at most 65535"),
        ("[gateway]\nrate = 0", "rate of [gateway] is 0; it must be a number, above 0"),
        ("[gateway]\ntokens = 'x'", "nobody reads 'tokens' of [gateway]"),
        ("[web]\nport = -2", "port of [web] is -2; it must be a whole number, at least -1, at most 65535"),
        (
            "[web]\nworkers = 'a b'",
            "workers of [web] is 'a b'; it must be host:port of a metrics page, several with commas",
        ),
        ("[web]\noperator_token = 'x'", "nobody reads 'operator_token' of [web]"),
        ("[registry]\nmodel = '../x'", "it must be up to 128 letters, digits"),
        ("[registry]\naddress = ''", "address of [registry] is ''; it must be a folder, or an fsspec address"),
        ("[liverank]\ntrainer_mode = 'x'", "mode of [trainer] is 'x'; it must be one of rows, adapters, full"),
    ],
)
def test_a_value_that_cannot_be_is_refused_when_it_is_loaded(tmp_path: Path, text: str, says: str) -> None:
    """Wrong choices, impossible numbers, wrong types: the file, the key and what would be right."""
    path = written(tmp_path, text)
    with pytest.raises(SettingsError) as refused:
        load_settings(path, environ={})
    assert str(refused.value).startswith(f"{path}: ") and says in str(refused.value)


@pytest.mark.parametrize("addresses", ["k", "k:1", "a:1,b:2", "a:1, b:2", "[::1]:9092", "10.0.0.1:65535"])
def test_addresses_that_clients_take(addresses: str) -> None:
    """With and without port and space, several, and of both kinds of IP."""
    assert load_settings(environ={"LIVERANK_BROKERS": addresses}).broker.addresses == addresses


def test_a_value_of_the_environment_that_is_none_is_named() -> None:
    """With the variable, and the group and key that it is for."""
    with pytest.raises(SettingsError, match=r"LIVERANK_BATCH \(batch of \[worker\]\) is 'many'; it must be a whole"):
        load_settings(environ={"LIVERANK_BATCH": "many"})
    with pytest.raises(SettingsError, match=r"LIVERANK_TRAINER_MODE \(mode of \[trainer\]\) is 'x'"):
        load_settings(environ={"LIVERANK_TRAINER_MODE": "x"})


def test_a_path_may_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a file and in the environment, which no shell has seen; a registry's is taken so, too."""
    monkeypatch.setenv("HOME", str(tmp_path))
    found = load_settings(written(tmp_path, "[worker]\ndata = '~/w'\n"), environ={"LIVERANK_TRAINER_DATA": "~/t"})
    assert (found.worker.data, found.trainer.data) == (tmp_path / "w", tmp_path / "t")


def test_the_earlier_table_is_taken_and_says_what_it_is_now(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """One table held everything in release 0.1: it means the same, and the log has each key's new place."""
    earlier = (
        "[liverank]\nbrokers = 'k:1'\nregistry = 'r'\nthreads = 2\ntrain_ms = 7\n[liverank.rules]\ncategory_cap = 2"
    )
    with caplog.at_level(logging.WARNING):
        found = load_settings(written(tmp_path, earlier), environ={})
    assert (found.broker.addresses, found.registry.address, found.trainer.gather_ms) == ("k:1", "r", 7)
    assert (found.worker.threads, found.trainer.threads, found.worker.rules.category_cap) == (2, 2, 2)
    assert "brokers is now addresses of [broker]" in caplog.text
    assert "threads is now threads of [worker]; threads is now threads of [trainer]" in caplog.text


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("BROKER", "the nearest is LIVERANK_BROKERS"),
        ("METRIC_PORT", "the nearest is LIVERANK_METRICS_PORT"),
        ("TRAINR_MODE", "the nearest is LIVERANK_TRAINER_MODE"),
        ("QQQ", "`liverank config show` says which there are"),
    ],
)
def test_a_variable_that_nobody_reads_is_told(name: str, says: str, caplog: pytest.LogCaptureFixture) -> None:
    """With the nearest one, where there is one; it is no error."""
    with caplog.at_level(logging.WARNING):
        load_settings(environ={f"LIVERANK_{name}": "9"})
    assert f"nobody reads LIVERANK_{name} of the environment; {says}" in caplog.text


def test_variables_of_others_are_not_told(caplog: pytest.LogCaptureFixture) -> None:
    """Kubernetes names variables after services, which may be called liverank; others are no settings: no word."""
    environ = {
        "SERVICE_HOST": "10.0.0.1", "SERVICE_PORT": "9092", "PORT": "tcp://10.0.0.1:9092", "PORT_9092_TCP_ADDR": "x",
        "WORKER_SERVICE_HOST": "10.0.0.1", "WORKER_PORT": "tcp://10.0.0.1:1", "SASL_PASSWORD": "x", "MAVEN": "x",
    }  # fmt: skip
    with caplog.at_level(logging.WARNING):
        load_settings(environ={f"LIVERANK_{name}": value for name, value in environ.items()})
    assert not caplog.text


def test_each_setting_says_where_it_comes_from_and_no_secret(tmp_path: Path) -> None:
    """The environment, the file or the default; of passwords, and of addresses that hold one, nothing is shown."""
    path = written(tmp_path, "[worker]\nbatch = 3\n[worker.rules]\ncategory_cap = 2\n[schema]\nwindow = 8\n")
    environ = {
        "LIVERANK_REGISTRY": "s3://me:hidden@models", "LIVERANK_SASL_PASSWORD": "hidden",
        "LIVERANK_TRACKING": "mlflow:https://me:hidden@host",
    }  # fmt: skip
    found = {(line.group, line.key): line for line in setting_sources(path, environ)}
    shown = {key: (line.value, line.source) for key, line in found.items()}
    assert found["trainer", "batch"].variable == "LIVERANK_TRAIN_BATCH"
    assert found["gateway", "tokens"].variable == "LIVERANK_GATEWAY_TOKENS"
    assert found["worker.rules", "category_cap"].variable == "", "a table, which no variable can hold"
    assert shown["worker", "batch"] == ("3", str(path))
    assert shown["worker.rules", "category_cap"] == ("2", str(path))
    assert shown["schema", "window"] == ("8", str(path))
    assert shown["trainer", "mode"] == ("full", "default")
    assert shown["registry", "address"] == ("s3://***@models", "LIVERANK_REGISTRY")
    assert shown["broker", "sasl_password"] == ("set", "LIVERANK_SASL_PASSWORD")
    assert not [line for line in found.values() if "hidden" in line.value]


def test_a_changed_setting_must_exist() -> None:
    """A name that is none is an error, not a setting that does nothing."""
    with pytest.raises(SettingsError, match="there is no setting BROCKERS"):
        changed(Settings(), brockers="x")


def test_no_group_holds_a_secret(caplog: pytest.LogCaptureFixture) -> None:
    """They are read from the environment where they are used, and stored nowhere; their names are not misspelt ones."""
    assert not [key for kind in GROUPS.values() for key in kind.__struct_fields__ if "password" in key]
    secret = {f"LIVERANK_{name}": "s3cret" for name in SECRETS}
    with caplog.at_level(logging.WARNING):
        assert load_settings(environ=secret) == Settings()
        assert "s3cret" not in str(setting_sources(environ=secret))
    assert not caplog.text


def test_an_address_is_shown_without_its_password() -> None:
    """Whichever setting holds one."""
    given = {"LIVERANK_REGISTRY": "ftp://me:s3cr@t@host/models", "LIVERANK_TRACKING": "mlflow:https://me:s3cr@t@host"}
    shown = {line.key: line.value for line in setting_sources(environ=given)}
    assert (shown["address"], shown["tracking"]) == ("ftp://***@host/models", "mlflow:https://***@host")
