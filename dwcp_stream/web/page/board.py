"""What the page shows of alerts, models, drift and accuracy: the newest of each, bounded, from the daemon's topics."""

from collections import deque
from collections.abc import Mapping
from typing import Any

import msgspec

from dwcp_stream.errors import UNREADABLE
from dwcp_stream.events import Accuracy, Alert, ArmScores, Drift, ModelDecision, ModelEvent
from dwcp_stream.realised import ArmLedger, ForecastLedger

MOST_ALERTS = 500
MOST_DECISIONS = 50
HOUR, DAY = 3600.0, 86_400.0


class Board:
    """Takes records of the daemon's topics, and remembers what a reader of the page wants to know.

    Attributes
    ----------
    alerts
        Rows by fingerprint and start, oldest first; at most `MOST_ALERTS`, those that fire are dropped last.
    news
        Whether a record since the last `tables` changes them.
    unreadable
        Records that are not what their topic should hold; anybody may write to a topic.
    """

    def __init__(self) -> None:
        self.alerts: dict[str, dict[str, Any]] = {}
        self.unreadable = 0
        self.news = False
        self._drift: dict[tuple[str, str, int], Drift] = {}
        self._serving: dict[tuple[str, str, str], ModelEvent] = {}
        self._decisions: deque[ModelDecision] = deque(maxlen=MOST_DECISIONS)
        self._forecasts, self._arms = ForecastLedger(DAY), ArmLedger(DAY)

    def take(self, topic: str, value: bytes | None, headers: Mapping[str, bytes]) -> dict[str, Any] | None:
        """Take a record; returns the row of the alert that it changed, if it did."""
        if value is None:
            return None
        try:
            if topic == "anomalies":
                return self._alert(msgspec.json.decode(value, type=Alert))
            self._other(topic, value, headers)
            self.news = True
        except UNREADABLE:
            self.unreadable += 1
        return None

    def _other(self, topic: str, value: bytes, headers: Mapping[str, bytes]) -> None:
        kind, event_id = headers.get("ce_type", b"").decode(), headers.get("ce_id", b"").decode()
        if topic == "drift":
            drift = msgspec.json.decode(value, type=Drift)
            self._drift[drift.stream, drift.model, drift.partition] = drift
        elif topic == "models" and b'"decision"' in value:
            self._decisions.append(msgspec.json.decode(value, type=ModelDecision))
        elif topic == "models":
            event = msgspec.json.decode(value, type=ModelEvent)
            self._serving[event.stream, event.model, event.alias] = event
        elif topic == "accuracy" and kind == "dwcp.accuracy.scores":
            self._arms.add(event_id, msgspec.json.decode(value, type=ArmScores))
        elif topic == "accuracy":
            self._forecasts.add(event_id, msgspec.json.decode(value, type=Accuracy))

    def _alert(self, alert: Alert) -> dict[str, Any]:
        key = f"{alert.fingerprint}@{alert.starts_at}"
        before = self.alerts.get(key)
        if before is not None and (before["resolved"] or before["event_time"] > alert.event_time):
            return before  # a repeat after a crash
        resolved = alert.action == "resolved"
        # what stood out when it fired or rose says why; at its end nothing stands out any more
        told = before if resolved and before is not None else None
        row = {
            "key": key,
            "stream": alert.stream,
            "entity": alert.entity,
            "model": alert.model,
            "version": alert.model_version,
            "alertname": alert.labels.get("alertname", ""),
            "severity": alert.severity,
            "score": told["score"] if told else alert.score,
            "kind": told["kind"] if told else alert.kind,
            "state": alert.state,
            "resolved": resolved,
            "reason": alert.reason,
            "starts_at": alert.starts_at,
            "ends_at": alert.ends_at if resolved and isinstance(alert.ends_at, str) else None,
            "event_time": alert.event_time,
            "summary": told["summary"] if told else alert.annotations.get("summary", ""),
            "fields": told["fields"] if told else msgspec.to_builtins(alert.fields),
        }
        self.alerts[key] = row
        if len(self.alerts) > MOST_ALERTS:
            over = next((k for k, held in self.alerts.items() if held["resolved"]), next(iter(self.alerts)))
            del self.alerts[over]
        return row

    def of_entity(self, stream: str, entity: str) -> list[dict[str, Any]]:
        """Return the alerts of one entity, newest first."""
        return [row for row in reversed(self.alerts.values()) if (row["stream"], row["entity"]) == (stream, entity)]

    def tables(self) -> dict[str, Any]:
        """Return the tables of models, decisions, drift and accuracy, as plain values."""
        self.news = False
        for ledger in (self._forecasts, self._arms):
            ledger.tidy()
        return {
            "serving": [msgspec.to_builtins(event) for _, event in sorted(self._serving.items())],
            "decisions": [msgspec.to_builtins(decision) for decision in reversed(self._decisions)],
            "drift": [msgspec.to_builtins(drift) for _, drift in sorted(self._drift.items())],
            "forecasts": {"hour": self._forecasts.over(HOUR), "day": self._forecasts.over(DAY)},
            "arms": self._arms.over(DAY),
        }
