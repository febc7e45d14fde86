"""How this process reaches the broker: one set of settings, said in the words of each of the three clients.

Passwords come from the environment alone (`BrokerSettings.sasl_password`, `ssl_key_password`). They are put into a
client's configuration where that client is made, and nowhere else: nothing here prints or stores them.

Whoever only sends and reads by librdkafka has neither Faust nor aiokafka: what needs them imports them.
"""

from __future__ import annotations

import ssl
from typing import Any

from ranker.contracts.errors import SchemaError
from streams.settings import BrokerSettings

#: What one message may be at most on its way through us: the broker's own limit in `deploy/kafka`.
MAX_MESSAGE_BYTES = 8 << 20
#: What an aborted transaction sent never happened.
READ_COMMITTED = "read_committed"
#: How librdkafka is told to spread keys as Java, aiokafka and Faust do. Its own default would part a user's inputs.
PARTITIONER = "murmur2_random"
#: Of every producer here: a record is confirmed when every in-sync replica has it, once, and waits for no other.
PRODUCING: dict[str, Any] = {
    "acks": "all",
    "enable.idempotence": True,  # a retry neither repeats a record nor overtakes a newer one of the same user
    "linger.ms": 0,
    "partitioner": PARTITIONER,
    "message.max.bytes": MAX_MESSAGE_BYTES,
    "queue.buffering.max.kbytes": 64 << 10,
    "queue.buffering.max.messages": 20_000,
}


#: Of what is read by the many and waited for by nobody: fewer and smaller requests, for the worker and for the broker.
IN_BULK: dict[str, Any] = {"linger.ms": 50, "compression.type": "zstd", "compression.level": 1, "batch.size": 1 << 20}


def partition_of(key: bytes, partitions: int) -> int:
    """The partition that Kafka's default partitioner (murmur2) gives a key."""
    from aiokafka.partitioner import murmur2  # noqa: PLC0415

    spread: int = murmur2(key) & 0x7FFFFFFF
    return spread % partitions


def librdkafka(settings: BrokerSettings) -> dict[str, Any]:
    """What confluent-kafka's producers, consumers and admin clients need to connect."""
    check_security(settings)
    config: dict[str, Any] = {"bootstrap.servers": settings.addresses, "security.protocol": settings.security_protocol}
    if settings.ssl_cafile:
        config["ssl.ca.location"] = settings.ssl_cafile
    if settings.ssl_certfile:
        config["ssl.certificate.location"] = settings.ssl_certfile
        config["ssl.key.location"] = settings.ssl_keyfile or settings.ssl_certfile
        if settings.ssl_key_password:
            config["ssl.key.password"] = settings.ssl_key_password
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
    import faust  # noqa: PLC0415

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
    """Refuse settings with which no client could connect, and those that would leave out what they ask for.

    Raises:
        SchemaError: names the setting and what is valid.
    """
    protocol = settings.security_protocol
    if not _uses_tls(settings):
        for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile"):
            if getattr(settings, name):
                raise SchemaError(f"{name} is set, and security_protocol {protocol} uses no TLS; set SSL or SASL_SSL")
    if settings.ssl_keyfile and not settings.ssl_certfile:
        raise SchemaError("ssl_keyfile is set without ssl_certfile, the certificate that it belongs to")
    if not _uses_sasl(settings):
        if settings.sasl_username:
            raise SchemaError(f"sasl_username is set, and security_protocol {protocol} signs nobody in; set SASL_SSL")
        return
    if not settings.sasl_username or not settings.sasl_password:
        raise SchemaError(
            f"{protocol} needs sasl_username, and the password in the environment's LIVERANK_SASL_PASSWORD"
        )


def _uses_sasl(settings: BrokerSettings) -> bool:
    return settings.security_protocol.startswith("SASL")


def _uses_tls(settings: BrokerSettings) -> bool:
    return settings.security_protocol.endswith("SSL")


def _ssl_context(settings: BrokerSettings) -> ssl.SSLContext | None:
    """Checks brokers' certificates and names, and has this client's own certificate.

    Raises:
        SchemaError: a file that cannot be read, with its setting.
    """
    if not _uses_tls(settings):
        return None
    try:
        context = ssl.create_default_context(cafile=settings.ssl_cafile or None)
    except OSError as error:  # ssl's own errors are OSErrors
        raise SchemaError(f"ssl_cafile {settings.ssl_cafile!r} is no file of certificates in PEM: {error}") from error
    if settings.ssl_certfile:
        try:
            context.load_cert_chain(
                settings.ssl_certfile,
                settings.ssl_keyfile or None,
                lambda: settings.ssl_key_password,  # a string that is empty would have OpenSSL ask the terminal
            )
        except (OSError, ValueError) as error:
            raise SchemaError(
                f"ssl_certfile {settings.ssl_certfile!r} and ssl_keyfile {settings.ssl_keyfile!r} are no certificate "
                f"and its key in PEM, or the key's password (LIVERANK_SSL_KEY_PASSWORD) is another: {error}"
            ) from error
    return context
