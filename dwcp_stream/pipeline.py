"""One stream's way from a chunk of records to outputs; pure, with no clock and no I/O of its own.

The Faust worker, the backtest and the tests all run this: the same bytes in give the same alerts out, with the same
ids, however the bytes are cut into chunks.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.chunk import Chunk, ChunkResult
from dwcp_stream.deadletters import dead_letters
from dwcp_stream.forecasts.advice import BUFFER_CAP
from dwcp_stream.partition import Partition, PartitionCopy
from dwcp_stream.scoring import Model
from dwcp_stream.stages import Recorder, Stage
from dwcp_stream.streams import StreamDefinition
from dwcp_stream.streams.decode import ChunkDecoder
from dwcp_stream.streams.decoded import Decoded, Reject
from dwcp_stream.watermark import advance, segments
from dwcp_stream.windows import Outcome
from dwcp_stream.windows.passes import Pass
from dwcp_stream.windows.snapshot import EntitySnapshot, PartitionRecord
from dwcp_stream.windows.view import EntityView

SOURCE_TIMESTAMP = "source_timestamp_ms"
"""Header of an alert: the record timestamp of the sample that completed the transition."""

WATERMARK_JUMPS_PER_EXPIRY = 4
"""One sample moves the watermark by at most a quarter of `expire_after`."""


class Pipeline:
    """All partitions of one stream that this process owns.

    Parameters
    ----------
    stream
        The stream's definition.
    models
        Its models, bound to the stream.
    default_entity
        Entity of samples that carry none (files of one entity).
    check_ahead
        Whether a time ahead of the record's timestamp makes a sample invalid; a backtest does not check.
    buffer_cap
        Largest socket buffer that advice may name, bytes.
    recorder
        Told of every verdict (a backtest writes them to a file).
    timer
        Clock for the `seconds` of results; never read for anything else.
    """

    def __init__(
        self,
        stream: StreamDefinition,
        models: Sequence[Model] = (),
        *,
        default_entity: str | None = None,
        check_ahead: bool = True,
        buffer_cap: int = BUFFER_CAP,
        recorder: Recorder | None = None,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.stream, self.models = stream, list(models)
        self.partitions: dict[int, Partition] = {}
        self._decoder = ChunkDecoder(stream, default_entity=default_entity, check_ahead=check_ahead)
        self._stages = [Stage(stream, m, buffer_cap=buffer_cap, recorder=recorder) for m in self.models]
        self._cap = stream.expire_after / WATERMARK_JUMPS_PER_EXPIRY
        self._timer = timer

    def process(self, chunk: Chunk) -> ChunkResult:
        """Run a chunk through the pipeline and update the partition's state.

        Records below the partition's position have been processed before; they are counted as replayed.
        """
        result = ChunkResult()
        state = self.partitions.get(chunk.partition) or self.assign(chunk.partition)
        fresh = chunk if state.position is None else chunk.since(state.position)
        if len(fresh) < len(chunk):
            old = len(chunk) - len(fresh)
            result.replayed += self._decoder.decode(
                chunk.values[:old], chunk.keys[:old], chunk.timestamps_ms[:old].tolist()
            ).samples_in
        if not len(fresh):
            return result
        with self._timed(result, "decode"):
            decoded = self._decoder.decode(fresh.values, fresh.keys, fresh.timestamps_ms.tolist())
        result.unknown_fields, result.key_mismatches = decoded.unknown_fields, decoded.key_mismatches
        rejects = {reject.record: reject for reject in decoded.rejects}
        self._apply(state, fresh, decoded, rejects, result)
        result.outputs += dead_letters(fresh, rejects.values())
        for reject in rejects.values():
            result.rejected[reject.error_type] += reject.samples
        result.counts[Outcome.INVALID] += sum(reject.samples for reject in decoded.rejects)
        state.position = int(fresh.offsets[-1]) + 1
        return result

    def _apply(
        self,
        state: Partition,
        chunk: Chunk,
        decoded: Decoded,
        rejects: dict[int, Reject],
        result: ChunkResult,
    ) -> None:
        marks, ahead = advance(state.watermark, decoded.ts, self._cap, state.ahead)
        offsets = chunk.offsets[decoded.record]
        begin = 0
        for end, tick in segments(marks, decoded.record, state.watermark, state.tick_interval):
            part = slice(begin, end)
            passes = state.windows.apply(
                offsets[part], decoded.ts[part], decoded.entity[part], decoded.entities, decoded.values[part]
            )
            for found in self._timed_each(result, "windows", passes):
                self._settle(state, found, decoded, begin, rejects, result)
                self._score(state, found, chunk, decoded.record[begin:], result)
            if end > begin:
                state.watermark = float(marks[end - 1])
            if tick is not None:
                self._tick(state, tick, result)
            begin = end
        state.ahead = ahead

    def _settle(
        self,
        state: Partition,
        found: Pass,
        decoded: Decoded,
        begin: int,
        rejects: dict[int, Reject],
        result: ChunkResult,
    ) -> None:
        state.touched.update(found.touched.tolist())
        outcomes = np.bincount(found.outcome, minlength=Outcome.REPLAYED + 1)
        result.counts += outcomes[: len(result.counts)]
        result.replayed += int(outcomes[Outcome.REPLAYED])
        for index in found.rejected:
            reject_row(rejects, int(decoded.record[begin + index]), int(decoded.row[begin + index]), self.stream)

    def _score(
        self, state: Partition, found: Pass, chunk: Chunk, record: NDArray[np.int64], result: ChunkResult
    ) -> None:
        if not self._stages or not len(found.adv_slot):
            return
        state.fit()
        for stage in self._stages:
            begun = self._timer()
            with self._timed(result, "score"):
                made = stage.run(state, found)
            name, spent = stage.model.name, self._timer() - begun
            result.model_seconds[name] = result.model_seconds.get(name, 0.0) + spent
            for output, sample in made.telling:
                stamp = int(chunk.timestamps_ms[record[sample]])
                output.headers.append((SOURCE_TIMESTAMP, str(stamp).encode()))
                result.telling_ms.append(stamp)
            result.scored_windows[stage.model.name] += len(found.scored)
            result.take(stage.model.name, made)

    def _tick(self, state: Partition, tick: float, result: ChunkResult) -> None:
        expired = state.windows.silent(tick - self.stream.expire_after)
        for stage in self._stages:
            result.take(stage.model.name, stage.tick(state, tick, expired))
        if len(expired):
            state.remove(expired)

    # --- partitions -------------------------------------------------------------------------------------

    def assign(self, partition: int) -> Partition:
        """Begin with an empty partition."""
        state = self.partitions[partition] = Partition(partition, self.stream, self.models)
        return state

    def revoke(self, partition: int) -> None:
        """Drop a partition's state."""
        self.partitions.pop(partition, None)

    def restore(
        self, partition: int, record: PartitionRecord | None, snapshots: Mapping[str, EntitySnapshot]
    ) -> list[str]:
        """Take over a partition's recovered state; returns the entities that had expired already."""
        return self.assign(partition).restore(record, snapshots)

    def copy(self) -> list[PartitionCopy]:
        """Copy what changed in every partition since the last checkpoint."""
        moved = [s for s in self.partitions.values() if s.position is not None and s.position != s.confirmed]
        return [state.copy() for state in moved]

    def put_back(self, copies: Sequence[PartitionCopy]) -> None:
        """Mark what a failed checkpoint had copied as changed again."""
        for copy in copies:
            if copy.partition in self.partitions:
                self.partitions[copy.partition].put_back(copy)

    def confirm(self, copy: PartitionCopy) -> None:
        """Remember that a partition's checkpoint is confirmed up to a position."""
        if copy.partition in self.partitions:
            self.partitions[copy.partition].confirmed = copy.position

    def view(self, entity: str) -> EntityView:
        """Return a live entity's window; KeyError if no owned partition has it."""
        for state in self.partitions.values():
            if entity in state.windows.slots:
                return state.windows.view(entity)
        raise KeyError(entity)

    def entities(self) -> Iterator[str]:
        """Iterate over the live entities of all owned partitions."""
        for state in self.partitions.values():
            yield from list(state.windows.slots)

    # --- timing -----------------------------------------------------------------------------------------

    @contextmanager
    def _timed(self, result: ChunkResult, stage: str) -> Iterator[None]:
        begun = self._timer()
        yield
        result.seconds[stage] = result.seconds.get(stage, 0.0) + self._timer() - begun

    def _timed_each(self, result: ChunkResult, stage: str, items: Iterator[Pass]) -> Iterator[Pass]:
        while True:
            with self._timed(result, stage):
                item = next(items, None)
            if item is None:
                return
            yield item


def reject_row(rejects: dict[int, Reject], record: int, row: int, stream: StreamDefinition) -> None:
    """Add a row that the windows refused (too many entities) to its record's reject."""
    held = rejects.get(record)
    if held is None:
        reason = f"more than max_entities = {stream.max_entities} entities in this partition"
        rejects[record] = Reject(record, (row,), 1, "entity_limit", reason)
    else:
        rejects[record] = Reject(record, (*held.rows, row), held.samples + 1, held.error_type, held.reason)
