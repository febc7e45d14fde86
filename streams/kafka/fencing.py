"""Fencing: how a worker that stood still is kept from writing its old rows over newer ones.

A worker that stood still for longer than the session timeout may have rows ready from before; by then another worker
holds their partitions and has written newer ones. Two limits, together below the session timeout, shut it out:

* a *lease*: after the group's word that this worker is a member, rows are sent for `LEASE` of the timeout only;
* an *age*: no check of the sender's own can be the last act before the sending, so the broker refuses a row that is
  older than any that a worker with partitions can send: `DELIVERY` of the timeout, counted from when it was sent.

The clocks of workers and brokers must agree to within a second or so.
"""

from __future__ import annotations

from streams.settings import BrokerSettings

#: Part of the session timeout in which rows are sent after the group's word.
LEASE = 0.2
#: Part of the session timeout within which the changelog takes a row, counted from when the row was sent.
DELIVERY = 0.7
#: The broker's setting of a topic, in milliseconds.
ROW_AGE = "message.timestamp.before.max.ms"


def lease_s(settings: BrokerSettings) -> float:
    """How long after the group's word rows may be sent, in seconds."""
    return LEASE * settings.session_timeout_s


def delivery_s(settings: BrokerSettings) -> float:
    """How long a row may be on its way to the changelog, in seconds."""
    return DELIVERY * settings.session_timeout_s


def oldest_row_ms(settings: BrokerSettings) -> int:
    """The age at which the broker refuses a row of the changelog, in milliseconds."""
    return round(delivery_s(settings) * 1000)
