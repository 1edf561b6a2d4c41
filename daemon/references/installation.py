"""A whole site on one machine: which processes run, in which order, and when each is ready.

`lumiwatch up` and `lumiwatch demo` are made of this. It refuses to know what flows between the
processes; how processes are kept is in `daemon.process.supervisor`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx
from sqlmodel import Session

from daemon.errors import ProcessFailed, SettingsError
from daemon.process.console_address import bind, login_link
from daemon.process.supervisor import Child, Supervisor
from daemon.references.judgement import assessment_settings
from daemon.responses.board_work import package_path
from daemon.site.keys import ensure_keys, site_trusted_keys
from daemon.site.settings import Site, load_site
from daemon.site.state_dir import prepare_state_dir
from daemon.store.database import open_database
from hw.archive import write_atomically
from hw.boards.flash import Flash
from hw.errors import FlashDamaged
from hw.records import PackageRecord, last_package
from streams.broker.bounded import BoundedBroker
from streams.broker.embedded import ensure_topics
from streams.worker_settings import GROUP, WorkerModel, WorkerSettings

_LOOK_INTERVAL_S = 0.5
_REQUEST_TIMEOUT_S = 2.0


def worker_settings(site: Site, name: str) -> WorkerSettings:
    """Tell a stream worker what it needs to know of the site.

    Parameters
    ----------
    name
        Unique among the workers of the site and stable over restarts.

    Raises
    ------
    SettingsError
        No broker is configured.
    """
    bootstrap = site.settings.kafka.bootstrap
    if bootstrap is None:
        raise SettingsError(
            "kafka.bootstrap is not set: name your broker in lumiwatch.toml (or LUMIWATCH_KAFKA__BOOTSTRAP), "
            "or run everything with `lumiwatch up`"
        )
    prepare_state_dir(site)
    stream = site.settings.stream
    models = {
        model.name: WorkerModel(
            contract=model.contract_path,
            assessment=assessment_settings(site, model),
        )
        for model in site.models.values()
    }
    return WorkerSettings(
        bootstrap=bootstrap,
        security=site.kafka_security,
        database_url=site.database_url,
        models=models,
        state_dir=site.state_dir / "workers" / name,
        recent_dir=site.recent_dir,
        recorder_prescale=stream.recorder_prescale,
        recorder_max_bytes=stream.recorder_max_bytes,
        recorder_max_age_s=stream.recorder_max_age_days * 86400.0,
        recorder_max_events=stream.recorder_max_events,
        integrity_prescale=stream.integrity_prescale,
        allowed_lateness_s=stream.allowed_lateness_s,
        source_patience_s=stream.source_patience_s,
        instance=name,
    )


class Installation:
    """The processes of one site, stopped together when the context is left.

    Worker, daemon and emulated boards are started again when they end by themselves. The embedded broker
    is not: it holds messages in memory only, so its end loses those that no worker has counted yet, and
    the installation ends with it. Whatever was counted, judged or decided is in the database.

    Parameters
    ----------
    folder
        The site's folder.
    overrides
        Keys that win over `lumiwatch.toml`, for this installation and all its processes.
    say
        Called with a line for the person at the terminal; default: standard error.

    Attributes
    ----------
    site
        The site as its processes see it: with the addresses that were chosen for them.
    """

    def __init__(
        self,
        folder: Path,
        overrides: Mapping[str, Any] | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self._folder = folder
        self._overrides = dict(overrides or {})
        self._stack = ExitStack()  # broker below supervisor: it outlives everything that talks to it
        self.site = load_site(folder, overrides=self._overrides)
        self._say = say or _say
        self._supervisor = Supervisor(self.site.state_dir / "logs", self._say)
        self._broker: BoundedBroker | None = None
        self._broker_problem: str | None = None

    def __enter__(self) -> Self:
        """Upgrade the database, start the embedded broker unless one is configured, and create the topics.

        Raises
        ------
        BrokerError
            The broker does not start, or the configured one does not answer.
        """
        prepare_state_dir(self.site)
        open_database(self.site.database_url).dispose()  # before any process opens it
        with ExitStack() as stack:
            kafka = self.site.settings.kafka
            bootstrap = kafka.bootstrap
            if bootstrap is None:
                self._broker = BoundedBroker(
                    log=self.site.state_dir / "logs" / "broker.log",
                    group=GROUP,
                    limit_bytes=kafka.embedded_max_bytes,
                    say=self._say,
                )
                bootstrap = stack.enter_context(self._broker).bootstrap
                self._override({"kafka": {"bootstrap": bootstrap}})
                write_atomically(self.site.broker_file, bootstrap.encode())
                stack.callback(self.site.broker_file.unlink, missing_ok=True)
                self.site.broker_problem_file.unlink(missing_ok=True)  # of an installation that was killed
                stack.callback(self.site.broker_problem_file.unlink, missing_ok=True)
            ensure_topics(
                bootstrap,
                kafka.partitions,
                replication=1 if self.broker_is_embedded else kafka.replication,
                security=self.site.kafka_security,
            )
            stack.enter_context(self._supervisor)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def broker_is_embedded(self) -> bool:
        """Whether the broker is this installation's own, which keeps messages in memory only."""
        return self._broker is not None

    def start_daemon(self) -> None:
        """Start the daemon and wait until it is ready.

        Raises
        ------
        PortInUse
            Another process has the console's port.
        ProcessFailed
            It does not become ready.
        """
        with bind(self.site) as listener:
            # a free port is chosen here, so that links and messages can name it
            self._override({"console": {"port": listener.getsockname()[1]}})
        self._supervisor.wait_ready(self._start("daemon", "serve"), self._daemon_is_ready)

    def start_worker(self, name: str = "worker") -> None:
        """Start one stream worker; it joins its group in its own time, and nothing sent before is lost."""
        self._start(name, "worker", "--name", name)

    def start_board(self, model: str, package: Path, *, erase: bool = True) -> str:
        """Start the emulated board of a model with a package; returns its address.

        From then on it starts with what was proven on it last, as long as its flash holds that.

        Parameters
        ----------
        erase
            Forget first what the board's flash holds of an earlier life.

        Raises
        ------
        ProcessFailed
            The board refuses the package; the message is its own.
        """
        ensure_keys(self.site)
        announcement = self.site.board_file(model)
        announcement.parent.mkdir(parents=True, exist_ok=True)
        if erase:
            Flash(self.site.board_flash(model)).erase()
        packages = [package]  # the first start runs this one; a later one what the board ran last

        def arguments() -> Sequence[str]:
            announcement.unlink(missing_ok=True)
            return self._board_arguments(model, packages.pop() if packages else self._last_package(model))

        child = self._supervisor.start(f"board-{model}", arguments)
        self._supervisor.wait_ready(child, announcement.exists)
        return str(json.loads(announcement.read_text())["address"])

    def start_last_board(self, model: str) -> str | None:
        """Start the emulated board of a model with the package it ran last; None when there is no package.

        Its flash says which, if that is a package of this site; another one is erased, and that is said.
        """
        package = self._last_package(model)
        if package is None:
            return None
        stranger = self._stranger_in_flash(model)
        if stranger is not None:
            self._say(f"board of {model}: its flash is erased, {stranger}")
        return self.start_board(model, package, erase=stranger is not None)

    def login_link(self) -> str:
        """Give the address of the console, with the token of the operator `local` where there is one."""
        return login_link(self.site) or self.site.console_url()

    def check(self) -> None:
        """Start again what has ended by itself; to be called about twice a second.

        Raises
        ------
        ProcessFailed
            The embedded broker ended, or a process ended too often.
        """
        if self._broker is not None and not self._broker.running:
            raise ProcessFailed(
                "the embedded broker ended, and messages that were not counted yet are lost "
                f"(log: {self.site.state_dir / 'logs' / 'broker.log'}): start again; "
                "everything that was counted or decided is kept"
            )
        self._tell_broker_problem()
        self._supervisor.check()

    def watch(self) -> None:
        """Keep everything running until `check` raises ProcessFailed."""
        while True:
            self.check()
            time.sleep(_LOOK_INTERVAL_S)

    def _tell_broker_problem(self) -> None:
        """Let the daemon know why producers wait, so that the console can say it."""
        if self._broker is None or self._broker.status.problem == self._broker_problem:
            return
        self._broker_problem = self._broker.status.problem
        if self._broker_problem is None:
            self.site.broker_problem_file.unlink(missing_ok=True)
        else:
            write_atomically(self.site.broker_problem_file, self._broker_problem.encode())

    def _start(self, name: str, *command: str) -> Child:
        arguments = ["-m", "daemon.cli", *command, "--site", str(self._folder)]
        return self._supervisor.start(name, lambda: arguments, _environment(self._overrides))

    def _last_package(self, model: str) -> Path | None:
        engine = open_database(self.site.database_url)
        try:
            with Session(engine) as session:
                package = last_package(session, model)
            return None if package is None else package_path(engine, self.site, package.id)
        finally:
            engine.dispose()

    def _stranger_in_flash(self, model: str) -> str | None:
        """Say what a flash holds when no board of this site should start with it; None: it may."""
        try:
            stored = Flash(self.site.board_flash(model)).load(site_trusted_keys(self.site))
        except FlashDamaged as error:
            return str(error).split(": remove", 1)[0]
        if stored is None:
            return None
        engine = open_database(self.site.database_url)
        try:
            with Session(engine) as session:
                known = session.get(PackageRecord, stored.package_id)
        finally:
            engine.dispose()
        if known is not None and known.name == model:
            return None
        return f"it held package {stored.package_id[:12]}, which this site does not know"

    def _board_arguments(self, model: str, package: Path | None) -> Sequence[str]:
        if package is None:
            raise ProcessFailed(f"the board of {model} has no package to start with: build one")
        keys = sorted(self.site.trusted_keys_dir.glob("*.pub"))
        trusted = [argument for key in keys for argument in ("--trusted-key", str(key))]
        announcement = ["--announce", str(self.site.board_file(model))]
        flash = ["--flash", str(self.site.board_flash(model))]
        return ["-m", "hw.boards.emulated", "--package", str(package), *trusted, *announcement, *flash]

    def _override(self, more: Mapping[str, Any]) -> None:
        for key, value in more.items():
            self._overrides[key] = {**self._overrides.get(key, {}), **value}
        self.site = load_site(self._folder, overrides=self._overrides)

    def _daemon_is_ready(self) -> bool:
        try:
            url = f"{self.site.console_url()}/-/ready"
            return httpx.get(url, timeout=_REQUEST_TIMEOUT_S, trust_env=False).status_code == httpx.codes.OK
        except httpx.TransportError:
            return False


def _environment(overrides: Mapping[str, Any], prefix: str = "LUMIWATCH") -> dict[str, str]:
    """Write nested overrides as the environment variables that settings read."""
    variables: dict[str, str] = {}
    separator = "_" if prefix == "LUMIWATCH" else "__"
    for key, value in overrides.items():
        name = f"{prefix}{separator}{key.upper()}"
        if isinstance(value, Mapping):
            variables |= _environment(value, name)
        else:
            variables[name] = str(value)
    return variables


def _say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()
