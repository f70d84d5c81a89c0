"""What becomes of fetched chunks: processed, stale, refetched, accepted with a hole, or broken."""

import asyncio
from types import SimpleNamespace

import pytest
from faust.types import TP

from dwcp_stream.kafka.checkpoint import Checkpointer
from dwcp_stream.kafka.generations import Generations
from dwcp_stream.kafka.lane import MAX_CHUNKS_IN_FLIGHT, FetchedChunk, Lane
from dwcp_stream.kafka.processor import ChunkProcessor
from dwcp_stream.pipeline import Pipeline
from tests.integration import probe

GENERATION = 3


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
        self.lane, self.seen, self.sought, self.sent = Lane("t", "c"), Seen(), [], []
        self.pipeline = pipeline or Pipeline(stream)

        async def seek(where):
            self.sought.append(where)
            for tp in where:
                self.lane.epoch[tp] += 1  # as the consumer's thread does when it seeks

        async def send(outputs):
            self.sent += outputs

        self.processor = ChunkProcessor(
            lane=self.lane, pipeline=self.pipeline, lock=asyncio.Lock(), ready=lambda p: p == 0,
            generation=lambda: GENERATION, seek=seek, send=send, observer=self.seen,
        )  # fmt: skip

    def fetch(self, offsets, partition=0):
        records = [
            SimpleNamespace(
                topic="t", partition=partition, offset=o, timestamp=int(probe.EPOCH * 1000) + 10**7, timestamp_type=0,
                key=b"e", value=b'{"id":"e","ts":%d,"value":1}' % (probe.EPOCH + o),
            )
            for o in offsets
        ]  # fmt: skip
        tp = TP("t", partition)
        chunk = FetchedChunk(records, self.lane.epoch[tp], self.lane.round)
        self.lane.started(chunk)
        return chunk


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


@pytest.mark.parametrize("why", ["generation", "round", "partition"])
async def test_stale_chunks_change_nothing_and_are_let_go(bench, why):
    chunk = bench.fetch([0, 1], partition=1 if why == "partition" else 0)
    if why == "round":
        bench.lane.clear()
    await bench.processor(chunk, GENERATION - 1 if why == "generation" else GENERATION)
    assert not bench.seen.chunks
    assert not bench.pipeline.partitions
    assert not bench.lane.waiting[TP("t", chunk.partition)]


async def test_a_bug_in_the_pipeline_stops_everything(tmp_path):
    class Broken(Pipeline):
        def process(self, chunk):
            raise ZeroDivisionError

    bench = Bench(None, Broken(probe.write_definition(tmp_path, "t")))
    with pytest.raises(ZeroDivisionError):
        await bench.processor(bench.fetch([0]), GENERATION)
    assert isinstance(bench.processor.broken, ZeroDivisionError)
    await bench.processor(bench.fetch([0]), GENERATION)  # dropped: the state may be half changed
    assert not bench.seen.chunks


async def test_chunks_go_on_while_a_checkpoint_is_being_written(bench):
    """Only the copy needs the lock; what happens after it belongs to the next checkpoint."""
    await bench.processor(bench.fetch([0, 1]), GENERATION)
    writing, go_on, written = asyncio.Event(), asyncio.Event(), []

    async def delivered():
        return None

    async def write(records):
        writing.set()
        await go_on.wait()
        written.extend(records)
        return {0: len(written)}

    store = SimpleNamespace(ready={0}, changelog={}, generations={0: Generations()})
    checkpoint = Checkpointer(
        source=bench.pipeline, store=store, topic="t", lock=bench.processor.lock, generation=lambda: GENERATION,
        outputs=delivered, write=write, report=lambda _: None,
    )  # fmt: skip
    under_way = asyncio.create_task(checkpoint())
    await writing.wait()
    await bench.processor(bench.fetch([2, 3, 4]), GENERATION)  # would hang here if the lock were held
    assert bench.pipeline.partitions[0].position == 5
    go_on.set()
    assert await under_way == {TP("t", 0): 2}
    assert bench.pipeline.partitions[0].confirmed == 2
    assert (await checkpoint()) == {TP("t", 0): 5}


def test_a_partition_with_enough_in_flight_is_full_until_one_is_done(bench):
    chunks = [bench.fetch([i]) for i in range(MAX_CHUNKS_IN_FLIGHT)]
    assert bench.lane.full(TP("t", 0))
    bench.lane.finished(chunks[0])
    assert not bench.lane.full(TP("t", 0))
    bench.lane.clear()
    bench.lane.finished(chunks[1])  # of an earlier round: counted no more
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
    bench.processor.most = 3 if why == "size" else 4
    first = bench.fetch([0, 1])
    if why == "seek":
        bench.lane.epoch[TP("t", 0)] += 1
    later = bench.fetch(second)
    records = bench.lane.gather(first, bench.processor.most)
    assert [record.offset for record in records] == [0, 1]
    assert not later.taken


async def test_taken_chunks_leave_room_for_others(bench):
    chunks = [bench.fetch([i]) for i in range(MAX_CHUNKS_IN_FLIGHT)]
    assert bench.lane.full(TP("t", 0))
    bench.lane.gather(chunks[0], 100)
    assert not bench.lane.full(TP("t", 0))
