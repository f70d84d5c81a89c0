"""Moves partitions to other versions of their models: written down first, while chunks go on, then in effect.

An activation names an offset a little ahead of the partition's position. Only if the position reaches it before the
broker has confirmed the record does the partition wait.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from msgspec import structs
from structlog import get_logger

from dwcp_stream.activations import (
    NOTHING,
    Activation,
    Schedule,
    ScheduleRecord,
    active,
    begun,
    encode_schedule,
    needed,
    schedule_of,
)
from dwcp_stream.errors import BrokerError, ModelError
from dwcp_stream.kafka.checkpoint import Record
from dwcp_stream.kafka.generations import VERSIONS_KEY, make_key
from dwcp_stream.kafka.locks import PartitionLocks
from dwcp_stream.kafka.recovering import Settled
from dwcp_stream.kafka.store import StateStore, Takeover
from dwcp_stream.partition import Partition
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.scoring import Model

log = get_logger(__name__)

MARGIN_SECONDS = 0.5
"""How far ahead of the position an activation lies: some round trips to a broker, by the rate at which the partition
moved lately, but no further than its log will reach by then. So a partition that stands still moves to the version with
its next sample, and one that has just worked off a backlog need not wait for as many samples again."""

FIRST_BACKOFF, LAST_BACKOFF = 0.25, 5.0


@dataclass(slots=True)
class Hold:
    """No sample at or after an offset may be processed until `released` is set."""

    offset: int
    released: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True, slots=True)
class Seen:
    """How far a partition and its log were at some time."""

    at: float
    position: int
    end: int | None


@dataclass(slots=True)
class Activator:
    """Keeps the schedules of this worker's partitions.

    Parameters
    ----------
    pipeline
        Its models are those that partitions move to.
    store
        Store of the state table.
    locks
        A partition's is held while a chunk of it is processed.
    load
        Loads a version of a model, by name and number; blocks, and raises ModelError.
    write
        Writes changelog records and waits for their confirmation; returns the last offset by partition.
    ends
        Asks the brokers where partitions of the source topic end.
    refused
        Told of a version that the state names and that cannot be loaded, with the version taken instead.
    running
        False once the worker stops: nothing is tried again then.
    end
        Where a partition's log ended when it was last heard of, None if that is not known.
    clock
        Seconds, for the rate of partitions.
    """

    pipeline: Pipeline
    store: StateStore
    locks: PartitionLocks
    load: Callable[[str, int], Model]
    write: Callable[[Sequence[Record]], Awaitable[Mapping[int, int]]]
    ends: Callable[[Sequence[int]], Awaitable[Mapping[int, int]]]
    refused: Callable[[Activation, ModelError, Model], None]
    running: Callable[[], bool] = lambda: True
    end: Callable[[int], int | None] = lambda _: None
    clock: Callable[[], float] = time.monotonic
    holds: dict[int, Hold] = field(default_factory=dict)
    _terms: dict[int, int] = field(default_factory=dict)
    _seen: "WeakKeyDictionary[Partition, Seen]" = field(default_factory=WeakKeyDictionary)
    _first: dict[int, bool] = field(default_factory=dict)
    _replayed: "WeakKeyDictionary[Partition, int]" = field(default_factory=WeakKeyDictionary)

    # --- when a partition comes to this worker ----------------------------------------------------------

    async def take_over(self, found: Mapping[int, Settled], generation: int) -> Mapping[int, Takeover]:
        """Settle with which versions recovered partitions go on, and write that down before any sample is scored.

        Those that the former owner had written down, up to the offsets it had. What cannot be loaded any more gives
        way to the version that serves now. The new term puts an end to what a paused former owner may still write.
        """
        settled: dict[int, Takeover] = {}
        for partition, recovered in found.items():
            settled[partition] = await self._settle(recovered)
            self._terms[partition] = recovered.schedule.term + 1 if recovered.schedule else 0
            self._first[partition] = recovered.record is None and recovered.schedule is None
        schedules = {partition: takeover.schedule for partition, takeover in settled.items()}
        await self._write(schedules, generation, lambda _: self.store.member_of == generation)
        for recovered in found.values():
            recovered.generations.won(VERSIONS_KEY, generation)
        return settled

    async def _settle(self, recovered: Settled) -> Takeover:
        record, serving = recovered.record, {m.name: m for m in self.pipeline.models}
        position = record.position if record else 0
        if recovered.schedule is not None:
            known = [a for a in needed(recovered.schedule.activations, position) if a.base in serving]
        else:  # state of a release that wrote no schedules, or none at all
            held = record.models if record else {}
            known = list(begun(record, [(name, held[name]) for name in serving if name in held]))
        known += [Activation(position, n, m.version) for n, m in serving.items() if n not in {a.model for a in known}]
        models: dict[Activation, Model] = {}
        schedule: list[Activation] = []
        for activation in known:
            if not activation.scores:
                schedule.append(activation)
                continue
            model = await self._version(activation, serving[activation.base])
            settled = structs.replace(activation, version=NOTHING if model is None else model.version)
            schedule.append(settled)
            if model is not None:
                models[settled] = model
        return Takeover(schedule_of(schedule), models)

    async def _version(self, activation: Activation, serving: Model) -> Model | None:
        """Return the version of an activation; if it cannot be had what serves now, and nothing beside a champion."""
        if activation.version == serving.version:
            return serving
        try:
            return await asyncio.to_thread(self.load, activation.base, activation.version)
        except ModelError as error:
            self.refused(activation, error, serving)
            return serving if activation.arm == "champion" else None

    # --- while it is here -------------------------------------------------------------------------------

    async def follow(self) -> int:
        """Move partitions to the pipeline's models, if they are not on their way there; returns how many were moved."""
        states = {p: s for p, s in self.pipeline.partitions.items() if p in self.store.ready}
        moving = {p: s for p, s in states.items() if self._others(s)}
        await self._ask_ends(moving)
        schedules: dict[int, Schedule] = {}
        for partition, state in moving.items():
            async with self.locks[partition]:
                if self._owned(partition, state):
                    schedules[partition] = schedule = self._schedule(partition, state)
                    self.holds[partition] = Hold(max(schedule[-1].offset, state.position or 0))
        # If this is cut off the holds stay: what was written may be durable, so no sample may be scored otherwise.
        generation, wanted = self.store.member_of, self.pipeline.wanted()
        await self._write(schedules, generation, lambda p: self._owned(p, moving[p]))
        for partition, schedule in schedules.items():
            async with self.locks[partition]:
                if self._owned(partition, moving[partition]):
                    self.store.generations[partition].won(VERSIONS_KEY, generation)
                    moving[partition].plan(schedule, _models_of(schedule, wanted))
                self.holds.pop(partition).released.set()
        now = self.clock()
        for partition, state in states.items():
            self._seen[state] = Seen(now, state.position or 0, self.end(partition))
        return len(schedules)

    def _owned(self, partition: int, state: Partition) -> bool:
        return partition in self.store.ready and self.pipeline.partitions.get(partition) is state

    def _schedule(self, partition: int, state: Partition) -> Schedule:
        """Return a partition's schedule with what it is to move to, and nothing that no reader needs any more."""
        taken = [a.offset + 1 for a in active(state.schedule, state.position or 0).values()]
        taken += [a.offset for a in state.coming]
        offset = max([self._ahead(partition, state), self._replayed[state], *taken])
        known = {a.model for a in state.schedule}
        others = self._others(state)
        # a line that is new had nothing before: what scores first would else be taken for what has always scored
        begun = [Activation(0, line, NOTHING) for line in others if line not in known]
        planned = [Activation(offset, line, version) for line, version in others.items()]
        return schedule_of([*needed(state.schedule, state.confirmed or 0), *begun, *planned])

    def _others(self, state: Partition) -> dict[str, int]:
        """Return what the pipeline wants on lines that neither have it nor move to it."""
        last = {a.model: a.version for a in state.schedule}
        wanted = {line: version for line, (version, _) in self.pipeline.wanted().items()}
        return {line: version for line, version in wanted.items() if last.get(line, NOTHING) != version}

    def _ahead(self, partition: int, state: Partition) -> int:
        now, position, end = self.clock(), state.position or 0, self.end(partition)
        before = self._seen.get(state, Seen(now, position, end))
        margin = MARGIN_SECONDS / (now - before.at) if now > before.at else 0.0
        ahead = position + int((position - before.position) * margin)
        if end is None or before.end is None:
            return ahead
        return max(position, min(ahead, end + int((end - before.end) * margin)))

    async def _ask_ends(self, states: Mapping[int, Partition]) -> None:
        """Ask how far a former owner can have scored: samples up to the end of the log keep their version."""
        unknown = [p for p, s in states.items() if s not in self._replayed]
        asked = [p for p in unknown if not self._first.get(p)]
        ends = await self.ends(asked) if asked else {}
        for partition in unknown:
            self._replayed[states[partition]] = ends.get(partition, 0)

    async def _write(self, schedules: Mapping[int, Schedule], generation: int, ours: Callable[[int], bool]) -> None:
        """Write schedules until they are confirmed or the partitions have gone to another worker."""
        backoff, waiting = FIRST_BACKOFF, dict(schedules)
        while waiting := {p: s for p, s in waiting.items() if ours(p)}:
            try:
                written = await self.write(self._records(waiting.items(), generation))
            except BrokerError as error:
                if not self.running():
                    raise
                log.warning("schedule not written; it is tried again", error=str(error), error_type=error.error_type)
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, LAST_BACKOFF)
                continue
            for partition, offset in written.items():
                if partition in self.store.ready:
                    self.store.changelog[partition] = max(self.store.changelog.get(partition, -1), offset)
            return

    def _records(self, schedules: Iterable[tuple[int, Schedule]], generation: int) -> list[Record]:
        key = make_key(VERSIONS_KEY, generation)
        return [
            (partition, key, encode_schedule(ScheduleRecord(term=self._terms[partition], activations=schedule)))
            for partition, schedule in schedules
        ]

    # --- for the chunk processor ------------------------------------------------------------------------

    def limit(self, partition: int) -> int | None:
        """Return the offset from which on no sample may be processed for now, if there is one."""
        hold = self.holds.get(partition)
        return None if hold is None else hold.offset

    async def passed(self, partition: int) -> None:
        """Wait until a partition's limit is gone."""
        hold = self.holds.get(partition)
        if hold is not None:
            await hold.released.wait()


def _models_of(schedule: Schedule, wanted: Mapping[str, tuple[int, Model | None]]) -> dict[Activation, Model]:
    """Return the models of what a schedule is to come to."""
    found = {}
    for activation in schedule:
        version, model = wanted.get(activation.model, (NOTHING, None))
        if model is not None and version == activation.version:
            found[activation] = model
    return found
