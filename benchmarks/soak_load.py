"""Telemetry in real time whose entities come and go, with faults among the samples and bad records between them."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass

import msgspec
import numpy as np

from benchmarks.telemetry import BATCH_BYTES, Sample
from dwcp_stream.kafka.batches import Row, write_rows
from dwcp_stream.kafka.clients import producer_client
from dwcp_stream.kafka.producer import key_hash
from dwcp_stream.settings import Settings

POISON = (
    b"",
    b"{",
    b"\xff\xfe{}",
    b'{"cluster_id":"c","ts":"yesterday","queue_depth":1}',
    b'{"cluster_id":"c","ts":1,"queue_depth":-1}',
    b'{"cluster_id":"c","ts":[1,2],"queue_depth":[1,2],"dwcp_mode":["warp",1e999]}',
)
FAULTY = 0.002
"""Share of the entities that begin a fault in a second."""
FAULT_SECONDS = 8


@dataclass
class Population:
    """`live` entities of one sample a second each, of which the oldest are replaced after `lifetime` seconds.

    Parameters
    ----------
    poison
        Bad records for each thousand samples.
    seed
        Of the numbers.
    """

    live: int
    lifetime: float
    poison: int = 2
    seed: int = 1

    def __post_init__(self) -> None:
        self._rng = np.random.default_rng(self.seed)
        self._first = 0
        self._faulty: dict[int, int] = {}
        self._encode = msgspec.json.Encoder().encode

    def second(self, number: int, at: float) -> Iterator[tuple[bytes, bytes]]:
        """Key and value of the records of one second that begins at `at`, epoch seconds."""
        self._first = int(number * self.live / self.lifetime)
        rng, size = self._rng, self.live
        levels = (rng.random((size, 4)) * (100.0, 20.0, 50.0, 90.0)).tolist()
        counts = rng.integers(0, (50, 500), (size, 2)).tolist()
        for entity in self._first + np.flatnonzero(rng.random(size) < FAULTY):
            self._faulty[int(entity)] = number + FAULT_SECONDS
        self._faulty = {entity: end for entity, end in self._faulty.items() if end > number}
        rows = zip(range(self._first, self._first + size), levels, counts, strict=True)
        for i, (entity, (queue, p50, p95, p99), (pending, done)) in enumerate(rows):
            slow = 40.0 if entity in self._faulty else 1.0
            cluster = f"c{entity:08d}"
            sample = Sample(
                cluster, "0", at + i / size, queue * slow, pending, done, p50 * slow, p95 * slow, p99 * slow, 0, 5, 7
            )
            yield f"{cluster}/0".encode(), self._encode(sample)
        for i in range(size * self.poison // 1000):
            yield b"poison", POISON[(number + i) % len(POISON)]

    @property
    def entities(self) -> int:
        """How many there have been."""
        return self._first + self.live


class Feeder:
    """Writes a population's records, second by second, until told to stop."""

    def __init__(self, settings: Settings, topic: str, population: Population) -> None:
        self.settings, self.topic, self.population = settings, topic, population
        self.sent = 0
        self.late = 0.0
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Let the second that is under way be the last."""
        self._stopping.set()

    async def run(self) -> None:
        """Write until stopped; `late` is how far it is behind the clock, seconds."""
        partitions, begin, number = self.settings.topics.partitions, time.time(), 0
        async with producer_client(self.settings, max_batch_size=BATCH_BYTES, acks=1) as producer:
            while not self._stopping.is_set():
                rows: dict[int, list[Row]] = {p: [] for p in range(partitions)}
                for key, value in self.population.second(number, begin + number):
                    rows[key_hash(key) % partitions].append((key, value, [], None))
                    self.sent += 1
                await write_rows(producer, self.topic, rows)
                number += 1
                self.late = max(0.0, time.time() - begin - number)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), max(0.001, begin + number - time.time()))
