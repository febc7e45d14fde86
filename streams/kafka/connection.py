"""How this process reaches the broker: one set of settings, said in the words of each of the three clients.

The password comes from the environment alone (`BrokerSettings.sasl_password`). It is put into a client's configuration
where that client is made, and nowhere else: nothing here prints or stores it.
"""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Any

import faust
from aiokafka.partitioner import murmur2

from ranker.contracts.errors import SchemaError
from streams.settings import BrokerSettings

#: What one message may be at most on its way through us: the broker's own limit in `deploy/kafka`.
MAX_MESSAGE_BYTES = 8 << 20
#: What an aborted transaction sent never happened.
READ_COMMITTED = "read_committed"
#: How librdkafka is told to spread keys as Java, aiokafka and Faust do. Its own default would part a user's inputs.
PARTITIONER = "murmur2_random"


def partition_of(key: bytes, partitions: int) -> int:
    """The partition that Kafka's default partitioner (murmur2) gives a key."""
    spread: int = murmur2(key) & 0x7FFFFFFF
    return spread % partitions


def librdkafka(settings: BrokerSettings) -> dict[str, Any]:
    """What confluent-kafka's producers, consumers and admin clients need to connect."""
    check_security(settings)
    config: dict[str, Any] = {"bootstrap.servers": settings.addresses, "security.protocol": settings.security_protocol}
    if settings.ssl_cafile:
        config["ssl.ca.location"] = settings.ssl_cafile
    if _uses_sasl(settings):
        config |= {
            "sasl.mechanism": settings.sasl_mechanism,
            "sasl.username": settings.sasl_username,
            "sasl.password": settings.sasl_password,
        }
    return config


def aiokafka(settings: BrokerSettings) -> dict[str, Any]:
    """What aiokafka's consumers need to connect."""
    check_security(settings)
    config: dict[str, Any] = {
        "bootstrap_servers": [address.strip() for address in settings.addresses.split(",")],
        "security_protocol": settings.security_protocol,
        "ssl_context": _ssl_context(settings),
    }
    if _uses_sasl(settings):
        config |= {
            "sasl_mechanism": settings.sasl_mechanism,
            "sasl_plain_username": settings.sasl_username,
            "sasl_plain_password": settings.sasl_password,
        }
    return config


def aiokafka_reader(settings: BrokerSettings) -> dict[str, Any]:
    """As `aiokafka`, for who reads: only what was committed, and ends that go by the last stable offset."""
    return {**aiokafka(settings), "isolation_level": READ_COMMITTED}


def for_faust(settings: BrokerSettings) -> dict[str, Any]:
    """What a Faust app needs to connect."""
    check_security(settings)
    credentials: Any = None
    if _uses_sasl(settings):
        credentials = faust.SASLCredentials(
            username=settings.sasl_username,
            password=settings.sasl_password,
            mechanism=settings.sasl_mechanism,
            ssl_context=_ssl_context(settings),
        )
    elif settings.security_protocol == "SSL":
        credentials = faust.SSLCredentials(_ssl_context(settings))
    brokers = [f"kafka://{address.strip()}" for address in settings.addresses.split(",")]
    return {"broker": brokers, "broker_credentials": credentials}


def check_security(settings: BrokerSettings) -> None:
    """Refuse settings with which no client could connect.

    Raises:
        SchemaError: names the setting and what is valid.
    """
    if settings.ssl_cafile and not Path(settings.ssl_cafile).is_file():
        raise SchemaError(
            f"ssl_cafile of [broker] is {settings.ssl_cafile!r}; it must be a file of certificates, in PEM"
        )
    if not _uses_sasl(settings):
        return
    if not settings.sasl_username or not settings.sasl_password:
        raise SchemaError(
            f"{settings.security_protocol} needs sasl_username, and the password in the environment's "
            "LIVERANK_SASL_PASSWORD"
        )


def _uses_sasl(settings: BrokerSettings) -> bool:
    return settings.security_protocol.startswith("SASL")


def _ssl_context(settings: BrokerSettings) -> ssl.SSLContext | None:
    if not settings.security_protocol.endswith("SSL"):
        return None
    try:
        return ssl.create_default_context(cafile=settings.ssl_cafile or None)
    except ssl.SSLError as error:
        raise SchemaError(
            f"{settings.ssl_cafile} holds no certificates: {error}; it must be a file of them, in PEM"
        ) from error
