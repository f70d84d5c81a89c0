"""The control topic: every reader sees all of it, in order, without a group."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from dwcp_stream.control import Received, Signed
from dwcp_stream.errors import BrokerError
from dwcp_stream.kafka.catalogue import topic_name
from dwcp_stream.kafka.clients import consumer_client, producer_client
from dwcp_stream.kafka.topics import admin_client, describe
from dwcp_stream.settings import Settings

LOG_APPEND_TIME = 1
"""Kafka's number for a timestamp that the broker has set."""
POLL_MS = 500


def control_topic(settings: Settings) -> str:
    """Return the topic's full name."""
    return topic_name(settings.topics.prefix, "control")


@dataclass(slots=True)
class ControlTopic:
    """The records of the topic from its beginning on.

    Attributes
    ----------
    end
        Where the topic ended when reading began: what lies before it is past.
    """

    consumer: AIOKafkaConsumer
    partition: TopicPartition
    end: int

    async def past(self) -> list[Received]:
        """Return what is in the topic already; to be called once, first."""
        found: list[Received] = []
        while await self.consumer.position(self.partition) < self.end:
            found += [received(record) for record in await self._poll() if record.offset < self.end]
        self.consumer.seek(self.partition, self.end)
        return found

    async def next(self) -> list[Received]:
        """Wait a while for records, and return what came."""
        return [received(record) for record in await self._poll()]

    async def _poll(self) -> Sequence[ConsumerRecord]:
        batches = await self.consumer.getmany(self.partition, timeout_ms=POLL_MS)
        records: Sequence[ConsumerRecord] = batches.get(self.partition, [])
        return records


@asynccontextmanager
async def open_control(settings: Settings) -> AsyncIterator[ControlTopic]:
    """Yield the control topic, ready to be read.

    Raises
    ------
    BrokerError
        No broker answers, or the topic does not exist.
    """
    await _demand(settings)
    partition = TopicPartition(control_topic(settings), 0)
    async with consumer_client(settings, auto_offset_reset="earliest") as consumer:
        consumer.assign([partition])
        try:
            end = (await consumer.end_offsets([partition]))[partition]
            await consumer.seek_to_beginning(partition)
        except KafkaError as error:
            raise BrokerError(f"cannot be read: {error}", where=partition.topic, remedy="Try again") from error
        yield ControlTopic(consumer, partition, end)


async def send_command(settings: Settings, signed: Signed) -> int:
    """Write a signed command, wait for its confirmation and return its offset.

    Raises
    ------
    BrokerError
        No broker answers, the topic does not exist, or the brokers refuse.
    """
    await _demand(settings)
    topic = control_topic(settings)
    async with producer_client(settings) as producer:
        try:
            written = await producer.send_and_wait(topic, signed.value, signed.key, partition=0, headers=signed.headers)
        except KafkaError as error:
            raise BrokerError(f"the command was not written: {error}", where=topic, remedy="Try again") from error
    return int(written.offset)


async def _demand(settings: Settings) -> None:
    topic = control_topic(settings)
    async with admin_client(settings) as admin:
        if not await describe(admin, [topic]):
            raise BrokerError("does not exist", where=topic, remedy="Run `dwcp-stream topics create`")


def received(record: ConsumerRecord) -> Received:
    """Return what decides about a record."""
    by_broker = record.timestamp_type == LOG_APPEND_TIME
    return Received(record.offset, record.timestamp, by_broker, record.value, list(record.headers))
