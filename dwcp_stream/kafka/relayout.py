"""State written for one number of partitions, laid out for a larger one; pure."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from dwcp_stream.kafka.generations import PARTITION_KEY, make_key
from dwcp_stream.kafka.producer import key_hash
from dwcp_stream.kafka.recovering import Settled
from dwcp_stream.parts import tick_interval
from dwcp_stream.streams import StreamDefinition
from dwcp_stream.watermark import NEVER, tick_of
from dwcp_stream.windows.snapshot import EntitySnapshot, PartitionRecord, SnapshotCodec, encode_partition_record


@dataclass(slots=True)
class Cut:
    """Where a new layout begins in the telemetry.

    Parameters
    ----------
    positions
        First offset to read, by new partition. No record before it is read again.
    applied
        Entities whose snapshot is newer than their partition's position (a worker died inside a checkpoint):
        the new offset of the last record that their snapshot has seen, by entity.
    """

    positions: list[int]
    applied: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Layout:
    """The state of all partitions in their new places.

    Attributes
    ----------
    entities
        (partition, entity, generation of the writer, snapshot) of each.
    moved
        How many of them have another partition now.
    strays
        (partition, entity) left out, because they stood where their key does not belong: what a worker made of records
        that came after the number of partitions had been changed under it. Their records are read again.
    """

    entities: list[tuple[int, str, int, EntitySnapshot]]
    moved: int
    strays: list[tuple[int, str]]


def lay_out(old: Sequence[Settled], stream: StreamDefinition, partitions: int) -> Layout:
    """Find each entity's new partition; entities that had expired are left out, as by a recovery."""
    layout = Layout([], 0, [])
    for number, found in enumerate(old):
        record = found.record or PartitionRecord()
        silent_since = record.tick - stream.expire_after
        for entity, snapshot in found.snapshots.items():
            code = key_hash(entity.encode())
            if code % len(old) != number:
                layout.strays.append((number, entity))
                continue
            if snapshot.state.last_ts <= silent_since and snapshot.state.applied < record.position:
                continue
            target = code % partitions
            layout.moved += target != number
            layout.entities.append((target, entity, found.generations.winner(entity) or 0, snapshot))
    return layout


def ahead(old: Sequence[Settled]) -> dict[bytes, tuple[int, int]]:
    """Return (partition, offset applied) by key of the entities whose snapshot is newer than the position."""
    return {
        entity.encode(): (number, snapshot.state.applied)
        for number, found in enumerate(old)
        for entity, snapshot in found.snapshots.items()
        if snapshot.state.applied >= (found.record.position if found.record else 0)
        and key_hash(entity.encode()) % len(old) == number
    }


def changelog_records(
    old: Sequence[Settled], layout: Layout, stream: StreamDefinition, cut: Cut
) -> Iterator[tuple[int, bytes, bytes]]:
    """Encode the new layout as (partition, key, value) of changelog records, partition records last.

    Windows, alerts, pending forecasts and model states of entities stay as they are; only the offset applied
    is said in the new partition's offsets.
    """
    codec = SnapshotCodec(stream)
    sources: list[Counter[int]] = [Counter() for _ in cut.positions]
    for target, entity, generation, snapshot in layout.entities:
        sources[target][key_hash(entity.encode()) % len(old)] += 1
        applied = max(cut.positions[target] - 1, cut.applied.get(entity, -1))
        state = msgspec.structs.replace(snapshot.state, applied=applied)
        yield target, make_key(entity, generation), codec.encode(state, snapshot.parts)
    generation = max((found.generations.winner(PARTITION_KEY) or 0 for found in old), default=0)
    for number, position in enumerate(cut.positions):
        record = partition_record(old, number, position, sources[number], stream)
        yield number, make_key(PARTITION_KEY, generation), encode_partition_record(record)


def partition_record(
    old: Sequence[Settled], number: int, position: int, sources: Mapping[int, int], stream: StreamDefinition
) -> PartitionRecord:
    """Return the record of a new partition.

    The watermark is the smallest of the partitions that its entities come from: none is taken for silent before
    the event time that its own partition had reached. Open accuracy buckets are sums that readers add up, so
    they stay on the partition that has them; a partition that is new goes on with the interval correction of the
    one that most of its entities come from. Drift detectors have seen other entities, and start anew.

    Parameters
    ----------
    sources
        Number of entities by the partition they come from.
    """
    records = [found.record for found in old]
    mine = records[number] if number < len(old) else None
    donor = records[max(sources, key=sources.__getitem__)] if sources else None
    marks = [record.watermark for source in sources if (record := records[source]) is not None]
    watermark = min(marks, default=NEVER)
    accuracy: dict[str, Any] = {}
    if mine is not None:
        accuracy = mine.accuracy
    elif donor is not None:
        accuracy = {name: {**state, "buckets": []} for name, state in donor.accuracy.items()}
    models = (mine or donor or PartitionRecord()).models
    return PartitionRecord(
        position=position,
        watermark=watermark,
        tick=tick_of(watermark, tick_interval(stream)),
        accuracy=accuracy,
        models=models,
        since=dict.fromkeys(models, position),
        begin=position,
    )
