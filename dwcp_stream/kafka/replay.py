"""Send a file's samples to a stream's topic, at their own pace or as fast as it goes."""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Literal

import polars as pl
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from dwcp_stream.errors import BrokerError, PayloadError
from dwcp_stream.kafka.batches import Row, write_rows
from dwcp_stream.kafka.clients import producer_client
from dwcp_stream.kafka.inspection import source_topic
from dwcp_stream.kafka.producer import key_hash
from dwcp_stream.kafka.rights import REFUSALS, refused
from dwcp_stream.settings import Settings
from dwcp_stream.streams import StreamDefinition
from dwcp_stream.streams.files import read_table, rows_to_records

MOST_AT_ONCE = 10_000
"""Records encoded before they are written; bounds memory, and the step of the progress bar."""

LONGEST_NAP = 0.25
"""Seconds slept at most between two looks at the clock, so that progress shows at any pace."""

_DUE = "__due"


@dataclass(frozen=True)
class Replayed:
    """What was sent. Times are epoch seconds of the samples as they were sent; None if none has a time."""

    stream: str
    topic: str
    sent: int
    entities: int
    bytes: int
    seconds: float
    messages_per_second: float
    first_ts: float | None
    last_ts: float | None
    shift_seconds: float


def read_files(paths: Sequence[Path], stream: StreamDefinition, entity: str | None = None) -> pl.DataFrame:
    """Read files into one table, in the order in which samples are to be sent.

    One file keeps its order, late samples too. Several are merged by time: each file's clock is the newest
    time seen in it so far.

    Raises
    ------
    PayloadError
        A file cannot be read as telemetry of the stream.
    """
    tables = []
    for path in paths:
        table = read_table(path, stream, entity)
        clock = pl.col(stream.time).fill_nan(None).cum_max().forward_fill().backward_fill().fill_null(0.0)
        tables.append(table.with_columns(clock.alias(_DUE)))
    if not tables:
        raise PayloadError("no file was given", remedy="Give --data FILE")
    merged = tables[0] if len(tables) == 1 else pl.concat(tables, how="diagonal_relaxed")
    return merged.sort(_DUE, maintain_order=True) if len(tables) > 1 else merged


async def replay(
    settings: Settings,
    stream: StreamDefinition,
    table: pl.DataFrame,
    *,
    speed: float | None = None,
    stamp: Literal["now", "sample"] = "now",
    shift_to_now: Literal["first", "last"] | None = None,
    limit: int | None = None,
    advance: Callable[[float], None] = lambda _: None,
) -> Replayed:
    """Send a table made by `read_files`.

    Parameters
    ----------
    speed
        Event seconds per second of the clock; None: as fast as it goes.
    stamp
        Record timestamps: the moment of sending, or the sample's own time.
    shift_to_now
        Move all sample times by one constant, so that the first or the last one is now.
    limit
        Samples sent at most.
    advance
        Called with the number of samples sent since the last call.

    Raises
    ------
    BrokerError
        No broker answers, the topic does not exist, or records are refused.
    """
    table = table.head(limit) if limit is not None else table
    due = table[_DUE]
    shift = 0.0
    if shift_to_now and len(due):
        shift = time.time() - float(due[0] if shift_to_now == "first" else due[-1])
        table = table.with_columns(pl.col(stream.time) + shift)
    topic = source_topic(settings, stream)
    sizes = 0
    keys: set[bytes] = set()
    async with producer_client(settings) as producer:
        partitions = await topic_partitions(producer, topic)
        begin = time.monotonic()
        records = rows_to_records(table, stream)
        for count in _portions(due, speed, begin):
            if isinstance(count, float):
                await asyncio.sleep(count)
                continue
            rows: dict[int, list[Row]] = {p: [] for p in range(partitions)}
            for key, value, ms in islice(records, count):
                rows[key_hash(key) % partitions].append((key, value, [], ms if stamp == "sample" else None))
                keys.add(key)
                sizes += len(value)
            await write_rows(producer, topic, rows)
            advance(count)
        seconds = time.monotonic() - begin
    times = table[stream.time].drop_nulls()
    first, last = (float(times.min()), float(times.max())) if len(times) else (None, None)  # type: ignore[arg-type]
    rate = len(table) / seconds if seconds else 0.0
    return Replayed(stream.name, topic, len(table), len(keys), sizes, seconds, rate, first, last, shift)


async def topic_partitions(producer: AIOKafkaProducer, topic: str) -> int:
    """Return a topic's number of partitions; BrokerError if it does not exist or may not be written to."""
    try:
        return len(await producer.partitions_for(topic))
    except REFUSALS as error:
        raise refused(topic, "this user may not write to it") from error
    except KafkaError as error:
        raise BrokerError("does not exist", where=topic, remedy="Run: dwcp-stream topics create") from error


def _portions(due: pl.Series, speed: float | None, begin: float) -> Iterator[int | float]:
    """Yield how many samples to send next (int), or how many seconds to wait before (float)."""
    sent, total = 0, len(due)
    if speed is None:
        while sent < total:
            count = min(MOST_AT_ONCE, total - sent)
            sent += count
            yield count
        return
    start = float(due[0]) if total else 0.0
    while sent < total:
        reached = start + (time.monotonic() - begin) * speed
        ready = min(int(due.search_sorted(reached, side="right")), sent + MOST_AT_ONCE)
        if ready > sent:
            yield ready - sent
            sent = ready
        else:
            yield min((float(due[sent]) - reached) / speed, LONGEST_NAP)
