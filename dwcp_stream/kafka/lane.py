"""The chunk lane: Faust's consumer hands over whole fetched chunks instead of single messages.

One event per chunk keeps Faust's cost per message out of the way. The read position belongs to the state, not to
Faust's acknowledgements, so this consumer never lets Faust commit a position that no checkpoint has confirmed, and
never takes a hole in the offsets for compaction on its own.
"""

import asyncio
import contextlib
from collections import Counter, defaultdict, deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from functools import partial
from itertools import dropwhile, islice
from typing import Any

from aiokafka.errors import IllegalStateError
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread
from faust.transport.drivers.aiokafka import Consumer as KafkaConsumer
from faust.transport.drivers.aiokafka import Transport as KafkaTransport
from faust.types import TP
from structlog import get_logger

from dwcp_stream.kafka.bare_records import keep_bare

ROOM = 4
"""Chunks of the largest size, of one partition, whose records may wait; Faust's own buffer counts events, not records.

What counts is records, not chunks: a few small chunks would fill the room, and while a partition is left out of fetches
aiokafka holds back those of its broker's other partitions for up to 100 ms."""

FETCH_WAIT_MS = 100
"""Longest wait of a fetch. A fetch names only the partitions that had nothing waiting when it began, so a record of
another partition can be held back for as long; Faust's 1,500 ms would be seen in the latency of alerts."""


LEAVE_SECONDS = 10.0
"""Longest wait for the consumer to leave its group when the worker stops."""

log = get_logger(__name__)


class FetchedChunk:
    """Looks like one Kafka record to Faust; its value is the list of one partition's fetched records.

    Parameters
    ----------
    tp
        Their partition.
    records
        Its bare records, in offset order.
    epoch
        The partition's seek epoch when its records were taken: a chunk taken before a seek is stale after it.
    round
        The assignment round the chunk was fetched in.

    Attributes
    ----------
    begun
        Its turn has come: nothing is added to it any more.
    taken
        Its records have been processed together with those of a chunk before it.
    """

    __slots__ = (
        "begun", "checksum", "epoch", "headers", "key", "offset", "partition", "records", "round",
        "serialized_key_size", "serialized_value_size", "taken", "timestamp", "timestamp_type", "topic",
    )  # fmt: skip

    def __init__(self, tp: TP, records: list[Any], epoch: int, round_: int) -> None:
        last = records[-1]
        self.topic, self.partition, self.offset = tp.topic, tp.partition, last.offset
        self.timestamp, self.timestamp_type = last.timestamp, last.timestamp_type
        self.key = None
        self.headers: tuple[()] = ()
        self.checksum = None
        self.serialized_key_size = self.serialized_value_size = 0
        self.records, self.epoch, self.round = records, epoch, round_
        self.begun = self.taken = False

    @property
    def value(self) -> "FetchedChunk":
        """The chunk itself is what the agent receives."""
        return self


class Lane:
    """What the consumer, the agent and the checkpoint share about the chunk lane of one topic.

    Parameters
    ----------
    topic
        Source topic read in chunks.
    changelog
        Changelog topic; recovery reads it in chunks too.
    most
        Most records of a chunk.
    """

    def __init__(self, topic: str, changelog: str, most: int) -> None:
        self.topic, self.changelog, self._most, self._room = topic, changelog, most, ROOM * most
        self.epoch: Counter[TP] = Counter()
        self.waiting: defaultdict[TP, deque[FetchedChunk]] = defaultdict(deque)
        self.round = 0
        self.drained = asyncio.Event()
        self.room_again: Callable[[TP], None] | None = None
        self.checkpoint: Callable[[], Awaitable[Mapping[TP, int]]] | None = None
        self.positions: Callable[[], Mapping[TP, int]] | None = None
        self.end_offsets: dict[TP, int] = {}

    def started(self, chunk: FetchedChunk) -> bool:
        """Note a fetched chunk; False if one that waits has taken its records, so that Faust need not be told.

        An event costs Faust a fraction of a millisecond, and records may come one by one.
        """
        waiting = self.waiting[TP(chunk.topic, chunk.partition)]
        last = waiting[-1] if waiting else None
        if last is not None and not last.begun and not last.taken and self._fits(last, last.records, chunk):
            last.records = last.records + chunk.records
            return False
        waiting.append(chunk)
        return True

    def gather(self, chunk: FetchedChunk) -> list[Any]:
        """Return the records of the chunk whose turn it is, and of those that wait behind it, up to a chunk's most.

        A chunk costs the same few milliseconds with one record as with a hundred. When records come one by one, chunks
        of one record each would fill the queue, and every record would wait for all of them. Chunks that do not follow
        without a hole, or were fetched before or after a seek, wait for their own turn.
        """
        records, chunk.begun = chunk.records, True
        behind = dropwhile(lambda other: other is not chunk, self.waiting[TP(chunk.topic, chunk.partition)])
        for later in islice(behind, 1, None):
            if not self._fits(chunk, records, later):
                break
            records = records + later.records
            later.taken = True
        return records

    def _fits(self, chunk: FetchedChunk, records: list[Any], later: FetchedChunk) -> bool:
        follows = later.records[0].offset == records[-1].offset + 1
        same = later.epoch == chunk.epoch and later.round == chunk.round
        return follows and same and len(records) + len(later.records) <= self._most

    def finished(self, chunk: FetchedChunk) -> None:
        """Forget a chunk the agent is done with, whether processed or found stale."""
        if chunk.round == self.round:
            tp = TP(chunk.topic, chunk.partition)
            self.waiting[tp].remove(chunk)
            self.drained.set()
            if self.room_again is not None and not self.full(tp):
                self.room_again(tp)

    def clear(self) -> None:
        """Forget the waiting chunks: Faust empties its queues at a rebalance without telling."""
        self.round += 1
        self.waiting.clear()
        self.drained.set()

    def full(self, tp: TP) -> bool:
        """Tell whether no more chunks of a partition may be fetched for now."""
        return sum(len(chunk.records) for chunk in self.waiting[tp] if not chunk.taken) >= self._room


