"""The checkpoint: state first, then the source offsets, and nothing forgotten on an error.

Between two chunks the snapshots of the touched entities are copied. Then, while chunks go on: outputs confirmed ->
snapshots confirmed -> one partition record confirmed -> deletions -> the caller commits the source offsets.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from faust.types import TP
from structlog import get_logger

from dwcp_stream.kafka.generations import PARTITION_KEY, Generations, make_key
from dwcp_stream.kafka.locks import PartitionLocks
from dwcp_stream.kafka.store import StateStore

log = get_logger(__name__)

Record = tuple[int, bytes, bytes | None]
"""(partition, key, value) of a changelog record."""


class PartitionCopy(Protocol):
    """A copy of what changed in one partition since its last checkpoint."""

    partition: int
    position: int
    removed: Sequence[str]

    def snapshots(self) -> list[tuple[str, bytes]]:
        """Encode the touched entities."""

    def record(self) -> bytes:
        """Encode the partition record."""


class Source(Protocol):
    """What the checkpoint needs of the pipeline."""

    def copy(self, partition: int) -> Any:
        """Copy what changed in a partition since its last checkpoint; None if nothing did, or if it is gone."""

    def put_back(self, copies: Sequence[Any]) -> None:
        """Mark copied entities as changed again, because they were not written."""

    def confirm(self, copy: Any) -> None:
        """Remember that a copy has been written and confirmed."""

    def confirmed(self) -> Mapping[int, int]:
        """Return the position of each partition's last confirmed checkpoint, also of one that was read back."""


@dataclass(slots=True)
class CheckpointStats:
    """Figures of one checkpoint: seconds in all, the longest a lock was held, entities and bytes written."""

    partitions: list[int] = field(default_factory=list)
    seconds: float = 0.0
    locked_seconds: float = 0.0
    entities: int = 0
    bytes: int = 0
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Taken:
    """A copy of a partition, and whose it is: the generation it was held in, and the keys known then."""

    copy: PartitionCopy
    generation: int
    known: Generations


@dataclass(slots=True)
class Checkpointer:
    """Writes checkpoints of a pipeline.

    Parameters
    ----------
    source
        The pipeline.
    store
        Store of the state table.
    locks
        A partition's is held while a chunk of it is processed, and here only while its state is copied.
    generation
        Returns the current group generation.
    outputs
        Returns, when called, an awaitable for every output handed to the producer up to that moment; it raises if
        one of them failed.
    write
        Writes changelog records and waits for their confirmation; returns the last offset by partition.
    report
        Called with the figures of each checkpoint.
    usable
        False once a chunk has failed half-way: such state must not be written.
    """

    source: Source
    store: StateStore
    topic: str
    locks: PartitionLocks
    generation: Callable[[], int]
    outputs: Callable[[], Awaitable[None]]
    write: Callable[[Sequence[Record]], Awaitable[Mapping[int, int]]]
    report: Callable[[CheckpointStats], None]
    usable: Callable[[], bool] = lambda: True
    _one: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def __call__(self) -> Mapping[TP, int]:
        """Write a checkpoint; returns the positions that may be committed (of earlier ones if this one failed)."""
        async with self._one:
            stats, begun = CheckpointStats(), time.perf_counter()
            # all of them: one that has not moved may be about to, by a chunk that is being processed right now
            held = sorted(self.store.ready)
            taken = [found for number in held if (found := await self._take(number, stats)) is not None]
            if not self.usable():
                return self._committable()
            try:
                await self._write(taken, stats)
            except Exception as error:  # noqa: BLE001  whatever the producer raises: keep all, commit nothing
                log.warning("checkpoint failed; it is tried again", error=repr(error), error_type="broker")
                self.source.put_back([one.copy for one in taken])
                stats.failed = True
            stats.seconds = time.perf_counter() - begun
            self.report(stats)
            return self._committable()

    async def _take(self, partition: int, stats: CheckpointStats) -> "Taken | None":
        """Copy a partition between two of its chunks, with the generation that its state was held in."""
        async with self.locks[partition]:
            if not self.usable() or partition not in self.store.ready:
                return None
            begun = time.perf_counter()
            copy = self.source.copy(partition)
            stats.locked_seconds = max(stats.locked_seconds, time.perf_counter() - begun)
            return None if copy is None else Taken(copy, self.generation(), self.store.generations[partition])

    async def _write(self, taken: Sequence["Taken"], stats: CheckpointStats) -> None:
        await self.outputs()  # asked after copying, so that it covers all that the copied state has led to
        for one in taken:
            copy, generation, known = one.copy, one.generation, one.known
            if not self._holds(copy.partition, known):
                continue
            encoded = await asyncio.to_thread(copy.snapshots)
            await self._send([(copy.partition, make_key(name, generation), value) for name, value in encoded])
            stats.entities += len(encoded)
            stats.bytes += sum(len(value) for _, value in encoded)
            await self._send([(copy.partition, make_key(PARTITION_KEY, generation), copy.record())])
            if not self._holds(copy.partition, known):
                continue
            for name, _ in encoded:
                known.won(name, generation)
            known.won(PARTITION_KEY, generation)
            for name in copy.removed:
                known.retire(name)
            stale = known.stale()
            await self._send([(copy.partition, make_key(name, old), None) for name, old in stale])
            for name, old in stale:
                known.forget(name, old)
            self.source.confirm(copy)
            stats.partitions.append(copy.partition)

    def _holds(self, partition: int, known: Generations) -> bool:
        """Tell whether the partition has been held without a break since `known` was its record of keys.

        A partition that was lost and recovered while a checkpoint waited for the broker has newer keys than the copy.
        """
        return partition in self.store.ready and self.store.generations.get(partition) is known

    async def _send(self, records: Sequence[Record]) -> None:
        if not records:
            return
        for partition, offset in (await self.write(records)).items():
            if partition in self.store.ready:
                self.store.changelog[partition] = max(self.store.changelog.get(partition, -1), offset)

    def _committable(self) -> Mapping[TP, int]:
        positions = self.source.confirmed().items()
        return {
            TP(self.topic, partition): position for partition, position in positions if partition in self.store.ready
        }
