"""Write many records fast: whole batches per partition instead of one future per record."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from dwcp_stream.errors import BrokerError
from dwcp_stream.kafka.rights import REFUSALS, refused

Headers = list[tuple[str, bytes]]
Row = tuple[bytes | None, bytes | None, Headers, int | None]
"""(key, value, headers, timestamp in ms or None for now) of a record."""

YIELD_BYTES = 128 << 10
"""Bytes put into a batch before other tasks may run: below a millisecond of work."""


async def write_records(
    producer: AIOKafkaProducer, topic: str, records: Iterable[tuple[int, bytes, bytes | None]]
) -> dict[int, int]:
    """Write (partition, key, value) records and wait until all are confirmed.

    Order within a partition is kept. Nothing is known of what was written when it fails: write all of it
    again.

    Returns
    -------
    dict
        Offset of the last record by partition.

    Raises
    ------
    BrokerError
        A batch was refused; the others have ended too by then.
    """
    rows: dict[int, list[Row]] = defaultdict(list)
    for partition, key, value in records:
        rows[partition].append((key, value, [], None))
    return await write_rows(producer, topic, rows)


async def write_rows(producer: AIOKafkaProducer, topic: str, rows: dict[int, list[Row]]) -> dict[int, int]:
    """Write rows by partition; as `write_records`, with headers and timestamps."""
    lanes = [_write_partition(producer, topic, p, part) for p, part in rows.items() if part]
    results = await asyncio.gather(*lanes, return_exceptions=True)
    for result in results:
        if isinstance(result, REFUSALS):
            raise refused(topic, "this user may not write to it") from result
        if isinstance(result, KafkaError):
            raise BrokerError(
                f"records were refused: {type(result).__name__}: {result}",
                where=topic,
                remedy="Check the topic's settings and the brokers' log",
            ) from result
        if isinstance(result, BaseException):
            raise result
    return dict(r for r in results if not isinstance(r, BaseException))


async def _write_partition(
    producer: AIOKafkaProducer, topic: str, partition: int, rows: Sequence[Row]
) -> tuple[int, int]:
    sent: list[asyncio.Future[Any]] = []
    batch, held = producer.create_batch(), 0
    for key, value, headers, timestamp in rows:
        if batch.append(key=key, value=value, timestamp=timestamp, headers=headers) is None:
            sent.append(await _send(producer, batch, topic, partition))
            batch = producer.create_batch()
            # the first record of a batch always fits; one too large for the topic is refused by the broker
            batch.append(key=key, value=value, timestamp=timestamp, headers=headers)
        held += len(value) if value else 0
        if held > YIELD_BYTES:
            held = 0
            await asyncio.sleep(0)
    sent.append(await _send(producer, batch, topic, partition))
    written = await asyncio.gather(*sent, return_exceptions=True)  # all end before an error is passed on
    for result in written:
        if isinstance(result, BaseException):
            raise result
    last: Any = written[-1]
    return partition, last.offset + batch.record_count() - 1


async def _send(producer: AIOKafkaProducer, batch: Any, topic: str, partition: int) -> "asyncio.Future[Any]":
    batch.close()
    future: asyncio.Future[Any] = await producer.send_batch(batch, topic, partition=partition)
    return future
