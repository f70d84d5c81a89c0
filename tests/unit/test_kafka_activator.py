"""When and where a partition moves to another version: written down first, never in the way of chunks for longer."""

import asyncio
from types import SimpleNamespace

import numpy as np
import pytest

from dwcp_stream.activations import NOTHING, Activation, ScheduleRecord, decode_schedule, encode_schedule, schedule_of
from dwcp_stream.chunk import Chunk
from dwcp_stream.errors import BrokerError, ModelError
from dwcp_stream.kafka.activator import MARGIN_SECONDS, Activator
from dwcp_stream.kafka.generations import PARTITION_KEY, VERSIONS_KEY, make_key, split_key
from dwcp_stream.kafka.locks import PartitionLocks
from dwcp_stream.kafka.recovering import Recovering
from dwcp_stream.loading import BoundModels
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.settings import Settings
from dwcp_stream.windows.snapshot import PartitionRecord, encode_partition_record
from tests.integration import probe

GENERATION = 6


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    root = tmp_path_factory.mktemp("site")
    stream = probe.write_definition(root / "streams", "t")
    for factor in (1.0, 1.1, 1.2):
        probe.publish_model(root / "models", stream, factor=factor, alias=None)
    return BoundModels(Settings(models_dir=root / "models"), stream)


class Bench:
    """An activator with everything around it in sight; `confirm` is the broker's answer."""

    def __init__(self, site):
        self.models = {v: site.load(probe.MODEL, v) for v in (1, 2, 3)}
        self.pipeline = Pipeline(site.stream, [self.models[1]])
        self.store = SimpleNamespace(ready=set(), member_of=GENERATION, changelog={}, generations={})
        self.written, self.refused, self.end, self.now = [], [], 0, 0.0
        self.log_end = None
        self.confirm, self.failures = asyncio.Event(), []
        self.confirm.set()
        self.writing, self.limits = asyncio.Event(), []
        self.activator = Activator(
            pipeline=self.pipeline, store=self.store, locks=PartitionLocks(), load=site.load, write=self.write,
            ends=self.ends, refused=lambda *a: self.refused.append(a), clock=lambda: self.now,
            end=lambda _: self.log_end,
        )  # fmt: skip

    async def write(self, records):
        self.limits.append(self.activator.limit(0))
        if self.failures:
            raise self.failures.pop()
        self.written += records
        self.writing.set()
        await self.confirm.wait()
        return {partition: len(self.written) for partition, _, _ in records}

    def stall(self):
        """Confirm nothing from here on."""
        self.confirm.clear()
        self.writing.clear()

    async def ends(self, partitions):
        return dict.fromkeys(partitions, self.end)

    async def assign(self, recovered=None):
        """Take partition 0 over, as the store does."""
        recovered = recovered or Recovering().settle()
        settled = (await self.activator.take_over({0: recovered}, GENERATION))[0]
        self.pipeline.restore(0, recovered.record, {}, settled.schedule, settled.models)
        self.store.generations[0] = recovered.generations
        self.store.ready.add(0)
        return settled

    def process(self, begin, end):
        rows = probe.Telemetry(1, 400).rows(1)[0][begin:end]
        stamps = np.full(len(rows), int(probe.EPOCH * 1000) + 10**9, np.int64)
        chunk = Chunk("t", 0, np.arange(begin, end), stamps, [r[0] for r in rows], [r[1] for r in rows])
        return self.pipeline.process(chunk)

    def last(self):
        return decode_schedule(self.written[-1][2])


@pytest.fixture
def bench(site):
    return Bench(site)


def recovered(position=None, models=None, schedule=(), term=0, generation=5):
    found = Recovering()
    if position is not None:
        record = PartitionRecord(position=position, models=models or {}, since=dict.fromkeys(models or {}, 0))
        found.apply(make_key(PARTITION_KEY, generation), encode_partition_record(record), bytes)
    if schedule:
        record = ScheduleRecord(term=term, activations=schedule_of(Activation(*a) for a in schedule))
        found.apply(make_key(VERSIONS_KEY, generation), encode_schedule(record), bytes)
    return found.settle()


