"""What becomes of fetched chunks: processed, stale, refetched, accepted with a hole, or broken."""

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest
from aiokafka.errors import IllegalStateError
from faust.types import TP

from dwcp_stream.kafka.checkpoint import Checkpointer
from dwcp_stream.kafka.generations import Generations
from dwcp_stream.kafka.lane import ROOM, FetchedChunk, Lane
from dwcp_stream.kafka.locks import PartitionLocks
from dwcp_stream.kafka.processor import ChunkProcessor
from dwcp_stream.pipeline import Pipeline
from tests.integration import probe

POOL = ThreadPoolExecutor(2)
GENERATION = 3
MOST = 10
"""Most records of a chunk that is fetched."""


class Seen:
    def __init__(self):
        self.chunks, self.holes = [], []

    def chunk(self, chunk, result):
        self.chunks.append((chunk.offsets.tolist(), result.counts.sum() + result.replayed))

    def hole(self, tp, position, first, refetched):
        self.holes.append((position, first, refetched))


class Bench:
    """A processor with everything around it in sight."""

    def __init__(self, stream, pipeline=None):
        self.lane, self.seen, self.sought, self.sent = Lane("t", "c", MOST), Seen(), [], []
        self.pipeline = pipeline or Pipeline(stream)
        self.pipeline.assign(0)

        async def seek(where):
            self.sought.append(where)
            for tp in where:
                self.lane.epoch[tp] += 1  # as the consumer's thread does when it seeks

        async def send(outputs):
            self.sent += outputs

        self.processor = ChunkProcessor(
            lane=self.lane, pipeline=self.pipeline, locks=PartitionLocks(), pool=POOL, ready=lambda p: p == 0,
            generation=lambda: GENERATION, seek=seek, send=send, observer=self.seen,
        )  # fmt: skip

    def fetch(self, offsets, partition=0):
        """A chunk that Faust has been told of, though one before it may wait."""
        chunk = self.chunk(offsets, partition)
        self.lane.waiting[TP("t", partition)].append(chunk)
        return chunk

    def chunk(self, offsets, partition=0):
        records = [
            SimpleNamespace(
                offset=o, timestamp=int(probe.EPOCH * 1000) + 10**7, timestamp_type=0,
                key=b"e", value=b'{"id":"e","ts":%d,"value":1}' % (probe.EPOCH + o),
            )
            for o in offsets
        ]  # fmt: skip
        tp = TP("t", partition)
        return FetchedChunk(tp, records, self.lane.epoch[tp], self.lane.round)


async def confirm(records):
    return {0: 1}


def checkpointer(bench, write=confirm):
    async def delivered():
        return None

    store = SimpleNamespace(ready={0}, changelog={}, generations={0: Generations()})
    return Checkpointer(
        source=bench.pipeline, store=store, topic="t", locks=bench.processor.locks, generation=lambda: GENERATION,
        outputs=delivered, write=write, report=lambda _: None,
    )  # fmt: skip


def slow(tmp_path):
    """A bench whose chunks take until an event is set, one that tells when a chunk has begun, and that event."""
    begun, go_on = threading.Event(), threading.Event()

    class Slow(Pipeline):
        def process(self, *args):
            begun.set()
            assert go_on.wait(10)
            return super().process(*args)

    return Bench(None, Slow(probe.write_definition(tmp_path, "t"))), begun, go_on


@pytest.fixture
def bench(tmp_path):
    return Bench(probe.write_definition(tmp_path, "t"))


async def test_chunks_in_order_move_the_position(bench):
    await bench.processor(bench.fetch([0, 1, 2]), GENERATION)
    await bench.processor(bench.fetch([3, 4]), GENERATION)
    assert bench.pipeline.partitions[0].position == 5
    assert bench.seen.chunks == [([0, 1, 2], 3), ([3, 4], 2)]
    assert not bench.lane.waiting[TP("t", 0)]


