"""Alerts as Alertmanager's API v2 takes them (POST /api/v2/alerts).

Alertmanager tells alerts apart by their labels, severity included: an alert that rises in severity is another one for
it, so the one before is ended in the same request. It takes an alert for over at its `endsAt`; what fires is therefore
sent again and again, each time with an `endsAt` a while ahead.

Source: the OpenAPI document of the API, api/v2/openapi.yaml of Alertmanager 0.25.
"""

from collections.abc import Iterable
from datetime import datetime
from typing import Any, Final

import msgspec

from dwcp_stream.events import Alert, rfc3339
from dwcp_stream.sinks.ledger import Telling

PATH: Final = "/api/v2/alerts"
MOST: Final = 500
"""Alerts of one request, about."""


def posted(alert: Alert, now: float, ends: float) -> dict[str, Any]:
    """Return one alert of the request; it is over if `ends` is not after `now`.

    Parameters
    ----------
    now, ends
        Epoch seconds. An alert whose samples are ahead of the clock begins now, and none ends before it begins, since
        Alertmanager refuses that.
    """
    starts = min(datetime.fromisoformat(alert.starts_at).timestamp(), now)
    annotations = {
        **alert.annotations,
        "fingerprint": alert.fingerprint,
        "score": "" if alert.score is None else f"{alert.score:.4g}",
        "kind": alert.kind or "",
        "state": alert.state,
        "model_version": str(alert.model_version),
    }
    body = {
        "labels": alert.labels,
        "annotations": {name: text for name, text in annotations.items() if text},
        "startsAt": rfc3339(starts),
        "endsAt": rfc3339(max(ends, starts)),
    }
    if alert.generator_url is not msgspec.UNSET:
        body["generatorURL"] = alert.generator_url
    return body


def told(tellings: Iterable[Telling], now: float, resolve_after: float) -> list[dict[str, Any]]:
    """Return what to send of some transitions: those that fire end in `resolve_after` seconds unless sent again."""
    bodies = []
    for alert, before in tellings:
        if before is not None and before.labels != alert.labels:
            bodies.append(posted(before, now, now))
        fires = alert.action != "resolved"
        bodies.append(posted(alert, now, now + resolve_after if fires else min(now, _ended(alert, now))))
    return bodies


def firing(alerts: Iterable[Alert], now: float, resolve_after: float) -> list[dict[str, Any]]:
    """Return what to send of alerts that go on firing."""
    return [posted(alert, now, now + resolve_after) for alert in alerts]


def _ended(alert: Alert, now: float) -> float:
    return now if alert.ends_at is msgspec.UNSET else datetime.fromisoformat(alert.ends_at).timestamp()
