"""Hands records of the daemon's topics to the trainer's knowledge; what cannot be read is counted."""

from collections import Counter
from collections.abc import Sequence
from typing import Protocol

import msgspec

from dwcp_stream.errors import UNREADABLE
from dwcp_stream.events import Accuracy, Alert, ArmScores, Drift, ModelDecision
from dwcp_stream.loop.knowledge import Knowledge


class Record(Protocol):
    """What is needed of a record of Kafka."""

    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class Intake:
    """Tells messages apart by their topic and event type.

    Parameters
    ----------
    knowledge
        What they are handed to.

    Attributes
    ----------
    unreadable
        Records that are not what their topic and type say, by topic.
    """

    topics = ("accuracy", "drift", "anomalies", "feedback", "models")

    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge
        self.unreadable: Counter[str] = Counter()

    def take(self, topic: str, record: Record) -> None:
        """Take a record of a topic, by the topic's logical name."""
        try:
            self._take(topic, record)
        except UNREADABLE:
            self.unreadable[topic] += 1

    def _take(self, topic: str, record: Record) -> None:
        headers = dict(record.headers)
        event_id, kind = headers.get("ce_id", b"").decode(), headers.get("ce_type", b"").decode()
        value, knowledge = record.value or b"", self._knowledge
        if kind == "dwcp.accuracy.scores":
            knowledge.scores(event_id, msgspec.json.decode(value, type=ArmScores))
        elif topic == "accuracy":
            knowledge.accuracy(event_id, msgspec.json.decode(value, type=Accuracy))
        elif topic == "drift":
            knowledge.drift(msgspec.json.decode(value, type=Drift))
        elif topic == "anomalies":
            knowledge.alert(msgspec.json.decode(value, type=Alert))
        elif topic == "feedback":
            knowledge.alerts.judgement(value, record.headers)
        elif kind == "dwcp.model.decided":
            knowledge.decision(event_id, msgspec.json.decode(value, type=ModelDecision))