async def test_a_hole_is_fetched_again_once_and_then_real(bench):
    await bench.processor(bench.fetch([0, 1]), GENERATION)
    stale = bench.fetch([9])
    await bench.processor(bench.fetch([5, 6]), GENERATION)
    assert bench.sought == [{TP("t", 0): 2}]
    await bench.processor(stale, GENERATION)  # fetched before the seek
    assert bench.pipeline.partitions[0].position == 2
    await bench.processor(bench.fetch([5, 6]), GENERATION)  # still missing: deleted, or markers
    assert bench.pipeline.partitions[0].position == 7
    assert bench.seen.holes == [(2, 5, True), (2, 5, False)]
    assert len(bench.sought) == 1


async def test_the_missing_chunk_comes_with_the_second_fetch(bench):
    await bench.processor(bench.fetch([0, 1]), GENERATION)
    await bench.processor(bench.fetch([4, 5]), GENERATION)
    await bench.processor(bench.fetch([2, 3, 4, 5]), GENERATION)
    assert bench.pipeline.partitions[0].position == 6
    assert sum(n for _, n in bench.seen.chunks) == 6


@pytest.mark.parametrize("error", [IllegalStateError("not assigned"), TimeoutError()])
async def test_a_partition_that_cannot_be_sought_is_left_alone(bench, error):
    """It was lost meanwhile, or the broker is away: neither is a reason to stop the worker."""

    async def seek(where):
        raise error

    await bench.processor(bench.fetch([0, 1]), GENERATION)
    bench.processor.seek = seek
    for _ in range(2):
        await bench.processor(bench.fetch([5, 6]), GENERATION)
    assert bench.pipeline.partitions[0].position == 2
    assert bench.processor.broken is None
    assert not bench.lane.waiting[TP("t", 0)]


@pytest.mark.parametrize("why", ["generation", "round", "partition"])
async def test_stale_chunks_change_nothing_and_are_let_go(bench, why):
    chunk = bench.fetch([0, 1], partition=1 if why == "partition" else 0)
    if why == "round":
        bench.lane.clear()
    await bench.processor(chunk, GENERATION - 1 if why == "generation" else GENERATION)
    assert not bench.seen.chunks
    assert set(bench.pipeline.partitions) == {0}
    assert bench.pipeline.partitions[0].position is None
    assert not bench.lane.waiting[TP("t", chunk.partition)]


async def test_a_bug_in_the_pipeline_stops_everything(tmp_path):
    class Broken(Pipeline):
        def process(self, chunk, state=None):
            raise ZeroDivisionError

    bench = Bench(None, Broken(probe.write_definition(tmp_path, "t")))
    with pytest.raises(ZeroDivisionError):
        await bench.processor(bench.fetch([0]), GENERATION)
    assert isinstance(bench.processor.broken, ZeroDivisionError)
    await bench.processor(bench.fetch([0]), GENERATION)  # dropped: the state may be half changed
    assert not bench.seen.chunks


async def test_a_partition_revoked_while_a_chunk_is_processed_does_not_come_back_empty(tmp_path):
    """Its state would be that of the chunk alone, with the highest offsets of all: it would win over the real one."""
    bench, begun, go_on = slow(tmp_path)
    under_way = asyncio.create_task(bench.processor(bench.fetch([0, 1]), GENERATION))
    assert await asyncio.to_thread(begun.wait, 10)
    bench.pipeline.revoke(0)
    go_on.set()
    await under_way
    assert not bench.pipeline.partitions


async def test_a_checkpoint_waits_for_the_first_chunk_of_a_partition_that_has_not_moved(tmp_path):
    """The last one before the partition goes to another worker would else leave that chunk out, outputs and all."""
    bench, begun, go_on = slow(tmp_path)
    chunk = asyncio.create_task(bench.processor(bench.fetch([0, 1]), GENERATION))
    assert await asyncio.to_thread(begun.wait, 10)
    last = asyncio.create_task(checkpointer(bench)())
    await asyncio.sleep(0)
    go_on.set()
    await chunk
    assert await last == {TP("t", 0): 2}