async def test_the_first_owner_writes_down_what_it_begins_with(bench):
    await bench.assign()
    ((partition, key, value),) = bench.written
    assert (partition, split_key(key)) == (0, (VERSIONS_KEY, GENERATION))
    assert decode_schedule(value).activations == (Activation(0, probe.MODEL, 1),)


async def test_chunks_go_on_while_the_activation_is_on_its_way_and_stop_at_its_offset(bench):
    await bench.assign()
    await bench.activator.follow()
    bench.process(0, 100)
    bench.now = 10.0
    bench.pipeline.serve(bench.models[2])
    bench.stall()
    moving = asyncio.create_task(bench.activator.follow())
    await bench.writing.wait()
    ahead = 100 + int(100 / 10.0 * MARGIN_SECONDS)
    assert bench.last().activations == (Activation(0, probe.MODEL, 1), Activation(ahead, probe.MODEL, 2))
    assert bench.activator.limit(0) == ahead
    assert not bench.process(100, ahead).swaps
    waiting = asyncio.create_task(bench.activator.passed(0))
    await asyncio.sleep(0)
    assert not waiting.done()
    bench.confirm.set()
    assert await moving == 1
    await waiting
    assert bench.activator.limit(0) is None
    (swap,) = bench.process(ahead, 120).swaps
    assert (swap.before, swap.version, swap.offset) == (1, 2, ahead)
    assert await bench.activator.follow() == 0


@pytest.mark.parametrize(("log_end", "offset"), [(100, 100), (150, 150), (100_000, 100 + 1_000), (20, 100)])
async def test_after_a_backlog_a_partition_moves_no_later_than_its_log_ends(bench, log_end, offset):
    await bench.assign()
    bench.log_end = log_end
    await bench.activator.follow()
    bench.process(0, 100)
    bench.now = 0.1 * MARGIN_SECONDS
    bench.pipeline.serve(bench.models[2])
    await bench.activator.follow()
    assert bench.last().activations[-1] == Activation(offset, probe.MODEL, 2)


async def test_samples_that_arrive_meanwhile_are_counted_to_the_log(bench):
    await bench.assign()
    bench.log_end = 90
    await bench.activator.follow()
    bench.process(0, 100)
    bench.now, bench.log_end = MARGIN_SECONDS, 110
    bench.pipeline.serve(bench.models[2])
    await bench.activator.follow()
    assert bench.last().activations[-1] == Activation(130, probe.MODEL, 2)


async def test_an_idle_partition_moves_with_its_next_sample(bench):
    await bench.assign()
    bench.process(0, 50)
    for version in (2, 3, 2, 3):
        bench.pipeline.serve(bench.models[version])
        await bench.activator.follow()
    assert bench.last().activations == (Activation(0, probe.MODEL, 1), Activation(50, probe.MODEL, 3))
    assert [(s.before, s.version) for s in bench.process(50, 51).swaps] == [(1, 3)]


async def test_a_partition_that_has_seen_nothing_keeps_its_beginning(bench):
    """Where the first sample lies is not known: what was written for it stays, the other version comes right after."""
    await bench.assign()
    bench.pipeline.serve(bench.models[2])
    await bench.activator.follow()
    assert bench.last().activations == (Activation(0, probe.MODEL, 1), Activation(1, probe.MODEL, 2))
    assert [s.version for s in bench.process(30, 31).swaps] == [2]


async def test_a_failed_write_is_tried_again_and_holds_the_samples_until_it_succeeds(bench, monkeypatch):
    monkeypatch.setattr("dwcp_stream.kafka.activator.FIRST_BACKOFF", 0.0)
    await bench.assign()
    bench.process(0, 50)
    bench.pipeline.serve(bench.models[2])
    bench.failures = [BrokerError("away"), BrokerError("away")]
    assert await bench.activator.follow() == 1
    assert bench.limits[1:] == [50, 50, 50]
    assert bench.activator.limit(0) is None
    assert [s.version for s in bench.process(50, 60).swaps] == [2]


