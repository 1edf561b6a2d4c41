"""A stand-in for an MLflow server: the part of its REST API that a registry is told by, and as strict.

It takes no field that the reference does not name, no run without an experiment, no file without a run, no
alias without a version, and refuses on demand. What the real one answers was compared by hand with version 3.
"""

import itertools
import json
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

API, PROXY = "/api/2.0/mlflow/", "/api/2.0/mlflow-artifacts/artifacts/"
FIELDS = {
    "experiments/create": {"name", "artifact_location", "tags"},
    "runs/create": {"experiment_id", "user_id", "run_name", "start_time", "tags"},
    "runs/search": {"experiment_ids", "filter", "run_view_type", "max_results", "order_by", "page_token"},
    "runs/log-batch": {"run_id", "metrics", "params", "tags"},
    "runs/update": {"run_id", "status", "end_time", "run_name"},
    "registered-models/create": {"name", "tags", "description"},
    "registered-models/alias": {"name", "alias", "version"},
    "model-versions/create": {"name", "source", "run_id", "tags", "run_link", "description"},
    "model-versions/set-tag": {"name", "version", "key", "value"},
}
KEY = re.compile(r"[\w./: -]+\Z")
ALIAS = re.compile(r"[A-Za-z0-9_-]+\Z")


class RefusedError(Exception):
    """An answer that is no success."""

    def __init__(self, status, code, message):
        super().__init__(message)
        self.status, self.content = status, {"error_code": code, "message": message}


class FakeMlflow:
    """What the server knows.

    Parameters
    ----------
    token
        Callers must show it; None: anybody may.
    """

    def __init__(self, token=None):
        self.token = token
        self.away = False
        self.fail_after = None  # so many requests are answered before it goes away
        self.requests = []
        self.experiments, self.runs, self.files, self.models = {}, {}, {}, {}
        self._numbers = itertools.count(1)

    def answer(self, method, path, query, body, headers):
        """Answer one request; raises `RefusedError`."""
        if self.fail_after is not None:
            self.fail_after -= 1
            self.away = self.away or self.fail_after < 0
        if self.away:
            raise RefusedError(503, "TEMPORARILY_UNAVAILABLE", "away")
        self.requests.append((method, path))
        if self.token is not None and headers.get("Authorization") != f"Bearer {self.token}":
            raise RefusedError(401, "UNAUTHENTICATED", "show a token")
        if path.startswith(PROXY):
            return self.put(method, path.removeprefix(PROXY), body)
        name = path.removeprefix(API)
        if method == "GET":
            return self.get(name, query)
        content = json.loads(body)
        odd = set(content) - FIELDS.get(name, set())
        if name not in FIELDS or odd:
            raise RefusedError(400, "INVALID_PARAMETER_VALUE", f"{name} takes no {odd}")
        return getattr(self, f"{method.lower()}_{name.replace('/', '_').replace('-', '_')}")(**content) or {}

    def put(self, method, path, body):
        """Take a file of a run."""
        experiment, run, folder, name = path.split("/")
        if method != "PUT" or self.run(run)["experiment_id"] != experiment or folder != "artifacts":
            raise RefusedError(404, "ENDPOINT_NOT_FOUND", path)
        self.files[run, unquote(name)] = body
        return {}

    def get(self, name, query):
        """Answer what only asks."""
        if name == "experiments/get-by-name":
            for number, known in self.experiments.items():
                if known == query["experiment_name"]:
                    return {"experiment": {"experiment_id": number, "name": known}}
            raise RefusedError(404, "RESOURCE_DOES_NOT_EXIST", "no such experiment")
        if name == "registered-models/get":
            model = self.model(query["name"])
            aliases = [{"alias": key, "version": one} for key, one in model["aliases"].items()]
            return {"registered_model": {"name": query["name"], **({"aliases": aliases} if aliases else {})}}
        if name == "model-versions/search":
            (model,) = re.fullmatch(r"name='([^']+)'", query["filter"]).groups()
            begin = int(query.get("page_token", 0))
            found = self.model(model)["versions"][begin : begin + 2]  # smaller pages than asked for
            more = begin + 2 < len(self.model(model)["versions"])
            listed = [{**one, "tags": pairs(one["tags"])} for one in found]
            return {"model_versions": listed, **({"next_page_token": str(begin + 2)} if more else {})}
        raise RefusedError(404, "ENDPOINT_NOT_FOUND", name)

    def run(self, identity):
        """Find a run."""
        if identity not in self.runs:
            raise RefusedError(404, "RESOURCE_DOES_NOT_EXIST", f"Run {identity} not found")
        return self.runs[identity]

    def model(self, name):
        """Find a registered model."""
        if name not in self.models:
            raise RefusedError(404, "RESOURCE_DOES_NOT_EXIST", f"Registered Model with name={name} not found")
        return self.models[name]

    def version(self, name, version):
        """Find a version."""
        found = [one for one in self.model(name)["versions"] if one["version"] == version]
        if not found:
            raise RefusedError(404, "RESOURCE_DOES_NOT_EXIST", f"Model Version {version} not found")
        return found[0]

    def post_experiments_create(self, name):
        number = str(next(self._numbers))
        self.experiments[number] = name
        return {"experiment_id": number}

    def post_runs_create(self, experiment_id, run_name, start_time, tags):
        if experiment_id not in self.experiments or not isinstance(start_time, int):
            raise RefusedError(400, "INVALID_PARAMETER_VALUE", "no experiment, or no time")
        identity = f"run{next(self._numbers)}"
        self.runs[identity] = {
            "experiment_id": experiment_id, "name": run_name, "tags": tags_of(tags), "metrics": {},
            "status": "RUNNING", "end_time": None,
        }  # fmt: skip
        return {"run": self.shown(identity)}

    def shown(self, identity):
        """Give a run as the API does."""
        run = self.runs[identity]
        uri = f"mlflow-artifacts:/{run['experiment_id']}/{identity}/artifacts"
        return {"info": {"run_id": identity, "artifact_uri": uri, "status": run["status"]}}

    def post_runs_search(self, experiment_ids, filter, max_results):  # noqa: A002 - the API's word
        key, value = re.fullmatch(r"tags\.`([^`]+)` = '([^']+)'", filter).groups()
        found = [
            self.shown(identity)
            for identity, run in self.runs.items()
            if run["experiment_id"] in experiment_ids and run["tags"].get(key) == value
        ]
        return {"runs": found[:max_results]} if found else {}

    def post_runs_log_batch(self, run_id, metrics):
        for metric in metrics:
            if set(metric) != {"key", "value", "timestamp", "step"} or not KEY.match(metric["key"]):
                raise RefusedError(400, "INVALID_PARAMETER_VALUE", f"metric {metric}")
            self.run(run_id)["metrics"].setdefault(metric["key"], []).append(float(metric["value"]))

    def post_runs_update(self, run_id, status, end_time):
        if status not in {"RUNNING", "FINISHED", "FAILED", "KILLED"}:
            raise RefusedError(400, "INVALID_PARAMETER_VALUE", status)
        self.run(run_id).update(status=status, end_time=end_time)

    def post_registered_models_create(self, name, description):
        if name in self.models or set(name) & set("/:"):
            raise RefusedError(400, "RESOURCE_ALREADY_EXISTS", name)
        self.models[name] = {"description": description, "aliases": {}, "versions": []}

    def post_model_versions_create(self, name, source, run_id, tags, description):
        versions = self.model(name)["versions"]
        if source != self.shown(run_id)["info"]["artifact_uri"]:
            raise RefusedError(400, "INVALID_PARAMETER_VALUE", f"{source} is not of run {run_id}")
        version = {"version": str(len(versions) + 1), "run_id": run_id, "tags": tags_of(tags)}
        versions.append(version | {"description": description})
        return {"model_version": version}

    def post_model_versions_set_tag(self, name, version, key, value):
        self.version(name, version)["tags"] |= tags_of([{"key": key, "value": value}])

    def post_registered_models_alias(self, name, alias, version):
        self.version(name, version)
        if not ALIAS.match(alias):
            raise RefusedError(400, "INVALID_PARAMETER_VALUE", alias)
        self.model(name)["aliases"][alias] = version

    def delete_registered_models_alias(self, name, alias):
        self.model(name)["aliases"].pop(alias, None)