async def test_chunks_go_on_while_a_checkpoint_is_being_written(bench):
    """Only the copy needs the lock; what happens after it belongs to the next checkpoint."""
    await bench.processor(bench.fetch([0, 1]), GENERATION)
    writing, go_on = asyncio.Event(), asyncio.Event()

    async def write(records):
        writing.set()
        await go_on.wait()
        return {0: 1}

    checkpoint = checkpointer(bench, write)
    under_way = asyncio.create_task(checkpoint())
    await writing.wait()
    await bench.processor(bench.fetch([2, 3, 4]), GENERATION)  # would hang here if the lock were held
    assert bench.pipeline.partitions[0].position == 5
    go_on.set()
    assert await under_way == {TP("t", 0): 2}
    assert bench.pipeline.partitions[0].confirmed == 2
    assert (await checkpoint()) == {TP("t", 0): 5}


def test_a_partition_with_enough_in_flight_is_full_until_one_is_done(bench):
    chunks = [bench.fetch(range(MOST * i, MOST * (i + 1))) for i in range(ROOM)]
    assert bench.lane.full(TP("t", 0))
    bench.lane.finished(chunks[0])
    assert not bench.lane.full(TP("t", 0))
    bench.lane.clear()
    bench.lane.finished(chunks[1])  # of an earlier round: counted no more
    assert not bench.lane.waiting[TP("t", 0)]


class Gate:
    """Holds partition 0 at an offset until it is opened."""

    def __init__(self, offset):
        self.offset, self.opened, self.asked = offset, asyncio.Event(), asyncio.Event()

    def limit(self, partition):
        return None if self.opened.is_set() else self.offset

    async def passed(self, partition):
        self.asked.set()
        await self.opened.wait()


async def test_a_chunk_is_cut_at_a_gate_and_goes_on_when_it_opens(bench):
    gate = bench.processor.gate = Gate(3)
    under_way = asyncio.create_task(bench.processor(bench.fetch(range(6)), GENERATION))
    await gate.asked.wait()
    assert bench.pipeline.partitions[0].position == 3
    assert not bench.processor.locks[0].locked(), "a checkpoint may go on"
    gate.opened.set()
    await under_way
    assert bench.seen.chunks == [([0, 1, 2], 3), ([3, 4, 5], 3)]
    assert not bench.lane.waiting[TP("t", 0)]


async def test_what_waited_at_a_gate_is_dropped_when_the_partition_has_gone(bench):
    gate = bench.processor.gate = Gate(0)
    under_way = asyncio.create_task(bench.processor(bench.fetch(range(6)), GENERATION))
    await gate.asked.wait()
    bench.lane.clear()
    gate.opened.set()
    await under_way
    assert not bench.seen.chunks
    assert bench.pipeline.partitions[0].position is None


async def test_partitions_are_processed_side_by_side_and_each_in_order(tmp_path):
    met, order = threading.Barrier(2, timeout=10), []

    class Meeting(Pipeline):
        def process(self, chunk, state=None):
            if chunk.offsets[0] == 0:
                met.wait()  # only if both partitions are here at once
            order.append((chunk.partition, int(chunk.offsets[0])))
            return super().process(chunk, state)

    bench = Bench(None, Meeting(probe.write_definition(tmp_path, "t")))
    bench.pipeline.assign(1)
    bench.processor.ready = lambda partition: partition in (0, 1)
    bench.lane._most = 1  # chunks stay apart
    chunks = [bench.fetch([offset], partition) for offset in range(3) for partition in (0, 1)]
    await asyncio.gather(*(bench.processor(chunk, GENERATION) for chunk in chunks))
    for partition in (0, 1):
        assert [offset for number, offset in order if number == partition] == [0, 1, 2]
        assert bench.pipeline.partitions[partition].position == 3


def frames(count, rows):
    times = ",".join([f"{probe.EPOCH:.0f}"] * rows)
    return [f'{{"id":"e","ts":[{times}],"value":1}}'.encode()] * count


