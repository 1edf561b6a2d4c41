"""Windows of generated lumisections in a site's database, judged as a worker judges them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from sqlalchemy.engine import Engine

from daemon.references.judgement import assessment_settings
from daemon.site.settings import Site, SiteModel
from streams.backtest.generator import GeneratedDetector
from streams.contracts.contract import Contract
from streams.counting.summary import summarise
from streams.effects.effect import Effect
from streams.events.batch import digest, encode_batch
from streams.judging.judge import MonitoredModel
from streams.judging.reference import Reference, build_reference
from streams.store.windows import Waiting, WindowStore

RUN = 7
EVENTS = 2500
FILL = 60
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def detector(contract: Contract) -> GeneratedDetector:
    """Return the detector of these windows."""
    return GeneratedDetector(contract, 5, lumisections_per_fill=FILL, model="anomaly")


def learnt_reference(contract: Contract) -> Reference:
    """Return a reference of two fills of the detector."""
    made = detector(contract)
    places = [(run, number) for run in (1, 2) for number in range(1, FILL + 1, 2)]
    return build_reference(
        [made.summary(*place, EVENTS) for place in places],
        contract,
        pileups=[made.conditions(*place).pileup for place in places],
        built_from="two generated fills",
    )


def record_windows(
    engine: Engine, site: Site, model: SiteModel, last: int, *, effects: Sequence[Effect] = ()
) -> None:
    """Fold lumisections 1 to `last` of the run into windows, and close and judge them."""
    made = detector(model.contract)
    store = WindowStore(
        engine,
        models={model.name: MonitoredModel(model.contract, assessment_settings(site, model))},
        waiting=Waiting(timedelta(seconds=30), timedelta(seconds=120)),
    )
    for lumisection in range(1, last + 1):
        batch = made.batch(RUN, lumisection, EVENTS, effects=effects)
        store.fold_summaries([summarise(batch, model.contract, digest(encode_batch(batch)))], NOW)
        store.record_conditions(made.conditions(RUN, lumisection), NOW)
        store.close_ready(model.name, RUN, NOW)