async def test_an_activation_of_a_lost_partition_ends_nothing_but_the_wait(bench):
    await bench.assign()
    bench.process(0, 50)
    bench.pipeline.serve(bench.models[2])
    bench.stall()
    moving = asyncio.create_task(bench.activator.follow())
    await bench.writing.wait()
    bench.store.ready.clear()
    bench.pipeline.revoke(0)
    bench.confirm.set()
    await moving
    assert bench.activator.limit(0) is None
    assert not bench.pipeline.partitions


async def test_cut_off_in_the_write_no_sample_passes(bench):
    """What was sent may be durable: scoring those samples by the old version could not be repeated."""
    await bench.assign()
    bench.process(0, 50)
    bench.pipeline.serve(bench.models[2])
    bench.stall()
    moving = asyncio.create_task(bench.activator.follow())
    await bench.writing.wait()
    moving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await moving
    assert bench.activator.limit(0) == 50


async def test_a_new_owner_goes_on_with_what_was_written_and_moves_on_after_the_log(bench):
    """The former owner may have scored everything in the log with the version it had."""
    bench.pipeline.serve(bench.models[3])
    bench.end = 90
    found = recovered(40, {probe.MODEL: 1}, [(0, probe.MODEL, 1), (60, probe.MODEL, 2)], term=8)
    settled = await bench.assign(found)
    assert bench.last() == ScheduleRecord(term=9, activations=settled.schedule)
    assert [a.version for a in settled.schedule] == [1, 2]
    await bench.activator.follow()
    assert bench.last().activations[-1] == Activation(90, probe.MODEL, 3)
    result = bench.process(40, 100)
    assert [(s.offset, s.version) for s in result.swaps] == [(60, 2), (90, 3)]
    assert found.generations.stale() == [(VERSIONS_KEY, 5)]


async def test_state_of_a_release_without_schedules_goes_on_with_its_version(bench):
    settled = await bench.assign(recovered(40, {probe.MODEL: 2}))
    assert settled.schedule == (Activation(0, probe.MODEL, 2),)
    assert bench.pipeline.partitions[0].models[probe.MODEL].version == 2


async def test_a_model_that_the_state_does_not_know_begins_at_the_position(bench):
    settled = await bench.assign(recovered(40, {"another": 2}, [(0, "another", 2)]))
    assert settled.schedule == (Activation(40, probe.MODEL, 1),)


async def test_a_version_that_is_gone_gives_way_at_the_same_offset(bench):
    settled = await bench.assign(recovered(40, {probe.MODEL: 9}, [(0, probe.MODEL, 9), (60, probe.MODEL, 2)]))
    assert settled.schedule == (Activation(0, probe.MODEL, 1), Activation(60, probe.MODEL, 2))
    ((wanted, error, serving),) = bench.refused
    assert (wanted.version, serving.version) == (9, 1)
    assert isinstance(error, ModelError)


def test_what_a_former_owner_writes_late_counts_for_nothing():
    """It was paused with term 3; the new owner has term 4, whatever generation the brokers began anew with."""
    late = ScheduleRecord(term=3, activations=(Activation(70, probe.MODEL, 2),))
    new = ScheduleRecord(term=4, activations=(Activation(0, probe.MODEL, 1),))
    for generations in ((7, 8), (7, 1)):
        for order in ((0, 1), (1, 0)):
            found = Recovering()
            records = [(make_key(VERSIONS_KEY, g), r) for g, r in zip(generations, (late, new), strict=True)]
            for i in order:
                found.apply(records[i][0], encode_schedule(records[i][1]), bytes)
            settled = found.settle()
            assert settled.schedule == new
            assert settled.generations.stale() == [(VERSIONS_KEY, 7)]


