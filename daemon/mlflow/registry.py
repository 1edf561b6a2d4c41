"""Brings an MLflow registry up to date: a version for every package, its run with file and numbers, aliases.

What is there is asked first and recognised by the id of the package, so it can stop anywhere and be repeated,
and whatever an outage held up is made up for. Decides nothing: `versions` says what there should be.
"""

from __future__ import annotations

import fcntl
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Final

from sqlalchemy.engine import Engine

from daemon.mlflow.server import MlflowServer, ModelVersion
from daemon.mlflow.versions import Firmware, Standing, describe
from daemon.site.settings import Site

PACKAGE: Final = "lumiwatch.package"
STANDING: Final = "lumiwatch.standing"
ALIASES: Final = (Standing.CHAMPION, Standing.CHALLENGER)


def bring_up_to_date(
    server: MlflowServer, engine: Engine, site: Site, wanted: Sequence[Firmware], now: datetime
) -> list[str]:
    """Register what is missing and let the aliases mean what they should.

    Parameters
    ----------
    wanted
        From `versions.firmware`.

    Returns
    -------
    What was done, one line each; none: everything was there.

    Raises
    ------
    MlflowAway
        The server does not answer, or refuses; what was done stays done.
    """
    done: list[str] = []
    with _alone(site.state_dir / "mlflow.lock"):
        for model, packages in groupby(wanted, key=lambda one: one.model):
            registrar = _Registrar(server, engine, site, model, now, done.append)
            registrar.follow(list(packages))
    return done


class _Registrar:
    """Keeps one registered model."""

    def __init__(
        self,
        server: MlflowServer,
        engine: Engine,
        site: Site,
        model: str,
        now: datetime,
        say: Callable[[str], None],
    ) -> None:
        self._server, self._engine, self._site, self._say = server, engine, site, say
        self._name = site.settings.mlflow.prefix + model
        self._now_ms = int(now.timestamp() * 1000)

    def follow(self, wanted: Sequence[Firmware]) -> None:
        description = f"Trigger firmware of {self._site.name}, registered by lumiwatch."
        aliases = self._server.aliases(self._name, description)
        known = {one.tags[PACKAGE]: one for one in self._server.versions(self._name) if PACKAGE in one.tags}
        numbers: dict[Standing, str] = {}
        for one in wanted:
            version = known.get(one.package)
            if version is None and one.standing is Standing.WITHDRAWN:
                continue
            number = self._register(one) if version is None else version.version
            if version is not None:
                self._update(one, version)
            numbers[one.standing] = number
        for alias in ALIASES:
            meant = numbers.get(alias)
            if aliases.get(alias) != meant:
                self._server.set_alias(self._name, alias, meant)
                self._say(f"{self._name}@{alias}: {'none' if meant is None else f'version {meant}'}")

    def _register(self, one: Firmware) -> str:
        server, settings = self._server, self._site.settings.mlflow
        said = describe(self._engine, self._site, one)
        experiment = server.experiment(settings.experiment)
        run = server.run(experiment, PACKAGE, one.package, said.title, said.tags, now_ms=self._now_ms)
        tags = {**said.tags, PACKAGE: one.package, STANDING: one.standing}
        if not run.finished:
            server.log(run, said.metrics, now_ms=self._now_ms)
            if said.file is not None and settings.upload:
                server.upload(run, said.file, said.file.name)
            server.finish(run, now_ms=self._now_ms)
        number = server.create_version(self._name, run, tags, said.title)
        self._say(f"{self._name} version {number}: package {one.package[:12]}, {one.standing}")
        return number

    def _update(self, one: Firmware, version: ModelVersion) -> None:
        """Mark how a package stands now; what its verification measured is added when it has passed."""
        before = version.tags.get(STANDING)
        if before == one.standing:
            return
        if before == Standing.CHALLENGER and one.standing is not Standing.WITHDRAWN:
            said = describe(self._engine, self._site, one)
            settings = self._site.settings.mlflow
            experiment = self._server.experiment(settings.experiment)
            run = self._server.run(
                experiment, PACKAGE, one.package, said.title, said.tags, now_ms=self._now_ms
            )
            measured = {key: value for key, value in said.metrics.items() if key.startswith("verification.")}
            self._server.log(run, measured, now_ms=self._now_ms)
        self._server.tag_version(self._name, version.version, STANDING, one.standing)
        self._say(f"{self._name} version {version.version}: {one.standing}")


@contextmanager
def _alone(file: Path) -> Iterator[None]:
    """Let daemon and command take turns: each would register what the other is about to."""
    with file.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
