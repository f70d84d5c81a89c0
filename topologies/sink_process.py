"""The alert sinks as a process: each sink reads the topic by itself, and none waits for another."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from prometheus_client import CollectorRegistry
from structlog import get_logger

from dwcp_stream.errors import BrokerError
from dwcp_stream.events import Alert
from dwcp_stream.incidents import Silences, silenced
from dwcp_stream.kafka.alert_feed import AlertFeed, Transition
from dwcp_stream.kafka.silences import follow_silences
from dwcp_stream.keys import public_keys
from dwcp_stream.setting_sections import SinkSettings
from dwcp_stream.settings import Settings
from dwcp_stream.sinks import Ledger, Message, Sink, Telling, sinks_of
from dwcp_stream.sinks.client import http_session
from dwcp_stream.sinks.courier import Courier
from dwcp_stream.sinks.trial import NO_SINK
from dwcp_stream.telemetry.health import Check, Readiness, Report, report
from dwcp_stream.telemetry.metrics import Metrics
from dwcp_stream.web.server import HttpServer

log = get_logger(__name__)

AGAIN_SECONDS = 5.0
"""Wait before the brokers are tried again."""


@dataclass(slots=True)
class SinkReader:
    """Tells one sink what it is to be told.

    Parameters
    ----------
    courier
        Brings the messages.
    clock
        Epoch seconds, for the age of transitions and for what messages say.
    hushed
        Whether an alert is silenced at a time, epoch seconds.
    """

    sink: Sink
    courier: Courier
    metrics: Metrics
    settings: SinkSettings
    clock: Callable[[], float] = time.time
    hushed: Callable[[Alert, float], bool] = lambda _alert, _at: False
    _reminded: float = 0.0

    @property
    def name(self) -> str:
        """Name of the sink."""
        return self.sink.name

    def remember(self, ledger: Ledger, alert: Alert) -> None:
        """Take a transition for told, if it was to be."""
        if ledger.judge(alert, 0.0, self.settings.stale_seconds, self.sink.severity) == "tell":
            # what began in a silence was not told then; whether it was told since is not known
            if self._silenced(alert, datetime.fromisoformat(alert.event_time).timestamp()):
                ledger.hold(alert)
            else:
                ledger.tell(alert)
        else:
            ledger.see(alert)

    async def deliver(self, ledger: Ledger, transitions: Sequence[Transition], interrupt: asyncio.Event) -> int:
        """Tell what is to be told, `batch` by `batch`; returns how many transitions had their turn."""
        began = self.clock()
        for start in range(0, len(transitions), self.sink.batch):
            if start and self.clock() - began > self.settings.stale_seconds:
                return start
            part = transitions[start : start + self.sink.batch]
            tellings = self._tellings(ledger, part)
            if tellings:
                fate = await self.courier.deliver(partial(self._told, tellings), interrupt)
                if fate == "interrupted":
                    return start
                if fate == "sent":
                    for _, stamp in part:
                        self.metrics.observe("dwcp_sink_delay_seconds", max(0.0, self.clock() - stamp), self.name)
        return len(transitions)

    def _told(self, tellings: Sequence[Telling]) -> Message:
        return self.sink.tell(tellings, self.clock())

    def _reminder(self, alerts: Sequence[Alert]) -> Message:
        return self.sink.remind(alerts, self.clock())

    def _tellings(self, ledger: Ledger, transitions: Sequence[Transition]) -> list[Telling]:
        tellings = []
        for alert, stamp in transitions:
            if alert is None:
                continue
            age = self.clock() - stamp
            verdict = ledger.judge(alert, age, self.settings.stale_seconds, self.sink.severity)
            if verdict == "tell" and self._silenced(alert, self.clock()):
                verdict = "silenced"
                ledger.hold(alert)
            elif verdict == "tell":
                tellings.append(ledger.tell(alert))
            else:
                ledger.see(alert)
            if verdict != "tell":
                self.metrics.count("dwcp_sink_skipped_total", 1, self.name, verdict)
        return tellings

    def _silenced(self, alert: Alert, at: float) -> bool:
        """Whether a transition is held back; the end of what was told never is."""
        return alert.action != "resolved" and self.hushed(alert, at)

    async def _release(self, ledgers: Sequence[Ledger], interrupt: asyncio.Event) -> None:
        """Tell what still fires when its silence is over."""
        due = [(ledger, alert) for ledger in ledgers for alert in ledger.held.values()]
        due = [(ledger, alert) for ledger, alert in due if not self._silenced(alert, self.clock())]
        for start in range(0, len(due), self.sink.batch):
            tellings = [ledger.tell(alert) for ledger, alert in due[start : start + self.sink.batch]]
            await self.courier.deliver(partial(self._told, tellings), interrupt)

    async def idle(self, ledgers: Sequence[Ledger], lag: int, interrupt: asyncio.Event) -> None:
        """Say what fires: as metrics, and to a sink that forgets; tell what is silenced no longer."""
        await self._release(ledgers, interrupt)
        alerts = [alert for ledger in ledgers for alert in ledger.told.values()]
        self.courier.alive(0.0)
        self.metrics.set("dwcp_sink_firing", len(alerts), self.name)
        self.metrics.set("dwcp_sink_lag", lag, self.name)
        if not self.sink.forgets or self.clock() - self._reminded < self.settings.resend_seconds:
            return
        self._reminded = self.clock()
        for start in range(0, len(alerts), self.sink.batch):
            part = alerts[start : start + self.sink.batch]
            await self.courier.deliver(partial(self._reminder, part), interrupt)

    def unreadable(self) -> None:
        """Count a record that is no alert."""
        self.metrics.count("dwcp_sink_dropped_total", 1, self.name, "unreadable")


@dataclass(slots=True)
class SinkProcess:
    """All sinks that settings name.

    Attributes
    ----------
    metrics
        What it serves at /metrics.
    """

    settings: Settings
    metrics: Metrics = field(default_factory=lambda: Metrics(CollectorRegistry()))
    _alive: dict[str, float] = field(default_factory=dict)

    async def run(self, stop: asyncio.Event) -> None:
        """Send alerts until told to stop; what brokers and sinks refuse is tried again.

        Raises
        ------
        ConfigError
            No sink is named, or the port is taken.
        """
        own, http = self.settings.sinks, self.settings.http
        sinks = sinks_of(own)
        if not sinks:
            raise NO_SINK
        ready = Readiness(tuple(sink.name for sink in sinks))
        token = http.token.get_secret_value() if http.token else None
        server = HttpServer(self.metrics.registry, self._live, ready.check, host=http.host, port=own.port, token=token)
        await server.start()
        log.info("alert sinks starting", sinks=[sink.name for sink in sinks], url=server.url)
        try:
            async with http_session(own.timeout_seconds, own.ssl_cafile) as session, asyncio.TaskGroup() as tasks:
                known, silences = asyncio.Event(), Silences(public_keys(self.settings.silences.keys))
                following = tasks.create_task(follow_silences(self.settings, silences, known))
                await known.wait()

                def hushed(alert: Alert, at: float) -> bool:
                    return silenced(alert, silences.current, at) is not None

                feeds = []
                for sink in sinks:
                    courier = Courier(
                        sink, session, self.metrics, 3600.0 * own.give_up_hours, own.timeout_seconds,
                        alive=partial(self._note, sink.name),
                    )  # fmt: skip
                    for name, labels in SERIES:
                        self.metrics.count(name, 0, sink.name, *labels)
                    reader = SinkReader(sink, courier, self.metrics, own, hushed=hushed)
                    feeds.append(tasks.create_task(self._feed(reader, stop, ready)))
                await asyncio.wait(feeds)
                following.cancel()
        except ExceptionGroup as group:  # one sink's error is told as what it is
            raise group.exceptions[0] from group
        finally:
            await server.stop()

    async def _feed(self, reader: SinkReader, stop: asyncio.Event, ready: Readiness) -> None:
        while not stop.is_set():
            try:
                feed = AlertFeed(self.settings, reader, self.settings.sinks.stale_seconds)
                await feed.run(stop, lambda: ready.meet(reader.name, "reads the alerts"))
            except BrokerError as error:
                ready.fail(reader.name, str(error))
                log.warning("it is tried again", sink=reader.name, error=str(error), error_type=error.error_type)
                reader.courier.alive(AGAIN_SECONDS + self.settings.kafka.request_timeout)
                await _wait(stop, AGAIN_SECONDS)

    def _note(self, sink: str, seconds: float) -> None:
        self._alive[sink] = time.monotonic() + seconds

    def _live(self) -> Report:
        """Alive as long as each sink's loop moves; one that waits to try again does."""
        now, limit = time.monotonic(), self.settings.liveness_seconds
        late = {name: max(0.0, now - until) for name, until in self._alive.items()}
        return report({name: Check(by < limit, f"{by:.0f} s overdue") for name, by in late.items()})


SERIES = (
    ("dwcp_sink_sent_total", ()),
    ("dwcp_sink_retries_total", ()),
    *(("dwcp_sink_dropped_total", (reason,)) for reason in ("refused", "gave_up", "unreadable")),
    *(("dwcp_sink_skipped_total", (verdict,)) for verdict in ("repeat", "stale", "untold", "below", "silenced")),
)
"""Counters that are there from the start, so that their rates begin at 0."""


async def _wait(stop: asyncio.Event, seconds: float) -> None:
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
