"""Of several processes one leads: the member of a group that has the only partition of a topic."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.coordinator.assignors.sticky.sticky_assignor import StickyPartitionAssignor
from aiokafka.errors import KafkaError
from structlog import get_logger

from dwcp_stream.errors import BrokerError
from dwcp_stream.kafka.clients import consumer_client
from dwcp_stream.settings import Settings

POLL_MS = 200

log = get_logger(__name__)


class Leadership(ConsumerRebalanceListener):
    """Whether this process leads.

    A member whose session has run out does not know yet that another leads: what a leader does must do no harm if it
    is done twice.
    """

    def __init__(self, consumer: AIOKafkaConsumer, topic: str) -> None:
        self._consumer, self._partition = consumer, TopicPartition(topic, 0)
        self._leads = asyncio.Event()
        consumer.subscribe([topic], listener=self)

    def __call__(self) -> bool:
        """Return whether this process leads now."""
        return self._leads.is_set()

    async def wait(self) -> None:
        """Wait until this process leads."""
        await self._leads.wait()

    def on_partitions_assigned(self, assigned: Collection[TopicPartition]) -> None:
        """Lead if the partition is ours."""
        if self._partition in assigned:
            self._leads.set()

    def on_partitions_revoked(self, revoked: Collection[TopicPartition]) -> None:  # noqa: ARG002  aiokafka names it
        """Lead no longer."""
        self._leads.clear()

    async def stay(self) -> None:
        """Stay a member, for ever: a group puts out whoever does not poll. Records are read by others."""
        while True:
            try:
                await self._consumer.getmany(timeout_ms=POLL_MS)
            except KafkaError as error:
                log.warning("who leads is not known", error=repr(error))
                await asyncio.sleep(1.0)


@asynccontextmanager
async def leadership(settings: Settings, group: str, topic: str) -> AsyncIterator[Leadership]:
    """Yield the leadership of a group over a topic of one partition; BrokerError if no broker answers."""
    options = {
        "group_id": group,
        "auto_offset_reset": "latest",
        "partition_assignment_strategy": (StickyPartitionAssignor,),  # who leads goes on when another joins
        "session_timeout_ms": int(settings.kafka.session_timeout * 1000),
        "heartbeat_interval_ms": int(settings.kafka.session_timeout * 1000 / 5),
    }
    async with consumer_client(settings, **options) as consumer:
        found = Leadership(consumer, topic)
        staying = asyncio.create_task(found.stay())
        try:
            yield found
        finally:
            staying.cancel()
            with contextlib.suppress(asyncio.CancelledError, BrokerError):
                await staying
