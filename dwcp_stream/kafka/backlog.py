"""Telemetry that is not processed yet, appended again where its keys belong under a new number of partitions."""

import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from dwcp_stream.errors import BrokerError
from dwcp_stream.kafka.batches import Row, write_rows
from dwcp_stream.kafka.producer import key_hash
from dwcp_stream.kafka.topics import log_ranges

MARK = "dwcp_repartition"
"""Header of a record that was appended again; its value names the migration."""

PORTION = 10_000
"""Records held at once before they are written."""

STALLED = 60.0


@dataclass(slots=True)
class Appended:
    """What was appended.

    Attributes
    ----------
    positions
        Offset at which the appended records begin, by partition.
    counts
        Number of them, by partition.
    applied
        New offset of the last record that an entity's snapshot has seen, by key.
    """

    positions: list[int]
    counts: list[int]
    applied: dict[bytes, int] = field(default_factory=dict)


async def by_time(
    consumer: AIOKafkaConsumer, topic: str, ranges: Mapping[int, tuple[int, int]]
) -> AsyncIterator[ConsumerRecord]:
    """Yield the records of partitions' offset ranges by timestamp; the order within a partition is kept.

    By time, because entities that share a partition also share its event time: one partition's records after
    another's would make the entities of the second look silent.
    """
    ends = {TopicPartition(topic, p): end for p, (start, end) in ranges.items() if start < end}
    if not ends:
        return
    consumer.assign(list(ends))
    for tp in ends:
        consumer.seek(tp, ranges[tp.partition][0])
    waiting: dict[TopicPartition, deque[ConsumerRecord]] = {tp: deque() for tp in ends}
    last = time.monotonic()
    while waiting:
        for tp in [tp for tp, records in waiting.items() if not records]:
            if await consumer.position(tp) >= ends[tp]:
                del waiting[tp]
        empty = [tp for tp, records in waiting.items() if not records]
        if empty:
            fetched = await consumer.getmany(*empty, timeout_ms=500)
            for tp, records in fetched.items():
                waiting[tp].extend(r for r in records if r.offset < ends[tp])
            if fetched:
                last = time.monotonic()
            elif time.monotonic() - last > STALLED:
                raise BrokerError(f"no records came for {STALLED:.0f} s", where=topic, remedy="Check the brokers' log")
            continue
        if waiting:
            yield min(waiting.values(), key=lambda records: (records[0].timestamp, records[0].partition)).popleft()


async def append_backlog(
    consumer: AIOKafkaConsumer,
    producer: AIOKafkaProducer,
    topic: str,
    starts: list[int],
    *,
    before: int,
    migration: str,
    ahead: Mapping[bytes, tuple[int, int]],
    advance: Callable[[float], None] = lambda _: None,
) -> Appended:
    """Append every record at or after the positions again, on the partition of its key.

    What an earlier attempt of the same migration has appended is left out, so that it can be repeated. Records
    that came while the topic had its old number of partitions go first: for an entity whose partition is another
    one now they are the older ones.

    Parameters
    ----------
    starts
        First unprocessed offset by partition, for all partitions that the topic has now.
    before
        The number of partitions that the state was written for.
    migration
        Name of the migration, put into a header.
    ahead
        (partition, offset applied) by key of entities whose snapshot is newer than the position.
    advance
        Called with the number of records read since the last call.

    Raises
    ------
    BrokerError
        Somebody else writes into the topic. Nothing is lost: call again when it is quiet.
    """
    partitions = len(starts)
    tps = [TopicPartition(topic, p) for p in range(partitions)]
    logs = await log_ranges(consumer, topic, partitions)
    positions = [end for _, end in logs.values()]
    ranges = {p: (max(starts[p], begin), end) for p, (begin, end) in logs.items()}
    done = Appended(positions, [0] * partitions)
    mark = migration.encode()
    for at_home in (True, False):
        rows: dict[int, list[Row]] = {}
        held = 0
        async for record in by_time(consumer, topic, ranges):
            home = record.key is None or key_hash(record.key) % before == record.partition
            if home is at_home and (MARK, mark) not in record.headers:
                target = record.partition if record.key is None else key_hash(record.key) % partitions
                number, applied = ahead.get(record.key, (-1, -1))
                if number == record.partition and record.offset <= applied:
                    done.applied[record.key] = positions[target] + done.counts[target]
                done.counts[target] += 1
                headers = [*record.headers, (MARK, mark)]
                rows.setdefault(target, []).append((record.key, record.value, headers, record.timestamp))
            held += 1
            if held == PORTION:
                await write_rows(producer, topic, rows)
                advance(held / 2)
                rows, held = {}, 0
        await write_rows(producer, topic, rows)
        advance(held / 2)
    now = await consumer.end_offsets(tps)
    for tp in tps:
        expected = positions[tp.partition] + done.counts[tp.partition]
        if now[tp] != expected:
            raise BrokerError(
                f"partition {tp.partition} ends at {now[tp]}, not at {expected}: somebody else writes into it",
                where=topic,
                remedy="Stop the senders of this stream and run the same command again; nothing is lost",
            )
    return done
