"""Silences in an Alertmanager for the incidents that lumiwatch's own silences keep quiet.

An alert that is no longer sent would end by itself, and pagers would hear that all is well. So it is sent on,
under a silence of exactly that incident, which ends when the ones of lumiwatch do. What is there is asked of
the Alertmanager each time, so a restart of either side loses nothing, and several that share their silences
do not disturb each other.

Refuses to know incidents and the database: alerts come in with the time until which they are quiet.
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

import httpx

_log = logging.getLogger(__name__)

AUTHOR: Final = "lumiwatch"
QUIET_UNTIL: Final = "quiet_until"
"""Key of an alert that nobody is to hear, with the time until when."""
_TOLERANCE: Final = timedelta(seconds=1)
_FIRST_RETRY_S: Final = 2.0
_LONGEST_RETRY_S: Final = 300.0


@dataclass(frozen=True)
class _Kept:
    """A silence of ours that the Alertmanager holds."""

    id: str
    starts_at: str
    ends_at: datetime


class Silencer:
    """Keeps the silences of one Alertmanager.

    Parameters
    ----------
    url, client
        As of `daemon.alerts.alertmanager.Sender`.
    on_error
        Called for every attempt that failed, to count it.
    """

    def __init__(self, url: str, client: httpx.Client, on_error: Callable[[], None] = lambda: None) -> None:
        self._url = f"{url}/api/v2"
        self._client = client
        self._on_error = on_error
        self._may_be_there = True  # after a restart it is not known
        self._failures = 0
        self._not_before: datetime | None = None

    def retry_due(self, now: datetime) -> bool:
        """Tell whether silences that failed are to be tried again."""
        return self._not_before is not None and now >= self._not_before

    def hush(self, alerts: list[dict[str, Any]], now: datetime) -> list[dict[str, Any]]:
        """Bring its silences up to date before alerts are sent.

        Returns
        -------
        The alerts that may be sent: all, or those alone that are not quiet where silences are not taken.
        """
        quiet = [alert for alert in alerts if QUIET_UNTIL in alert]
        if not quiet and not self._may_be_there:
            self._failures, self._not_before = 0, None
            return alerts
        if self._not_before is None or now >= self._not_before:
            try:
                self._follow(alerts, now)
            except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
                self._failures += 1
                wait_s = min(_FIRST_RETRY_S * 2.0 ** min(self._failures - 1, 16), _LONGEST_RETRY_S)
                self._not_before = now + timedelta(seconds=wait_s)
                self._on_error()
                words = str(error) or type(error).__name__
                _log.warning("%s takes no silences (%s); next attempt in %.0f s", self._url, words, wait_s)
            else:
                self._failures, self._not_before = 0, None
                self._may_be_there = bool(quiet)
        return alerts if self._not_before is None else [one for one in alerts if QUIET_UNTIL not in one]

    def _follow(self, alerts: Iterable[dict[str, Any]], now: datetime) -> None:
        kept = self._ours()
        for alert in alerts:
            labels = alert["labels"]
            mine = kept.get((labels["site"], labels["incident"]), [])
            until = alert.get(QUIET_UNTIL)
            if until is None:
                for one in mine:
                    self._ask("DELETE", f"/silence/{one.id}")
            elif not any(abs(one.ends_at - until) <= _TOLERANCE for one in mine):
                self._ask("POST", "/silences", _silence(labels, until, now, mine[0] if mine else None))

    def _ours(self) -> dict[tuple[str, str], list[_Kept]]:
        """Ask for our silences that have not ended, by site and incident."""
        found: dict[tuple[str, str], list[_Kept]] = {}
        for one in self._ask("GET", "/silences"):
            values = {matcher["name"]: matcher["value"] for matcher in one["matchers"]}
            if one["createdBy"] != AUTHOR or one["status"]["state"] == "expired" or set(values) != _LABELS:
                continue
            kept = _Kept(one["id"], one["startsAt"], datetime.fromisoformat(one["endsAt"]))
            found.setdefault((values["site"], values["incident"]), []).append(kept)
        return found

    def _ask(self, method: str, path: str, content: Any = None) -> Any:
        answer = self._client.request(method, f"{self._url}{path}", json=content)
        if not answer.is_success:
            raise httpx.HTTPStatusError(
                f"it answered {answer.status_code} to {method} {path.split('/')[1]}",
                request=answer.request,
                response=answer,
            )
        return answer.json() if method == "GET" else None


_LABELS: Final = frozenset({"site", "incident"})


def _silence(labels: dict[str, str], until: datetime, now: datetime, known: _Kept | None) -> dict[str, Any]:
    """Write a silence as the API takes it, or the other end of one that is there."""
    matchers = [
        {"name": name, "value": labels[name], "isRegex": False, "isEqual": True} for name in sorted(_LABELS)
    ]
    return {
        "matchers": matchers,
        "startsAt": known.starts_at if known else now.isoformat(),
        "endsAt": until.isoformat(),
        "createdBy": AUTHOR,
        "comment": f"{labels['incident']} is silenced in lumiwatch: end it there",
        **({"id": known.id} if known else {}),
    }
