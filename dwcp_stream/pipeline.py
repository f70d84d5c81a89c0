"""One stream's way from a chunk of records to outputs; pure, with no clock and no I/O of its own.

The Faust worker, the backtest and the tests all run this: the same bytes in give the same alerts out, with the same
ids, however the bytes are cut into chunks.
"""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.activations import NOTHING, SHARE, Activation, Schedule, active, begun, line_of
from dwcp_stream.chunk import Chunk, ChunkResult
from dwcp_stream.contenders import BESIDE
from dwcp_stream.deadletters import dead_letters
from dwcp_stream.drift import build_drift
from dwcp_stream.forecasts.advice import BUFFER_CAP
from dwcp_stream.partition import Partition, PartitionCopy
from dwcp_stream.scoring import Model
from dwcp_stream.stages import Recorder, Stage, Witness
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

    Chunks of different partitions may be processed at the same time, in threads; of one partition only one after the
    other.

    Parameters
    ----------
    stream
        The stream's definition.
    models
        Its models, bound to the stream: what a partition begins with that nothing is known of yet.
    default_entity
        Entity of samples that carry none (files of one entity).
    check_ahead
        Whether a time ahead of the record's timestamp makes a sample invalid; a backtest does not check.
    buffer_cap
        Largest socket buffer that advice may name, bytes.
    recorder
        Told of every verdict (a backtest writes them to a file).
    witness
        Shown every window that is scored (to explain one).
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
        witness: Witness | None = None,
        timer: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.stream, self.models = stream, list(models)
        self.partitions: dict[int, Partition] = {}
        self._default_entity, self._check_ahead = default_entity, check_ahead
        self._buffer_cap, self._recorder, self._witness = buffer_cap, recorder, witness
        # partitions share the stage of a version; when none uses it any more, it is gone with its sessions
        self._stages: WeakValueDictionary[tuple[str, int, str], Stage] = WeakValueDictionary()
        self._beside: dict[str, Model] = {}
        self._shares: dict[str, int] = {}
        self._cap = stream.expire_after / WATERMARK_JUMPS_PER_EXPIRY
        self._timer = timer

    def process(self, chunk: Chunk, state: Partition | None = None) -> ChunkResult:
        """Run a chunk through the pipeline and update the partition's state.

        Records below the partition's position have been processed before; they are counted as replayed.

        Parameters
        ----------
        state
            The state to update. A caller whose partitions can be revoked while this runs looks it up beforehand:
            a partition that has just gone must not come back empty. By default the partition's, new if it has none.
        """
        result = ChunkResult()
        state = state or self.partitions.get(chunk.partition) or self.assign(chunk.partition)
        fresh = chunk if state.position is None else chunk.since(state.position)
        if len(fresh) < len(chunk):
            old = len(chunk) - len(fresh)
            result.replayed += state.decoder.decode(
                chunk.values[:old], chunk.keys[:old], chunk.timestamps_ms[:old].tolist()
            ).samples_in
        while len(fresh):
            self._activate(state, int(fresh.offsets[0]), result)
            part = fresh.before(state.coming[0].offset if state.coming else None)
            self._run(state, part, result)
            fresh = fresh.since(int(part.offsets[-1]) + 1)
        return result

    def _run(self, state: Partition, chunk: Chunk, result: ChunkResult) -> None:
        with self._timed(result, "decode"):
            decoded = state.decoder.decode(chunk.values, chunk.keys, chunk.timestamps_ms.tolist())
        result.unknown_fields += decoded.unknown_fields
        result.key_mismatches += decoded.key_mismatches
        rejects = {reject.record: reject for reject in decoded.rejects}
        self._apply(state, chunk, decoded, rejects, result)
        result.outputs += dead_letters(chunk, rejects.values())
        for reject in rejects.values():
            result.rejected[reject.error_type] += reject.samples
        result.counts[Outcome.INVALID] += sum(reject.samples for reject in decoded.rejects)
        state.position = int(chunk.offsets[-1]) + 1

    def _activate(self, state: Partition, offset: int, result: ChunkResult) -> None:
        """Let the versions take over that score the sample at an offset."""
        due = [activation for activation in state.coming if activation.offset <= offset]
        for activation in due:
            change = None
            if activation.arm == "champion":
                change = state.drift[activation.model].succeeded(activation.version, state.watermark)
            swap, last = state.activate(activation)
            result.swaps.append(swap)
            result.outputs += last
            if change is not None:
                result.outputs.append(build_drift(change))
                result.drifts.append(change)
        if due:
            state.stages = self._stages_of(state)

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
                self._score(state, found, chunk, decoded.record[begin:], decoded.ts[begin:], result)
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
        self,
        state: Partition,
        found: Pass,
        chunk: Chunk,
        record: NDArray[np.int64],
        ts: NDArray[np.float64],
        result: ChunkResult,
    ) -> None:
        if not state.stages or not len(found.adv_slot):
            return
        state.fit()
        scores: dict[str, NDArray[np.float32]] = {}
        for stage in state.stages:
            begun = self._timer()
            with self._timed(result, "score"):
                made = stage.run(state, found, ts, scores.get(stage.model.name))
            scores.setdefault(stage.model.name, made.scores)  # the champion's: its stage comes first
            spent = self._timer() - begun
            result.model_seconds[stage.line] = result.model_seconds.get(stage.line, 0.0) + spent
            for output, sample in made.telling:
                stamp = int(chunk.timestamps_ms[record[sample]])
                output.headers.append((SOURCE_TIMESTAMP, str(stamp).encode()))
                result.telling_ms.append(stamp)
            result.scored_windows[stage.line] += len(found.scored)
            result.take(stage.model.name, made)

    def _tick(self, state: Partition, tick: float, result: ChunkResult) -> None:
        expired = state.windows.silent(tick - self.stream.expire_after)
        for stage in state.stages:
            result.take(stage.model.name, stage.tick(state, tick, expired))
        if len(expired):
            state.remove(expired)

    # --- partitions -------------------------------------------------------------------------------------

    def assign(self, partition: int) -> Partition:
        """Begin with an empty partition."""
        return self._hold(Partition(partition, self.stream, self.models))

    def revoke(self, partition: int) -> None:
        """Drop a partition's state."""
        self.partitions.pop(partition, None)

    def restore(
        self,
        partition: int,
        record: PartitionRecord | None,
        snapshots: Mapping[str, EntitySnapshot],
        schedule: Schedule = (),
        models: Mapping[Activation, Model] | None = None,
    ) -> list[str]:
        """Take over a partition's recovered state; returns the entities that had expired already.

        Parameters
        ----------
        schedule, models
            Which version scores from which offset on, and the model of each; unless told, the pipeline's models score
            from the record's position on.
        """
        schedule = schedule or begun(record, [(m.name, m.version) for m in self.models])
        by_name = {m.name: m for m in self.models}
        known = {a: by_name[a.model] for a in schedule} if models is None else models
        first = active(schedule, record.position if record else 0)
        state = Partition(partition, self.stream, [known[first[m.name]] for m in self.models], schedule)
        state.position = record.position if record else None
        state.contenders.begin_with([first[line] for line in sorted(first)], known)
        state.plan(schedule, known)
        expired = state.restore(record, snapshots)
        self._hold(state)
        return expired

    def serve(self, model: Model) -> None:
        """Let partitions that nothing is known of begin with another version of a model."""
        self.models = [model if m.name == model.name else m for m in self.models]

    def contend(self, line: str, model: Model | None) -> None:
        """Let another version run beside a champion from here on, or none; partitions move to it by activations."""
        self._beside.pop(line, None)
        if model is not None:
            self._beside[line] = model

    def share(self, name: str, percent: int) -> None:
        """Let the challenger of a model serve a percentage of entities."""
        self._shares[name] = percent

    def beside(self, line: str) -> Model | None:
        """Return what is to run on a line beside a champion."""
        return self._beside.get(line)

    def wanted(self) -> dict[str, tuple[int, Model | None]]:
        """Return what each line of each model should come to: a version and its model, a percentage, or nothing."""
        found: dict[str, tuple[int, Model | None]] = {m.name: (m.version, m) for m in self.models}
        for name in list(found):
            for arm in BESIDE:
                model = self._beside.get(line := line_of(name, arm))
                found[line] = NOTHING if model is None else model.version, model
            found[line_of(name, SHARE)] = self._shares.get(name, 0) or NOTHING, None
        return found

    def _hold(self, state: Partition) -> Partition:
        state.decoder = ChunkDecoder(self.stream, default_entity=self._default_entity, check_ahead=self._check_ahead)
        state.stages = self._stages_of(state)
        self.partitions[state.number] = state
        return state

    def _stages_of(self, state: Partition) -> list[Stage]:
        champions = [self._stage(model, "champion") for model in state.models.values()]
        return champions + [self._stage(c.model, c.arm) for _, c in sorted(state.contenders.by_line.items())]

    def _stage(self, model: Model, arm: str) -> Stage:
        key = model.name, model.version, arm
        made = self._stages.get(key)
        if made is None:
            made = Stage(
                self.stream, model, arm=arm, buffer_cap=self._buffer_cap, recorder=self._recorder, witness=self._witness
            )
            self._stages[key] = made
        return made

    def copy(self, partition: int) -> PartitionCopy | None:
        """Copy what changed in a partition since its last checkpoint.

        None if it is no further than that, or if this process has it no more.
        """
        state = self.partitions.get(partition)
        return None if state is None or state.position in (None, state.confirmed) else state.copy()

    def put_back(self, copies: Sequence[PartitionCopy]) -> None:
        """Mark what a failed checkpoint had copied as changed again."""
        for copy in copies:
            if copy.partition in self.partitions:
                self.partitions[copy.partition].put_back(copy)

    def confirm(self, copy: PartitionCopy) -> None:
        """Remember that a partition's checkpoint is confirmed up to a position."""
        if copy.partition in self.partitions:
            self.partitions[copy.partition].confirmed = copy.position

    def confirmed(self) -> dict[int, int]:
        """Return the position up to which each partition's state has been written and confirmed."""
        return {number: s.confirmed for number, s in self.partitions.items() if s.confirmed is not None}

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
