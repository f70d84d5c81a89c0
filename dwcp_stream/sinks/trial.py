"""An alert that is none, to see whether a sink takes one."""

from typing import Literal

import msgspec

from dwcp_stream.alerts.identity import fingerprint
from dwcp_stream.errors import ConfigError
from dwcp_stream.events import Alert, rfc3339

NO_SINK = ConfigError(
    "no sink is named",
    where="sinks",
    remedy="Set sinks.alertmanager_urls or sinks.webhooks; docs/alerting.md has examples",
)


def trial(now: float, action: Literal["firing", "resolved"]) -> Alert:
    """Return an alert named DwcpSinkCheck that began at `now` (epoch seconds), or its end."""
    name, stream, entity, model = "DwcpSinkCheck", "none", "none", "none"
    return Alert(
        labels={"alertname": name, "stream": stream, "entity": entity, "model": model, "severity": "warning"},
        annotations={"summary": "Somebody tries whether alerts arrive here: nothing is wrong."},
        starts_at=rfc3339(now),
        ends_at=rfc3339(now) if action == "resolved" else msgspec.UNSET,
        fingerprint=fingerprint(name, stream, entity, model),
        action=action,
        reason="a trial",
        severity="warning",
        score=None,
        kind=None,
        state="scored",
        fields=[],
        stream=stream,
        entity=entity,
        model=model,
        model_version=0,
        event_time=rfc3339(now),
    )
