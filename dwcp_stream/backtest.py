"""Drive the pipeline from a file instead of Kafka: the same records, in the same partitions, so the same alerts."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from aiokafka.partitioner import murmur2

from dwcp_stream.chunk import Chunk, ChunkResult
from dwcp_stream.events import Output
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.streams import StreamDefinition
from dwcp_stream.streams.files import read_table, rows_to_records

CHUNK_RECORDS = 4000

Record = tuple[bytes, bytes, int]
"""(key, value, timestamp in ms), as `replay` sends them."""


@lru_cache(maxsize=1 << 16)
def partition_of(key: bytes, partitions: int) -> int:
    """Return the partition Kafka's default partitioner gives a key (murmur2 of the key, sign bit cleared)."""
    return int((murmur2(key) & 0x7FFFFFFF) % partitions)


def backtest(
    pipeline: Pipeline, records: Iterable[Record], *, partitions: int = 4, chunk_records: int = CHUNK_RECORDS
) -> Iterator[ChunkResult]:
    """Run records through a pipeline and yield each chunk's result.

    Parameters
    ----------
    pipeline
        A fresh pipeline of the records' stream.
    records
        In the order they would have been sent.
    partitions
        Partitions the stream's topic would have: watermarks, and so expiry and drift, are per partition.
    chunk_records
        Records of a chunk; the results do not depend on it.
    """
    waiting: defaultdict[int, list[Record]] = defaultdict(list)
    sent: defaultdict[int, int] = defaultdict(int)
    topic = pipeline.stream.topic

    def process(partition: int) -> ChunkResult:
        batch = waiting.pop(partition)
        begin = sent[partition]
        sent[partition] += len(batch)
        offsets = np.arange(begin, begin + len(batch), dtype=np.int64)
        stamps = np.fromiter((r[2] for r in batch), np.int64, len(batch))
        return pipeline.process(Chunk(topic, partition, offsets, stamps, [r[0] for r in batch], [r[1] for r in batch]))

    for record in records:
        partition = partition_of(record[0], partitions)
        waiting[partition].append(record)
        if len(waiting[partition]) >= chunk_records:
            yield process(partition)
    for partition in sorted(waiting):
        yield process(partition)


def read_records(files: Iterable[Path], stream: StreamDefinition, entity: str | None) -> Iterator[Record]:
    """Yield the records that `replay` would send of some files, one file after the other."""
    for path in files:
        yield from rows_to_records(read_table(path, stream, entity), stream)


def published(output: Output) -> dict[str, Any]:
    """Return a message as a reader of its topic sees it: the payload, and its CloudEvents id as `id`."""
    body: dict[str, Any] = msgspec.json.decode(output.value)
    body["id"] = dict(output.headers)["ce_id"].decode()
    return body
