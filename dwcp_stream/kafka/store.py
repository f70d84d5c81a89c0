"""The Faust table whose store is the pipeline's live state.

Faust feeds the store the changelog at recovery; afterwards the store only reads. The pipeline alone writes the
state, and the checkpoint alone writes the changelog.
"""

import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import faust
from faust.stores import base as stores
from faust.types import TP
from structlog import get_logger

from dwcp_stream.activations import Activation, Schedule
from dwcp_stream.errors import NewerStateError, StateError
from dwcp_stream.kafka.generations import PARTITION_KEY, Generations, make_key, split_key
from dwcp_stream.kafka.recovering import Recovering, Settled
from dwcp_stream.kafka.topics import partitions_changed
from dwcp_stream.scoring import Model
from dwcp_stream.windows.snapshot import EntitySnapshot, PartitionRecord, encode_partition_record
from dwcp_stream.windows.view import EntityView

log = get_logger(__name__)


class Recovered(Protocol):
    """What a pipeline offers to the store."""

    def restore(
        self,
        partition: int,
        record: PartitionRecord | None,
        snapshots: dict[str, EntitySnapshot],
        schedule: Schedule,
        models: Mapping[Activation, Model] | None,
    ) -> list[str]:
        """Take over a partition's recovered state; returns entities that had expired before the checkpoint."""

    def revoke(self, partition: int) -> None:
        """Drop a partition's state."""

    def view(self, entity: str) -> EntityView:
        """Return a live entity; KeyError if there is none."""

    def entities(self) -> Iterator[str]:
        """Iterate over the live entities."""


@dataclass(frozen=True, slots=True)
class Takeover:
    """With which versions of models a partition goes on, written down by the time this exists.

    Attributes
    ----------
    schedule, models
        As `Pipeline.restore` takes them.
    """

    schedule: Schedule = ()
    models: Mapping[Activation, Model] | None = None


TakeOver = Callable[[Mapping[int, Settled], int], Awaitable[Mapping[int, Takeover]]]
"""Says with which versions some recovered partitions go on, for a generation."""


async def as_they_are(found: Mapping[int, Settled], generation: int) -> Mapping[int, Takeover]:  # noqa: ARG001
    """Go on with the pipeline's models, whatever scored before."""
    return {partition: Takeover() for partition in found}


