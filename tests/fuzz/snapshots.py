"""Snapshots and partition records as a checkpoint writes them, to begin from."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

import numpy as np

from dwcp_stream.chunk import Chunk
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.streams import StreamDefinition
from tests.fuzz.payloads import NOW, Payloads


def checkpointed(stream: StreamDefinition, rounds: int = 3) -> list[tuple[str | None, bytes]]:
    """What a checkpoint of a few entities writes: (entity, snapshot) pairs, then (None, partition record)."""
    made, pipeline = Payloads(stream, Random(1), entities=2), Pipeline(stream)
    values = [made.sample() for _ in range(40 * rounds)]
    n = len(values)
    pipeline.process(Chunk(stream.topic, 0, np.arange(n), np.full(n, int((NOW + 60) * 1000)), [b"k"] * n, values))
    copy = pipeline.copy(0)
    return [*copy.snapshots(), (None, copy.record())]


def seeds(streams: Iterable[StreamDefinition]) -> list[bytes]:
    """A few inputs of each stream."""
    return [data for stream in streams for _, data in checkpointed(stream)[-4:]]