def tags_of(listed):
    """Check tags and give them by key."""
    for tag in listed:
        value = tag["value"]
        if set(tag) != {"key", "value"} or not KEY.match(tag["key"]) or len(tag["key"]) > 250:
            raise RefusedError(400, "INVALID_PARAMETER_VALUE", f"tag {tag}")
        if not isinstance(value, str) or len(value.encode()) > 5000:
            raise RefusedError(400, "INVALID_PARAMETER_VALUE", f"value of {tag['key']}")
    return {tag["key"]: tag["value"] for tag in listed}


def pairs(tags):
    """Give tags as the API does."""
    return [{"key": key, "value": value} for key, value in tags.items()]


@contextmanager
def mlflow_server(token=None):
    """Serve a `FakeMlflow` on loopback; yields its address and it."""
    fake, lock = FakeMlflow(token), threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            parts = urlsplit(self.path)
            query = {key: values[0] for key, values in parse_qs(parts.query).items()}
            status, content = 200, {}
            try:
                with lock:
                    content = fake.answer(self.command, parts.path, query, body, self.headers)
            except RefusedError as refused:
                status, content = refused.status, refused.content
            except (TypeError, KeyError, ValueError) as error:  # a field is missing or odd
                status, content = 400, {"error_code": "BAD_REQUEST", "message": repr(error)}
            answer = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def do_POST(self):
            self.do_GET()

        def do_PUT(self):
            self.do_GET()

        def do_DELETE(self):
            self.do_GET()

        def log_message(self, *_):
            """Keep quiet."""

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=http.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{http.server_port}", fake
    finally:
        http.shutdown()
        http.server_close()
        thread.join()
