"""Before a process begins: one connection is tried, and whatever is wrong with it is one sentence.

A client that is refused tries again for ever, and each of the three says so in words of its own, or not at all. So the
broker is asked once for where it is, by each of its addresses and by those that it names itself. What is refused for
good (a certificate, a password) is told at once; where nobody answers, the broker may be about to start, and a little
time is given to it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from time import monotonic
from typing import Any

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    IllegalSaslStateError,
    KafkaConnectionError,
    SaslAuthenticationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from ranker.contracts.errors import LiverankError
from streams.kafka import connection
from streams.settings import BrokerSettings

log = logging.getLogger(__name__)

#: How long nobody need answer.
REACHED_WITHIN_S = 10.0
_AGAIN_S = 0.1

#: OpenSSL's codes (`openssl/x509_vfy.h`) for what may be wrong with a certificate.
_NOT_YET_VALID, _EXPIRED = 9, 10
_OTHER_NAME = (62, 64)  # of the host, of the address


class BrokerRefusal(LiverankError):
    """No broker is reached, or none takes this client: why, and which setting says otherwise."""


def check_reached(settings: BrokerSettings, within_s: float = REACHED_WITHIN_S) -> None:
    """Connect, sign in, and ask where the brokers are.

    Args:
        settings: how.
        within_s: how long nobody need answer.

    Raises:
        BrokerRefusal: none is reached, or none takes this client.
        SchemaError: settings with which nobody can connect.
    """
    connection.aiokafka(settings)  # reads every file that is named, here and not in a thread
    with ThreadPoolExecutor(1, "preflight") as thread:  # this one may run a loop
        thread.submit(asyncio.run, _reach(settings, within_s)).result()


async def _reach(settings: BrokerSettings, within_s: float) -> None:
    given = [address.strip() for address in settings.addresses.split(",")]
    named = await _any_of(settings, given, within_s)
    others = [address for address in named if address not in given]
    if others and len(others) == len(named):
        try:
            await _any_of(settings, others, within_s)
        except BrokerRefusal as error:
            raise BrokerRefusal(
                f"the broker at {settings.addresses} says that it is {', '.join(others)}, and there: {error}"
            ) from error


async def _any_of(settings: BrokerSettings, addresses: Sequence[str], within_s: float) -> list[str]:
    """What the first of these brokers that takes us says of all brokers' addresses."""
    deadline = monotonic() + within_s
    while True:
        answers = await asyncio.gather(
            *(_ask(settings, address, within_s) for address in addresses), return_exceptions=True
        )
        failed = [
            (address, answer)
            for address, answer in zip(addresses, answers, strict=True)
            if isinstance(answer, Exception)
        ]
        refusals = [why for address, error in failed if (why := why_refused(settings, address, error))]
        for answer in answers:
            if isinstance(answer, list):
                for why in refusals:
                    log.warning("%s", why)
                return answer
        if refusals:
            raise BrokerRefusal(refusals[0])
        if monotonic() > deadline:
            raise BrokerRefusal(_unanswered(settings, addresses, failed[0][1]))
        await asyncio.sleep(_AGAIN_S)


async def _ask(settings: BrokerSettings, address: str, within_s: float) -> list[str]:
    config = connection.aiokafka(settings)
    ((host, port, _),) = collect_hosts([address], randomize=False)
    del config["bootstrap_servers"]
    connected = await create_conn(host, port, request_timeout_ms=round(within_s * 1000), **config)
    try:
        metadata = await connected.send(MetadataRequest([]))
        return [f"{broker[1]}:{broker[2]}" for broker in metadata.brokers]
    finally:
        connected.close()


def why_refused(settings: BrokerSettings, address: str, error: BaseException) -> str | None:
    """What is wrong for good, with the setting that says otherwise; None where it may pass.

    Args:
        settings: with which the broker was asked.
        address: of the broker.
        error: of aiokafka's or of ssl's.
    """
    for cause in _causes(error):
        match cause:
            case ssl.SSLCertVerificationError():
                return _of_certificate(settings, address, cause)
            case ssl.SSLError() if "ALERT" in str(cause.reason):
                shown = repr(settings.ssl_certfile) if settings.ssl_certfile else "no certificate"
                return (
                    f"the broker at {address} refuses {shown} ({cause.reason}); `ssl_certfile` must be a certificate "
                    "that its authorities have signed and that has not expired"
                )
            case SaslAuthenticationFailed():
                return (
                    f"the broker at {address} does not let {settings.sasl_username!r} in: `sasl_username`, or the "
                    "password in the environment's LIVERANK_SASL_PASSWORD, is wrong"
                )
            case UnsupportedSaslMechanismError():
                return f"the broker at {address} does not take the `sasl_mechanism` {settings.sasl_mechanism}"
            case IllegalSaslStateError():
                return (
                    f"the broker at {address} signs nobody in: `security_protocol` is {settings.security_protocol}, "
                    "and that listener has another"
                )
    return None


def _of_certificate(settings: BrokerSettings, address: str, error: ssl.SSLCertVerificationError) -> str:
    shown = f"the certificate that the broker at {address} shows"
    if error.verify_code == _EXPIRED:
        return f"{shown} has expired: it must be renewed there, or `addresses` name a broker whose certificate is valid"
    if error.verify_code == _NOT_YET_VALID:
        return f"{shown} is not valid yet: look at the clock here and there, or at `addresses`"
    if error.verify_code in _OTHER_NAME:
        return (
            f"{shown} is another's ({error.verify_message}): `addresses` must name the broker as its certificate does"
        )
    known = repr(settings.ssl_cafile) if settings.ssl_cafile else "the system's authorities"
    return (
        f"{shown} is signed by nobody in `ssl_cafile` ({known}): {error.verify_message}; it must hold the authority of "
        "the brokers"
    )


def _unanswered(settings: BrokerSettings, addresses: Sequence[str], error: BaseException) -> str:
    where = ",".join(addresses)
    closed = (KafkaConnectionError, ConnectionResetError, ConnectionAbortedError, ssl.SSLError, EOFError)
    if any(isinstance(cause, closed) for cause in _causes(error)):
        return (
            f"the broker at {where} closes the connection: it starts or ends just now, or `security_protocol` is "
            f"{settings.security_protocol}, and that listener has another"
        )
    numbers = [cause.errno for cause in _causes(error) if isinstance(cause, OSError) and cause.errno]
    why = os.strerror(numbers[-1]).lower() if numbers else str(error) or type(error).__name__
    return f"no Kafka broker answers at {where}: {why}"


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: set[int] = set()
    cause: Any = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__
