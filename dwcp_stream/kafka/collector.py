"""Scrape exporters once a step and send a sample of each entity, until stopped."""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import aiohttp
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError
from structlog import get_logger

from dwcp_stream.collect import Collected, CollectMap, Mapper
from dwcp_stream.errors import BrokerError, PayloadError
from dwcp_stream.kafka.batches import Row, write_rows
from dwcp_stream.kafka.clients import producer_client
from dwcp_stream.kafka.inspection import source_topic
from dwcp_stream.kafka.producer import key_hash
from dwcp_stream.kafka.replay import topic_partitions
from dwcp_stream.kafka.rights import REFUSALS
from dwcp_stream.kafka.scraping import SPREAD, Scraper
from dwcp_stream.settings import Settings
from dwcp_stream.streams import StreamDefinition, encode_sample
from dwcp_stream.telemetry.health import Check, Report, report
from dwcp_stream.telemetry.metrics import Metrics

log = get_logger(__name__)

AGAIN_SECONDS: Final = 1.0
"""Wait before samples that no broker took are sent again."""
ONCE_SECONDS: Final = 20.0
"""Longest time for one sample of each entity, if the step is not longer."""
ONCE_PAUSE: Final = 3.0
"""Longest time between two looks then."""
LAST_SECONDS: Final = 10.0
"""Longest time at the end for samples that are still waiting."""


@dataclass
class CollectTotals:
    """What was done since the start."""

    stream: str
    topic: str
    pages: int = 0
    failed: int = 0
    sent: int = 0
    dropped: int = 0
    unchanged: int = 0
    incomplete: int = 0

    def plain(self) -> dict[str, Any]:
        """Return it as a dictionary."""
        return asdict(self)


