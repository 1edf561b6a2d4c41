"""How a site judges its models: the settings that workers and backtests share."""

from daemon.site.settings import Site, SiteModel
from streams.judging.assessment import AssessmentSettings


def assessment_settings(site: Site, model: SiteModel) -> AssessmentSettings:
    """Return how the site's workers judge a model."""
    watch = model.settings.watch
    return AssessmentSettings(
        minimum_events=watch.minimum_events,
        rate_band=watch.rate_band,
        integrity_tolerance=watch.integrity_tolerance,
        late_after_s=site.settings.stream.late_after_s,
    )
