"""What the store makes of a changelog, and what a checkpoint writes, without a broker."""

import pytest
from faust.types import TP

from dwcp_stream.errors import NewerStateError
from dwcp_stream.kafka.checkpoint import Checkpointer
from dwcp_stream.kafka.generations import PARTITION_KEY, Generations, make_key
from dwcp_stream.kafka.locks import PartitionLocks
from dwcp_stream.kafka.recovering import Recovering
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


def read(codec, *records):
    found = Recovering()
    for key, value in records:
        found.apply(key, value, codec.decode)
    return found


def apply(codec, *records):
    return read(codec, *records).settle()


def at(position):
    return encode_partition_record(PartitionRecord(position=position))


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


def test_the_partition_record_of_the_newest_generation_wins_whatever_the_order(codec):
    records = [(make_key(PARTITION_KEY, g), at(p)) for g, p in ((3, 90), (2, 70))]
    for order in (records, records[::-1]):
        found = apply(codec, *order)
        assert found.record.position == 90
        assert found.generations.stale() == [(PARTITION_KEY, 2)]


@pytest.mark.parametrize("deleted", [False, True])
def test_a_former_owners_record_does_not_lead_past_snapshots_that_its_successor_deleted(codec, deleted):
    """The former owner, further than its successor, was paused between its last snapshot and its record."""
    log = [
        (make_key("e", 6), codec.encode(window(100), {})),
        (make_key("e", 7), codec.encode(window(60), {})),
        (make_key(PARTITION_KEY, 7), at(61)),
        (make_key("e", 6), None),
        (make_key(PARTITION_KEY, 6), at(150)),
    ]
    if deleted:
        log.append((make_key(PARTITION_KEY, 6), None))
    found = apply(codec, *log)
    assert found.record.position == 61
    assert found.snapshots["e"].state.applied == 60
    assert found.generations.stale() == ([] if deleted else [(PARTITION_KEY, 6)])


def test_a_deleted_key_that_was_further_leaves_what_its_successor_wrote(codec):
    found = apply(
        codec,
        (make_key("e", 6), codec.encode(window(100), {})),
        (make_key("e", 7), codec.encode(window(60), {})),
        (make_key("e", 6), None),
    )
    assert found.snapshots["e"].state.applied == 60
    assert found.generations.winner("e") == 7


def test_a_truncated_snapshot_is_damage_and_a_newer_one_is_refused(codec):
    whole = codec.encode(window(3), {})
    assert len(read(codec, (make_key("e", 1), whole[:-2])).damaged) == 1
    newer = bytes([whole[0], 99]) + whole[2:]
    with pytest.raises(NewerStateError, match="newer"):
        read(codec, (make_key("e", 1), newer))


class Copy:
    partition, position, removed = 0, 40, ("gone",)

    def snapshots(self):
        return [("e", b"snapshot")]

    def record(self):
        return b"record"


class Source:
    def __init__(self):
        self.returned, self.written, self.known, self.changed = [], [], {}, True

    def copy(self, partition):
        return Copy() if self.changed else None

    def put_back(self, copies):
        self.returned += copies

    def confirm(self, copy):
        self.written.append(copy.position)
        self.known[copy.partition] = copy.position

    def confirmed(self):
        return self.known


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
        source=source, store=Store(), topic="t", locks=PartitionLocks(), generation=lambda: 5, outputs=delivered,
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
    assert source.written == [40]
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
    assert source.written == []
    assert reports[0].failed


async def test_nothing_is_written_of_a_partition_that_is_not_recovered():
    written = []

    async def write(records):
        written.extend(records)
        return {0: len(written)}

    checkpoint, source, _ = checkpointer(write)
    checkpoint.store.ready.clear()
    assert await checkpoint() == {}
    assert written == []
    assert source.written == []


@pytest.mark.parametrize("when", ["outputs", "snapshots"])
async def test_a_partition_recovered_anew_while_its_checkpoint_waits_keeps_its_new_keys(when):
    """The copy is of the time before: under its old generation it must not count as the current state."""
    written = []

    def lose_and_recover():
        known = checkpoint.store.generations[0] = Generations()
        known.won("e", 7)

    async def delivered():
        if when == "outputs":
            lose_and_recover()

    async def write(records):
        if when == "snapshots" and not written:
            lose_and_recover()
        written.extend(records)
        return {0: len(written)}

    checkpoint, source, _ = checkpointer(write)
    checkpoint.outputs = delivered
    assert await checkpoint() == {}
    assert not [record for record in written if record[2] is None], "nothing may be deleted"
    assert checkpoint.store.generations[0].winner("e") == 7
    assert source.written == []
    assert bool(written) == (when == "snapshots")


async def test_what_was_read_back_may_be_committed_though_nothing_is_written():
    """The owner before died between its partition record and its commit, at the end of the topic."""

    async def write(records):
        return {0: 1}

    checkpoint, source, _ = checkpointer(write)
    source.changed = False
    source.known = {0: 40, 1: 70}
    assert await checkpoint() == {TP("t", 0): 40}, "partition 1 is not recovered"


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
