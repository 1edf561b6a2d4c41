"""Every route of the API does what its OpenAPI document says, whatever it is sent: never an error of ours."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from threading import Event

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings, strategies
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.schemas import APIOperation, BaseSchema
from schemathesis.specs.openapi.checks import positive_data_acceptance
from sqlalchemy.engine import Engine

from daemon.access.people import default_token_file
from daemon.incidents.intake import take_verdict
from daemon.operations import Operations, utc_now
from daemon.process.assembly import build_app, build_daemon
from daemon.process.children import Interrupted
from daemon.responses.procedure import ResponseProcedure
from daemon.site.settings import Site, load_site
from tests.support.daemon import FakeWorkshop, NoWorkflows, copy_site, make_verdict

EXAMPLES = 25
HOST = {"Host": "localhost"}
"""One of the names that the application is served under."""
UNCHECKED = [positive_data_acceptance]
"""No schema tells what fits the state of a site: an incident may be resolved already."""
KNOWN = {"model": "anomaly", "incident_id": "anomaly-1", "response_id": "anomaly-1-r1"}
"""What is there: half of the requests are about it."""
READY = "GET /-/ready"
"""Answers 503 on purpose: no broker is configured here."""


@dataclass(frozen=True)
class Api:
    """The OpenAPI document of the real application, and the headers of somebody who may do everything."""

    schema: BaseSchema
    headers: dict[str, str]

    def operations(self) -> list[APIOperation]:
        """List all routes and methods."""
        return [found.ok() for found in self.schema.get_all_operations()]


@pytest.fixture(params=["sqlite", "postgresql"])
def api(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Api]:
    site = load_site(copy_site(tmp_path))
    if request.param == "postgresql":
        site = replace(site, database_url=request.getfixturevalue("postgres_url"))
    daemon = build_daemon(site)
    services = daemon.services
    # no workflow runs: its threads would disturb what is drawn at random here
    operations = Operations(services.engine, site, NoWorkflows(), access=services.access)
    propose(services.engine, site)
    app = build_app(replace(services, operations=operations))
    token = default_token_file(site).read_text().strip()
    schema = schemathesis.openapi.from_asgi("/api/v1/openapi.json", app, headers=HOST)
    yield Api(schema, {"Authorization": f"Bearer {token}", **HOST})
    services.engine.dispose()


def propose(engine: Engine, site: Site) -> None:
    """Raise an alarm, and let its response wait for a decision."""
    (response_id,) = take_verdict(engine, site, make_verdict(63), now=utc_now()).start_responses
    procedure = ResponseProcedure(engine, site, FakeWorkshop(), utc_now, stopped := Event())
    stopped.set()
    with pytest.raises(Interrupted):
        procedure.run(response_id, lambda _, work: work())


def problems_of(api: Api, operation: APIOperation) -> str | None:
    """Send a route what its schema allows, and what it does not; gives what is wrong with an answer."""

    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(
        operation.as_strategy() | operation.as_strategy(schemathesis.GenerationMode.NEGATIVE),
        strategies.booleans(),
    )
    def send(case: schemathesis.Case, known: bool) -> None:
        if known and case.path_parameters:
            case.path_parameters.update({name: KNOWN[name] for name in case.path_parameters if name in KNOWN})
        unchecked = [*UNCHECKED, not_a_server_error] if operation.label == READY else UNCHECKED
        case.call_and_validate(headers=api.headers, excluded_checks=unchecked)

    try:
        send()
    except (FailureGroup, AssertionError) as failure:
        return f"{operation.label}: {failure}\n" + "\n".join(
            str(one) for one in getattr(failure, "exceptions", ())
        )
    return None


def test_every_route_keeps_to_its_description(api: Api):
    operations = api.operations()
    assert len(operations) > 20

    found = [problems_of(api, operation) for operation in operations]

    problems = [problem for problem in found if problem is not None]
    assert not problems, "\n\n".join(problems)
