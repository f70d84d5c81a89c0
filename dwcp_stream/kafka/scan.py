"""Read what a topic holds since some time, once, to its present end."""

import time
from collections.abc import AsyncGenerator, Callable

from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from dwcp_stream.errors import BrokerError
from dwcp_stream.kafka.catalogue import topic_name
from dwcp_stream.kafka.clients import consumer_client
from dwcp_stream.kafka.producer import key_hash
from dwcp_stream.kafka.topics import admin_client, describe
from dwcp_stream.settings import Settings

POLL_MS = 500
SILENT_SECONDS = 30.0
"""A topic from which nothing comes for so long, though it is not at its end, cannot be read."""


async def scan(
    settings: Settings,
    name: str,
    since: float = 0.0,
    progress: Callable[[int, int], None] | None = None,
    *,
    key: bytes | None = None,
) -> AsyncGenerator[ConsumerRecord, None]:
    """Yield the records of one of the daemon's topics, in order within each partition.

    Parameters
    ----------
    name
        The topic's name without the prefix.
    since
        Epoch seconds; by the timestamps of the records.
    progress
        Called with the records read, and how many offsets there are to read.
    key
        Read only the partition that Kafka's default partitioner gives this key.

    Raises
    ------
    BrokerError
        No broker answers, the topic does not exist, or it cannot be read.
    """
    topic = topic_name(settings.topics.prefix, name)
    async with admin_client(settings) as admin:
        found = (await describe(admin, [topic])).get(topic)
    if found is None:
        raise BrokerError("does not exist", where=topic, remedy="Run `dwcp-stream topics create`")
    partitions = [TopicPartition(topic, number) for number in range(found.partitions)]
    if key is not None:
        partitions = [partitions[key_hash(key) % found.partitions]]
    async with consumer_client(settings, auto_offset_reset="earliest") as consumer:
        consumer.assign(partitions)
        try:
            ends = await consumer.end_offsets(partitions)
            begins = await consumer.beginning_offsets(partitions)
            times = await consumer.offsets_for_times(dict.fromkeys(partitions, int(since * 1000)))
        except KafkaError as error:
            raise BrokerError(f"cannot be read: {error}", where=topic, remedy="Try again") from error
        firsts = {tp: max(begins[tp], times[tp].offset if times[tp] else ends[tp]) for tp in partitions}
        left = {tp: end for tp, end in ends.items() if firsts[tp] < end}
        for tp in left:
            consumer.seek(tp, firsts[tp])
        total, read = sum(end - firsts[tp] for tp, end in left.items()), 0
        heard = time.monotonic()
        while left:
            batches = await consumer.getmany(*left, timeout_ms=POLL_MS)
            for tp, records in batches.items():
                for record in records:
                    if record.offset < ends[tp]:
                        read += 1
                        yield record
            if batches:
                heard = time.monotonic()
                if progress is not None:
                    progress(read, total)
            elif time.monotonic() - heard > SILENT_SECONDS:
                raise BrokerError(f"stopped to answer at {read} of {total}", where=topic, remedy="Try again")
            # markers of transactions and compacted records have offsets, but never come
            left = {tp: end for tp, end in left.items() if await consumer.position(tp) < end}
