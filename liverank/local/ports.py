"""Ports of 127.0.0.1 for what is started here."""

from __future__ import annotations

import random
import socket

from liverank.local.errors import BrokerError

# Below the range from which Linux and macOS take the local ports of outgoing connections. In that range a client that
# keeps reconnecting to a stopped broker can be given the broker's own port, connect to itself, and hold the port.
_PORTS = range(15_000, 32_000)


def free_ports(count: int) -> list[int]:
    """So many ports that nobody listens on now, below those of outgoing connections.

    Raises:
        BrokerError: there are not so many.
    """
    candidates = random.SystemRandom().sample(_PORTS, 200)
    free = [port for port in candidates if is_free(port)][:count]
    if len(free) < count:
        raise BrokerError(f"no free port found on 127.0.0.1 between {_PORTS.start} and {_PORTS.stop}")
    return free


def is_free(port: int) -> bool:
    """Whether a broker could listen there."""
    with socket.socket() as probe:
        # As brokers do: connections of an earlier one that are still timing out do not make the port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):  # no port is above 65535
            return False
    return True


def page_port(wanted: int, usual: int) -> int:
    """Where a page listens: as asked for; where nobody asks for another than the usual port, any free one if need be.

    Args:
        wanted: of the settings; 0 for any free one.
        usual: what they say by default.

    Raises:
        BrokerError: the port that was asked for is taken.
    """
    if wanted and is_free(wanted):
        return wanted
    if wanted not in (0, usual):
        raise BrokerError(
            f"port {wanted} of 127.0.0.1 is taken; give another by LIVERANK_WEB_PORT, 0 for a free one, or --no-web"
        )
    return free_ports(1)[0]
