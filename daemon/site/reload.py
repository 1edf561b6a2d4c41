"""Reads the configuration of a running daemon again: a sound one takes effect, a bad one is refused by name.

What was built from settings when the daemon started stays as it was until a restart, and is named. Every
attempt is an event of the audit log, with the hashes of the files. Refuses to know signals.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from queue import Empty, SimpleQueue
from threading import Event, Lock, Thread
from types import MappingProxyType
from typing import Any, Final

from sqlalchemy.engine import Engine, make_url
from sqlalchemy.exc import SQLAlchemyError

from daemon.errors import SettingsError
from daemon.journal.happenings import ACTOR, record_event
from daemon.process.logs import masked
from daemon.site.current_site import CurrentSite
from daemon.site.settings import Site, SiteModel, load_site
from daemon.store.database import transaction
from daemon.store.views import ConfigurationView

logger = logging.getLogger(__name__)

LIVE: Final = frozenset({"operators", "oidc", "retention", "alerts", "alertmanager", "mattermost", "mlflow"})
"""Sections of lumiwatch.toml that a reload puts into effect; of the others it says what waits."""
AT_START: Final = frozenset({"mattermost.callback_url"})
"""Keys of live sections that are read once all the same."""
_LOOK_S: Final = 1.0


@dataclass(frozen=True)
class Loaded:
    """What the last attempts to read the configuration came to.

    Attributes
    ----------
    files
        SHA-256 by path, of what is in effect.
    needs_restart
        Keys that have changed since the start and are not in effect.
    refused
        Why the last attempt was refused; None: it was not.
    """

    at: datetime
    files: Mapping[str, str]
    needs_restart: tuple[str, ...] = ()
    refused: str | None = None
    refused_at: datetime | None = None


class Reloader:
    """Reads a site's files again when asked, in a thread of its own from `start` to `stop`.

    Parameters
    ----------
    engine
        The site's database.
    site
        What the rooms of the daemon were built with.
    clock
        Gives aware UTC.
    prepare
        Builds what a new configuration asks for and returns what puts it in place; raises `SettingsError`.
    around
        Called before and after an attempt, for the service manager: with True, then False.
    on_contained
        Called for every failure that was contained, to count it.
    """

    def __init__(
        self,
        engine: Engine,
        site: CurrentSite,
        clock: Callable[[], datetime],
        *,
        prepare: Callable[[Site], Callable[[], None]] = lambda _: lambda: None,
        around: Callable[[bool], None] = lambda _: None,
        on_contained: Callable[[], None] = lambda: None,
    ) -> None:
        self._engine = engine
        self._site = site
        self._clock = clock
        self._prepare = prepare
        self._around = around
        self._on_contained = on_contained
        self._asked: SimpleQueue[None] = SimpleQueue()
        self._stopping = Event()
        self._one_at_a_time = Lock()
        self._thread = Thread(target=self._run, name="configuration", daemon=True)
        self.state = Loaded(clock(), file_hashes(site))

    def start(self) -> None:
        """Begin to wait for requests."""
        self._thread.start()

    def stop(self) -> None:
        """Stop waiting."""
        self._stopping.set()
        self._thread.join(2 * _LOOK_S)

    def ask(self) -> None:
        """Ask for an attempt; returns at once and may be called from a signal's handler."""
        self._asked.put(None)

    def note(self) -> str | None:
        """Say what is to be known of the configuration, in one sentence; None: the files are in effect."""
        state = self.state
        if state.refused is not None:
            return f"the files of now are refused, those of before are in effect: {state.refused}"
        if state.needs_restart:
            return f"takes effect at the next start: {', '.join(state.needs_restart)}"
        return None

    def reload(self, actor: str = ACTOR) -> Loaded:
        """Read the files now; a bad configuration changes nothing but `state`."""
        with self._one_at_a_time:
            self._around(True)
            try:
                return self._reload(actor)
            finally:
                self._around(False)

    def _reload(self, actor: str) -> Loaded:
        now = self._clock()
        files: dict[str, str] = {}
        try:
            files = file_hashes(self._site)
            found = load_site(self._site.file)
            files = file_hashes(found)
            effective, waiting = held_back(self._site.loaded(), found)
            put_in_place = self._prepare(effective)
        except (SettingsError, OSError) as error:
            reason = masked(str(error))
            self.state = replace(self.state, refused=reason, refused_at=now)
            logger.warning("the configuration is refused, the one of before stays: %s", reason)
            text = f"The configuration was refused: {reason}"
            self._record("configuration.refused", text, now, actor, {"files": files})
            return self.state
        self._site.swap(effective)
        put_in_place()
        self.state = Loaded(now, files, waiting)
        for key in waiting:
            logger.warning("%s has changed: it takes effect at the next start", key)
        logger.info("the configuration was read again")
        text = "The configuration was read again."
        detail = {"files": files, "needs_restart": list(waiting)}
        self._record("configuration.reloaded", text, now, actor, detail)
        return self.state

    def view(self) -> ConfigurationView:
        """Give the configuration as loaded, without secrets."""
        state, site = self.state, self._site.loaded()
        return ConfigurationView(
            files=dict(state.files),
            loaded_at=state.at,
            refused=state.refused,
            refused_at=state.refused_at,
            needs_restart=list(state.needs_restart),
            settings=shown_settings(site),
            models={name: model.settings.model_dump(mode="json") for name, model in site.models.items()},
        )

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._asked.get(timeout=_LOOK_S)
            except Empty:
                continue
            try:
                self.reload()
            except Exception:
                self._on_contained()
                logger.exception("the configuration could not be read again; the one of before stays")

    def _record(self, kind: str, text: str, now: datetime, actor: str, detail: dict[str, Any]) -> None:
        try:
            with transaction(self._engine) as session:
                record_event(session, kind, text, now=now, actor=actor, detail=detail)
        except SQLAlchemyError:
            logger.exception("%s could not be recorded", kind)


