from threading import Thread

from sqlalchemy.engine import Engine

from daemon.incidents.intake import take_verdict
from daemon.operations import Operations
from daemon.site.settings import Site
from daemon.store import queries
from streams.judging.verdict import State
from tests.support.daemon import Everybody, HandClock, NoWorkflows, make_verdict


def test_an_alarm_opens_one_incident_and_asks_for_a_response(engine: Engine, site: Site, clock: HandClock):
    result = take_verdict(engine, site, make_verdict(63, onset_lumisection=61), now=clock())

    assert result.opened == "anomaly-1"
    assert result.start_responses == ("anomaly-1-r1",)
    incident = queries.incident(engine, "anomaly-1")
    assert (incident.onset_lumisection, incident.first_lumisection) == (61, 63)
    assert incident.simulated


def test_the_same_verdict_again_changes_nothing(engine: Engine, site: Site, clock: HandClock):
    verdict = make_verdict(63)
    take_verdict(engine, site, verdict, now=clock())

    again = take_verdict(engine, site, verdict, now=clock())

    assert not again.new
    assert len(queries.incidents(engine)) == 1
    assert len(queries.events(engine)) == 1
    assert len(queries.verdict_timeline(engine, "anomaly")) == 1


def test_delivered_to_two_threads_at_once_it_counts_once(engine: Engine, site: Site, clock: HandClock):
    verdicts = [make_verdict(60 + n) for n in range(10)]
    results = []

    def deliver() -> None:
        results.extend(take_verdict(engine, site, verdict, now=clock()) for verdict in verdicts)

    threads = [Thread(target=deliver) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(result.new for result in results) == 10
    assert len(queries.incidents(engine)) == 1


def test_the_range_of_an_incident_grows(engine: Engine, site: Site, clock: HandClock):
    take_verdict(engine, site, make_verdict(63, families=("rate",)), now=clock())
    take_verdict(engine, site, make_verdict(64, families=("rate",)), now=clock())
    take_verdict(engine, site, make_verdict(65, families=("rate", "score")), now=clock())

    incident = queries.incident(engine, "anomaly-1")
    assert incident.last_lumisection == 65
    assert incident.families == ["rate", "score"]
    assert [event.kind for event in incident.events] == ["incident.opened", "incident.extended"]


def test_an_alarm_soon_after_a_recovery_reopens(engine: Engine, site: Site, clock: HandClock):
    take_verdict(engine, site, make_verdict(63), now=clock())
    operations = Operations(engine, site, NoWorkflows(), clock, access=Everybody())
    operations.acknowledge("anomaly-1", operator="local")
    take_verdict(engine, site, make_verdict(70, State.GOOD), now=clock())

    result = take_verdict(engine, site, make_verdict(75, families=("score",)), now=clock())

    assert (result.opened, result.reopened) == (None, "anomaly-1")
    assert result.start_responses == ("anomaly-1-r2",)
    (incident,) = queries.incidents(engine)
    assert (incident.state, incident.reopened, incident.first_lumisection) == ("open", 1, 63)
    assert (incident.last_lumisection, incident.families) == (75, ["score"])
    assert (incident.resolved_at, incident.resolution, incident.acknowledged_by) == (None, None, None)
    history = queries.incident(engine, "anomaly-1").events
    assert [event.kind for event in history] == [
        "incident.opened",
        "incident.acknowledged",
        "incident.recovered",
        "incident.reopened",
    ]


def test_what_a_person_resolved_stays_so_and_a_later_alarm_is_news(
    engine: Engine, site: Site, clock: HandClock
):
    take_verdict(engine, site, make_verdict(63), now=clock())
    operations = Operations(engine, site, NoWorkflows(), clock, access=Everybody())
    operations.resolve("anomaly-1", operator="local", comment="cable")

    late = take_verdict(engine, site, make_verdict(62), now=clock())
    later = take_verdict(engine, site, make_verdict(64), now=clock())

    assert (late.opened, late.reopened) == (None, None)
    assert (later.opened, later.reopened) == ("anomaly-2", None)


def test_a_simulation_does_not_reopen_collisions(engine: Engine, site: Site, clock: HandClock):
    take_verdict(engine, site, make_verdict(63, simulated=False), now=clock())
    take_verdict(engine, site, make_verdict(70, State.GOOD, simulated=False), now=clock())

    result = take_verdict(engine, site, make_verdict(75, simulated=True), now=clock())

    assert result.opened == "anomaly-2"


def test_two_threads_reopen_once(engine: Engine, site: Site, clock: HandClock):
    take_verdict(engine, site, make_verdict(63), now=clock())
    take_verdict(engine, site, make_verdict(70, State.GOOD), now=clock())
    results = []

    def deliver(lumisection: int) -> None:
        results.append(take_verdict(engine, site, make_verdict(lumisection), now=clock()))

    threads = [Thread(target=deliver, args=(lumisection,)) for lumisection in range(75, 81)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(result.reopened is not None for result in results) == 1
    (incident,) = queries.incidents(engine)
    assert incident.reopened == 1


def test_a_simulation_and_collisions_never_share_an_incident(engine: Engine, site: Site, clock: HandClock):
    take_verdict(engine, site, make_verdict(63, simulated=True), now=clock())
    take_verdict(engine, site, make_verdict(63, simulated=False), now=clock())
    take_verdict(engine, site, make_verdict(70, State.GOOD, simulated=False), now=clock())

    states = {incident.simulated: incident.state for incident in queries.incidents(engine)}
    assert states == {True: "open", False: "resolved"}


def test_a_model_of_another_site_is_stored_and_opens_nothing(engine: Engine, site: Site, clock: HandClock):
    result = take_verdict(engine, site, make_verdict(63, model="stranger"), now=clock())

    assert result.new
    assert queries.incidents(engine) == []


def test_the_status_of_a_model_tells_verdict_incident_and_response(
    engine: Engine, site: Site, clock: HandClock
):
    take_verdict(engine, site, make_verdict(63), now=clock())

    (status,) = queries.model_statuses(engine, site)
    assert status.verdict is not None
    assert status.verdict.lumisection == 63
    assert status.incident is not None
    assert status.incident.id == "anomaly-1"
    assert status.response is not None
    assert status.response.id == "anomaly-1-r1"
