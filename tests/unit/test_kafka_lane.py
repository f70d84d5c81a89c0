"""Fetches and seeks of the chunk lane: nothing that was taken is lost between Faust's consumer and its thread."""

import asyncio
from types import SimpleNamespace

import pytest
from aiokafka.errors import IllegalStateError
from faust.types import TP

from dwcp_stream.kafka import lane as module
from dwcp_stream.kafka.lane import FetchedChunk, Lane, LaneConsumer, LaneThread

SOURCE, CHANGELOG, OTHER = TP("t", 0), TP("c", 0), TP("control", 0)


class Fetching:
    """A consumer thread whose fetch takes records of `tp`, after something has happened meanwhile."""

    def __init__(self, tp, meanwhile=lambda consumer: None):
        self.tp, self.meanwhile, self.sought = tp, meanwhile, []
        self.consumer = object.__new__(LaneConsumer)
        self.consumer.lane = Lane("t", "c", 10)
        self.consumer.flow_active, self.consumer._active_partitions = True, {SOURCE, CHANGELOG, OTHER}
        self.consumer._buffered_partitions = set()
        self.thread = object.__new__(LaneThread)
        self.thread.consumer = self.consumer
        subscriptions = SimpleNamespace(fetch_context=lambda: self)
        fetcher = SimpleNamespace(_closed=False, _subscriptions=subscriptions, fetched_records=self.fetched_records)
        self.kafka = SimpleNamespace(_closed=False, _fetcher=fetcher, seek=self.seek)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def seek(self, tp, offset):
        self.sought.append((tp, offset))

    async def fetched_records(self, tps, timeout, max_records):  # noqa: ASYNC109  aiokafka's
        self.meanwhile(self.consumer)
        return {self.tp: [SimpleNamespace(offset=o, timestamp=0, timestamp_type=0) for o in (7, 8)]}

    async def fetch(self):
        return await self.thread._fetch_records(self.kafka, {self.tp}, 1.0, 10)


def rebalanced(consumer):
    """Paused for recovery, as all partitions are when they have just been assigned."""
    consumer._active_partitions.clear()


def suspended(consumer):
    consumer.flow_active = False


@pytest.mark.parametrize("tp", [SOURCE, CHANGELOG])
async def test_what_is_taken_comes_as_one_chunk(tp):
    fetching = Fetching(tp)
    ((chunk,),) = (await fetching.fetch()).values()
    assert isinstance(chunk, FetchedChunk)
    assert [r.offset for r in chunk.records] == [7, 8]
    assert fetching.sought == []


async def test_other_topics_come_as_they_are():
    ((first, _),) = (await Fetching(OTHER).fetch()).values()
    assert first.offset == 7
    assert not isinstance(first, FetchedChunk)


@pytest.mark.parametrize("tp", [SOURCE, CHANGELOG, OTHER])
@pytest.mark.parametrize("meanwhile", [rebalanced, suspended])
async def test_a_fetch_that_outlasts_a_rebalance_gives_back_what_nobody_would_be_given(tp, meanwhile):
    fetching = Fetching(tp, meanwhile)
    assert await fetching.fetch() == {}
    assert fetching.sought == [(tp, 7)]


async def test_records_of_a_lost_partition_are_only_dropped():
    fetching = Fetching(SOURCE, rebalanced)

    def seek(tp, offset):
        raise IllegalStateError("not assigned")

    fetching.kafka.seek = seek
    assert await fetching.fetch() == {}


@pytest.mark.parametrize("sought", [False, True])
async def test_a_chunk_of_before_a_seek_is_dropped_and_one_of_before_a_rebalance_is_not(monkeypatch, sought):
    """The round says only what is in flight: records taken after the last seek would come no second time."""
    fetching = Fetching(CHANGELOG)
    consumer, lane = fetching.consumer, fetching.consumer.lane

    async def getmany(self, active_partitions, timeout):  # noqa: ASYNC109  Faust's
        taken = await fetching.fetch()
        lane.clear()
        lane.epoch[CHANGELOG] += sought
        return taken

    monkeypatch.setattr(LaneConsumer.__base__, "_getmany", getmany)
    taken = await consumer._getmany({CHANGELOG}, 1.0)
    assert bool(taken) != sought
    if not sought:
        assert taken[CHANGELOG][0].round == lane.round


async def test_the_source_is_read_only_from_the_seek_on_and_the_changelog_at_once(monkeypatch):
    """Faust resumes first: a chunk taken before the seek would be one the recovered state has seen already."""
    fetching = Fetching(SOURCE, rebalanced)
    consumer, lane = fetching.consumer, fetching.consumer.lane
    consumer._unsought, consumer._paused_partitions, active = set(), {SOURCE, CHANGELOG}, consumer._active_partitions
    lane.positions = lambda: {SOURCE: 40}
    active.clear()
    seen = []

    async def seek(self, positions=None):
        seen.append((positions, set(active)))

    monkeypatch.setattr(LaneConsumer.__base__, "perform_seek", seek)
    monkeypatch.setattr(LaneConsumer, "seek_wait", seek)
    monkeypatch.setattr(LaneConsumer, "assignment", lambda self: {SOURCE, CHANGELOG})
    consumer.resume_partitions({SOURCE, CHANGELOG})
    await consumer.perform_seek()
    assert seen == [(None, {CHANGELOG}), ({SOURCE: 40}, {CHANGELOG})]
    assert active == {SOURCE, CHANGELOG}
    assert not consumer._paused_partitions


