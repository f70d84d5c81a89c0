"""State of few partitions laid out for more: where each entity goes, and what each partition's record says."""

import msgspec
import numpy as np
import pytest

from dwcp_stream.chunk import Chunk
from dwcp_stream.kafka.generations import PARTITION_KEY, make_key, split_key
from dwcp_stream.kafka.producer import key_hash
from dwcp_stream.kafka.recovering import Recovering, Settled
from dwcp_stream.kafka.relayout import Cut, ahead, changelog_records, lay_out
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.streams import Field, StreamDefinition
from dwcp_stream.watermark import NEVER
from dwcp_stream.windows.snapshot import PartitionRecord, SnapshotCodec, encode_partition_record

STREAM = StreamDefinition(
    name="demo", topic="demo", entity=("id",), step=1.0, window=4, fields=(Field(name="load"),), expire_after=100.0
)
ENTITIES = [f"e{number}" for number in range(40)]
OLD, NEW = 2, 5


def old_state(partitions: int = OLD, times: dict[int, float] | None = None) -> list[Settled]:
    """What two workers wrote: three samples of each entity, the partitions' clocks apart."""
    codec, found = SnapshotCodec(STREAM), []
    for number in range(partitions):
        pipeline, start = Pipeline(STREAM), (times or {}).get(number, 1000.0 * (number + 1))
        mine = [e for e in ENTITIES if key_hash(e.encode()) % partitions == number]
        rows = [(e, start + step) for step in range(3) for e in mine]
        values = [b'{"id":"%s","ts":%f,"load":%f}' % (e.encode(), ts, ts) for e, ts in rows]
        stamps = np.array([int(ts * 1000) for _, ts in rows], np.int64)
        chunk = Chunk("demo", number, np.arange(len(rows)) + 100, stamps, [e.encode() for e, _ in rows], values)
        pipeline.process(chunk)
        copy = pipeline.copy(number)
        recovering = Recovering()
        for entity, value in copy.snapshots():
            recovering.apply(make_key(entity, 3), value, codec.decode)
        recovering.apply(make_key(PARTITION_KEY, 4), copy.record(), codec.decode)
        found.append(recovering.settle())
    return found


def laid_out(old: list[Settled], cut: Cut) -> dict[int, Settled]:
    """The new state as a recovery would read it."""
    codec, found = SnapshotCodec(STREAM), {p: Recovering() for p in range(len(cut.positions))}
    for partition, key, value in changelog_records(old, lay_out(old, STREAM, len(cut.positions)), STREAM, cut):
        found[partition].apply(key, value, codec.decode)
    return {partition: recovering.settle() for partition, recovering in found.items()}


def test_every_entity_is_once_on_the_partition_of_its_key_with_its_window() -> None:
    old, cut = old_state(), Cut([500, 600, 0, 7, 1])
    found = laid_out(old, cut)
    before = {e: s for part in old for e, s in part.snapshots.items()}
    places = {e: p for p, part in found.items() for e in part.snapshots}
    assert sum(len(part.snapshots) for part in found.values()) == len(ENTITIES)
    assert places == {e: key_hash(e.encode()) % NEW for e in ENTITIES}
    for entity, place in places.items():
        state = found[place].snapshots[entity].state
        assert state.applied == cut.positions[place] - 1
        assert msgspec.structs.replace(state, applied=0) == msgspec.structs.replace(before[entity].state, applied=0)
        assert found[place].generations.winner(entity) == 3
    layout = lay_out(old, STREAM, NEW)
    assert layout.moved == sum(key_hash(e.encode()) % NEW != key_hash(e.encode()) % OLD for e in ENTITIES)


def test_a_snapshot_newer_than_the_position_keeps_what_it_has_applied() -> None:
    old = old_state()
    assert ahead(old) == {}
    assert old[0].record is not None
    old[0].record.position -= 5
    late = {e.decode(): (p, applied) for e, (p, applied) in ahead(old).items()}
    assert len(late) == 5
    assert all(place == (0, old[0].snapshots[e].state.applied) for e, place in late.items())
    entity = next(iter(late))
    place = key_hash(entity.encode()) % NEW
    found = laid_out(old, Cut([10] * NEW, {entity: 13}))
    assert found[place].snapshots[entity].state.applied == 13


def test_the_watermark_is_the_smallest_of_those_that_entities_come_from() -> None:
    old = old_state()
    for number, part in laid_out(old, Cut([9] * NEW)).items():
        sources = {key_hash(e.encode()) % OLD for e in part.snapshots}
        assert part.record is not None
        assert part.record.watermark == min(1002.0 + 1000 * s for s in sources)
        assert (part.record.position, part.record.begin) == (9, 9)
        assert part.record.drift == {}
        assert part.generations.winner(PARTITION_KEY) == 4
        assert Pipeline(STREAM).restore(number, part.record, part.snapshots) == [], "nobody is taken for silent"


def test_a_partition_without_entities_has_seen_no_event_time() -> None:
    old = old_state(1)
    for part in old:
        part.snapshots.clear()
    records = {p: part.record for p, part in laid_out(old, Cut([3] * NEW)).items()}
    assert [r.watermark for r in records.values() if r is not None] == [NEVER] * NEW


def test_entities_that_had_expired_stay_away() -> None:
    old = old_state()
    assert old[1].record is not None
    old[1].record.tick = old[1].record.watermark = 1e6
    layout = lay_out(old, STREAM, NEW)
    assert {e for _, e, _, _ in layout.entities} == set(old[0].snapshots)


def test_an_entity_where_its_key_does_not_belong_is_a_stray() -> None:
    old = old_state()
    entity = next(iter(old[0].snapshots))
    old[1].snapshots[entity] = old[0].snapshots[entity]
    layout = lay_out(old, STREAM, NEW)
    assert layout.strays == [(1, entity)]
    assert len(layout.entities) == len(ENTITIES)


@pytest.mark.parametrize("name", ["correction", "buckets"])
def test_open_accuracy_buckets_stay_and_a_new_partition_has_none_twice(name) -> None:
    old = old_state()
    for number, part in enumerate(old):
        assert part.record is not None
        part.record.accuracy = {"m": {"v": 1, "buckets": [[number, 1, [1.0]]], "correction": [number]}}
        encode_partition_record(part.record)
    records: list[PartitionRecord] = []
    for part in laid_out(old, Cut([0] * NEW)).values():
        assert part.record is not None
        records.append(part.record)
    found = [record.accuracy["m"][name] for record in records]
    if name == "buckets":
        assert found == [[[0, 1, [1.0]]], [[1, 1, [1.0]]], [], [], []]
    else:
        assert found[:OLD] == [[0], [1]]
        assert all(one in ([0], [1]) for one in found[OLD:])


def test_the_keys_are_those_of_a_changelog() -> None:
    old = old_state()
    keys = [key for _, key, _ in changelog_records(old, lay_out(old, STREAM, NEW), STREAM, Cut([0] * NEW))]
    assert [split_key(k)[0] for k in keys[-NEW:]] == [PARTITION_KEY] * NEW, "partition records come last"
