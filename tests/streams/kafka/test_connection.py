"""How the settings of security reach the clients, and what is refused before any of them tries."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from liverank.settings import Settings, changed
from ranker.contracts.errors import SchemaError
from ranker.contracts.topics import USERS
from streams.access.rights import APPLICATION, OPERATOR, ROLES, TRAINER, WEB, WORKER, missing_rights, rights_of
from streams.kafka import connection
from streams.kafka.admin import topic_layouts
from streams.settings import BrokerSettings
from tests.support.authority import Authority

BROKER = BrokerSettings()


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    """Signs certificates."""
    return Authority(tmp_path)


def test_the_three_clients_are_told_the_same(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """User, mechanism, authority, certificate; the password comes from the environment."""
    monkeypatch.setenv("LIVERANK_SASL_PASSWORD", "s3cret")
    monkeypatch.setenv("LIVERANK_SSL_KEY_PASSWORD", "l0cked")
    certificate = authority.signed("worker", locked_by="l0cked")
    settings = changed(
        Settings(), security_protocol="SASL_SSL", sasl_username="u", ssl_cafile=authority.file, ssl_certfile=certificate
    ).broker
    config = connection.librdkafka(settings)
    assert config["sasl.password"] == "s3cret"
    assert config["ssl.ca.location"] == str(authority.file)
    assert config["ssl.certificate.location"] == config["ssl.key.location"] == str(certificate)
    assert config["ssl.key.password"] == "l0cked"
    of_aiokafka = connection.aiokafka(settings)
    credentials = connection.for_faust(settings)["broker_credentials"]
    assert {of_aiokafka["sasl_plain_password"], credentials.password} == {"s3cret"}
    assert credentials.protocol.value == of_aiokafka["security_protocol"] == "SASL_SSL"
    for context in (of_aiokafka["ssl_context"], credentials.ssl_context):
        assert context.check_hostname
        assert context.verify_mode == ssl.CERT_REQUIRED
    assert "s3cret" not in repr(credentials)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"ssl_cafile": "x"}, "ssl_cafile is set, and security_protocol PLAINTEXT uses no TLS"),
        ({"ssl_certfile": "x", "security_protocol": "SASL_PLAINTEXT"}, "ssl_certfile is set, and security_protocol"),
        ({"sasl_username": "u", "security_protocol": "SSL"}, "sasl_username is set, and security_protocol SSL"),
        ({"ssl_keyfile": "x", "security_protocol": "SSL"}, "ssl_keyfile is set without ssl_certfile"),
        ({"ssl_cafile": "/no/file", "security_protocol": "SSL"}, "ssl_cafile '/no/file' is no file of certificates"),
        ({"ssl_certfile": "/no/file", "security_protocol": "SSL"}, "ssl_certfile '/no/file'"),
        ({"sasl_username": "u", "security_protocol": "SASL_SSL"}, "LIVERANK_SASL_PASSWORD"),
    ],
)
def test_what_could_not_work_or_would_be_left_out_is_refused(changes: dict[str, str], says: str) -> None:
    """A person who names an authority believes that it is asked."""
    with pytest.raises(SchemaError, match=says):
        connection.aiokafka(changed(Settings(), **changes).broker)


def test_a_locked_key_asks_no_terminal(authority: Authority) -> None:
    """Without its password the error comes at once."""
    certificate = authority.signed("worker", locked_by="l0cked")
    settings = changed(Settings(), security_protocol="SSL", ssl_certfile=certificate).broker
    with pytest.raises(SchemaError, match="LIVERANK_SSL_KEY_PASSWORD"):
        connection.aiokafka(settings)


def test_every_topic_has_a_writer_and_a_reader_and_no_input_a_worker_as_its_writer() -> None:
    """The rights cover what there is: a topic that is added must be given to somebody."""
    rights = {role: rights_of(role, BROKER).topics for role in ROLES}
    for layout in topic_layouts(BROKER):
        writers = {role for role in ROLES if "WRITE" in rights[role].get(layout.name, ())}
        readers = {role for role in ROLES if "READ" in rights[role].get(layout.name, ())}
        assert writers, layout.name
        assert readers, layout.name
        assert "CREATE" in rights[OPERATOR][layout.name]
        if APPLICATION in writers:
            cleaned = {WORKER} if layout.own == USERS else set()  # tombstones of who was forgotten
            assert writers == {APPLICATION, WEB} | cleaned, layout.name
    assert not [
        name for role in (WORKER, TRAINER, APPLICATION, WEB) for name, may in rights[role].items() if "CREATE" in may
    ]


def test_a_right_is_missing_only_where_the_broker_says_so() -> None:
    """Some brokers keep no rights, and say nothing."""
    needed = {"a": frozenset({"READ", "DESCRIBE_CONFIGS"}), "b": frozenset({"WRITE"}), "c": frozenset({"READ"})}
    given = {"a": frozenset({"READ", "DESCRIBE"}), "b": frozenset({"ALL"}), "c": None}
    assert missing_rights(needed, given) == ["DESCRIBE_CONFIGS a"]
