"""One run of the demo, from the first process started to the summary."""

import asyncio
import contextlib
import heapq
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import polars as pl
from aiokafka import AIOKafkaProducer

from dwcp_stream.demo.cluster import Cluster
from dwcp_stream.demo.scenario import TimedRecord, schedule, tables
from dwcp_stream.demo.watch import TOPICS, Seen, watch
from dwcp_stream.kafka.catalogue import topic_name
from dwcp_stream.kafka.clients import consumer_client, producer_client
from dwcp_stream.settings import Settings
from dwcp_stream.streams import load_streams

LEAD_SECONDS = 1.0
DRAIN_SECONDS = 30.0
REFRESH_SECONDS = 0.5
STREAMS = ("consensus", "link", "node")


async def run(
    settings: Settings, seconds: float, show: Callable[[Seen, float], None], say: Callable[[str], None]
) -> Any:
    """Run the demo and return its summary.

    Parameters
    ----------
    seconds
        How long telemetry is sent.
    show
        Called twice a second with what has been seen and the seconds since sending began.
    say
        Called with what is being waited for.
    """
    streams = {name: s for name, s in load_streams(settings.streams_dir).items() if name in STREAMS}
    say("simulating telemetry")
    telemetry = await asyncio.to_thread(tables)
    with tempfile.TemporaryDirectory(prefix="dwcp-demo-") as name:
        folder = Path(name)
        say("starting the broker and a worker per stream")
        async with Cluster(settings, streams, folder) as cluster:
            return await _play(cluster, telemetry, streams, folder, seconds, show)


async def _play(
    cluster: Cluster,
    telemetry: dict[str, pl.DataFrame],
    streams: Any,
    folder: Path,
    seconds: float,
    show: Callable[[Seen, float], None],
) -> Any:
    prefix = cluster.settings.topics.prefix
    async with producer_client(cluster.settings, linger_ms=2) as producer, watched(cluster, show) as seen:
        now = time.time() + LEAD_SECONDS
        plans = [
            schedule(telemetry[n], s, topic_name(prefix, s.topic), seconds, now, folder) for n, s in streams.items()
        ]
        await _send(producer, heapq.merge(*plans, key=lambda r: r.due), now, seen)
        await drain(cluster, seen)
    return seen.summary()


@contextlib.asynccontextmanager
async def watched(cluster: Cluster, show: Callable[[Seen, float], None]) -> AsyncIterator[Seen]:
    """Watch what the workers publish and count while the block runs; what ends the watching ends the block, too."""
    seen, prefix = Seen(), cluster.settings.topics.prefix
    outputs = [topic_name(prefix, topic) for topic in TOPICS]
    async with consumer_client(cluster.settings, *outputs, auto_offset_reset="earliest") as consumer:
        begun = time.monotonic()
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [
                    group.create_task(watch(consumer, prefix, seen)),
                    group.create_task(_refresh(cluster, seen, show, begun)),
                ]
                yield seen
                for task in tasks:
                    task.cancel()
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from several


async def _send(producer: AIOKafkaProducer, plan: Any, start: float, seen: Seen) -> None:
    record: TimedRecord
    for record in plan:
        wait = start + record.due - time.time()
        if wait > 0:
            await asyncio.sleep(wait)
        await producer.send(record.topic, record.value, key=record.key)
        seen.sent[record.stream] += 1
    await producer.flush()


async def _refresh(cluster: Cluster, seen: Seen, show: Callable[[Seen, float], None], begun: float) -> None:
    while True:
        cluster.check()
        seen.account(await cluster.metrics())
        show(seen, time.monotonic() - begun)
        await asyncio.sleep(REFRESH_SECONDS)


async def drain(cluster: Cluster, seen: Seen) -> None:
    """Wait until every sample sent is accounted for, and the outputs have stopped coming."""
    deadline = time.monotonic() + DRAIN_SECONDS
    before = -1
    while time.monotonic() < deadline:
        seen.account(await cluster.metrics())
        messages = sum(seen.counts.values())
        if seen.accounted_total() >= sum(seen.sent.values()) and messages == before:
            return
        before = messages
        await asyncio.sleep(REFRESH_SECONDS)
