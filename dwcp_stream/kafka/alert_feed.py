"""Reads the alerts' topic for one sink: offsets are committed when the sink has what is before them.

Each sink has a consumer group of its own, so one that is down holds up nobody else: its backlog stays in Kafka.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple, Protocol

import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from structlog import get_logger

from dwcp_stream.errors import UNREADABLE, BrokerError
from dwcp_stream.events import Alert
from dwcp_stream.kafka.catalogue import topic_name
from dwcp_stream.kafka.clients import consumer_client
from dwcp_stream.kafka.rights import REFUSALS
from dwcp_stream.kafka.scan import scan
from dwcp_stream.settings import Settings
from dwcp_stream.sinks.ledger import Ledger

POLL_MS: Final = 200
MOST_RECORDS: Final = 200
"""Records in hand at once; what else there is waits in Kafka."""
FOREVER_MS: Final = 2**31 - 1
"""A sink that is down for days must not cost the consumer its place in the group."""
_decoder = msgspec.json.Decoder(Alert)

log = get_logger(__name__)


def sink_group(settings: Settings, sink: str) -> str:
    """Return the consumer group of a sink."""
    return f"{settings.app_id}-alert-sink-{sink}"


class Transition(NamedTuple):
    """A transition of the topic, and when the topic got it, in epoch seconds; None: the record was none."""

    alert: Alert | None
    stamp: float


class Reader(Protocol):
    """What is fed: one sink."""

    @property
    def name(self) -> str:
        """Name of the sink."""

    def remember(self, ledger: Ledger, alert: Alert) -> None:
        """Take a transition for told that is before the committed offset."""

    async def deliver(self, ledger: Ledger, transitions: Sequence[Transition], interrupt: asyncio.Event) -> int:
        """Deliver a partition's transitions in order; returns how many had their turn, fewer if interrupted or late."""

    async def idle(self, ledgers: Sequence[Ledger], lag: int, interrupt: asyncio.Event) -> None:
        """Do what is due when nothing is to deliver; called after each poll, with the partitions that are ours."""

    def unreadable(self) -> None:
        """Count a record that is no alert."""