@pytest.mark.parametrize("answers", [False, True])
async def test_a_join_that_gets_no_answer_does_not_keep_the_worker_from_stopping(monkeypatch, answers):
    """Seen with TERM just after the start: the client's metadata update was gone, and the join waited for it."""
    done, closed = [], []

    async def leave(self):
        if not answers:
            await asyncio.Event().wait()
        done.append("left")

    async def close():
        closed.append("connections")

    monkeypatch.setattr(LaneThread.__base__, "on_thread_stop", leave)
    monkeypatch.setattr(module, "LEAVE_SECONDS", 0.01)
    thread = object.__new__(LaneThread)
    thread._consumer = SimpleNamespace(_client=SimpleNamespace(close=close))
    await thread.on_thread_stop()
    assert (done, closed) == ((["left"], []) if answers else ([], ["connections"]))


async def test_a_commit_asked_for_while_another_is_under_way_follows_it():
    """What has happened since the first one copied the state is in the second only; there may be no third."""
    consumer, go_on, begun = object.__new__(LaneConsumer), asyncio.Event(), []
    consumer.app, consumer._commit_fut = SimpleNamespace(client_only=False), None
    consumer.loop = asyncio.get_running_loop()

    async def force_commit(topics, start_new_transaction):
        begun.append(start_new_transaction)
        await go_on.wait()
        return True

    consumer.force_commit = force_commit
    under_way = [asyncio.create_task(consumer.commit(start_new_transaction=new)) for new in (True, False)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert begun == [True]
    go_on.set()
    assert await asyncio.gather(*under_way) == [True, True]
    assert begun == [True, False]


class Waiting:
    """Records of partition 1 are there, but the fetch under way began for partition 0, which is idle."""

    def __init__(self, monkeypatch):
        self.lane = Lane("t", "c", 10)
        self.consumer, self.thread = object.__new__(LaneConsumer), object.__new__(LaneThread)
        self.consumer.lane, self.consumer._thread = self.lane, self.thread
        self._fetch_waiters, self.began = set(), asyncio.Event()
        self.thread.thread_loop = asyncio.get_running_loop()
        self.thread._consumer = SimpleNamespace(_fetcher=self)
        self.full = [self.chunk(offset) for offset in (0, 10, 20, 30)]
        for chunk in self.full:
            chunk.begun = True
            assert self.lane.started(chunk)
        monkeypatch.setattr(self.consumer, "highwater", lambda tp: 60, raising=False)
        monkeypatch.setattr(LaneConsumer.__base__, "_getmany", lambda _, tps, timeout: self.getmany(tps))

    def chunk(self, offset):
        records = [SimpleNamespace(offset=o, timestamp=0, timestamp_type=0) for o in range(offset, offset + 10)]
        return FetchedChunk(TP("t", 1), records, 0, 0)

    def _notify(self, waiter):
        if not waiter.done():
            waiter.set_result(None)

    async def getmany(self, wanted):
        while TP("t", 1) not in wanted:
            self.began.set()
            waiter = asyncio.get_running_loop().create_future()
            self._fetch_waiters.add(waiter)
            await waiter
            self._fetch_waiters.discard(waiter)
        return {TP("t", 1): [self.chunk(40)]}


async def test_a_fetch_that_waits_for_an_idle_partition_takes_those_that_have_room_again(monkeypatch):
    """Else the others would run dry until the idle one gets a record, or for Faust's whole second."""
    waiting = Waiting(monkeypatch)
    fetch = asyncio.create_task(waiting.consumer._getmany({SOURCE, TP("t", 1)}, 1.0))
    await waiting.began.wait()
    waiting.lane.finished(waiting.full[0])
    taken = await asyncio.wait_for(fetch, 10)
    assert [r.offset for r in taken[TP("t", 1)][0].records] == list(range(40, 50))
    waiting.lane.finished(waiting.full[1])  # no fetch is under way
    assert not waiting._fetch_waiters


async def test_a_partition_that_is_still_full_wakes_nobody():
    lane, woken = Lane("t", "c", 10), []
    lane.room_again = woken.append
    chunks = [
        FetchedChunk(SOURCE, [SimpleNamespace(offset=o, timestamp=0, timestamp_type=0)] * 10, 0, 0)
        for o in range(0, 60, 10)
    ]
    for chunk in chunks:
        chunk.begun = True
        lane.started(chunk)
    for chunk in chunks[:2]:
        lane.finished(chunk)
    assert woken == []
    lane.finished(chunks[2])
    assert woken == [SOURCE]
