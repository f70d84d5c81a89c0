"""Made-up consensus telemetry of about 380 bytes a sample, written to a topic as fast as the broker takes it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec
import numpy as np

from dwcp_stream.kafka.batches import Row, write_rows
from dwcp_stream.kafka.catalogue import TopicSpec
from dwcp_stream.kafka.clients import producer_client
from dwcp_stream.kafka.producer import key_hash
from dwcp_stream.kafka.topics import admin_client, create_topics
from dwcp_stream.settings import Settings

EPOCH = 1_790_000_000
SLICE = 50_000
SLICE_BYTES = 16 << 20
BATCH_BYTES = 256 << 10


class Sample(msgspec.Struct):
    """One sample of the built-in consensus stream, and a field that the stream does not know."""

    cluster_id: str
    group_id: str
    ts: float
    queue_depth: float
    proposals_pending: int
    proposals_committed: int
    latency_p50: float
    latency_p95: float
    latency_p99: float
    leader_changes: int
    quorum_size: int
    active_nodes: int
    network_tier: str = "tier1"
    dwcp_mode: str = "hybrid"
    consensus_type: str = "raft"
    agent: str = "dwcp-agent/2.1"


def samples(count: int, entities: int, seed: int = 1) -> Iterator[tuple[int, bytes, bytes]]:
    """Time in ms, key and JSON of each sample: one a second of every entity, by turns."""
    rng = np.random.default_rng(seed)
    encode = msgspec.json.Encoder().encode
    for begin in range(0, count, SLICE):
        size = min(SLICE, count - begin)
        levels = (rng.random((size, 4)) * (100.0, 20.0, 50.0, 90.0)).tolist()
        counts = rng.integers(0, (50, 500), (size, 2)).tolist()
        for i, (queue, p50, p95, p99), (pending, done) in zip(range(begin, begin + size), levels, counts, strict=True):
            cluster, at = f"c{i % entities:05d}", EPOCH + i // entities
            sample = Sample(cluster, "0", float(at), queue, pending, done, p50, p95, p99, 0, 5, 7)
            yield at * 1000, f"{cluster}/0".encode(), encode(sample)


class Frame(msgspec.Struct):
    """Samples of one entity as columns; a word stands for all rows."""

    cluster_id: str
    group_id: str
    ts: list[float]
    queue_depth: list[float]
    proposals_pending: list[int]
    proposals_committed: list[int]
    latency_p50: list[float]
    latency_p95: list[float]
    latency_p99: list[float]
    leader_changes: list[int]
    quorum_size: list[int]
    active_nodes: list[int]
    network_tier: str = "tier1"
    dwcp_mode: str = "hybrid"
    consensus_type: str = "raft"
    agent: str = "dwcp-agent/2.1"


def frames(count: int, entities: int, rows: int, seed: int = 1) -> Iterator[tuple[int, bytes, bytes]]:
    """Time of the last row in ms, key and JSON of each frame of `rows` seconds of an entity, by turns."""
    rng = np.random.default_rng(seed)
    encode = msgspec.json.Encoder().encode
    for number in range(count):
        cluster, first = f"c{number % entities:05d}", EPOCH + number // entities * rows
        queue, p50, p95, p99 = (rng.random((4, rows)) * [[100.0], [20.0], [50.0], [90.0]]).tolist()
        pending, done = rng.integers(0, [[50], [500]], (2, rows)).tolist()
        times = [float(first + row) for row in range(rows)]
        level = ([0] * rows, [5] * rows, [7] * rows)
        frame = Frame(cluster, "0", times, queue, pending, done, p50, p95, p99, *level)
        yield (first + rows - 1) * 1000, f"{cluster}/0".encode(), encode(frame)


async def fill(settings: Settings, topic: str, count: int, entities: int, rows: int = 1) -> float:
    """Create a topic, write `count` samples in records of `rows`, and return the mean size of a sample in bytes.

    Uncompressed, as most agents send; record timestamps are the samples' own times.
    """
    made = samples(count, entities) if rows == 1 else frames(count // rows, entities, rows)
    return await write(settings, topic, made) / count


async def write(settings: Settings, topic: str, records: Iterable[tuple[int, bytes, bytes]]) -> int:
    """Create a topic unless it is there, write (time in ms, key, value) to it, and return the bytes of the values."""
    partitions = settings.topics.partitions
    async with admin_client(settings) as admin:
        await create_topics(admin, [TopicSpec(topic, partitions, "entity", "benchmark")])
    written, waiting = 0, 0
    rows: dict[int, list[Row]] = {p: [] for p in range(partitions)}
    async with producer_client(settings, max_batch_size=BATCH_BYTES, compression_type=None, acks=1) as producer:
        for stamp, key, value in records:
            rows[key_hash(key) % partitions].append((key, value, [], stamp))
            written += len(value)
            waiting += len(value)
            if waiting > SLICE_BYTES:
                await write_rows(producer, topic, rows)
                rows, waiting = {p: [] for p in range(partitions)}, 0
        await write_rows(producer, topic, rows)
    return written
