"""What a webhook is sent for one transition: pure functions from an alert to JSON.

Sources: Slack's reference of blocks (header: 150 characters of plain text; section: 3000 of mrkdwn, at most 10 fields
of 2000) and of escaping in text objects (& < >); PagerDuty's Events API v2 (summary of at most 1024 characters,
severity one of critical, error, warning, info, dedup_key of at most 255).
"""

from typing import Any, Final

import msgspec

from dwcp_stream.events import Alert, AlertField

HEADER, FIELD, SECTION, SUMMARY = 150, 2000, 3000, 1024
COLOURS: Final = {"warning": "#e0a800", "critical": "#d9480f", "emergency": "#a61e4d", "resolved": "#2b8a3e"}
PAGERDUTY: Final = {"warning": "warning", "critical": "error", "emergency": "critical"}
"""PagerDuty's word for each severity: its highest is for the highest here."""


def generic(alert: Alert) -> dict[str, Any]:
    """Return the alert as it is on the topic, with the status in Prometheus' words."""
    body: dict[str, Any] = msgspec.to_builtins(alert)
    return {"version": "1", "status": status(alert), **body}


def slack(alert: Alert) -> dict[str, Any]:
    """Return a message for an incoming webhook of Slack: a header, the sentence, and what stood out."""
    word = "RESOLVED" if alert.action == "resolved" else alert.severity.upper()
    title = f"{word}: {alert.labels.get('alertname', alert.model)} on {alert.entity}"
    sentence = alert.annotations.get("summary") or title
    facts = {
        "Stream": alert.stream,
        "Entity": alert.entity,
        "Model": f"{alert.model} version {alert.model_version}",
        "Since": alert.starts_at,
        **({"Kind": alert.kind} if alert.kind else {}),
        **{field.name: _shown(field) for field in alert.fields},
    }
    fields = [{"type": "mrkdwn", "text": _cut(f"*{_safe(k)}*\n{_safe(v)}", FIELD)} for k, v in list(facts.items())[:10]]
    blocks: list[dict[str, Any]] = [
        {"type": "header", "text": {"type": "plain_text", "text": _cut(title, HEADER)}},
        {"type": "section", "text": {"type": "mrkdwn", "text": _cut(_safe(sentence), SECTION)}},
        {"type": "section", "fields": fields},
        {
            "type": "context",
            "elements": [{"type": "mrkdwn", "text": _cut(f"`dwcp-stream feedback true {alert.fingerprint}`", FIELD)}],
        },
    ]
    colour = COLOURS.get("resolved" if alert.action == "resolved" else alert.severity, COLOURS["warning"])
    # `text` is what a notification shows; the colour needs an attachment, which may hold blocks
    return {"text": _cut(_safe(title), SECTION), "attachments": [{"color": colour, "blocks": blocks}]}


def pagerduty(alert: Alert, routing_key: str) -> dict[str, Any]:
    """Return an event for PagerDuty: the fingerprint is its `dedup_key`, so repeats and the end find their incident."""
    event: dict[str, Any] = {
        "routing_key": routing_key,
        "event_action": "resolve" if alert.action == "resolved" else "trigger",
        "dedup_key": alert.fingerprint,
    }
    if alert.action == "resolved":
        return event
    event["client"] = "dwcp-stream"
    if alert.generator_url is not msgspec.UNSET:
        event["client_url"] = alert.generator_url
    event["payload"] = {
        "summary": _cut(alert.annotations.get("summary") or alert.entity, SUMMARY),
        "source": alert.entity,
        "severity": PAGERDUTY.get(alert.severity, "error"),
        "timestamp": alert.event_time,
        "component": alert.stream,
        "group": alert.model,
        **({"class": alert.kind} if alert.kind else {}),
        "custom_details": {
            "score": alert.score,
            "since": alert.starts_at,
            "model_version": alert.model_version,
            "state": alert.state,
            "fields": {field.name: _shown(field) for field in alert.fields},
        },
    }
    return event


def status(alert: Alert) -> str:
    """Return `firing` or `resolved`."""
    return "resolved" if alert.action == "resolved" else "firing"


def _shown(field: AlertField) -> str:
    def text(value: float | str | None) -> str:
        return "missing" if value is None else value if isinstance(value, str) else f"{value:.4g}"

    value = f"{text(field.value)} {field.unit}".strip()
    return value if field.expected is None else f"{value} (expected {text(field.expected)})"


def _safe(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
