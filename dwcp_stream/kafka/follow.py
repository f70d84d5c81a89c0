"""Follow some of the daemon's topics, all partitions, without a group."""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from dwcp_stream.errors import BrokerError
from dwcp_stream.kafka.catalogue import topic_name
from dwcp_stream.kafka.clients import consumer_client
from dwcp_stream.kafka.topics import admin_client, describe
from dwcp_stream.settings import Settings

POLL_MS = 500
SILENT_SECONDS = 30.0


@dataclass(slots=True)
class Followed:
    """Topics that are being read.

    Attributes
    ----------
    names
        Logical names by full name.
    """

    consumer: AIOKafkaConsumer
    partitions: list[TopicPartition]
    names: dict[str, str]

    async def next(self, timeout_ms: int = POLL_MS) -> list[ConsumerRecord]:
        """Wait a while for records, and return what came."""
        batches = await self.consumer.getmany(*self.partitions, timeout_ms=timeout_ms)
        return [record for records in batches.values() for record in records]

    async def to_end(self) -> AsyncIterator[list[ConsumerRecord]]:
        """Yield records until all are read that are there now.

        Raises
        ------
        BrokerError
            If the brokers stop to answer.
        """
        try:
            ends = await self.consumer.end_offsets(self.partitions)
        except KafkaError as error:
            raise BrokerError(f"cannot be read: {error}", where=", ".join(self.names), remedy="Try again") from error
        heard = time.monotonic()
        while any([await self.consumer.position(tp) < end for tp, end in ends.items()]):
            records = await self.next()
            if records:
                heard = time.monotonic()
                yield records
            elif time.monotonic() - heard > SILENT_SECONDS:
                raise BrokerError("stopped to answer", where=", ".join(self.names), remedy="Try again")


@asynccontextmanager
async def follow(
    settings: Settings, names: Sequence[str], since: Mapping[str, float] | None = None
) -> AsyncIterator[Followed]:
    """Yield topics by their logical names, ready to be read from the beginning.

    Parameters
    ----------
    since
        Epoch seconds by logical name: that topic is read from the first record on that is as new, by the timestamps of
        the records.

    Raises
    ------
    BrokerError
        No broker answers, or a topic does not exist.
    """
    full = {topic_name(settings.topics.prefix, name): name for name in names}
    async with admin_client(settings) as admin:
        found = await describe(admin, list(full))
    if lacking := [name for name in full if name not in found]:
        raise BrokerError("does not exist", where=", ".join(lacking), remedy="Run `dwcp-stream topics create`")
    partitions = [TopicPartition(name, n) for name in full for n in range(found[name].partitions)]
    async with consumer_client(settings, auto_offset_reset="earliest") as consumer:
        consumer.assign(partitions)
        await consumer.seek_to_beginning(*partitions)
        await _seek(consumer, {tp: since[full[tp.topic]] for tp in partitions if since and full[tp.topic] in since})
        yield Followed(consumer, partitions, full)


async def _seek(consumer: AIOKafkaConsumer, since: Mapping[TopicPartition, float]) -> None:
    """Go to the first record of each partition that is as new as a time, to the end if there is none."""
    if not since:
        return
    times = await consumer.offsets_for_times({tp: int(when * 1000) for tp, when in since.items()})
    ends = await consumer.end_offsets(list(since))
    for tp in since:
        consumer.seek(tp, times[tp].offset if times[tp] else ends[tp])
