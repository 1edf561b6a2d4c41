"""One MLflow server over its REST API, version 2.0. Knows nothing of firmware.

Every call can be repeated: what is asked for is looked up first. After
https://mlflow.org/docs/latest/rest-api.html; files go through the server's own artifact proxy.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self
from urllib.parse import quote, urlsplit

import httpx

from daemon.alerts.service import read_secret
from daemon.errors import DaemonError, SettingsError
from daemon.site.settings import Site

_API: Final = "/api/2.0/mlflow"
_PROXY: Final = "/api/2.0/mlflow-artifacts/artifacts"
_PAGE: Final = 200
_MISSING: Final = "RESOURCE_DOES_NOT_EXIST"
_LONGEST_VALUE: Final = 5000
"""Bytes that every store of MLflow takes as the value of a tag."""
_UPLOAD_PIECE: Final = 1 << 20

Tags = Mapping[str, str]


class MlflowAway(DaemonError):  # noqa: N818 - a cause is named as people say it
    """The MLflow server does not answer, or refuses."""

    http_status = 503


@dataclass(frozen=True)
class Run:
    """A run of an experiment.

    Attributes
    ----------
    finished
        Whether everything of it was said.
    artifacts
        Where its files go.
    """

    id: str
    artifacts: str
    finished: bool


@dataclass(frozen=True)
class ModelVersion:
    """A version of a registered model."""

    version: str
    tags: Tags


class MlflowServer:
    """Speaks to one server.

    Parameters
    ----------
    url
        Without a trailing slash.
    client
        Knows certificates and passwords.
    """

    def __init__(self, url: str, client: httpx.Client) -> None:
        self.url = url
        self._client = client

    @classmethod
    def of_site(cls, site: Site) -> Self | None:
        """Take the one that a site names; None without.

        Raises
        ------
        SettingsError
            A file of [mlflow] cannot be read.
        """
        settings = site.settings.mlflow
        if settings.url is None:
            return None
        headers, auth = {}, None
        if settings.token_file is not None:
            token = read_secret(site.path(settings.token_file), "mlflow.token_file")
            headers["Authorization"] = f"Bearer {token}"
        if settings.username is not None and settings.password_file is not None:
            password = read_secret(site.path(settings.password_file), "mlflow.password_file")
            auth = httpx.BasicAuth(settings.username, password)
        trust = True if settings.ca_file is None else _trust(site.path(settings.ca_file))
        client = httpx.Client(
            headers=headers, auth=auth, verify=trust, timeout=settings.timeout_s, trust_env=False
        )
        return cls(settings.url, client)

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def experiment(self, name: str) -> str:
        """Give the id of an experiment, which is made if there is none."""
        found = self._get("experiments/get-by-name", {"experiment_name": name}, missing_is_none=True)
        if found is not None:
            return str(found["experiment"]["experiment_id"])
        return str(self._post("experiments/create", {"name": name})["experiment_id"])

    def run(self, experiment: str, key: str, value: str, name: str, tags: Tags, *, now_ms: int) -> Run:
        """Give the run of an experiment with a tag; it is made, with other tags too, if there is none."""
        search = {"experiment_ids": [experiment], "filter": f"tags.`{key}` = '{value}'", "max_results": 1}
        found = self._post("runs/search", search).get("runs") or []
        if found:
            return _run(found[0])
        content = {
            "experiment_id": experiment,
            "run_name": name,
            "start_time": now_ms,
            "tags": _pairs({**tags, key: value}),
        }
        return _run(self._post("runs/create", content)["run"])

    def log(self, run: Run, metrics: Mapping[str, float], *, now_ms: int) -> None:
        """Add metrics to a run."""
        points = [{"key": key, "value": one, "timestamp": now_ms, "step": 0} for key, one in metrics.items()]
        if points:
            self._post("runs/log-batch", {"run_id": run.id, "metrics": points})

    def finish(self, run: Run, *, now_ms: int) -> None:
        """Say that all of a run was said."""
        self._post("runs/update", {"run_id": run.id, "status": "FINISHED", "end_time": now_ms})

    def upload(self, run: Run, file: Path, name: str) -> bool:
        """Put a file to a run, in pieces; False where this server keeps files elsewhere."""
        place = urlsplit(run.artifacts)
        if place.scheme != "mlflow-artifacts":
            return False
        path = f"{_PROXY}/{quote(place.path.strip('/'))}/{quote(name)}"
        size = {"Content-Length": str(file.stat().st_size)}
        self._ask("PUT", path, content=_pieces(file), headers=size)
        return True

    def aliases(self, model: str, description: str) -> dict[str, str]:
        """Give the aliases of a registered model with their versions; the model is made if there is none."""
        found = self._get("registered-models/get", {"name": model}, missing_is_none=True)
        if found is None:
            self._post("registered-models/create", {"name": model, "description": description})
            return {}
        listed = found["registered_model"].get("aliases") or []
        return {str(one["alias"]): str(one["version"]) for one in listed}

    def versions(self, model: str) -> Iterator[ModelVersion]:
        """List the versions of a registered model."""
        page: dict[str, Any] = {"filter": f"name='{model}'", "max_results": _PAGE}
        while True:
            found = self._get("model-versions/search", page) or {}
            for one in found.get("model_versions") or []:
                tags = {str(tag["key"]): str(tag["value"]) for tag in one.get("tags") or []}
                yield ModelVersion(str(one["version"]), tags)
            if not found.get("next_page_token"):
                return
            page["page_token"] = found["next_page_token"]

    def create_version(self, model: str, run: Run, tags: Tags, description: str) -> str:
        """Register what a run holds; gives the number of the version."""
        content = {
            "name": model,
            "source": run.artifacts,
            "run_id": run.id,
            "tags": _pairs(tags),
            "description": description,
        }
        return str(self._post("model-versions/create", content)["model_version"]["version"])

    def tag_version(self, model: str, version: str, key: str, value: str) -> None:
        """Give a tag of a version another value."""
        self._post(
            "model-versions/set-tag", {"name": model, "version": version, "key": key, "value": _cut(value)}
        )

    def set_alias(self, model: str, alias: str, version: str | None) -> None:
        """Let an alias mean a version; None takes it away."""
        if version is None:
            self._ask("DELETE", f"{_API}/registered-models/alias", json={"name": model, "alias": alias})
        else:
            self._post("registered-models/alias", {"name": model, "alias": alias, "version": version})

    def _get(
        self, path: str, query: Mapping[str, Any], *, missing_is_none: bool = False
    ) -> dict[str, Any] | None:
        return self._ask("GET", f"{_API}/{path}", params=query, missing_is_none=missing_is_none)

    def _post(self, path: str, content: Mapping[str, Any]) -> dict[str, Any]:
        return self._ask("POST", f"{_API}/{path}", json=content) or {}

    def _ask(
        self, method: str, path: str, *, missing_is_none: bool = False, **request: Any
    ) -> dict[str, Any] | None:
        try:
            answer = self._client.request(method, self.url + path, **request)
            content = answer.json() if answer.content else {}
        except (httpx.HTTPError, ValueError) as error:
            words = str(error) or type(error).__name__
            raise MlflowAway(f"{self.url} does not answer as MLflow does ({words}); see [mlflow]") from error
        if not isinstance(content, dict):
            content = {}
        if missing_is_none and content.get("error_code") == _MISSING:
            return None
        if not answer.is_success:
            said = str(content.get("message") or content.get("error_code") or "no reason")[:200]
            raise MlflowAway(f"{self.url} answered {answer.status_code} to {path.split('/2.0/')[1]}: {said}")
        return content


def _run(content: Mapping[str, Any]) -> Run:
    info = content["info"]
    return Run(str(info["run_id"]), str(info["artifact_uri"]), info.get("status") == "FINISHED")


def _pairs(tags: Tags) -> list[dict[str, str]]:
    return [{"key": key, "value": _cut(value)} for key, value in tags.items()]


def _cut(value: str) -> str:
    content = value.encode()
    return (
        value
        if len(content) <= _LONGEST_VALUE
        else content[: _LONGEST_VALUE - 3].decode(errors="ignore") + "..."
    )


def _pieces(file: Path) -> Iterator[bytes]:
    with file.open("rb") as stream:
        while piece := stream.read(_UPLOAD_PIECE):
            yield piece


def _trust(file: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=str(file))
    except (OSError, ssl.SSLError) as error:
        raise SettingsError(
            f"{file}: holds no certificates ({error}); key mlflow.ca_file of lumiwatch.toml names it"
        ) from error
