"""Send the daemon's outputs: batched under load, at once when idle, nothing forgotten on an error."""

import asyncio
from collections import defaultdict
from collections.abc import Awaitable, Iterable
from functools import lru_cache

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from aiokafka.partitioner import murmur2
from structlog import get_logger

from dwcp_stream.errors import BrokerError
from dwcp_stream.events import Output
from dwcp_stream.kafka.batches import Row, write_rows

log = get_logger(__name__)

MAX_IN_FLIGHT = 50_000
"""Outputs that may wait for the broker; beyond it `send` waits, so that a broker's absence shows as lag."""

PASSING_KEYS = frozenset({"anomalies", "deadletter"})
"""Topics whose keys hardly come back: to remember them would only fill the memory."""

FIRST_BACKOFF, LAST_BACKOFF = 0.25, 5.0


@lru_cache(maxsize=65_536)
def key_hash(key: bytes) -> int:
    """Return the hash of a record key by which all of Kafka's clients choose its partition."""
    return int(murmur2(key)) & 0x7FFFFFFF


class OutputProducer:
    """Hands outputs to Kafka by partition, in the order given, and knows which are confirmed.

    Each partition has its own lane: what is waiting goes out as one write, and while that is under way the
    next gathers. A lane whose write fails tries again by itself, so order and outputs are kept; `delivered`
    reports the failure.

    Parameters
    ----------
    producer
        A started producer.
    prefix
        What topic names begin with; an `Output` names its topic without it.
    max_in_flight
        Outputs that may be unconfirmed before `send` waits.
    """

    def __init__(self, producer: AIOKafkaProducer, prefix: str, max_in_flight: int = MAX_IN_FLIGHT) -> None:
        self._producer, self._prefix, self._max = producer, prefix, max_in_flight
        self._counts: dict[str, int] = {}
        self._lanes: dict[tuple[str, int], list[tuple[int, Row]]] = defaultdict(list)
        self._tasks: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._open: dict[int, int] = {}  # number of the `send` call -> its unconfirmed outputs; oldest first
        self._calls = 0
        self._in_flight = 0
        self._changed = asyncio.Event()
        self._failures = 0
        self._error: BrokerError | None = None

    @property
    def in_flight(self) -> int:
        """Number of outputs not confirmed yet."""
        return self._in_flight

    async def prepare(self, topics: Iterable[str]) -> None:
        """Look up the partitions of topics once; their number never changes. `send` does it for new ones.

        Raises
        ------
        BrokerError
            A topic does not exist.
        """
        for topic in topics:
            if topic in self._counts:
                continue
            name = self._prefix + topic
            try:
                self._counts[topic] = len(await self._producer.partitions_for(name))
            except KafkaError as error:
                raise BrokerError(
                    f"outputs have nowhere to go: {error!r}",
                    where=name,
                    remedy="Run: dwcp-stream topics create",
                ) from error

    async def send(self, outputs: Iterable[Output]) -> None:
        """Hand over outputs; returns before they are confirmed, but waits while too many are in flight.

        Raises
        ------
        BrokerError
            A topic does not exist; nothing of this call has been taken then.
        """
        while self._in_flight >= self._max:
            await self._change()
        by_topic: dict[str, list[Output]] = defaultdict(list)
        for output in outputs:
            by_topic[output.topic].append(output)
        await self.prepare(by_topic)
        self._calls += 1
        handed = 0
        for topic, items in by_topic.items():
            name, count = self._prefix + topic, self._counts[topic]
            hashed = key_hash.__wrapped__ if topic in PASSING_KEYS else key_hash
            handed += len(items)
            for item in items:
                lane = (name, hashed(item.key) % count)
                self._lanes[lane].append((self._calls, (item.key, item.value, item.headers, None)))
                if lane not in self._tasks:
                    self._tasks[lane] = asyncio.create_task(self._run(lane))
        if handed:
            self._open[self._calls] = handed
            self._in_flight += handed

    def delivered(self) -> Awaitable[None]:
        """Return an awaitable for all outputs handed over up to this call.

        It raises BrokerError when a write fails meanwhile. The outputs are kept and sent again until they
        arrive, so ask again later.
        """
        return self._wait(self._calls, self._failures)

    async def stop(self, timeout: float = 10.0) -> None:  # noqa: ASYNC109  what is late by then is given up, no error
        """Wait for what is on its way, then give up. The producer is the caller's to stop."""
        tasks = list(self._tasks.values())
        if tasks:
            await asyncio.wait(tasks, timeout=timeout)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _wait(self, upto: int, failures: int) -> None:
        while next(iter(self._open), upto + 1) <= upto:
            if self._failures > failures and self._error is not None:
                raise self._error
            await self._change()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def _run(self, lane: tuple[str, int]) -> None:
        topic, partition = lane
        backoff = FIRST_BACKOFF
        while waiting := self._lanes.pop(lane, None):
            try:
                await write_rows(self._producer, topic, {partition: [row for _, row in waiting]})
            except Exception as error:  # noqa: BLE001  whatever it is, the outputs must not be forgotten
                log.warning("outputs not sent; they are kept", error=str(error), error_type="broker", stage="sending")
                self._lanes[lane] = waiting + self._lanes.pop(lane, [])
                self._error = error if isinstance(error, BrokerError) else BrokerError(repr(error), where=topic)
                self._failures += 1
                self._changed.set()
                await asyncio.sleep(backoff)
                backoff = min(backoff * 2, LAST_BACKOFF)
                continue
            backoff = FIRST_BACKOFF
            self._confirm(waiting)
        del self._tasks[lane]

    def _confirm(self, sent: list[tuple[int, Row]]) -> None:
        for call, _ in sent:
            left = self._open[call] - 1
            if left:
                self._open[call] = left
            else:
                del self._open[call]
        self._in_flight -= len(sent)
        self._changed.set()
