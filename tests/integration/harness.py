"""What the integration tests share: settings, waiting for conditions, reading whole topics.

Workers as processes are in `workers.py`, the telemetry with known alerts in `probe.py`.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from aiokafka import ConsumerRecord, TopicPartition

from dwcp_stream.kafka.clients import consumer_client
from dwcp_stream.kafka.topics import admin_client
from dwcp_stream.settings import Settings

DEADLINE = 60.0
T = TypeVar("T")


def make_settings(bootstrap: str, **sections: Any) -> Settings:
    """Settings for one broker; `sections` are those of the settings file."""
    kafka = {"bootstrap_servers": bootstrap, **sections.pop("kafka", {})}
    return Settings(kafka=kafka, **sections)


async def wait_until(
    condition: Callable[[], T | Awaitable[T]],
    what: str | Callable[[], str],
    deadline: float = DEADLINE,
    every: float = 0.02,
) -> T:
    """Wait for a condition and return what it gave; AssertionError says what did not come about."""
    end = time.monotonic() + deadline
    while True:
        value = condition()
        if isinstance(value, Awaitable):
            value = await value
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"after {deadline:.0f} s still waiting for: {what() if callable(what) else what}")
        await asyncio.sleep(every)


async def read_topic(settings: Settings, topic: str) -> list[ConsumerRecord]:
    """All records that a topic holds now, by partition and offset."""
    records: list[ConsumerRecord] = []
    async with consumer_client(settings) as consumer:
        partitions = await consumer_partitions(settings, topic)
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        ends = await consumer.end_offsets(partitions)
        deadline = time.monotonic() + DEADLINE
        while any([await consumer.position(tp) < ends[tp] for tp in partitions]):
            for batch in (await consumer.getmany(timeout_ms=200)).values():
                records += batch
            assert time.monotonic() < deadline, f"{topic} could not be read to its end"
    return sorted(records, key=lambda r: (r.partition, r.offset))


async def consumer_partitions(settings: Settings, topic: str) -> list[TopicPartition]:
    """The partitions of a topic, none if it does not exist."""
    async with admin_client(settings) as admin:
        topics = [t for t in await admin.describe_topics() if t["topic"] == topic]
    return [TopicPartition(topic, p["partition"]) for t in topics for p in t["partitions"]]
