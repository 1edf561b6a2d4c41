"""Where the site's broker is, and whether it answers; clients alone take half a minute to say no."""

from __future__ import annotations

from daemon.errors import BrokerAway, SettingsError
from daemon.site.settings import Site
from streams.broker.embedded import check_let_in
from streams.broker.security import PLAINTEXT, KafkaSecurity
from streams.errors import BrokerError


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


def check_broker(bootstrap: str, security: KafkaSecurity = PLAINTEXT) -> None:
    """Return when one of the brokers answers in the protocol that is configured and lets this client in.

    Parameters
    ----------
    bootstrap
        Kafka addresses, ``host:port``, separated by commas.
    security
        How to speak to them.

    Raises
    ------
    BrokerAway
        None does.
    """
    try:
        check_let_in(bootstrap, security)
    except BrokerError as error:
        raise BrokerAway(str(error)) from error
