"""The folder in which a site keeps what it makes."""

from __future__ import annotations

from daemon.errors import SettingsError
from daemon.site.settings import Site


def prepare_state_dir(site: Site) -> None:
    """Make the state folder and its secrets folder.

    Raises
    ------
    SettingsError
        They cannot be made or written.
    """
    try:
        site.state_dir.mkdir(parents=True, exist_ok=True)
        site.secrets_dir.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise SettingsError(
            f"state_dir {site.state_dir} cannot be made ({error.strerror}); choose another"
        ) from error
