"""Brings messages to one sink, one after the other, and tries again until each is taken."""

import asyncio
import contextlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Literal

import aiohttp
from structlog import get_logger

from dwcp_stream.sinks.backoff import Backoff
from dwcp_stream.sinks.client import post
from dwcp_stream.sinks.sink import Message, Sink
from dwcp_stream.telemetry.metrics import Metrics

log = get_logger(__name__)

Fate = Literal["sent", "refused", "gave_up", "interrupted"]


@dataclass(slots=True)
class Courier:
    """Delivers to one sink.

    Parameters
    ----------
    session
        Its requests end by themselves after `timeout` seconds.
    give_up
        Seconds after which a message that is not taken is dropped.
    backoff, random
        Say how long to wait between attempts.
    clock
        Seconds that only grow.
    alive
        Called with the number of seconds for which no further call is no bad sign.
    """

    sink: Sink
    session: aiohttp.ClientSession
    metrics: Metrics
    give_up: float
    timeout: float
    backoff: Backoff = field(default_factory=Backoff)
    random: Random = field(default_factory=Random)
    clock: Callable[[], float] = time.monotonic
    alive: Callable[[float], None] = lambda _: None

    async def deliver(self, write: Callable[[], Message], interrupt: asyncio.Event) -> Fate:
        """Send a message until it is taken or refused, the time is over, or `interrupt` is set.

        Parameters
        ----------
        write
            Returns the message; called for every attempt, since what it says may depend on the time.
        """
        name, began, attempt = self.sink.name, self.clock(), 0
        while not interrupt.is_set():
            self.alive(self.timeout)
            message = write()
            answer = await post(self.session, self.sink, message)
            if answer.word == "taken":
                self.metrics.set("dwcp_sink_up", 1, name)
                self.metrics.count("dwcp_sink_sent_total", message.alerts, name)
                if attempt:
                    log.info("sink takes alerts again", sink=name, attempts=attempt + 1)
                return "sent"
            if answer.word == "refused":
                return self._drop(message, "refused", answer.reason)
            self.metrics.set("dwcp_sink_up", 0, name)
            if self.clock() - began >= self.give_up:
                return self._drop(message, "gave_up", answer.reason)
            self.metrics.count("dwcp_sink_retries_total", 1, name)
            wait = self.backoff.wait(attempt, self.random, answer.asked)
            log.warning("sink takes no alerts; tried again", sink=name, reason=answer.reason, seconds=round(wait, 1))
            self.alive(wait + self.timeout)
            await _either(interrupt, wait)
            attempt += 1
        return "interrupted"

    def _drop(self, message: Message, fate: Literal["refused", "gave_up"], reason: str) -> Fate:
        self.metrics.count("dwcp_sink_dropped_total", message.alerts, self.sink.name, fate)
        log.error("alerts dropped", sink=self.sink.name, alerts=message.alerts, outcome=fate, reason=reason)
        return fate


async def _either(interrupt: asyncio.Event, seconds: float) -> None:
    """Wait for an event, but no longer than some seconds."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(interrupt.wait(), seconds)
