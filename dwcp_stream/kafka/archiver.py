"""Copies a stream's telemetry from Kafka to the archive: offsets are committed when their samples are on disk."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import Any, Final

import polars as pl
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, ConsumerRecord, TopicPartition
from aiokafka.errors import CommitFailedError, IllegalStateError, KafkaError
from structlog import get_logger

from dwcp_stream.errors import BrokerError
from dwcp_stream.history.archive import prune, write_archive
from dwcp_stream.history.samples import SampleReader
from dwcp_stream.kafka.clients import consumer_client
from dwcp_stream.kafka.history import records_of
from dwcp_stream.kafka.inspection import source_topic
from dwcp_stream.kafka.rights import REFUSALS
from dwcp_stream.kafka.topics import admin_client, describe
from dwcp_stream.settings import Settings
from dwcp_stream.streams import StreamDefinition

POLL_MS: Final = 500
MOST_ROWS: Final = 500_000
"""Samples held in memory: so many are written before it is time."""

log = get_logger(__name__)


@dataclass
class Archived:
    """What was done: samples written, invalid ones (left out; a worker dead-letters them), files, offsets committed."""

    stream: str
    folder: str
    samples: int = 0
    invalid: int = 0
    files: int = 0
    records: int = 0

    def plain(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return asdict(self)


def archive_group(settings: Settings, stream: StreamDefinition) -> str:
    """Return the consumer group of a stream's archivers."""
    return f"{settings.app_id}-archive-{stream.name}"


