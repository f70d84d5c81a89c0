"""Telemetry with trouble in it: sent step by step, with bursts of repeats, wrong orders and wrong clocks on request.

Two populations share the topic. The alerts of the first are known beforehand, because what is done to it changes
nothing: a range sent again is made of duplicates and late samples. The second is shuffled and thrown about in time;
only an undisturbed worker can say what must become of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import sys
from collections.abc import Iterator
from dataclasses import dataclass

from dwcp_stream.errors import BrokerError
from dwcp_stream.kafka.batches import Row, write_rows
from dwcp_stream.kafka.clients import producer_client
from dwcp_stream.kafka.producer import key_hash
from tests.integration.probe import EPOCH, PERIOD, Telemetry, entity_name
from tests.integration.workers import PARTITIONS, Site

ALERTING = 4
"""Every fourth entity has alerts: enough to lose one, few enough to keep all of them in memory."""

ODD_SHARE = 10
"""One entity in ten is of the second population."""

FAR_FUTURE = 2_000_000_000.0
JUMPS = (-7_200.0, -40.0, -5.0, 2.0, 30.0, 600.0, 7_200.0)


class Known(Telemetry):
    """The first population: the probe's telemetry, alerts of every fourth entity only."""

    def _phase(self, entity: int, step: int) -> int:
        return super()._phase(entity, step) if entity % ALERTING == 0 else PERIOD - 1

    def transitions(self, stop: int | None = None) -> set[tuple[str, str, float]]:
        """(entity, action, event time) of every transition that the samples must lead to."""
        alerting = {entity_name(e) for e in range(self.first, self.first + self.entities, 1) if e % ALERTING == 0}
        return {t for t in super().transitions(stop) if t[0] in alerting}


@dataclass
class Trouble:
    """What is to be done to the next steps."""

    resend: int = 0
    reorder: int = 0
    jump: int = 0


class Load:
    """Writes telemetry until it is stopped: fast up to `allow`, one step a second beyond it.

    Parameters
    ----------
    entities
        Of both populations together: samples per step.
    rate
        Steps per second at most.
    """

    def __init__(self, site: Site, entities: int, rate: float, seed: int) -> None:
        odd = max(entities // ODD_SHARE, 1)
        self.known = Known(entities - odd, sys.maxsize)
        self.odd = Telemetry(odd, sys.maxsize, first=entities - odd)
        self.site, self.rate, self.dice = site, rate, random.Random(seed)
        self.trouble = Trouble()
        self.step, self.sent, self.allowed, self.retries = 0, 0, 0, 0
        self._more, self._stopping = asyncio.Event(), asyncio.Event()
        self._task = asyncio.create_task(self._run())

    def allow(self, samples: int) -> None:
        """Let the load go fast until so many samples are sent."""
        self.allowed = samples
        self._more.set()

    async def stop(self) -> None:
        """Stop after the step under way."""
        self._stopping.set()
        self._more.set()
        await self._task

    async def cancel(self) -> None:
        """End at once, whatever it was doing."""
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def check(self) -> None:
        """Raise what stopped the load, if something did."""
        if self._task.done():
            self._task.result()

    async def _run(self) -> None:
        async with producer_client(self.site.settings) as producer:
            while not self._stopping.is_set():
                rows = self._rows(self.step)
                while not await self._write(producer, rows):
                    self.retries += 1
                self.sent += sum(len(part) for part in rows.values())
                self.step += 1
                self._more.clear()
                pause = 1.0 if self.sent >= self.allowed else 1 / self.rate
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._more.wait(), pause)

    async def _write(self, producer: object, rows: dict[int, list[Row]]) -> bool:
        try:
            await write_rows(producer, self.site.source, rows)  # type: ignore[arg-type]
        except BrokerError:
            return False  # all of the step is sent again, so some of it is there twice
        return True

    def _rows(self, step: int) -> dict[int, list[Row]]:
        rows: dict[int, list[Row]] = {p: [] for p in range(PARTITIONS)}
        for key, value in self._samples(step):
            rows[key_hash(key) % PARTITIONS].append((key, value, [], None))
        return rows

    def _samples(self, step: int) -> Iterator[tuple[bytes, bytes]]:
        again, self.trouble.resend = self.trouble.resend, 0
        for entity, at in self.known.samples(max(step - again, 0), step + 1):
            yield entity_name(entity).encode(), self.known.payload(entity, at)
        odd = [(entity, at, 0.0) for entity, at in self.odd.samples(step, step + 1)]
        if self.trouble.reorder:
            self.trouble.reorder -= 1
            odd += [(entity, at, 0.0) for entity, at in self.odd.samples(max(step - 5, 0), step + 6)]
            self.dice.shuffle(odd)
        if self.trouble.jump:
            self.trouble.jump -= 1
            odd = [(e, at, self._jump(at) if self.dice.random() < 0.3 else 0.0) for e, at, _ in odd]
        for entity, at, jump in odd:
            payload = self.odd.payload(entity, at)
            if jump:
                payload = payload.replace(b'"ts":%.1f' % (EPOCH + at), b'"ts":%.1f' % (EPOCH + at + jump))
            yield entity_name(entity).encode(), payload

    def _jump(self, at: int) -> float:
        """A wrong clock: minutes or hours off, or so far ahead of the record's timestamp that the sample is invalid."""
        return self.dice.choice((*JUMPS, FAR_FUTURE - EPOCH - at))
