"""Where the console is: its address, taken, and the link that logs in there. Loads nothing of the console."""

from __future__ import annotations

import errno
import socket

from daemon.access.people import default_token_file
from daemon.errors import PortInUse, SettingsError
from daemon.site.settings import Site


def bind(site: Site) -> socket.socket:
    """Take the console's address.

    Raises
    ------
    PortInUse
        It is taken.
    SettingsError
        This machine has no such address, or the port needs rights.
    """
    console = site.settings.console
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            console.host, console.port, type=socket.SOCK_STREAM
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise SettingsError(
            f"console.host {console.host!r} is no address ({error}); use 127.0.0.1"
        ) from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(128)
    except OSError as error:
        listener.close()
        where = f"{console.host}:{console.port}"
        if error.errno == errno.EADDRINUSE:
            raise PortInUse(
                f"{where} is in use by another process: stop it, or set console.port "
                f"(or LUMIWATCH_CONSOLE__PORT) to a free one"
            ) from error
        raise SettingsError(
            f"{where} cannot be used ({error.strerror}); see [console] in lumiwatch.toml"
        ) from error
    return listener


def login_link(site: Site, port: int | None = None) -> str | None:
    """Give the link that logs the operator `local` in; None when the site configures its own operators."""
    if site.settings.operators:
        return None
    token = default_token_file(site).read_text(encoding="ascii").strip()
    return f"{site.console_url(port)}/login?token={token}"
