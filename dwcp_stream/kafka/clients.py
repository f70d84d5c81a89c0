"""aiokafka clients whose settings lose nothing: made here, so that every command talks to Kafka alike."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.codec import has_lz4
from aiokafka.errors import KafkaError

from dwcp_stream.kafka.reach import unreachable
from dwcp_stream.kafka.rights import REFUSALS, refused
from dwcp_stream.settings import Settings, kafka_client_options

BATCH_BYTES = 512 << 10
"""Largest batch of records: half of what a topic accepts by default."""


def compression() -> str | None:
    """Return the codec to write with: lz4 if its package (cramjam) is there, else none.

    gzip, the only codec of the standard library, costs more time here than it saves in bytes.
    """
    return "lz4" if has_lz4() else None


def make_producer(settings: Settings, **options: Any) -> AIOKafkaProducer:
    """Return a producer (not started) whose records are confirmed by all replicas, in order per partition.

    Not an idempotent one, on purpose. Repeats are harmless here (an output's id, a snapshot's offset tell
    them), while aiokafka's idempotent producer never recovers from a refused batch: every later one of that
    partition is out of sequence. Nor does the embedded broker know idempotence.
    """
    given = {
        **kafka_client_options(settings),
        "acks": "all",
        "max_batch_size": BATCH_BYTES,
        "compression_type": compression(),
        **options,
    }
    return AIOKafkaProducer(**given)


@asynccontextmanager
async def producer_client(settings: Settings, **options: Any) -> AsyncIterator[AIOKafkaProducer]:
    """Yield a started producer; BrokerError if no broker answers."""
    producer = make_producer(settings, **options)
    try:
        await producer.start()
    except REFUSALS as error:
        await producer.stop()
        raise refused(_named(error)) from error
    except (KafkaError, OSError) as error:
        await producer.stop()
        raise await unreachable(settings) from error
    try:
        yield producer
    except REFUSALS as error:
        raise refused(_named(error)) from error
    finally:
        await producer.stop()


@asynccontextmanager
async def consumer_client(settings: Settings, *topics: str, **options: Any) -> AsyncIterator[AIOKafkaConsumer]:
    """Yield a started consumer that commits nothing; BrokerError if no broker answers."""
    given = {**kafka_client_options(settings), "enable_auto_commit": False, **options}
    consumer = AIOKafkaConsumer(*topics, **given)
    try:
        await consumer.start()
        await asyncio.sleep(0)  # its tasks must have begun before `stop`, which otherwise takes itself for cancelled
    except REFUSALS as error:
        await consumer.stop()
        raise refused(_named(error)) from error
    except (KafkaError, OSError) as error:
        await consumer.stop()
        raise await unreachable(settings) from error
    try:
        yield consumer
    except REFUSALS as error:
        raise refused(_named(error)) from error
    finally:
        await consumer.stop()


def _named(error: KafkaError) -> str:
    """Return what a refusal is about: aiokafka gives the topics or the group as the error's argument."""
    names = error.args[0] if error.args else ""
    return ", ".join(sorted(names)) if isinstance(names, set | frozenset | list | tuple) else str(names)