async def test_a_chunk_of_long_frames_is_processed_in_pieces(bench):
    fetched = bench.fetch(range(7))
    for record, value in zip(fetched.records, frames(7, 50_000), strict=True):
        record.value = value
    await bench.processor(fetched, GENERATION)
    assert bench.seen.chunks == [([0, 1], 100_000), ([2, 3], 100_000), ([4, 5], 100_000), ([6], 50_000)]
    assert bench.pipeline.partitions[0].position == 7
    assert not bench.lane.waiting[TP("t", 0)]


async def test_what_is_left_of_a_chunk_after_a_seek_is_dropped(bench):
    fetched = bench.fetch(range(6))
    for record, value in zip(fetched.records, frames(6, 50_000), strict=True):
        record.value = value
    seen = bench.seen.chunk

    def chunk(chunk, result):
        seen(chunk, result)
        bench.lane.epoch[TP("t", 0)] += 1

    bench.seen.chunk = chunk
    await bench.processor(fetched, GENERATION)
    assert bench.pipeline.partitions[0].position == 2
    assert not bench.lane.waiting[TP("t", 0)]


async def test_chunks_that_wait_are_processed_with_the_one_before_them(bench):
    waiting = [bench.fetch([0]), bench.fetch([1, 2]), bench.fetch([3])]
    await bench.processor(waiting[0], GENERATION)
    assert bench.seen.chunks == [([0, 1, 2, 3], 4)]
    waiting.append(bench.fetch([4]))
    for chunk in waiting[1:]:  # their own turns come all the same
        await bench.processor(chunk, GENERATION)
    assert bench.seen.chunks == [([0, 1, 2, 3], 4), ([4], 1)]
    assert not bench.lane.waiting[TP("t", 0)]


@pytest.mark.parametrize(("second", "why"), [([3, 4], "hole"), ([2, 3], "seek"), ([2, 3], "size")])
async def test_chunks_are_not_put_together_over_a_hole_or_a_seek_or_beyond_the_size(bench, second, why):
    bench.lane._most = 3 if why == "size" else 4
    first = bench.fetch([0, 1])
    if why == "seek":
        bench.lane.epoch[TP("t", 0)] += 1
    later = bench.fetch(second)
    records = bench.lane.gather(first)
    assert [record.offset for record in records] == [0, 1]
    assert not later.taken


def test_many_small_chunks_leave_room_for_more(bench):
    for offset in range(3 * ROOM):
        bench.fetch([offset])
    assert not bench.lane.full(TP("t", 0))


async def test_taken_chunks_leave_room_for_others(bench):
    chunks = [bench.fetch(range(MOST * i, MOST * (i + 1))) for i in range(ROOM)]
    assert bench.lane.full(TP("t", 0))
    bench.lane._most = 100
    bench.lane.gather(chunks[0])
    assert not bench.lane.full(TP("t", 0))


async def test_records_join_a_chunk_that_waits_and_faust_hears_of_one(bench):
    first, second, third = bench.chunk([0]), bench.chunk([1, 2]), bench.chunk([3])
    assert [bench.lane.started(chunk) for chunk in (first, second, third)] == [True, False, False]
    await bench.processor(first, GENERATION)
    assert bench.seen.chunks == [([0, 1, 2, 3], 4)]
    assert not bench.lane.waiting[TP("t", 0)]


@pytest.mark.parametrize("why", ["begun", "taken", "hole", "seek", "rebalance", "size"])
async def test_records_do_not_join_a_chunk_that_they_do_not_belong_to(bench, why):
    first = bench.chunk([0, 1])
    assert bench.lane.started(first)
    if why == "begun":
        bench.lane.gather(first)
    elif why == "taken":
        first.taken = True
    elif why == "seek":
        bench.lane.epoch[TP("t", 0)] += 1
    elif why == "rebalance":
        bench.lane.round += 1
    elif why == "size":
        bench.lane._most = 3
    assert bench.lane.started(bench.chunk([3, 4] if why == "hole" else [2, 3]))
    assert [record.offset for record in first.records] == [0, 1]
