"""From a fetched chunk to the pipeline: stale chunks are dropped, holes looked at, outputs handed over."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from faust.types import TP
from structlog import get_logger

from dwcp_stream.chunk import Chunk, ChunkResult
from dwcp_stream.events import Output
from dwcp_stream.kafka.lane import FetchedChunk, Lane
from dwcp_stream.pipeline import Pipeline

log = get_logger(__name__)


class Observer(Protocol):
    """Told of what happens to chunks; turns it into metrics."""

    def chunk(self, chunk: Chunk, result: ChunkResult) -> None:
        """Note a processed chunk."""

    def hole(self, tp: TP, position: int, first: int, refetched: bool) -> None:
        """Note that offsets are missing before a chunk: fetched again, or accepted as gone."""


def to_chunk(records: Sequence[Any]) -> Chunk:
    """Lay a partition's aiokafka records side by side."""
    n = len(records)
    return Chunk(
        records[0].topic,
        records[0].partition,
        np.fromiter((r.offset for r in records), np.int64, n),
        np.fromiter((r.timestamp for r in records), np.int64, n),
        [r.key for r in records],
        [r.value for r in records],
    )


@dataclass(slots=True)
class ChunkProcessor:
    """Takes the chunks of the lane, one at a time, in order.

    Parameters
    ----------
    lock
        Held while a chunk changes the state, so that a checkpoint copies between two chunks.
    ready
        Tells whether a partition's state has been recovered.
    generation
        Returns the current group generation.
    seek
        Seeks partitions and waits for it.
    send
        Hands outputs to the producer.
    most
        Most records to process at once, when small chunks are put together.
    """

    lane: Lane
    pipeline: Pipeline
    lock: asyncio.Lock
    ready: Callable[[int], bool]
    generation: Callable[[], int]
    seek: Callable[[dict[TP, int]], Awaitable[None]]
    send: Callable[[Sequence[Output]], Awaitable[None]]
    observer: Observer
    most: int = 4000
    broken: BaseException | None = None
    _sought: dict[TP, int] = field(default_factory=dict)

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
            async with self.lock:
                if fetched.taken or self.broken is not None or not self._current(tp, fetched, generation):
                    return
                if await self._refetch(tp, fetched):
                    return
                chunk = to_chunk(self.lane.gather(fetched, self.most))
                try:
                    result = await asyncio.to_thread(self.pipeline.process, chunk)
                    await self.send(result.outputs)
                except BaseException as error:
                    self.broken = error
                    raise
            self.observer.chunk(chunk, result)
        finally:
            self.lane.finished(fetched)

    def _current(self, tp: TP, fetched: FetchedChunk, generation: int) -> bool:
        return (
            fetched.round == self.lane.round
            and fetched.epoch == self.lane.epoch[tp]
            and generation == self.generation()
            and self.ready(tp.partition)
        )

    async def _refetch(self, tp: TP, fetched: FetchedChunk) -> bool:
        """Fetch again if records before this chunk are missing; a hole still there the second time is real."""
        state = self.pipeline.partitions.get(tp.partition)
        position, first = (state.position if state else None), fetched.records[0].offset
        if position is None or first <= position:
            return False
        refetch = self._sought.get(tp) != fetched.epoch or not fetched.epoch
        self.observer.hole(tp, position, first, refetch)
        if refetch:
            log.info("fetching again", partition=tp.partition, position=position, first=first)
            await self.seek({tp: position})
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