class ReadOffsets(dict[TP, int | None]):
    """Faust's memory of the offsets it has handed over, which leaves out the lane's topic.

    Faust remembers a message after handing it over, so a chunk fetched before a seek would raise the memory again
    after the seek, and Faust would drop what is then fetched again as already read.
    """

    def __init__(self, topic: str) -> None:
        super().__init__()
        self._topic = topic

    def __missing__(self, tp: TP) -> None:
        return None

    def __setitem__(self, tp: TP, offset: int | None) -> None:
        if tp.topic != self._topic:
            super().__setitem__(tp, offset)


class LaneThread(AIOKafkaConsumerThread):
    """Faust's consumer thread with short fetches; it says of each chunk before or after which seek it was taken.

    Seeks and fetches both run here. An epoch stamped elsewhere can be wrong: a fetch that starts between raising the
    epoch and the seek itself takes records of the old position under the new epoch.
    """

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = FETCH_WAIT_MS
        return consumer

    async def on_start(self) -> None:
        """Start the consumer, before anything is subscribed to."""
        await super().on_start()
        keep_bare(self._consumer, {self.consumer.lane.topic, self.consumer.lane.changelog})

    async def on_thread_stop(self) -> None:
        """Leave the group, but not at any price: a join that is under way may wait for an answer that never comes.

        By now the last checkpoint is written and committed. The broker notices by the session timeout.
        """
        try:
            await asyncio.wait_for(super().on_thread_stop(), LEAVE_SECONDS)
        except TimeoutError:
            log.warning("did not leave the consumer group in good order", waited=LEAVE_SECONDS, error_type="broker")
            await self._consumer._client.close()

    async def _fetch_records(
        self,
        consumer: Any,
        active_partitions: set[TP],
        timeout: float | None = None,  # noqa: ASYNC109  Faust's
        max_records: int | None = None,
    ) -> Any:
        lane = self.consumer.lane
        fetched = await super()._fetch_records(consumer, active_partitions, timeout, max_records)
        # nothing is awaited between the taking of the records and this
        taken = {}
        for tp, records in fetched.items():
            if not records:
                continue
            if not self.consumer.wants(tp):
                self._give_back(consumer, tp, records[0].offset)
            elif tp.topic in (lane.topic, lane.changelog):
                taken[tp] = [FetchedChunk(tp, records, lane.epoch[tp], lane.round)]
            else:
                taken[tp] = records
        return taken

    def want(self, wanted: set[TP], tp: TP) -> None:
        """Add a partition to those that a fetch under way waits for, from the worker's thread.

        The fetch ends with the first records of those it was begun for. While one of them is idle, the others, full
        when it began, would run dry.
        """
        self.thread_loop.call_soon_threadsafe(self._want, wanted, tp)

    def _want(self, wanted: set[TP], tp: TP) -> None:
        if tp not in wanted:
            wanted.add(tp)
            fetcher = self._consumer._fetcher
            for waiter in fetcher._fetch_waiters:
                fetcher._notify(waiter)

    def _give_back(self, consumer: Any, tp: TP, offset: int) -> None:
        """Put the position back to before records that Faust would drop.

        A fetch that began before a rebalance waits until it is over, and may then take the first records after the
        seek to where a changelog is to be read from. Recovery would wait for them for ever.
        """
        with contextlib.suppress(IllegalStateError):  # lost meanwhile: whoever has it now has a position of its own
            consumer.seek(tp, offset)

    async def _seek_wait(self, consumer: Any, partitions: Mapping[TP, int]) -> None:
        for tp in partitions:
            self.consumer.lane.epoch[tp] += 1
        await super()._seek_wait(consumer, partitions)  # seeks at once, then waits


