"""A day of checkpoints in minutes: how large a changelog stays that is compacted all the time.

Everything that depends on time is as much faster: the checkpoints, the age at which segments are closed, and the
cleaner's pauses. The cleaner's own work takes as long as ever, so the real log is rather smaller than this one.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.programs import JVM
from benchmarks.telemetry import samples
from dwcp_stream.chunk import Chunk
from dwcp_stream.kafka.batches import write_records
from dwcp_stream.kafka.catalogue import SEGMENT_MS, TOMBSTONE_MS, TopicSpec, changelog_config
from dwcp_stream.kafka.clients import producer_client
from dwcp_stream.kafka.generations import make_key
from dwcp_stream.kafka.topics import admin_client, create_topics
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.settings import Settings
from dwcp_stream.streams import StreamDefinition
from tests.kafka.broker import RealKafka

DAY = 86_400.0
TOPIC = "day-state-changelog"
VARIANTS = 40
"""Different snapshots of an entity, used in turn: equal ones in a batch would compress as real ones do not."""

CLEANER_PAUSE_MS = 15_000
"""Kafka's default of log.cleaner.backoff.ms."""

WATCH_SECONDS, TICK_SECONDS = 0.25, 0.02


def snapshots(stream: StreamDefinition, entities: int, interval: float) -> list[list[tuple[bytes, bytes]]]:
    """Key and value of every entity's snapshot, at `VARIANTS` moments `interval` seconds apart, windows full."""
    pipeline, taken = Pipeline(stream), []
    every, offset, waiting = round(interval), 0, []
    for stamp, key, value in samples(entities * (stream.window + every * VARIANTS), entities):
        waiting.append((stamp, key, value))
        if len(waiting) == entities * every:
            stamps = np.array([one[0] for one in waiting], np.int64)
            offsets = np.arange(offset, offset + len(waiting))
            keys, values = [one[1] for one in waiting], [one[2] for one in waiting]
            pipeline.process(Chunk(stream.topic, 0, offsets, stamps, keys, values))
            offset, waiting = offset + len(waiting), []
            copy = pipeline.copy(0)
            assert copy is not None
            taken.append([(make_key(name, 1), encoded) for name, encoded in copy.snapshots()])
    return taken[-VARIANTS:]


def day(directory: Path, stream: StreamDefinition, entities: int, seconds: float) -> dict[str, Any]:
    """Write a day's checkpoints of some entities in so many seconds; sizes of the changelog in bytes."""
    settings = Settings()
    interval, faster = settings.checkpoint_interval, DAY / seconds
    variants = snapshots(stream, entities, interval)
    pause = str(max(1, round(CLEANER_PAUSE_MS / faster)))
    config = {
        "log.cleaner.backoff.ms": pause,
        "log.retention.check.interval.ms": pause,
        "log.segment.delete.delay.ms": "0",
    }
    with RealKafka(directory / "day", jvm=JVM, config=config) as kafka:
        settings = Settings(kafka={"bootstrap_servers": kafka.bootstrap})
        logs = kafka.directory / "data"
        sizes, cycles = asyncio.run(written(settings, logs, variants, interval / faster, seconds))
    live = sum(len(key) + len(value) for key, value in variants[0])
    return {
        "entities": entities, "seconds": seconds, "checkpoint_interval": interval, "checkpoints": cycles,
        "written_bytes": live * cycles, "live_bytes": live,
        "mean_bytes": float(np.mean(sizes[len(sizes) // 2 :])), "largest_bytes": max(sizes), "last_bytes": sizes[-1],
    }  # fmt: skip


async def written(
    settings: Settings, logs: Path, variants: list[list[tuple[bytes, bytes]]], every: float, seconds: float
) -> tuple[list[int], int]:
    """Write the checkpoints at their pace; returns the log's size through the day, and the number of checkpoints."""
    fast = seconds / DAY
    aged = {"segment.ms": str(max(1, round(SEGMENT_MS * fast))), "delete.retention.ms": str(round(TOMBSTONE_MS * fast))}
    async with admin_client(settings) as admin:
        await create_topics(admin, [TopicSpec(TOPIC, 1, "entity", "benchmark", {**changelog_config(), **aged})])
    sizes, begun, cycle, looked = [], time.perf_counter(), 0, 0.0
    async with producer_client(settings) as producer:
        while (passed := time.perf_counter() - begun) < seconds:
            due = range(cycle, int(passed / every))
            # in one write: many at once would wait for each other's batches
            records = [(0, key, value) for n in due for key, value in variants[n % len(variants)]]
            if records:
                await write_records(producer, TOPIC, records)
            cycle = max(cycle, due.stop)
            if passed > looked:
                looked += WATCH_SECONDS
                sizes.append(await asyncio.to_thread(size, logs))
            await asyncio.sleep(TICK_SECONDS)
    return sizes, cycle


def size(logs: Path) -> int:
    """Bytes of the topic's segments; one may go away while they are counted."""
    total = 0
    for file in logs.glob(f"{TOPIC}-0/*.log"):
        try:
            total += file.stat().st_size
        except FileNotFoundError:
            continue
    return total
