"""The site's signing key and the keys it trusts, made at first use when none are configured.

Knows where keys lie; how they sign is in `hw.signing`.
"""

from __future__ import annotations

from daemon.site.settings import Site
from hw.errors import KeyFileError
from hw.signing import SigningKey, TrustedKey, create_signing_key, load_signing_key, load_trusted_keys


def site_signing_key(site: Site) -> SigningKey:
    """Load the key that signs this site's packages; make and trust one if the site configures none.

    Raises
    ------
    KeyFileError
        A configured key is missing or unusable, or a new one cannot be written.
    """
    ensure_keys(site)
    return load_signing_key(site.signing_key_file)


def site_trusted_keys(site: Site) -> tuple[TrustedKey, ...]:
    """Load the keys whose packages this site accepts.

    Raises
    ------
    KeyFileError
        There is none, or one is unusable.
    """
    ensure_keys(site)
    return load_trusted_keys(site.trusted_keys_dir)


def ensure_keys(site: Site) -> None:
    """Make what the site does not configure: a signing key, and the folder that trusts it."""
    configured = site.settings.hardware
    if configured.signing_key_file is None and not site.signing_key_file.exists():
        site.secrets_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            create_signing_key(site.signing_key_file)
        except KeyFileError:
            if not site.signing_key_file.exists():  # else another process was faster
                raise
    target = site.trusted_keys_dir / f"{site.signing_key_file.stem}.pub"
    if configured.trusted_keys_dir is None and not target.exists():
        site.trusted_keys_dir.mkdir(parents=True, exist_ok=True)
        load_signing_key(site.signing_key_file).trusted.write(target)