class AlertFeed(ConsumerRebalanceListener):
    """Feeds one sink. Several processes share the partitions of the topic, and one takes over from another.

    Parameters
    ----------
    stale_after
        Seconds; older records are judged by what fires at the topic's end.
    clock
        Epoch seconds.
    """

    def __init__(
        self, settings: Settings, reader: Reader, stale_after: float, clock: Callable[[], float] = time.time
    ) -> None:
        self.settings, self.reader, self.stale_after, self._clock = settings, reader, stale_after, clock
        self.topic = topic_name(settings.topics.prefix, "anomalies")
        self._ledgers: dict[int, Ledger] = {}
        self._known: dict[int, int] = {}  # offsets up to which a ledger knows what fires
        self._done: dict[TopicPartition, int] = {}
        self._new = False
        self._interrupt = asyncio.Event()
        self._delivering = asyncio.Lock()
        self._leaving = False  # partitions are about to go: what is delivered from now on could not be committed
        self._consumer: AIOKafkaConsumer | None = None

    async def run(self, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        """Feed until told to stop.

        Parameters
        ----------
        ready
            Called each time that what fires has been read back from the topic.

        Raises
        ------
        BrokerError
            No broker answers, or the topic does not exist or cannot be read.
        """
        options = {
            "group_id": sink_group(self.settings, self.reader.name),
            "auto_offset_reset": "earliest",
            "max_poll_records": MOST_RECORDS,
            "max_poll_interval_ms": FOREVER_MS,
            "session_timeout_ms": int(self.settings.kafka.session_timeout * 1000),
            "heartbeat_interval_ms": int(self.settings.kafka.session_timeout * 1000 / 3),
        }
        watching = asyncio.create_task(self._stopped_by(stop))
        try:
            async with consumer_client(self.settings, **options) as consumer:
                self._consumer = consumer
                consumer.subscribe([self.topic], listener=self)
                while not stop.is_set():
                    await self._round(consumer, stop, ready)
                await self._commit()
        except REFUSALS:
            raise
        except KafkaError as error:
            raise BrokerError(f"cannot be read: {error}", where=self.topic, remedy="It is tried again") from error
        finally:
            self._consumer = None
            watching.cancel()

    async def _stopped_by(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._interrupt.set()

    async def _round(self, consumer: AIOKafkaConsumer, stop: asyncio.Event, ready: Callable[[], None]) -> None:
        batches = await consumer.getmany(timeout_ms=POLL_MS)
        if self._new:
            self._new = False
            await self._read_back(consumer)
            ready()
        if not stop.is_set():
            self._interrupt.clear()
        for tp, records in batches.items():
            async with self._delivering:
                if self._leaving or tp not in consumer.assignment() or not await self._take(consumer, tp, records):
                    return  # what was taken away is read again by whoever has it now, from what is committed
        await self._commit()
        mine = [tp for tp in consumer.assignment() if tp.partition in self._ledgers]
        lag = sum(max(0, (consumer.highwater(tp) or 0) - self._done.get(tp, 0)) for tp in mine)
        await self.reader.idle([self._ledgers[tp.partition] for tp in mine], lag, self._interrupt)

    async def _take(self, consumer: AIOKafkaConsumer, tp: TopicPartition, records: list[ConsumerRecord]) -> bool:
        """Have records delivered; returns whether to go on with the next partition's."""
        if self._clock() - records[0].timestamp / 1000 > self.stale_after:
            await self._look_ahead(tp.partition, records[-1].offset)
        ledger = self._ledgers[tp.partition]
        transitions = [self._read(record) for record in records]
        for record, (alert, _) in zip(records, transitions, strict=True):
            if alert is not None and record.offset >= self._known[tp.partition]:
                ledger.know(alert)
                self._known[tp.partition] = record.offset + 1
        turns = await self.reader.deliver(ledger, transitions, self._interrupt)
        if turns:
            self._done[tp] = records[turns - 1].offset + 1
        if turns < len(records) and not self._interrupt.is_set():  # it took so long that the rest may be stale
            consumer.seek(tp, records[turns].offset)
        return not self._interrupt.is_set()

    def _read(self, record: ConsumerRecord) -> Transition:
        alert = _alert(record)
        if alert is None:
            self.reader.unreadable()
            log.warning("no alert", sink=self.reader.name, topic=self.topic, offset=record.offset)
        return Transition(alert, record.timestamp / 1000)

    async def _read_back(self, consumer: AIOKafkaConsumer) -> None:
        """Make the ledgers of the partitions that are ours from the whole topic."""
        mine = {tp.partition: tp for tp in consumer.assignment()}
        committed = {number: await consumer.committed(tp) or 0 for number, tp in mine.items()}
        self._ledgers = {number: Ledger() for number in mine}
        self._known = dict.fromkeys(mine, 0)
        self._done = {tp: committed[number] for number, tp in mine.items()}
        async for record in scan(self.settings, "anomalies"):
            alert = _alert(record)
            if alert is None or record.partition not in mine:
                continue
            ledger = self._ledgers[record.partition]
            ledger.know(alert)
            self._known[record.partition] = record.offset + 1
            if record.offset < committed[record.partition]:
                self.reader.remember(ledger, alert)
        fires = sum(len(ledger.told) for ledger in self._ledgers.values())
        log.info("sink reads", sink=self.reader.name, partitions=sorted(mine), firing=fires)

    async def _look_ahead(self, partition: int, offset: int) -> None:
        """Let a ledger know what fires at the topic's end, unless it knows more than the offset already."""
        if offset < self._known[partition]:
            return
        async for record in scan(self.settings, "anomalies"):
            if record.partition == partition and record.offset >= self._known[partition]:
                self._known[partition] = record.offset + 1
                alert = _alert(record)
                if alert is not None:
                    self._ledgers[partition].know(alert)

    async def _commit(self) -> None:
        consumer = self._consumer
        if consumer is None:
            return
        mine = {tp: offset for tp, offset in self._done.items() if offset and tp in consumer.assignment()}
        try:
            if mine:
                await consumer.commit(mine)
        except (CommitFailedError, IllegalStateError) as error:
            log.warning("not committed; some alerts may be sent again", sink=self.reader.name, reason=str(error))

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Stop a delivery that waits, and commit what was delivered; a request under way has some time to end."""
        del revoked
        self._leaving = True
        self._interrupt.set()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.settings.kafka.session_timeout / 2), self._delivering:
                pass
        await self._commit()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Note that what fires has to be read back."""
        del assigned
        self._new, self._leaving = True, False


def _alert(record: ConsumerRecord) -> Alert | None:
    try:
        return _decoder.decode(record.value or b"")
    except UNREADABLE:
        return None