class Archiver(ConsumerRebalanceListener):
    """Reads a stream's topic in a group of its own, and writes what it read every so many seconds.

    What is committed is on disk. What is on disk and not committed is read again after a crash, and lies there twice:
    `read_archive` leaves the second out. Several archivers of a stream share its partitions, and may share a folder.

    Parameters
    ----------
    settings
        Name the broker, and the archive's folder, times and retention.
    stream
        The stream's definition.
    clock
        Seconds that only grow.

    Attributes
    ----------
    partitions
        Numbers of the partitions that it reads; None until the group has said.
    """

    def __init__(
        self, settings: Settings, stream: StreamDefinition, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.settings, self.stream, self._clock = settings, stream, clock
        self.folder = settings.archive.dir
        self.done = Archived(stream.name, str(self.folder / stream.name))
        self._reader = SampleReader(stream)
        self._consumer: AIOKafkaConsumer | None = None
        self._lock = asyncio.Lock()
        self.partitions: frozenset[int] | None = None
        self._told = 0
        self._pruned: date | None = None
        self._forget()

    async def run(
        self, stop: asyncio.Event, *, once: bool = False, progress: Callable[[int, int], None] | None = None
    ) -> Archived:
        """Archive until told to stop, or with `once` to the end that the topic has now.

        Parameters
        ----------
        progress
            With `once` called with the records read, and how many there are to read.

        Raises
        ------
        BrokerError
            No broker answers, or the topic does not exist or cannot be read.
        OSError
            The archive cannot be written; nothing was committed that is not on disk.
        """
        topic = source_topic(self.settings, self.stream)
        async with admin_client(self.settings) as admin:
            if topic not in await describe(admin, [topic]):
                raise BrokerError("does not exist", where=topic, remedy="Run `dwcp-stream topics create`")
        options = {
            "group_id": archive_group(self.settings, self.stream),
            "auto_offset_reset": "earliest",
            "max_poll_records": self.settings.max_poll_records,
            "session_timeout_ms": int(self.settings.kafka.session_timeout * 1000),
            "heartbeat_interval_ms": int(self.settings.kafka.session_timeout * 1000 / 3),
        }
        async with consumer_client(self.settings, **options) as consumer:
            self._consumer = consumer
            consumer.subscribe([topic], listener=self)
            self._prune()
            try:
                await (self._to_the_end(consumer, stop, progress) if once else self._follow(consumer, stop))
                await self.flush()
            except REFUSALS:
                raise
            except KafkaError as error:
                raise BrokerError(f"cannot be read: {error}", where=topic, remedy="Start the archiver again") from error
        return self.done

    async def _follow(self, consumer: AIOKafkaConsumer, stop: asyncio.Event) -> None:
        due = self._clock() + self.settings.archive.flush_seconds
        while not stop.is_set():
            self._take(await consumer.getmany(timeout_ms=POLL_MS))
            if self._rows >= MOST_ROWS or self._clock() >= due:
                await self.flush()
                due = self._clock() + self.settings.archive.flush_seconds

    async def _to_the_end(
        self, consumer: AIOKafkaConsumer, stop: asyncio.Event, progress: Callable[[int, int], None] | None
    ) -> None:
        ends: dict[TopicPartition, int] = {}
        total = 0
        while not stop.is_set():
            batches = await consumer.getmany(timeout_ms=POLL_MS)
            self._take(batches)
            if self._rows >= MOST_ROWS:
                await self.flush()
            if self.partitions is None:
                continue
            mine = consumer.assignment()
            new = [tp for tp in mine if tp not in ends]
            if new:
                ends |= await consumer.end_offsets(new)
                total += sum([ends[tp] - await consumer.position(tp) for tp in new]) + sum(map(len, batches.values()))
            if progress is not None:
                progress(self.done.records, total)
            if all([await consumer.position(tp) >= ends[tp] for tp in mine]):
                return

    def _take(self, batches: Mapping[TopicPartition, list[ConsumerRecord]]) -> None:
        """Decode records and hold their samples until the next flush."""
        for tp, records in batches.items():
            before = self._reader.invalid
            table = self._reader.read(records_of(records))
            self._held.append(table)
            self._rows += len(table)
            self._offsets[tp] = records[-1].offset + 1
            self.done.records += len(records)
            self.done.invalid += self._reader.invalid - before

    async def flush(self) -> None:
        """Write what is held, then commit where it ends; what fails on the way is read again."""
        async with self._lock:
            held, offsets, invalid = self._held, self._offsets, self.done.invalid - self._told
            self._forget()
            if held:
                paths = await asyncio.to_thread(write_archive, self.folder, self.stream, pl.concat(held))
                self.done.samples += sum(map(len, held))
                self.done.files += len(paths)
            if invalid:
                self._told = self.done.invalid
                log.warning("invalid samples left out", stream=self.stream.name, samples=invalid)
            await self._commit(offsets)
        self._prune()

    async def _commit(self, offsets: dict[TopicPartition, int]) -> None:
        consumer = self._consumer
        mine = {tp: offset for tp, offset in offsets.items() if consumer is not None and tp in consumer.assignment()}
        if consumer is None or not mine:
            return
        try:
            await consumer.commit(mine)
        except (CommitFailedError, IllegalStateError) as error:
            # another archiver has the partitions, and reads again what is on disk already
            log.warning("not committed", stream=self.stream.name, reason=str(error))

    async def on_partitions_revoked(self, revoked: Iterable[TopicPartition]) -> None:
        """Write and commit before another archiver goes on from there."""
        del revoked
        await self.flush()

    async def on_partitions_assigned(self, assigned: Iterable[TopicPartition]) -> None:
        """Note which partitions are ours; none, if the group has more members than there are."""
        self.partitions = frozenset(tp.partition for tp in assigned)
        log.info("archiving", stream=self.stream.name, partitions=sorted(self.partitions))

    def _forget(self) -> None:
        self._held: list[pl.DataFrame] = []
        self._offsets: dict[TopicPartition, int] = {}
        self._rows = 0

    def _prune(self) -> None:
        today = datetime.now(UTC).date()
        if today != self._pruned:
            self._pruned = today
            gone = prune(self.folder, self.stream, self.settings.archive.retention_days, today)
            if gone:
                log.info("old telemetry deleted", stream=self.stream.name, dates=gone)
