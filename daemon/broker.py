"""Where the site's broker is, and whether it answers; clients alone take half a minute to say no."""

from __future__ import annotations

import socket

from daemon.errors import BrokerAway, SettingsError
from daemon.settings import Site

_CONNECT_TIMEOUT_S = 2.0


def bootstrap_of(site: Site) -> str:
    """Give the address of the broker that is configured, or that `lumiwatch up` has announced.

    Raises
    ------
    SettingsError
        There is neither.
    """
    if site.settings.kafka.bootstrap is not None:
        return site.settings.kafka.bootstrap
    try:
        return site.broker_file.read_text(encoding="ascii").strip()
    except FileNotFoundError:
        raise SettingsError(
            "no broker: start one with `lumiwatch up`, or set kafka.bootstrap (LUMIWATCH_KAFKA__BOOTSTRAP)"
        ) from None


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
