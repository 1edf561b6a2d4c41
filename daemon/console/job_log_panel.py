"""The logs of a response's jobs while they run: their last lines, as plain text. Knows no job."""

from nicegui import ui

from daemon.console.live import Live
from daemon.responses.job_logs import JobLog, job_logs
from daemon.site.settings import Site


class JobLogPanel:
    """One part of a page; empty until a job has written something.

    Parameters
    ----------
    site
        Where the logs are.
    response_id
        Such as ``anomaly-3-r1``.
    """

    def __init__(self, site: Site, response_id: str) -> None:
        self._site = site
        self._response_id = response_id
        self._texts: dict[str, tuple[ui.label, ui.label]] = {}

    async def build(self) -> None:
        """Draw it and keep it up to date."""
        live = Live(lambda: job_logs(self._site, self._response_id), self._show, interval_s=1.5, keep=True)
        await live.refresh()

    def _show(self, logs: list[JobLog]) -> None:
        for log in logs:
            if log.job not in self._texts:
                self._texts[log.job] = self._begin(log.job)
            words, text = self._texts[log.job]
            shown = "all lines" if log.whole else f"the last {len(log.lines)} lines"
            words.set_text(f"{log.size_bytes:,} bytes, {shown}")
            text.set_text("\n".join(log.lines))

    def _begin(self, job: str) -> tuple[ui.label, ui.label]:
        with ui.expansion(f"Log of {job}").classes("lw-message"):
            words = ui.label().classes("lw-muted")
            text = ui.label().classes("lw-pre lw-log").props('role="log" tabindex="0"')
            text.props["aria-label"] = f"Log of {job}"
        return words, text
