"""Whether a broker answers, asked before a client is made: clients take half a minute to say no."""

from __future__ import annotations

import socket

from daemon.errors import BrokerAway

_CONNECT_TIMEOUT_S = 2.0


def check_broker(bootstrap: str) -> None:
    """Return when one of the brokers accepts a connection.

    Parameters
    ----------
    bootstrap
        Kafka addresses, ``host:port``, separated by commas.

    Raises
    ------
    BrokerAway
        None does.
    """
    for address in bootstrap.split(","):
        host, _, port = address.strip().rpartition(":")
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout=_CONNECT_TIMEOUT_S):
                return
        except (OSError, ValueError):
            continue
    raise BrokerAway(f"no broker answers at {bootstrap}: start it, or correct kafka.bootstrap")
