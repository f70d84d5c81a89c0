"""Give a stream's telemetry more partitions without losing its state: `dwcp-stream topics repartition`.

The steps and why they can be repeated are in docs/decisions/0004-repartition-in-place.md.
"""

import uuid
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, AsyncExitStack
from dataclasses import dataclass, field, replace

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupCoordinatorNotAvailableError

from dwcp_stream.errors import BrokerError, StateError
from dwcp_stream.kafka.backlog import append_backlog, by_time
from dwcp_stream.kafka.batches import write_records
from dwcp_stream.kafka.catalogue import changelog
from dwcp_stream.kafka.clients import consumer_client, producer_client
from dwcp_stream.kafka.journal import Entry, Journal
from dwcp_stream.kafka.producer import key_hash
from dwcp_stream.kafka.recovering import Recovering, Settled
from dwcp_stream.kafka.relayout import Cut, Layout, ahead, changelog_records, lay_out
from dwcp_stream.kafka.topics import (
    TopicState,
    add_partitions,
    admin_client,
    create_topics,
    delete_topics,
    describe,
    group_members,
    log_ranges,
)
from dwcp_stream.settings import Settings
from dwcp_stream.streams import StreamDefinition
from dwcp_stream.windows.snapshot import SnapshotCodec

Stage = Callable[[str, float | None], AbstractContextManager[Callable[[float], None]]]
"""Shows a step of a known size, or of none, and yields what advances it."""

FETCH_WAIT_MS = 20
SHOWN = 3
WRITTEN_AT_ONCE = 2_000


@dataclass(frozen=True)
class Names:
    """What Kafka knows a stream by: its telemetry topic, consumer group, state topic, and migration journal."""

    source: str
    group: str
    changelog: str
    journal: str

    def saved(self, partitions: int) -> str:
        """Return the name of the copy of the state that was written for a number of partitions."""
        return f"{self.changelog}.{partitions}-partitions"


@dataclass(frozen=True)
class Repartitioned:
    """What was done, or would be.

    Attributes
    ----------
    entities, moved
        Entities in the state, and how many of them change their partition.
    backlog
        Records not processed yet, which are appended again.
    strays
        Entities whose state was dropped because it stood where their key does not belong; their records are
        read again.
    members
        Who is in the consumer group: a migration waits for none to be.
    copy
        Topic that keeps the old state.
    """

    stream: str
    topic: str
    partitions_before: int
    partitions: int
    dry_run: bool
    resumed: bool = False
    entities: int = 0
    moved: int = 0
    backlog: int = 0
    strays: int = 0
    members: list[str] = field(default_factory=list)
    copy: str = ""
    copy_deleted: bool = False


