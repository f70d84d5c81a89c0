"""Reads what the workers publish, as an alerting system would, and keeps what the demo shows."""

import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from aiokafka import AIOKafkaConsumer
from prometheus_client.parser import text_string_to_metric_families

TOPICS = ("anomalies", "predictions", "drift", "accuracy", "deadletter")
OUTCOMES = ("scored", "warming_up", "duplicate", "late", "invalid")
RECENT = 8


@dataclass(slots=True)
class Seen:
    """What has been seen so far."""

    alerts: list[dict[str, Any]] = field(default_factory=list)
    received: list[float] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)
    recent: deque[str] = field(default_factory=lambda: deque(maxlen=RECENT))
    forecasts: deque[str] = field(default_factory=lambda: deque(maxlen=3))
    drifts: deque[str] = field(default_factory=lambda: deque(maxlen=3))
    sent: Counter[str] = field(default_factory=Counter)
    accounted: dict[str, Counter[str]] = field(default_factory=dict)

    def take(self, topic: str, value: bytes | None, headers: dict[str, bytes], received: float) -> None:
        """Take one message of an output topic."""
        self.counts[topic] += 1
        if topic == "deadletter" or value is None:
            return
        body = msgspec.json.decode(value)
        if topic == "anomalies":
            body["id"] = headers["ce_id"].decode()
            self.alerts.append(body)
            self.received.append(received)
            if "source_timestamp_ms" in headers:
                self.latencies.append(received - int(headers["source_timestamp_ms"]) / 1000)
            self.recent.append(body["annotations"]["summary"])
        elif topic == "predictions" and body["kind"] == "forecast" and body["forecasts"]:
            nearest = body["forecasts"][0]
            first = next(iter(nearest["corrected"].items()))
            self.forecasts.append(f"{body['entity']} {first[0]} {first[1][1]:.4g} by {nearest['target_time']}")
        elif topic == "drift":
            self.drifts.append(f"{body['stream']}/{body['model']} {body['previous']} -> {body['state']}")

    def account(self, texts: dict[str, str]) -> None:
        """Take the workers' counters from the text of their metrics."""
        for stream, text in texts.items():
            found: Counter[str] = Counter()
            for family in text_string_to_metric_families(text):
                if family.name == "dwcp_samples":
                    for sample in family.samples:
                        if sample.name == "dwcp_samples_total":
                            found[sample.labels["outcome"]] += int(sample.value)
            self.accounted[stream] = found

    def accounted_total(self) -> int:
        """Return how many samples the workers have accounted for."""
        return sum(sum(counter.values()) for counter in self.accounted.values())

    def summary(self) -> dict[str, Any]:
        """Return the result of the demo."""
        totals = Counter[str]()
        for counter in self.accounted.values():
            totals.update(counter)
        p50, p99 = np.percentile(self.latencies, [50, 99]).tolist() if self.latencies else (None, None)
        return {
            "samples_in": int(sum(self.sent.values())),
            "accounted": {outcome: totals[outcome] for outcome in OUTCOMES},
            "alerts": self.alerts,
            "predictions": self.counts["predictions"],
            "drift_events": self.counts["drift"],
            "accuracy_messages": self.counts["accuracy"],
            "dead_letters": self.counts["deadletter"],
            "latency_seconds": {"p50": p50, "p99": p99},
            "streams": {name: {"sent": self.sent[name], **dict(self.accounted.get(name, {}))} for name in self.sent},
        }


async def watch(consumer: AIOKafkaConsumer, prefix: str, seen: Seen) -> None:
    """Read the output topics until cancelled."""
    while True:
        batches = await consumer.getmany(timeout_ms=250)
        received = time.time()
        for partition, records in batches.items():
            topic = partition.topic.removeprefix(prefix)
            for record in records:
                seen.take(topic, record.value, dict(record.headers), received)
