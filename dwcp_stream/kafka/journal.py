"""How far a migration has come, in a topic of its own: while it exists, no worker of the stream starts."""

from dataclasses import dataclass
from typing import Literal

import msgspec
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from dwcp_stream.errors import StateError
from dwcp_stream.kafka.backlog import by_time
from dwcp_stream.kafka.batches import write_records
from dwcp_stream.kafka.catalogue import TopicSpec
from dwcp_stream.kafka.topics import create_topics, log_ranges

Phase = Literal["begun", "saved", "moved"]

APPLIED_AT_ONCE = 10_000
"""Entities named in one record of the journal, so that it stays below what a topic accepts."""


class Entry(msgspec.Struct, kw_only=True, frozen=True):
    """One record of the journal.

    Attributes
    ----------
    migration
        Name of the migration.
    before, found, partitions
        Partitions that the state was written for, that the telemetry had at the beginning, and wanted.
    phase
        `begun`: nothing has changed; `saved`: the old state is in its copy; `moved`: telemetry that was not
        processed has been appended again, and the new state can be written.
    attempt
        Which attempt moved the telemetry.
    positions
        First offset to read by partition, once moved.
    backlog
        Records appended again, once moved.
    """

    migration: str
    before: int
    found: int
    partitions: int
    phase: Phase = "begun"
    attempt: str = ""
    positions: list[int] = []
    backlog: int = 0


class _Applied(msgspec.Struct, kw_only=True, frozen=True, tag="applied"):
    attempt: str
    applied: dict[str, int]


class _Step(msgspec.Struct, kw_only=True, frozen=True, tag="step"):
    entry: Entry


_decode = msgspec.json.Decoder(_Applied | _Step).decode
_encode = msgspec.json.Encoder().encode


@dataclass(slots=True)
class Journal:
    """The journal of one stream's migration, in a topic of one partition."""

    topic: str
    replication: int = 1

    async def create(self, admin: AIOKafkaAdminClient) -> None:
        """Make the topic; its records are kept for ever."""
        config = {"cleanup.policy": "delete", "retention.ms": "-1"}
        spec = TopicSpec(self.topic, 1, "none", "progress of a repartition", config, True, self.replication)
        await create_topics(admin, [spec])

    async def read(self, consumer: AIOKafkaConsumer) -> tuple[Entry | None, dict[str, int]]:
        """Return the last entry, None if nothing was written, and the offsets applied that belong to it.

        Raises
        ------
        StateError
            A record is not of a journal.
        """
        entry: Entry | None = None
        applied: list[_Applied] = []
        async for record in by_time(consumer, self.topic, await log_ranges(consumer, self.topic, 1)):
            try:
                held = _decode(record.value)
            except msgspec.MsgspecError as error:
                raise StateError(
                    f"record {record.offset} is not of a journal: {error}",
                    where=self.topic,
                    remedy="Use the release that began the migration",
                ) from error
            if isinstance(held, _Step):
                entry = held.entry
            else:
                applied.append(held)
        attempt = entry.attempt if entry else ""
        return entry, {e: offset for part in applied if part.attempt == attempt for e, offset in part.applied.items()}

    async def write(self, producer: AIOKafkaProducer, entry: Entry, applied: dict[str, int] | None = None) -> None:
        """Append an entry; it is confirmed when this returns."""
        pairs = list((applied or {}).items())
        parts = [dict(pairs[i : i + APPLIED_AT_ONCE]) for i in range(0, len(pairs), APPLIED_AT_ONCE)]
        records = [_encode(_Applied(attempt=entry.attempt, applied=part)) for part in parts]
        records.append(_encode(_Step(entry=entry)))
        await write_records(producer, self.topic, [(0, b"", record) for record in records])