@dataclass(slots=True)
class Repartition:
    """One migration of one stream; `run` does all of it, and goes on where an earlier run has stopped."""

    settings: Settings
    stream: StreamDefinition
    names: Names
    partitions: int
    stage: Stage
    admin: AIOKafkaAdminClient
    consumer: AIOKafkaConsumer
    producer: AIOKafkaProducer

    async def run(self, *, dry_run: bool = False, delete_copy: bool = False) -> Repartitioned:
        """Do what is left of the migration.

        Raises
        ------
        BrokerError
            Workers still run, senders still write, or the brokers refuse.
        StateError
            The state cannot be migrated: what to do instead is said.
        """
        names, topics = self.names, await describe(self.admin, [self.names.source, self.names.changelog])
        journal = Journal(names.journal, self.settings.topics.replication)
        entry, applied = await self._journal(journal)
        resumed = entry is not None
        if entry is None:
            entry = self._new(topics)
        elif entry.partitions != self.partitions:
            raise StateError(
                f"a migration to {entry.partitions} partitions was begun and is not finished",
                where=names.source,
                remedy=f"Finish it first: dwcp-stream topics repartition {self.stream.name}"
                f" --partitions {entry.partitions}",
            )
        members = await group_members(self.admin, names.group)
        copy = names.saved(entry.before)
        done = Repartitioned(
            self.stream.name, names.source, entry.before, self.partitions, dry_run, resumed, members=members, copy=copy
        )
        if dry_run or entry.partitions == entry.before:
            return await self._look(entry, done, delete_copy=delete_copy and not dry_run)
        self._refuse(members)
        if not resumed:
            await self._begin(journal, entry)
        if entry.phase == "begun":
            await self._save(entry)
            entry = msgspec.structs.replace(entry, phase="saved")
            await journal.write(self.producer, entry)
        old = await self._state(copy, entry.before)
        layout = self._laid_out(old, entry)
        if entry.phase == "saved":
            entry, applied = await self._move(entry, old)
            await journal.write(self.producer, entry, applied)
        await self._switch(old, layout, entry, applied)
        await self._commit(entry.positions)
        await delete_topics(self.admin, [names.journal])
        if delete_copy:  # after the journal: what goes on from a journal reads the copy
            await delete_topics(self.admin, [copy])
        return replace(
            done,
            entities=len(layout.entities),
            moved=layout.moved,
            backlog=entry.backlog,
            strays=len(layout.strays),
            copy_deleted=delete_copy,
        )

    async def _begin(self, journal: Journal, entry: Entry) -> None:
        """Look for what would stand in the way, then write the journal: from there on no worker starts."""
        copy = self.names.saved(entry.before)
        if await describe(self.admin, [copy]):
            raise StateError(
                "is left from an earlier migration", where=copy, remedy="Delete that topic, if all is well since"
            )
        self._laid_out(await self._state(self.names.changelog, entry.before), entry)
        await journal.create(self.admin)
        await journal.write(self.producer, entry)
        try:  # a worker that looked before the journal was there has joined by now, or finds it
            self._refuse(await group_members(self.admin, self.names.group))
        except BrokerError:
            await delete_topics(self.admin, [journal.topic])
            raise

    async def _journal(self, journal: Journal) -> tuple[Entry | None, dict[str, int]]:
        return await journal.read(self.consumer) if await describe(self.admin, [journal.topic]) else (None, {})

    def _new(self, topics: dict[str, TopicState]) -> Entry:
        names = self.names
        if names.source not in topics:
            raise BrokerError("does not exist", where=names.source, remedy="Run `dwcp-stream topics create`")
        found = topics[names.source].partitions
        if names.changelog not in topics:
            raise StateError(
                "there is no state to migrate: no worker has run",
                where=names.changelog,
                remedy=f"Raise the number with Kafka's own tool: kafka-topics --alter --topic {names.source}"
                f" --partitions {self.partitions}",
            )
        if self.partitions < found:
            raise StateError(
                f"has {found} partitions; Kafka takes none away",
                where=names.source,
                remedy=f"Choose at least {found}. For fewer, make a new topic, name it in the stream's definition and"
                " start with another DWCP_APP_ID; windows warm up again",
            )
        before = topics[names.changelog].partitions
        return Entry(migration=uuid.uuid4().hex, before=before, found=found, partitions=self.partitions)

    def _refuse(self, members: Sequence[str]) -> None:
        if members:
            raise BrokerError(
                f"{len(members)} workers of the stream run: {', '.join(members[:SHOWN])}",
                where=self.names.group,
                remedy="Stop them and run this again. One with DWCP_INSTANCE_ID counts until kafka.session_timeout"
                f" ({self.settings.kafka.session_timeout:g} s) after its end",
            )

    async def _look(self, entry: Entry, done: Repartitioned, *, delete_copy: bool) -> Repartitioned:
        """Say what there is to do, and change nothing (but for a copy that is to be deleted)."""
        saved = entry.phase != "begun"
        old = await self._state(done.copy if saved else self.names.changelog, entry.before)
        layout = self._laid_out(old, entry)
        now = (await describe(self.admin, [self.names.source]))[self.names.source].partitions
        starts, logs = await self._starts(old, now), await log_ranges(self.consumer, self.names.source, now)
        backlog = sum(max(0, end - max(starts[p], begin)) for p, (begin, end) in logs.items())
        return replace(
            done,
            entities=len(layout.entities),
            moved=layout.moved,
            backlog=backlog,
            strays=len(layout.strays),
            copy="" if entry.partitions == entry.before else done.copy,
            copy_deleted=delete_copy and await self._delete_copies(),
        )

    async def _delete_copies(self) -> bool:
        begin, end = f"{self.names.changelog}.", "-partitions"
        copies = [n for n in await self.admin.list_topics() if n.startswith(begin) and n.endswith(end)]
        await delete_topics(self.admin, copies)
        return bool(copies)

    async def _save(self, entry: Entry) -> None:
        """Copy the old state; an earlier attempt's copy, whole or not, is thrown away."""
        copy = self.names.saved(entry.before)
        replication = (await describe(self.admin, [self.names.changelog]))[self.names.changelog].replication
        await delete_topics(self.admin, [copy])
        await create_topics(self.admin, [changelog(copy, entry.before, replication)])
        with self.stage("save the state", None):
            for number in range(entry.before):
                live = await self._live(self.names.changelog, number)
                await write_records(self.producer, copy, [(number, k, v) for k, v in live.items()])

    async def _live(self, topic: str, number: int) -> dict[bytes, bytes]:
        """Return the values of a state partition by key, in the order in which they were written."""
        live: dict[bytes, bytes] = {}
        logs = await log_ranges(self.consumer, topic, number + 1)
        async for record in by_time(self.consumer, topic, {number: logs[number]}):
            live.pop(record.key, None)
            if record.value is not None:
                live[record.key] = record.value
        return live

    async def _state(self, topic: str, partitions: int) -> list[Settled]:
        """Read the state as a recovery does."""
        decode, old = SnapshotCodec(self.stream).decode, []
        with self.stage("read the state", partitions) as advance:
            for number in range(partitions):
                found = Recovering()
                for key, value in (await self._live(topic, number)).items():
                    found.apply(key, value, decode)
                if found.damaged:
                    raise StateError(
                        f"{len(found.damaged)} records of partition {number} are damaged: {found.damaged[0]}",
                        where=topic,
                        remedy="If the telemetry still has its old number of partitions, start a worker, which rebuilds"
                        " them; else start with another DWCP_APP_ID (windows warm up again)",
                    )
                old.append(found.settle())
                advance(1)
        return old

    def _laid_out(self, old: Sequence[Settled], entry: Entry) -> Layout:
        layout = lay_out(old, self.stream, entry.partitions)
        torn = [entity for number, entity in layout.strays if key_hash(entity.encode()) % max(entry.found, 1) != number]
        if torn:
            raise StateError(
                f"{len(torn)} entities are not on the partition of their key, such as {', '.join(torn[:SHOWN])}",
                where=self.names.source,
                remedy="Their sender has other keys or a partitioner of its own; where they would come next cannot be"
                " told. Correct it (dwcp-stream doctor), wait until their state has expired, and run this again",
            )
        return layout

    async def _starts(self, old: Sequence[Settled], partitions: int) -> list[int]:
        """First unprocessed offset of every partition that there is now."""
        try:
            committed = await self.admin.list_consumer_group_offsets(self.names.group)
        except GroupCoordinatorNotAvailableError:
            committed = {}
        starts = [0] * partitions
        for number, found in enumerate(old):
            held = committed.get(TopicPartition(self.names.source, number))
            starts[number] = found.record.position if found.record else max(held.offset, 0) if held else 0
        return starts

    async def _move(self, entry: Entry, old: Sequence[Settled]) -> tuple[Entry, dict[str, int]]:
        """Give the telemetry its partitions, and append again what is not processed."""
        names = self.names
        now = (await describe(self.admin, [names.source]))[names.source].partitions
        if now < self.partitions:
            await add_partitions(self.admin, names.source, self.partitions)
        starts = await self._starts(old, self.partitions)
        logs = await log_ranges(self.consumer, names.source, self.partitions)
        total = sum(max(0, end - max(starts[p], begin)) for p, (begin, end) in logs.items())
        with self.stage("move telemetry that is not processed yet", total) as advance:
            appended = await append_backlog(
                self.consumer,
                self.producer,
                names.source,
                starts,
                before=entry.before,
                migration=entry.migration,
                ahead=ahead(old),
                advance=advance,
            )
        applied = {key.decode(): offset for key, offset in appended.applied.items()}
        moved = msgspec.structs.replace(
            entry, phase="moved", attempt=uuid.uuid4().hex, positions=appended.positions, backlog=sum(appended.counts)
        )
        return moved, applied

    async def _switch(self, old: Sequence[Settled], layout: Layout, entry: Entry, applied: dict[str, int]) -> None:
        """Make the state topic anew, from the copy."""
        name = self.names.changelog
        copy = (await describe(self.admin, [self.names.saved(entry.before)]))[self.names.saved(entry.before)]
        await delete_topics(self.admin, [name])
        await create_topics(self.admin, [changelog(name, entry.partitions, copy.replication)])
        await self.producer.client.force_metadata_update()  # it may hold the old topic's partitions
        with self.stage("write the state", len(layout.entities) + entry.partitions) as advance:
            waiting = []
            for record in changelog_records(old, layout, self.stream, Cut(entry.positions, applied)):
                waiting.append(record)
                if len(waiting) == WRITTEN_AT_ONCE:
                    await write_records(self.producer, name, waiting)
                    advance(len(waiting))
                    waiting = []
            await write_records(self.producer, name, waiting)
            advance(len(waiting))

    async def _commit(self, positions: Sequence[int]) -> None:
        """Commit the positions for the group, so that its lag is right before a worker has run."""
        async with consumer_client(self.settings, group_id=self.names.group) as consumer:
            offsets = {TopicPartition(self.names.source, p): offset for p, offset in enumerate(positions)}
            consumer.assign(list(offsets))
            await consumer.commit(offsets)


async def repartition(
    settings: Settings,
    stream: StreamDefinition,
    names: Names,
    partitions: int,
    stage: Stage,
    *,
    dry_run: bool = False,
    delete_copy: bool = False,
) -> Repartitioned:
    """Migrate a stream to a larger number of partitions; see `Repartition.run`."""
    async with AsyncExitStack() as stack:
        admin = await stack.enter_async_context(admin_client(settings))
        # a fetch under way keeps the next assignment waiting
        consumer = await stack.enter_async_context(consumer_client(settings, fetch_max_wait_ms=FETCH_WAIT_MS))
        # an idempotent one: what it repeats after a lost answer would shift the offsets that the state names
        producer = await stack.enter_async_context(producer_client(settings, enable_idempotence=True))
        migration = Repartition(settings, stream, names, partitions, stage, admin, consumer, producer)
        return await migration.run(dry_run=dry_run, delete_copy=delete_copy)
