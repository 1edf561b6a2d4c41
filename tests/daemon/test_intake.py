from threading import Thread

from sqlalchemy.engine import Engine

from daemon import queries
from daemon.intake import take_verdict
from daemon.settings import Site
from streams.judging.verdict import State
from tests.support.daemon import HandClock, make_verdict


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
