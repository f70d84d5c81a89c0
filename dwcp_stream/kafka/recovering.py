"""What recovery reads of a partition's changelog, and which record of each name counts in the end."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from dwcp_stream.activations import ScheduleRecord, decode_schedule
from dwcp_stream.errors import NewerStateError, StateError
from dwcp_stream.kafka.generations import PARTITION_KEY, VERSIONS_KEY, Generations, split_key
from dwcp_stream.windows.snapshot import EntitySnapshot, PartitionRecord, decode_partition_record


@dataclass(slots=True)
class RecoveredState:
    """The state of a partition as its changelog has it; empty if it has none."""

    record: PartitionRecord | None = None
    schedule: ScheduleRecord | None = None
    snapshots: dict[str, EntitySnapshot] = field(default_factory=dict)
    generations: Generations = field(default_factory=Generations)


class Recovering:
    """What has been read of one partition's changelog so far, by name and writer's generation.

    Which record of a name counts is decided when all is read: a former owner that was paused may have written after
    its successor, and its keys are deleted one by one.
    """

    def __init__(self) -> None:
        self._snapshots: defaultdict[str, dict[int, EntitySnapshot]] = defaultdict(dict)
        self._records: dict[int, PartitionRecord] = {}
        self._schedules: dict[int, ScheduleRecord] = {}
        self.damaged: list[StateError] = []
        self.keys: set[bytes] = set()

    def apply(self, key: bytes, value: bytes | None, decode: Callable[[bytes], EntitySnapshot]) -> None:
        """Take one changelog record."""
        name, generation = split_key(key)
        if value is None:
            self.keys.discard(key)
            self._of(name).pop(generation, None)
            return
        self.keys.add(key)
        try:
            if name == PARTITION_KEY:
                self._records[generation] = decode_partition_record(value)
            elif name == VERSIONS_KEY:
                self._schedules[generation] = decode_schedule(value)
            else:
                self._snapshots[name][generation] = decode(value)
        except NewerStateError:
            raise
        except StateError as error:
            self.damaged.append(error)

    def _of(self, name: str) -> dict[int, Any]:
        if name == PARTITION_KEY:
            return self._records
        return self._schedules if name == VERSIONS_KEY else self._snapshots[name]

    def settle(self) -> RecoveredState:
        """Choose what counts of what was read.

        Of an entity that is the snapshot with the largest applied offset, of the partition the record of the newest
        generation, of the schedules the one with the highest term.

        A former owner's partition record can be further than its successor's. It does not count, because the successor
        deletes the snapshots that belong to it. The other way round there is no danger: an entity that is ahead of the
        partition's position skips what it has applied.
        """
        found = RecoveredState()
        for name, held in self._snapshots.items():
            if held:
                winner = max(held, key=lambda g: (held[g].state.applied, g))
                found.snapshots[name] = held[winner]
                _choose(found.generations, name, winner, held)
        if self._records:
            newest = max(self._records)
            found.record = self._records[newest]
            _choose(found.generations, PARTITION_KEY, newest, self._records)
        if self._schedules:
            last = max(self._schedules, key=lambda g: (self._schedules[g].term, g))
            found.schedule = self._schedules[last]
            _choose(found.generations, VERSIONS_KEY, last, self._schedules)
        return found


def _choose(generations: Generations, name: str, winner: int, found: Iterable[int]) -> None:
    generations.won(name, winner)
    for generation in found:
        generations.lost(name, generation)
