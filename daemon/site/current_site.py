"""The site as it is configured now: what the daemon hands to its rooms in the place of a loaded `Site`.

It looks like a `Site` and reads like the one that was loaded last, so no room has to know that files can
change. Refuses to know files and signals: `reload` does.
"""

from __future__ import annotations

from typing import Any

from daemon.site.settings import Site

_OWN = frozenset({"_loaded", "loaded", "swap"})


class CurrentSite(Site):
    """A site that can be exchanged as a whole, between two reads of an attribute.

    Parameters
    ----------
    site
        What it is at first.
    """

    def __init__(self, site: Site) -> None:
        object.__setattr__(self, "_loaded", site)

    def __getattribute__(self, name: str) -> Any:
        if name in _OWN:
            return object.__getattribute__(self, name)
        return getattr(object.__getattribute__(self, "_loaded"), name)

    def loaded(self) -> Site:
        """Give the site as it is now, which never changes: for several reads that must agree."""
        site: Site = object.__getattribute__(self, "_loaded")
        return site

    def swap(self, site: Site) -> None:
        """Be another site from now on."""
        object.__setattr__(self, "_loaded", site)