class LaneConsumer(KafkaConsumer):
    """Faust's aiokafka consumer with the chunk lane; `lane` is set by `lane_transport`."""

    lane: Lane

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._read_offset = ReadOffsets(self.lane.topic)
        self._unsought: set[TP] = set()

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Leave the lane's topic to our own liveness; Faust's check fails while a position is being reset."""
        if tp.topic != self.lane.topic:
            super().verify_event_path(now, tp)

    def wants(self, tp: TP) -> bool:
        """Tell whether records taken now would be handed over; asked in the consumer's thread."""
        return bool(self.flow_active) and (tp in (self._active_partitions or ()) or tp in self._buffered_partitions)

    _thread: LaneThread

    def _new_consumer_thread(self) -> LaneThread:
        return LaneThread(self, loop=self.loop, beacon=self.beacon)

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:  # noqa: ASYNC109  Faust's
        lane = self.lane
        wanted = {tp for tp in active_partitions or () if not (tp.topic == lane.topic and lane.full(tp))}
        if not wanted:
            lane.drained.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(lane.drained.wait(), timeout)
            return {}
        if len(wanted) < len(active_partitions or ()):
            lane.room_again = partial(self._thread.want, wanted)
        try:
            fetched = await super()._getmany(wanted, timeout)
        finally:
            lane.room_again = None
        taken = {}
        for tp, records in fetched.items():
            if not isinstance(records[0], FetchedChunk):
                taken[tp] = records
            elif records[0].epoch == lane.epoch[tp]:  # else it is fetched again from where the seek went
                (chunk,) = records
                chunk.round = lane.round
                if tp.topic != lane.topic or lane.started(chunk):
                    taken[tp] = records
                if tp.topic == lane.topic:
                    lane.end_offsets[tp] = max(chunk.offset + 1, self.highwater(tp) or 0)
        return taken

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        if tp.topic != self.lane.topic:  # a hole is looked at by the agent, against the position
            await super()._add_gap(tp, offset_from, offset_to)

    def _new_offset(self, tp: TP) -> int | None:
        if tp.topic != self.lane.topic:
            offset: int | None = super()._new_offset(tp)
            return offset
        self._acked[tp].clear()
        self._acked_index[tp].clear()
        return self._confirmed.get(tp)

    async def maybe_wait_for_commit_to_finish(self) -> bool:
        """Wait for a commit that is under way, and commit all the same.

        Faust takes such a commit for its own. But it may have copied the state before the last chunk, and before a
        rebalance or at the end no other would follow: that chunk's outputs would be published again by the next owner.
        """
        while self._commit_fut is not None:
            await asyncio.wait([self._commit_fut])
        return False

    async def _commit_tps(self, tps: Any, start_new_transaction: bool = True) -> bool:
        if self.lane.checkpoint is not None:
            self._confirmed: Mapping[TP, int] = await self.lane.checkpoint()
        lanes = {tp for tp in self._confirmed if tp.topic == self.lane.topic}
        committed: bool = await super()._commit_tps(set(tps) | lanes, start_new_transaction)
        return committed

    def resume_partitions(self, tps: Iterable[TP]) -> None:
        """Resume the lane's topic only after the next seek.

        Faust resumes after a recovery first and seeks then; what it fetched in between would be samples that the state
        has seen already, from the committed offset on.
        """
        self._unsought = {tp for tp in tps if tp.topic == self.lane.topic}
        super().resume_partitions(set(tps) - self._unsought)

    async def perform_seek(self) -> None:
        """Seek to the state's positions, which are at or after the committed offsets."""
        await super().perform_seek()
        if self.lane.positions is not None:
            assigned = self.assignment()
            positions = {tp: p for tp, p in self.lane.positions().items() if tp in assigned}
            if positions:
                await self.seek_wait(positions)
        super().resume_partitions(self._unsought & self.assignment())
        self._unsought = set()

    def stop_flow(self) -> None:
        """Stop handing over, as Faust does before a rebalance and at the end; chunks that wait are fetched again."""
        super().stop_flow()
        self.lane.clear()

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Commit what is done, as Faust does, then forget the chunks it drops."""
        await super().on_partitions_revoked(revoked)
        self.lane.clear()


def lane_transport(lane: Lane) -> type[KafkaTransport]:
    """Return a transport class whose consumer reads through a lane."""

    class Consumer(LaneConsumer):
        _confirmed: Mapping[TP, int] = {}

    Consumer.lane = lane

    class Transport(KafkaTransport):
        pass

    Transport.Consumer = Consumer
    return Transport
