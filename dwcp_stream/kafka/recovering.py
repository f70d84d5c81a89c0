"""What recovery reads of a partition's changelog, and which record of each name counts in the end."""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from dwcp_stream.activations import ScheduleRecord, decode_schedule
from dwcp_stream.errors import NewerStateError, StateError
from dwcp_stream.kafka.generations import PARTITION_KEY, VERSIONS_KEY, Generations, split_key
from dwcp_stream.windows.snapshot import EntitySnapshot, PartitionRecord, decode_partition_record


@dataclass(frozen=True, slots=True)
class Settled:
    """What counts of all that has been read of one partition's changelog."""

    record: PartitionRecord | None = None
    snapshots: dict[str, EntitySnapshot] = field(default_factory=dict)
    schedule: ScheduleRecord | None = None
    generations: Generations = field(default_factory=Generations)
    keys: frozenset[bytes] = frozenset()


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
            own: dict[str, dict[int, Any]] = {PARTITION_KEY: self._records, VERSIONS_KEY: self._schedules}
            (own[name] if name in own else self._snapshots[name]).pop(generation, None)
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

    def settle(self) -> Settled:
        """Choose what counts.

        That is the snapshot with the largest applied offset, the newest generation's partition record, and the
        schedule with the highest term (see `ScheduleRecord`).

        A former owner's record can be further than its successor's. It does not count, because the successor deletes
        the snapshots that belong to it. The other way round there is no danger: an entity that is ahead of the
        partition's position skips what it has applied.
        """
        generations, snapshots = Generations(), {}
        for name, found in self._snapshots.items():
            if not found:
                continue
            winner = max(found, key=lambda g: (found[g].state.applied, g))
            snapshots[name] = found[winner]
            _choose(generations, name, winner, found)
        record = schedule = None
        if self._records:
            newest = max(self._records)
            _choose(generations, PARTITION_KEY, newest, self._records)
            record = self._records[newest]
        if self._schedules:
            last = max(self._schedules, key=lambda g: (self._schedules[g].term, g))
            _choose(generations, VERSIONS_KEY, last, self._schedules)
            schedule = self._schedules[last]
        return Settled(record, snapshots, schedule, generations, frozenset(self.keys))


def _choose(generations: Generations, name: str, winner: int, found: Iterable[int]) -> None:
    generations.won(name, winner)
    for generation in found:
        generations.lost(name, generation)