class StateStore(stores.Store[bytes, Any]):
    """Store of a `StateTable`: live state, fed by recovery, emptied by revocation."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.table_: StateTable = self.table
        self.ready: set[int] = set()
        self.recovering: defaultdict[int, Recovering] = defaultdict(Recovering)
        self.generations: dict[int, Generations] = {}
        self.changelog: dict[int, int] = {}
        self.member_of = -1
        self.began = time.monotonic()
        self.failed: Exception | None = None

    def persisted_offset(self, tp: TP) -> int | None:
        """Return the last changelog offset held; -1 makes Faust read a partition from its beginning."""
        return self.changelog.get(tp.partition, -1) if tp.partition in self.ready else -1

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:
        """Drop the state of every partition that may have had another owner since the last assignment."""
        mine = {tp.partition for tp in assigned if tp.topic == self.table_.source}
        lost = {tp.partition for tp in revoked | newly_assigned if tp.topic == self.table_.source}
        self.began = time.monotonic()
        if max(mine, default=-1) >= self.table_.partitions:
            stream = self.table_.pipeline.stream.name
            self.failed = partitions_changed(self.table_.source, stream, None, self.table_.partitions)
            await self.app.crash(self.failed)
            return
        consecutive = generation_id == self.member_of + 1
        self.member_of = generation_id
        for partition in set(self.ready) | set(self.recovering):
            if partition not in mine or partition in lost or not consecutive or partition not in self.ready:
                self.drop(partition)

    def drop(self, partition: int) -> None:
        """Forget all about a partition."""
        self.ready.discard(partition)
        self.recovering.pop(partition, None)
        self.generations.pop(partition, None)
        self.changelog.pop(partition, None)
        self.table_.pipeline.revoke(partition)

    def apply_changelog_batch(self, batch: Iterable[Any], to_key: object, to_value: object) -> None:  # noqa: ARG002  Faust's signature
        """Take changelog records from Faust; each event carries a whole fetched chunk."""
        for event in batch:
            chunk = event.message.value
            try:
                for record in chunk.records:
                    self.apply(chunk.partition, record.offset, record.key, record.value)
            except Exception as error:  # noqa: BLE001  Faust would swallow it; it is raised when recovery ends
                self.failed = self.failed or error

    def apply(self, partition: int, offset: int, key: bytes, value: bytes | None) -> None:
        """Take one changelog record of a partition that is being recovered."""
        if partition in self.ready:  # only a paused former owner can have written it
            name, generation = split_key(key)
            if value is not None:
                self.generations[partition].lost(name, generation)
            return
        self.recovering[partition].apply(key, value, self.table_.decode)
        self.changelog[partition] = offset

    async def on_recovery_completed(self, active_tps: set[TP], standby_tps: set[TP]) -> None:  # noqa: ARG002
        """Hand what was recovered to the pipeline; an error stops the worker instead of being swallowed."""
        try:
            self._raise_failed()
            generation, entities, found = self.member_of, 0, dict[int, Settled]()
            for partition in sorted({tp.partition for tp in active_tps} - self.ready):
                if self._current(generation):
                    found[partition] = await self._settled(partition)
            taken = await self.table_.take_over(found, generation) if self._current(generation) else {}
            for partition, settled in found.items() if self._current(generation) else ():
                try:
                    entities += self.complete(partition, settled, taken[partition])
                except NewerStateError:
                    raise
                except StateError as error:  # what is kept beside the windows is looked at only here
                    self.table_.pipeline.revoke(partition)
                    anew = {partition: await self._anew(partition, settled, [error])}
                    again = await self.table_.take_over(anew, generation)
                    if not self._current(generation):
                        return
                    self.complete(partition, anew[partition], again[partition])
            self.table_.recovered(len(self.ready), entities, time.monotonic() - self.began)
        except Exception as error:
            log.exception("recovery failed", error_type="state", stage="receiving")
            self.failed = error
            await self.app.crash(error)

    def _current(self, generation: int) -> bool:
        """Tell whether the recovery that ends is of the present assignment.

        Faust ends one in a task of its own, which may run when the next assignment has come and has dropped what was
        read: a partition completed then would be an empty one that counts as recovered.
        """
        recovery = self.app.tables.recovery
        same: bool = recovery._generation_id == self.member_of == generation
        return same and not recovery.signal_recovery_start.is_set()

    def _raise_failed(self) -> None:
        if self.failed is not None:
            raise self.failed

    async def _settled(self, partition: int) -> Settled:
        """Return what counts of a partition; if some of it is damaged, nothing but that it begins anew."""
        found = self.recovering.pop(partition, None) or Recovering()
        settled = found.settle()
        return await self._anew(partition, settled, found.damaged) if found.damaged else settled

    async def _anew(self, partition: int, found: Settled, damaged: Sequence[StateError]) -> Settled:
        """Delete what was read of a partition; it is rebuilt from its beginning, not from the committed offset.

        Where it begins is written down before anything is deleted: a worker that ends, or loses the partition, before
        the next checkpoint would else leave nothing, and its successor would read from the committed offset.
        """
        log.error(
            "state is damaged; the partition is rebuilt from its source topic",
            partition=partition, records=len(damaged), first=str(damaged[0]),
        )  # fmt: skip
        begin = found.record.begin if found.record else 0
        record, own = PartitionRecord(position=begin, begin=begin), make_key(PARTITION_KEY, self.member_of)
        others = sorted(found.keys - {own})
        records = [(partition, own, encode_partition_record(record)), *((partition, key, None) for key in others)]
        await self.table_.write(records)
        generations = Generations()
        generations.won(PARTITION_KEY, self.member_of)
        return Settled(record, generations=generations)

    def complete(self, partition: int, found: Settled, taken: Takeover) -> int:
        """Finish the recovery of one partition and return the number of entities it has."""
        expired = self.table_.pipeline.restore(partition, found.record, found.snapshots, taken.schedule, taken.models)
        for note in self.table_.pipeline.partitions[partition].notes:
            log.warning("not taken over", partition=partition, reason=note)
        late = self.recovering.pop(partition, Recovering())  # came after the end of the log was reached, see `apply`
        for key in late.keys:
            found.generations.lost(*split_key(key))
        self.generations[partition] = found.generations
        for entity in expired:
            found.generations.retire(entity)
        self.ready.add(partition)
        entities = len(found.snapshots) - len(expired)
        log.info(
            "partition recovered", partition=partition, entities=entities,
            position=found.record.position if found.record else None,
        )  # fmt: skip
        return entities

    def reset_state(self) -> None:
        """Faust asks for this when a worker's data is reset; live state is dropped by revocation instead."""

    async def backup_partition(self, *args: object, **kwargs: object) -> None:
        """State has no files to back up: the changelog is the backup."""

    def restore_backup(self, *args: object, **kwargs: object) -> None:
        """State has no files to restore: the changelog is the backup."""

    def __getitem__(self, key: str | bytes) -> EntityView:
        view: EntityView = self.table_.pipeline.view(key.decode() if isinstance(key, bytes) else key)
        return view

    def __setitem__(self, key: object, value: object) -> None:
        raise TypeError("the state table is read-only: the pipeline writes it")

    def __delitem__(self, key: object) -> None:
        raise TypeError("the state table is read-only: the pipeline writes it")

    def __contains__(self, key: object) -> bool:
        try:
            self[key]  # type: ignore[index]
        except KeyError:
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        entities: Iterator[str] = self.table_.pipeline.entities()
        return entities

    def __len__(self) -> int:
        return sum(1 for _ in self)


class StateTable(faust.Table):
    """A Faust table that is a view of the live state: `table[entity]["latency_p99"]`.

    Parameters
    ----------
    app
        The Faust app.
    source
        Source topic, whose partitions the table shares.
    pipeline
        The pipeline.
    decode
        Snapshot decoder of the stream.
    write
        Writes records to the changelog (partition, key, value), in order; confirmed by the broker when it returns.
    take_over
        Says with which versions of models recovered partitions go on.
    recovered
        Told of each finished recovery: partitions held, entities read back, seconds.
    """

    def __init__(
        self,
        app: Any,
        *,
        source: str = "",
        pipeline: Any = None,
        decode: Any = None,
        write: Any = None,
        take_over: TakeOver = as_they_are,
        recovered: Callable[[int, int, float], None] = lambda *_: None,
        **kwargs: Any,
    ) -> None:
        self.source, self.pipeline, self.decode, self.write = source, pipeline, decode, write
        self.take_over, self.recovered = take_over, recovered
        super().__init__(app, **kwargs)

    def _serializer_from_type(self, typ: object) -> str:  # noqa: ARG002
        return "raw"  # bytes would fall to the JSON codec

    def _new_store(self) -> StateStore:
        return StateStore("state://", self.app, self, table_name=self.name)

    def __getitem__(self, key: Any) -> Any:
        return self.data[key]