def test_of_one_term_the_later_generation_counts():
    """Two that took over from the same owner: the first of them was paused before it had scored anything."""
    one, two = (ScheduleRecord(term=4, activations=(Activation(0, probe.MODEL, v),)) for v in (1, 2))
    for records in ([(7, one), (8, two)], [(8, two), (7, one)]):
        found = Recovering()
        for generation, record in records:
            found.apply(make_key(VERSIONS_KEY, generation), encode_schedule(record), bytes)
        assert found.settle().schedule == two


def test_a_deleted_schedule_is_not_read_back():
    found = Recovering()
    record = ScheduleRecord(activations=(Activation(0, probe.MODEL, 1),))
    found.apply(make_key(VERSIONS_KEY, 5), encode_schedule(record), bytes)
    found.apply(make_key(VERSIONS_KEY, 5), None, bytes)
    assert found.settle().schedule is None


def test_a_damaged_schedule_is_damage():
    found = Recovering()
    found.apply(make_key(VERSIONS_KEY, 5), encode_schedule(ScheduleRecord(term=1))[:-1], bytes)
    assert len(found.damaged) == 1


SHADOW, CHALLENGER, SHARE = (f"{probe.MODEL}@{line}" for line in ("shadow", "challenger", "share"))


async def test_contenders_begin_and_end_at_an_offset_all_lines_at_the_same(bench):
    await bench.assign()
    bench.process(0, 50)
    bench.pipeline.contend(CHALLENGER, bench.models[2])
    bench.pipeline.share(probe.MODEL, 25)
    assert await bench.activator.follow() == 1
    begun = {a for a in bench.last().activations if a.offset == 0}
    assert begun == {
        Activation(0, probe.MODEL, 1), Activation(0, CHALLENGER, NOTHING), Activation(0, SHARE, NOTHING)
    }  # fmt: skip
    assert {a for a in bench.last().activations if a.offset == 50} == {
        Activation(50, CHALLENGER, 2), Activation(50, SHARE, 25)
    }  # fmt: skip
    assert [(s.arm, s.version) for s in bench.process(50, 60).swaps] == [("challenger", 2), ("share", 25)]
    assert await bench.activator.follow() == 0
    bench.pipeline.serve(bench.models[2])
    bench.pipeline.contend(CHALLENGER, None)
    bench.pipeline.share(probe.MODEL, 0)
    assert await bench.activator.follow() == 1
    swaps = bench.process(60, 70).swaps
    assert {(s.arm, s.before, s.version, s.offset) for s in swaps} == {
        ("champion", 1, 2, 60), ("challenger", 2, NOTHING, 60), ("share", 25, 0, 60)
    }  # fmt: skip


async def test_a_new_owner_goes_on_with_the_contenders_that_were_written(bench):
    schedule = [(0, probe.MODEL, 1), (0, SHADOW, NOTHING), (5, SHADOW, 2), (30, SHADOW, 3), (8, SHARE, 10)]
    await bench.assign(recovered(position=20, models={probe.MODEL: 1}, schedule=schedule))
    contenders = bench.pipeline.partitions[0].contenders.by_line
    assert {line: c.model.version for line, c in contenders.items()} == {SHADOW: 2}
    assert [(s.arm, s.before, s.version) for s in bench.process(20, 40).swaps] == [("shadow", 2, 3)]


async def test_a_contender_that_is_gone_gives_way_to_nobody(bench):
    schedule = [(0, probe.MODEL, 1), (0, SHADOW, NOTHING), (5, SHADOW, 99)]
    await bench.assign(recovered(position=20, models={probe.MODEL: 1}, schedule=schedule))
    assert bench.pipeline.partitions[0].contenders.by_line == {}
    ((wanted, error, serving),) = bench.refused
    assert (wanted.version, serving.version) == (99, 1)
    assert "there is no version 99" in str(error)
