"""From a fetched chunk to the pipeline: stale chunks are dropped, holes looked at, outputs handed over."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from aiokafka.errors import IllegalStateError
from faust.types import TP
from structlog import get_logger

from dwcp_stream.chunk import Chunk, ChunkResult, pieces
from dwcp_stream.events import Output
from dwcp_stream.kafka.lane import FetchedChunk, Lane
from dwcp_stream.kafka.locks import PartitionLocks
from dwcp_stream.pipeline import Pipeline

log = get_logger(__name__)


class Observer(Protocol):
    """Told of what happens to chunks; turns it into metrics."""

    def chunk(self, chunk: Chunk, result: ChunkResult) -> None:
        """Note a processed chunk."""

    def hole(self, tp: TP, position: int, first: int, refetched: bool) -> None:
        """Note that offsets are missing before a chunk: fetched again, or accepted as gone."""


class Gate(Protocol):
    """Keeps samples back whose model version is not written down yet."""

    def limit(self, partition: int) -> int | None:
        """Return the offset from which on no sample may be processed for now, if there is one."""

    async def passed(self, partition: int) -> None:
        """Wait until a partition's limit is gone."""


def to_chunk(tp: TP, records: Sequence[Any]) -> Chunk:
    """Lay a partition's records side by side; aiokafka's own will do as well as bare ones."""
    return Chunk(
        tp.topic,
        tp.partition,
        np.array([r.offset for r in records], np.int64),
        np.array([r.timestamp for r in records], np.int64),
        [r.key for r in records],
        [r.value for r in records],
    )


@dataclass(slots=True)
class ChunkProcessor:
    """Takes the chunks of the lane: those of one partition in the order of the calls, different partitions at once.

    Parameters
    ----------
    locks
        A partition's is held while a chunk changes its state, so that a checkpoint copies between two chunks.
    pool
        Threads in which chunks are processed.
    ready
        Tells whether a partition's state has been recovered.
    generation
        Returns the current group generation.
    seek
        Seeks partitions and waits for it.
    send
        Hands outputs to the producer.
    gate
        Where a chunk is cut and waits, if anywhere.
    """

    lane: Lane
    pipeline: Pipeline
    locks: PartitionLocks
    pool: Executor
    ready: Callable[[int], bool]
    generation: Callable[[], int]
    seek: Callable[[dict[TP, int]], Awaitable[None]]
    send: Callable[[Sequence[Output]], Awaitable[None]]
    observer: Observer
    gate: Gate | None = None
    broken: BaseException | None = None
    halted: str = ""
    """Why no chunk is taken any more although the worker goes on; no checkpoint may follow."""
    _sought: dict[TP, int] = field(default_factory=dict)
    _turns: PartitionLocks = field(default_factory=PartitionLocks)  # held over a whole chunk, which may be cut

    async def __call__(self, fetched: FetchedChunk, generation: int) -> None:
        """Process one fetched chunk, or drop it if it is stale.

        Raises
        ------
        Exception
            Whatever the pipeline raises: a bug. The state may be half changed, so no checkpoint may follow; the
            caller stops the worker, and the next one starts from the last checkpoint.
        """
        tp = TP(fetched.topic, fetched.partition)
        try:
            async with self._turns[tp.partition]:
                if fetched.taken:
                    return
                records = self.lane.gather(fetched)
                chunk = to_chunk(tp, records)
                for rows in pieces(chunk.values):
                    if not await self._take(tp, fetched, chunk.piece(rows), generation):
                        return
        finally:
            self.lane.finished(fetched)

    async def _take(self, tp: TP, fetched: FetchedChunk, rest: Chunk, generation: int) -> bool:
        """Process a piece of a fetched chunk; False if it is stale, and so is what follows it."""
        while len(rest):
            async with self.locks[tp.partition]:
                if self.broken is not None or self.halted or not self._current(tp, fetched, generation):
                    return False
                if await self._refetch(tp, fetched, int(rest.offsets[0])):
                    return False
                chunk = rest.before(self.gate.limit(tp.partition) if self.gate else None)
                if len(chunk):
                    result = await self._process(chunk)
            if len(chunk):
                self.observer.chunk(chunk, result)
                rest = rest.since(int(chunk.offsets[-1]) + 1)
            if self.gate and len(rest):
                await self.gate.passed(tp.partition)
        return True

    async def _process(self, chunk: Chunk) -> ChunkResult:
        # looked up here, on the event loop: a rebalance may revoke the partition while the thread works on it
        state = self.pipeline.partitions[chunk.partition]
        try:
            loop = asyncio.get_running_loop()
            result = await loop.run_in_executor(self.pool, self.pipeline.process, chunk, state)
            await self.send(result.outputs)
        except BaseException as error:
            self.broken = error
            raise
        return result

    def _current(self, tp: TP, fetched: FetchedChunk, generation: int) -> bool:
        return (
            fetched.round == self.lane.round
            and fetched.epoch == self.lane.epoch[tp]
            and generation == self.generation()
            and self.ready(tp.partition)
        )

    async def _refetch(self, tp: TP, fetched: FetchedChunk, first: int) -> bool:
        """Fetch again if records before this chunk are missing; a hole still there the second time is real."""
        state = self.pipeline.partitions.get(tp.partition)
        position = state.position if state else None
        if position is None or first <= position:
            return False
        refetch = self._sought.get(tp) != fetched.epoch or not fetched.epoch
        self.observer.hole(tp, position, first, refetch)
        if refetch:
            log.info("fetching again", partition=tp.partition, position=position, first=first)
            try:
                await self.seek({tp: position})
            except (IllegalStateError, TimeoutError) as error:  # lost meanwhile, or the broker is away: nothing is read
                log.warning("not fetched again", partition=tp.partition, error=repr(error), error_type="broker")
                return True
            self._sought[tp] = self.lane.epoch[tp]
        return refetch


def positions(lane: Lane, pipeline: Pipeline) -> dict[TP, int]:
    """Return the next offset to read of every partition that has a position."""
    return {
        TP(lane.topic, number): state.position
        for number, state in pipeline.partitions.items()
        if state.position is not None
    }


def by_topic(outputs: Sequence[Output]) -> Counter[str]:
    """Count outputs by topic."""
    return Counter(output.topic for output in outputs)