class Collector:
    """Makes a sample per step and entity, and hands them to Kafka keyed by entity.

    Samples wait while no broker takes them, up to the setting collect.buffer; then the oldest are dropped and counted.

    Parameters
    ----------
    settings
        Name the broker, and what `collect` is limited to.
    stream, mapping
        The stream and the map, which `check_map` has seen.
    urls
        Addresses of pages, as `page_address` gives them.
    job
        Label `job` of series without one.
    """

    def __init__(
        self,
        settings: Settings,
        stream: StreamDefinition,
        mapping: CollectMap,
        urls: Sequence[str],
        metrics: Metrics,
        job: str,
    ) -> None:
        self.settings, self.stream, self.metrics = settings, stream, metrics
        self.step = 1.0 if isinstance(stream.step, str) else float(stream.step)
        self.totals = CollectTotals(stream.name, source_topic(settings, stream))
        self._urls, self._job = urls, job
        self._mapper = Mapper(mapping, stream)
        self._waiting: deque[tuple[bytes, bytes]] = deque()
        self._news, self._drained = asyncio.Event(), asyncio.Event()
        self._drained.set()
        self._looked = time.monotonic()
        self._told_slow = False
        for outcome in ("sent", "dropped", "unchanged", "incomplete"):
            metrics.count("dwcp_collected_total", 0, stream.name, outcome)

    def live(self) -> Report:
        """Return whether it looks at pages at all."""
        silent = time.monotonic() - self._looked
        return report({"looking": Check(silent < max(5 * self.step, 60.0), f"last look {silent:.1f} s ago")})

    def ready(self) -> Report:
        """Return whether pages come and samples go."""
        done = self.totals
        return report(
            {
                "pages": Check(done.pages > 0, f"{done.pages} read, {done.failed} failed"),
                "broker": Check(
                    len(self._waiting) < self.settings.collect.buffer, f"{len(self._waiting)} samples wait"
                ),
            }
        )

    async def run(self, stop: asyncio.Event, *, once: bool = False) -> CollectTotals:
        """Collect until told to stop; with `once` as soon as one sample of each entity is confirmed.

        Raises
        ------
        BrokerError
            No broker answers at the start, the topic does not exist, or it may not be written to.
        PayloadError
            With `once`, if no page gives a sample.
        """
        seconds = min(self.settings.collect.timeout, 0.9 * self.step)
        async with producer_client(self.settings) as producer, aiohttp.ClientSession() as session:
            partitions = await topic_partitions(producer, self.totals.topic)
            scraper = Scraper(
                session,
                self._urls,
                self._mapper,
                self.metrics,
                job=self._job,
                stream=self.stream.name,
                seconds=seconds,
                spread=SPREAD * self.step if len(self._urls) > 1 else 0.0,
            )
            if once:
                await self._once(scraper, stop)
                await self._send(producer, partitions)
                return self.totals
            sender = asyncio.create_task(self._keep_sending(producer, partitions))
            looking = asyncio.create_task(self._keep_looking(scraper, stop))
            try:
                await asyncio.wait({sender, looking}, return_when=asyncio.FIRST_COMPLETED)
                if sender.done():
                    await sender  # it only ends by an error
                await looking
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LAST_SECONDS):
                        await self._drained.wait()
            finally:
                sender.cancel()
                looking.cancel()
                await asyncio.gather(sender, looking, return_exceptions=True)
            return self.totals

    async def _once(self, scraper: Scraper, stop: asyncio.Event) -> None:
        """Look again until there is something new: growth needs a page before, and a server scrapes seldom."""
        self._mapper.samples(await self._look(scraper))
        until = time.monotonic() + max(self.step, ONCE_SECONDS)
        while not self._waiting and not stop.is_set() and time.monotonic() < until:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), min(self.step, ONCE_PAUSE))
            if not stop.is_set():
                self._take(*self._mapper.samples(await self._look(scraper)))
        if not self._waiting and not stop.is_set():
            raise PayloadError(
                scraper.last_failure or "no page has what the map needs",
                where=", ".join(self._urls),
                remedy="Check addresses and map; `curl URL` shows a page",
            )

    async def _keep_looking(self, scraper: Scraper, stop: asyncio.Event) -> None:
        """Look at the whole steps of the clock; one that was missed is not made up for."""
        while not stop.is_set():
            pause = self.step - time.time() % self.step
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause)
            if not stop.is_set():
                self._take(*self._mapper.samples(await self._look(scraper)))

    async def _look(self, scraper: Scraper) -> Any:
        pages = await scraper.look()
        self._looked = time.monotonic()
        self.totals.pages += len(pages)
        self.totals.failed += len(self._urls) - len(pages)
        return pages

    def _take(self, samples: Sequence[Collected], left: Any) -> None:
        for sample in samples:
            self._waiting.append(encode_sample(self.stream, sample.entity, sample.ts, sample.values))
        if samples:
            self._drained.clear()
        for outcome, number in left.items():
            self._count(outcome, number)
        if left["unchanged"] > len(samples) and not self._told_slow:
            self._told_slow = True
            log.warning(
                "the series change more seldom than the stream's step; most rows of its windows stay empty",
                stream=self.stream.name,
                step=self.step,
                remedy="scrape the exporters themselves, or make a stream whose step is the server's scrape interval",
            )
        while len(self._waiting) > self.settings.collect.buffer:
            self._waiting.popleft()
            self._count("dropped", 1)
        self.metrics.set("dwcp_collect_waiting", len(self._waiting), self.stream.name)
        self._news.set()

    async def _keep_sending(self, producer: AIOKafkaProducer, partitions: int) -> None:
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                try:
                    await self._send(producer, partitions)
                except (BrokerError, KafkaError) as error:
                    if isinstance(error, REFUSALS) or isinstance(error.__cause__, REFUSALS):
                        raise
                    log.warning(
                        "samples not sent; they are kept", error=str(error), error_type="broker", stage="sending"
                    )
                    await asyncio.sleep(AGAIN_SECONDS)

    async def _send(self, producer: AIOKafkaProducer, partitions: int) -> None:
        """Send what waits; what is not confirmed goes on waiting."""
        batch = list(self._waiting)
        rows: dict[int, list[Row]] = {number: [] for number in range(partitions)}
        for key, value in batch:
            rows[key_hash(key) % partitions].append((key, value, [], None))
        await write_rows(producer, self.totals.topic, rows)
        for sent in batch:
            if self._waiting and self._waiting[0] is sent:  # else it was dropped meanwhile, and arrived all the same
                self._waiting.popleft()
        if not self._waiting:
            self._drained.set()
        self._count("sent", len(batch))
        self.metrics.set("dwcp_collect_waiting", len(self._waiting), self.stream.name)

    def _count(self, outcome: str, number: int) -> None:
        setattr(self.totals, outcome, getattr(self.totals, outcome) + number)
        self.metrics.count("dwcp_collected_total", number, self.stream.name, outcome)
