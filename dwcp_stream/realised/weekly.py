"""What a week was like: alerts and what they were worth, forecasts and what came, what was decided about models."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from dwcp_stream.control import Headers
from dwcp_stream.errors import UNREADABLE
from dwcp_stream.events import Accuracy, Alert, ArmScores, ModelDecision, ModelEvent, Prediction
from dwcp_stream.realised.alerts import AlertLedger
from dwcp_stream.realised.arms import ArmLedger
from dwcp_stream.realised.forecasts import ForecastLedger
from dwcp_stream.registry.history import Move

TOPICS = ("anomalies", "feedback", "accuracy", "models")
SWITCHED_OFF = 0.5
"""Share of an entity's predictions that only repeat the last value from which on its model counts as switched off."""
SCORES, DECIDED = "dwcp.accuracy.scores", "dwcp.model.decided"
"""Types of events that share a topic with others."""


class Week:
    """Takes the records of five topics, in any order, repeated ones once, and says what they amount to.

    Parameters
    ----------
    seconds
        How long the week is: alerts and errors count from so long before the newest of their stream.
    keys
        Whose judgements count, see `AlertLedger`.

    Attributes
    ----------
    unreadable
        Records that are none of the messages of their topic.
    """

    def __init__(self, seconds: float, keys: Mapping[str, Ed25519PublicKey] | None = None) -> None:
        self.seconds, self.unreadable = seconds, 0
        self._alerts, self._forecasts, self._arms = AlertLedger(keys), ForecastLedger(seconds), ArmLedger(seconds)
        self._versions: dict[str, ModelEvent] = {}
        self._decisions: dict[str, ModelDecision] = {}
        self._repeats: dict[tuple[str, str, str], list[float]] = defaultdict(list)

    def take(self, topic: str, value: bytes, headers: Headers) -> None:
        """Take a record as it came; one that cannot be read is counted, for anybody may write to a topic."""
        known = {name: (given or b"").decode(errors="replace") for name, given in headers}
        try:
            self._take(topic, known.get("ce_type", ""), known.get("ce_id", ""), value, headers)
        except UNREADABLE:
            self.unreadable += 1

    def _take(self, topic: str, kind: str, event_id: str, value: bytes, headers: Headers) -> None:
        if topic == "anomalies":
            self._alerts.alert(msgspec.json.decode(value, type=Alert))
        elif topic == "feedback":
            self._alerts.judgement(value, headers)
        elif topic == "predictions":
            said = msgspec.json.decode(value, type=Prediction)
            if said.repeats is not None and said.arm == "champion":
                self._repeats[said.stream, said.model, said.entity].append(said.repeats)
        elif topic == "accuracy" and kind == SCORES:
            self._arms.add(event_id, msgspec.json.decode(value, type=ArmScores))
        elif topic == "accuracy":
            self._forecasts.add(event_id, msgspec.json.decode(value, type=Accuracy))
        elif kind == DECIDED:
            self._decisions[event_id] = msgspec.json.decode(value, type=ModelDecision)
        elif value:  # a compacted topic's tombstone says nothing
            self._versions[event_id] = msgspec.json.decode(value, type=ModelEvent)

    def result(self, stream: str | None = None) -> dict[str, Any]:
        """Return tables of plain values, of one stream or of all.

        `alerts` by stream, model and version, see `AlertLedger.over`; `forecasts` as `ForecastLedger.over`;
        `worse_than_repeating` those of them whose skill is negative; `arms` as `ArmLedger.over`; `alerts_per_day` and
        `coverage_per_day`; `switched_off`, entities of which a forecaster only repeats the last value; `decisions` of
        the trainer, oldest first; `versions` that workers loaded or refused, with how many `times`, and when last.
        """
        forecasts = self._forecasts.over(self.seconds)
        tables: dict[str, list[dict[str, Any]]] = {
            "alerts": self._alerts.over(self.seconds),
            "alerts_per_day": self._alerts.days(self.seconds),
            "forecasts": forecasts,
            "worse_than_repeating": [row for row in forecasts if row["skill"] < 0],
            "coverage_per_day": self._forecasts.days(self.seconds),
            "switched_off": self._switched_off(),
            "arms": self._arms.over(self.seconds),
            "decisions": _in_order(self._decisions.values()),
            "versions": _alike(_in_order(self._versions.values())),
        }
        mine = {name: [row for row in rows if stream in (None, row["stream"])] for name, rows in tables.items()}
        counts = {
            "feedback_refused": dict(self._alerts.refused),
            "feedback_without_alert": self._alerts.unknown,
            "unreadable": self.unreadable,
        }
        return {**mine, **counts}

    def _switched_off(self) -> list[dict[str, Any]]:
        rows = []
        for (stream, model, entity), shares in sorted(self._repeats.items()):
            share = sum(each == 1.0 for each in shares) / len(shares)
            if share >= SWITCHED_OFF:
                rows.append({"stream": stream, "model": model, "entity": entity, "n": len(shares), "share": share})
        return rows


def champions(moves: Iterable[Move], since: datetime) -> list[dict[str, Any]]:
    """Return who became champion since a time, and whether by a promotion or a rollback.

    Parameters
    ----------
    moves
        All of the history, oldest first: what was last good before decides what goes back.
    """
    found: list[dict[str, Any]] = []
    good: dict[str, int | None] = {}
    for move in moves:
        if move.alias == "last_good":
            good[move.model] = move.version
            if found and (found[-1]["model"], found[-1]["at"]) == (move.model, move.at):
                found[-1]["what"] = "promotion"  # only a promotion moves both at once
        elif move.alias == "champion" and move.version is not None:
            back = move.before is not None and move.version == good.get(move.model)
            row = {name: getattr(move, name) for name in ("at", "model", "before", "version", "by", "reason")}
            found.append({"what": "rollback" if back else "promotion", **row})
    return [row for row in found if datetime.fromisoformat(row["at"]) >= since]


def _in_order(events: Iterable[msgspec.Struct]) -> list[dict[str, Any]]:
    plain: list[dict[str, Any]] = [msgspec.to_builtins(event) for event in events]
    return sorted(plain, key=lambda row: str(row["event_time"]))


def _alike(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return rows that differ in their time only as one, with how many they are and the last time."""
    found: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        key = tuple(value for name, value in row.items() if name != "event_time")
        times = found.pop(key)["times"] + 1 if key in found else 1
        found[key] = {**row, "times": times}  # at the end, as its last time is the newest
    return list(found.values())