def held_back(old: Site, new: Site) -> tuple[Site, tuple[str, ...]]:
    """Give what can take effect of a new configuration, and the keys that cannot before a restart."""
    waiting: list[str] = []
    kept: dict[str, Any] = {}
    for name in type(new.settings).model_fields:
        before, after = getattr(old.settings, name), getattr(new.settings, name)
        changed = _changed_keys(name, before, after)
        if name not in LIVE and changed:
            kept[name] = before
            waiting += changed
        elif AT_START.intersection(changed):
            keys = {key.split(".", 1)[1]: key for key in AT_START.intersection(changed)}
            kept[name] = after.model_copy(update={key: getattr(before, key) for key in keys})
            waiting += sorted(keys.values())
    models: dict[str, SiteModel] = {}
    for name, model in old.models.items():
        if name not in new.models:
            waiting.append(f"models/{name} (removed)")
            models[name] = model
            continue
        models[name] = replace(model, settings=new.models[name].settings)
        if new.models[name].contract.hash != model.contract.hash:
            waiting.append(f"models/{name}/contract.toml")
    waiting += [f"models/{name} (added)" for name in new.models if name not in old.models]
    effective = replace(old, settings=new.settings.model_copy(update=kept), models=MappingProxyType(models))
    return effective, tuple(waiting)


def file_hashes(site: Site) -> dict[str, str]:
    """Hash every file of a configuration: SHA-256 by path."""
    paths = [site.file]
    for model in site.models.values():
        paths += [model.folder / "model.toml", model.contract_path]
    return {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}


def shown_settings(site: Site) -> dict[str, Any]:
    """Give every key of lumiwatch.toml with its value; a password in the database's URL is hidden."""
    shown = site.settings.model_dump(mode="json")
    shown["state_dir"] = str(site.state_dir)
    shown["database_url"] = make_url(site.database_url).render_as_string(hide_password=True)
    return shown


def _changed_keys(name: str, before: Any, after: Any) -> list[str]:
    if before == after:
        return []
    fields = getattr(type(after), "model_fields", None)
    if fields is None or type(before) is not type(after):
        return [name]
    return [f"{name}.{field}" for field in fields if getattr(before, field) != getattr(after, field)]
