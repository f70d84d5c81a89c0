"""What the store makes of a changelog, and what a checkpoint writes, without a broker."""

import asyncio
from types import SimpleNamespace

import pytest

from dwcp_stream.errors import NewerStateError, StateError
from dwcp_stream.kafka.checkpoint import Checkpointer
from dwcp_stream.kafka.generations import PARTITION_KEY, Generations, make_key
from dwcp_stream.kafka.store import Recovering, StateStore
from dwcp_stream.windows.snapshot import (
    EntitySnapshot,
    PartitionRecord,
    SnapshotCodec,
    encode_partition_record,
)
from dwcp_stream.windows.taken import WindowState
from tests.integration import probe


@pytest.fixture(scope="module")
def codec(tmp_path_factory):
    return SnapshotCodec(probe.write_definition(tmp_path_factory.mktemp("streams"), "t"))


def window(applied):
    return WindowState(applied, float("nan"), -1, float("-inf"), b"\0", b"", b"", b"\0" * 16)


def apply(codec, *records):
    found = Recovering()
    for key, value in records:
        found.apply(key, value, codec.decode)
    return found


def test_the_largest_applied_offset_wins_whatever_the_order(codec):
    old, new = codec.encode(window(5), {}), codec.encode(window(9), {})
    for records in ([(2, new), (1, old)], [(1, old), (2, new)]):
        found = apply(codec, *((make_key("e", g), v) for g, v in records))
        assert found.snapshots["e"].state.applied == 9
        assert found.generations.stale() == [("e", 1)]


def test_a_woken_former_owner_loses_even_with_a_later_record(codec):
    """Its late write has the older generation and less applied: it comes last in the log, and is deleted."""
    found = apply(
        codec, (make_key("e", 7), codec.encode(window(50), {})), (make_key("e", 6), codec.encode(window(40), {}))
    )
    assert found.snapshots["e"].state.applied == 50
    assert found.generations.stale() == [("e", 6)]


def test_tombstones_remove_what_they_name_only(codec):
    one = codec.encode(window(1), {})
    found = apply(codec, (make_key("a", 1), one), (make_key("b", 1), one), (make_key("a", 1), None))
    assert set(found.snapshots) == {"b"}
    found = apply(
        codec, (make_key("a", 1), one), (make_key("a", 2), codec.encode(window(2), {})), (make_key("a", 1), None)
    )
    assert found.snapshots["a"].state.applied == 2


def test_the_furthest_partition_record_wins(codec):
    records = [
        (make_key(PARTITION_KEY, g), encode_partition_record(PartitionRecord(position=p)))
        for g, p in ((3, 90), (2, 70))
    ]
    assert apply(codec, *records).record.position == 90
    assert apply(codec, *reversed(records)).record.position == 90


def test_a_truncated_snapshot_is_damage_and_a_newer_one_is_refused(codec):
    whole = codec.encode(window(3), {})
    assert len(apply(codec, (make_key("e", 1), whole[:-2])).damaged) == 1
    newer = bytes([whole[0], 99]) + whole[2:]
    with pytest.raises(NewerStateError, match="newer"):
        apply(codec, (make_key("e", 1), newer))


@pytest.mark.parametrize("error", [StateError, NewerStateError])
async def test_what_the_pipeline_refuses_is_rebuilt_unless_it_is_newer(codec, error):
    """What is kept beside the windows is looked at only when the pipeline takes it."""
    erased, restored = [], []

    def restore(partition, record, snapshots):
        restored.append((record.position, sorted(snapshots)))
        if snapshots:
            raise error("not an alert's state")
        return []

    async def erase(partition, keys):
        erased.append((partition, keys))

    record = (make_key(PARTITION_KEY, 1), encode_partition_record(PartitionRecord(position=9)))
    found = apply(codec, (make_key("e", 1), codec.encode(window(5), {"alert": "?"})), record)
    pipeline = SimpleNamespace(restore=restore, partitions={0: SimpleNamespace(notes=[])})
    store = SimpleNamespace(
        recovering={0: found}, table_=SimpleNamespace(pipeline=pipeline, erase=erase), generations={}, ready=set()
    )
    if error is NewerStateError:
        with pytest.raises(NewerStateError):
            await StateStore.complete(store, 0)
        assert not erased
        assert not store.ready
        return
    assert await StateStore.complete(store, 0) == 0
    assert restored == [(9, ["e"]), (0, [])]
    assert erased == [(0, {make_key("e", 1), record[0]})]
    assert store.ready == {0}


class Copy:
    partition, position, removed = 0, 40, ("gone",)

    def snapshots(self):
        return [("e", b"snapshot")]

    def record(self):
        return b"record"


class Source:
    def __init__(self):
        self.returned, self.confirmed = [], []

    def copy(self):
        return [Copy()]

    def put_back(self, copies):
        self.returned += copies

    def confirm(self, copy):
        self.confirmed.append(copy.position)


class Store:
    def __init__(self):
        generations = Generations()
        generations.won("gone", 4)
        generations.won("e", 4)
        self.ready, self.changelog, self.generations = {0}, {}, {0: generations}


def checkpointer(write, outputs=None, usable=True):
    async def delivered():
        if outputs is not None:
            raise outputs

    source, reports = Source(), []
    made = Checkpointer(
        source=source, store=Store(), topic="t", lock=asyncio.Lock(), generation=lambda: 5, outputs=delivered,
        write=write, report=reports.append, usable=lambda: usable,
    )  # fmt: skip
    return made, source, reports


async def test_the_order_is_snapshots_then_partition_record_then_deletions():
    written = []

    async def write(records):
        written.extend(records)
        return {0: len(written) - 1}

    checkpoint, source, reports = checkpointer(write)
    confirmed = await checkpoint()
    assert written == [
        (0, b"e@5", b"snapshot"),
        (0, b"\0partition@5", b"record"),
        (0, b"e@4", None),
        (0, b"gone@4", None),
    ]
    assert list(confirmed.values()) == [40]
    assert source.confirmed == [40]
    assert checkpoint.store.changelog == {0: 3}
    assert (reports[0].entities, reports[0].failed, reports[0].partitions) == (1, False, [0])


@pytest.mark.parametrize("fails_at", [0, 1, 2])
async def test_a_producer_error_commits_nothing_and_forgets_nothing(fails_at):
    calls = []

    async def write(records):
        if len(calls) == fails_at:
            raise OSError("broker gone")
        calls.append(records)
        return {0: len(calls)}

    checkpoint, source, reports = checkpointer(write)
    assert await checkpoint() == {}
    assert [c.position for c in source.returned] == [40]
    assert source.confirmed == []
    assert reports[0].failed


async def test_unconfirmed_outputs_hold_the_checkpoint_back():
    async def write(records):
        raise AssertionError("nothing may be written")

    checkpoint, source, _ = checkpointer(write, outputs=OSError("alert not delivered"))
    assert await checkpoint() == {}
    assert source.returned


async def test_no_checkpoint_after_a_chunk_failed_half_way():
    async def write(records):
        raise AssertionError("nothing may be written")

    checkpoint, source, reports = checkpointer(write, usable=False)
    assert await checkpoint() == {}
    assert not source.returned
    assert not reports


def test_snapshot_type_is_what_the_store_expects(codec):
    assert isinstance(codec.decode(codec.encode(window(1), {"p": [1]})), EntitySnapshot)
