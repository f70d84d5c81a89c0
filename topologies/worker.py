"""Run one stream's worker: check what it needs, put the app together, serve until stopped."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import faust
from aiokafka.errors import KafkaError
from faust.types import TP
from prometheus_client import CollectorRegistry
from structlog import get_logger

from dwcp_stream.errors import BrokerError, DwcpError
from dwcp_stream.kafka.catalogue import WRITTEN, catalogue, changelog, topic_name
from dwcp_stream.kafka.outputs import KafkaOutputs
from dwcp_stream.kafka.rights import REFUSALS, Right, missing_rights, refused, worker_rights
from dwcp_stream.kafka.topics import admin_client, create_topics, describe, partition_count, partitions_changed
from dwcp_stream.loading import BoundModels
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.registry.watch import AliasWatch
from dwcp_stream.settings import Settings
from dwcp_stream.streams import StreamDefinition
from dwcp_stream.telemetry.health import Liveness, Readiness
from dwcp_stream.telemetry.metrics import Metrics
from dwcp_stream.web.server import HttpServer
from topologies.app import StreamApp, create_app, source_ends
from topologies.background import Background
from topologies.control import ControlReader
from topologies.looking import PipelineLooks
from topologies.models import ModelFollower, names_of
from topologies.names import app_id, changelog_topic, journal_topic
from topologies.observer import MetricsObserver
from topologies.telemetry import telemetry_agent
from topologies.tidy import collect_seldom, one_heap, tidy

log = get_logger(__name__)

POLL_SECONDS = 1.0
TOPICS_EVERY = 5
"""The partition count and our rights are asked for at every n-th poll."""
TIDY_EVERY = 60
"""Memory is tidied at every n-th poll."""


async def prepare_topics(settings: Settings, stream: StreamDefinition) -> int:
    """Check the stream's topic, make the state topic, and return the number of partitions.

    Raises
    ------
    BrokerError
        No broker answers; the stream's topic, one for outputs or that of commands does not exist (and the setting
        topics.create is off, or the brokers refuse); or the stream's has not the number of partitions that its state
        was written for.
    """
    source = topic_name(settings.topics.prefix, stream.topic)
    state = changelog_topic(settings, stream)
    async with admin_client(settings) as admin:
        if rights := await missing_rights(admin, rights_of(settings, stream)):
            raise refused("Kafka", f"this user lacks {', '.join(map(str, rights))}")
        journal = journal_topic(settings, stream)
        own = sorted(WRITTEN | {"control"} if settings.control.keys else WRITTEN)
        others = [topic_name(settings.topics.prefix, name) for name in own]
        found = await describe(admin, [source, state, journal, *others])
        if journal in found:
            raise BrokerError(
                "its number of partitions is being changed, or that was interrupted",
                where=source,
                remedy=f"Wait, or run the same `dwcp-stream topics repartition {stream.name}` again",
            )
        lacking = [name for name in (source, *others) if name not in found]
        if lacking and settings.topics.create:
            topics = settings.topics
            specs = catalogue(topics.prefix, topics.partitions, topics.replication, [stream])
            created = await create_topics(admin, [spec for spec in specs if spec.name in lacking])
            log.warning("topics were missing and have been created", topics=created, partitions=topics.partitions)
            found = await describe(admin, [source, state])
        elif lacking:
            raise BrokerError("does not exist", where=", ".join(lacking), remedy="Run `dwcp-stream topics create`")
        partitions = found[source].partitions
        if state in found and found[state].partitions != partitions:
            raise partitions_changed(source, stream.name, partitions, found[state].partitions)
        await create_topics(admin, [changelog(state, partitions, settings.topics.replication)])
    return partitions


def rights_of(settings: Settings, stream: StreamDefinition) -> list[Right]:
    """Return the rights that a worker of a stream needs."""
    source = topic_name(settings.topics.prefix, stream.topic)
    return worker_rights(
        source,
        changelog_topic(settings, stream),
        app_id(settings, stream),
        journal_topic(settings, stream),
        settings.topics.prefix,
        commanded=bool(settings.control.keys),
    )


@dataclass(slots=True)
class Monitor:
    """Reports progress on a timer, also when nothing arrives, and watches the partition count and our rights."""

    app: StreamApp
    settings: Settings
    stream: StreamDefinition
    observer: MetricsObserver
    partitions: int
    rights: Sequence[Right]
    _task: Background = field(default_factory=Background)

    async def start(self) -> None:
        """Begin reporting."""
        self._task.begin(self._run())

    async def stop(self) -> None:
        """Stop reporting."""
        await self._task.end()

    async def _run(self) -> None:
        polls = 0
        while True:
            await asyncio.sleep(POLL_SECONDS)
            store = self.app.table.data
            await self._ask_ends(store.ready)
            joining = self.app.rebalancing or store.member_of < 0  # before its first assignment it is no member yet
            self.observer.poll(self.app.lane.end_offsets, store.ready, joining)
            readiness = self.observer.readiness
            if store.failed is not None:
                readiness.fail("recovered", str(store.failed))
            elif joining or self.app.in_recovery:
                readiness.fail("recovered", "state is being read back")
            else:
                readiness.meet("recovered", f"{len(store.ready)} partitions")
            polls += 1
            if polls % TOPICS_EVERY == 0:
                await self._check_topics()
            if polls % TIDY_EVERY == 0:
                tidy()

    async def _ask_ends(self, ready: set[int]) -> None:
        """Ask the brokers for the ends of our partitions: what was fetched last says nothing once fetching has died."""
        if not ready or self.app.rebalancing or self.app.should_stop:  # its thread ends before this task does
            return
        try:
            ends = await source_ends(self.app, sorted(ready))
        except BrokerError as error:
            log.warning("lag is not known", error=str(error), error_type=error.error_type)
            return
        self.app.lane.end_offsets.update({TP(self.app.lane.topic, number): end for number, end in ends.items()})

    async def _check_topics(self) -> None:
        readiness = self.observer.readiness
        try:
            async with admin_client(self.settings) as admin:
                lacking = await missing_rights(admin, self.rights)
                now = self.partitions if lacking else await partition_count(admin, self.app.lane.topic)
        except (BrokerError, KafkaError) as error:
            log.warning("cannot ask for partition count and rights", error=str(error))
            return
        if lacking:
            reason = f"this user lacks {', '.join(map(str, lacking))}"
            readiness.fail("rights", reason)
            log.error("rights were taken away", error_type="broker", reason=reason)
        else:
            readiness.meet("rights")
        if now is None:
            readiness.fail("partitions", f"{self.app.lane.topic} does not exist")
        elif now != self.partitions:
            self.halt(now)
        elif not self.app.processor.halted:
            readiness.meet("partitions", f"{now}")

    def halt(self, partitions: int) -> None:
        """Stop at the last checkpoint: keys may stand on other partitions, so state would be torn apart."""
        if self.app.processor.halted:
            return
        reason = str(partitions_changed(self.app.lane.topic, self.stream.name, partitions, self.partitions))
        self.app.processor.halted = reason
        self.observer.readiness.fail("partitions", reason)
        log.error("partition count changed; nothing is processed any more", error_type="partitions", reason=reason)


async def create_worker(settings: Settings, stream: StreamDefinition, port: int) -> StreamApp:
    """Put a worker together; it runs when Faust starts the app."""
    found = BoundModels(settings, stream)
    watch = AliasWatch(found.repository, stream.models)  # looks before the models are loaded: no move goes unnoticed
    models = found.first()
    partitions = await prepare_topics(settings, stream)
    (settings.data_dir / app_id(settings, stream)).mkdir(parents=True, exist_ok=True)  # Faust makes one level only
    registry = CollectorRegistry()
    metrics = Metrics(registry)
    pipeline = Pipeline(stream, models, buffer_cap=settings.buffer_cap)
    readiness = Readiness()
    readiness.meet("models", names_of(models) or "none")
    readiness.meet("partitions", f"{partitions}")
    readiness.meet("rights")
    liveness = Liveness(time.monotonic, settings.liveness_seconds)
    observer = MetricsObserver(pipeline, metrics, liveness, readiness)
    outputs = KafkaOutputs(settings)
    app = create_app(settings, pipeline, partitions, outputs, observer, found)
    telemetry_agent(app)
    token = settings.http.token.get_secret_value() if settings.http.token else None
    looks = PipelineLooks(pipeline, app.processor.locks)
    server = HttpServer(registry, liveness.check, readiness.check, looks, settings.http.host, port, token)
    monitor = Monitor(app, settings, stream, observer, partitions, rights_of(settings, stream))

    async def serve() -> None:
        await server.start()
        log.info("worker starting", stream=stream.name, partitions=partitions, url=server.url)

    app.services += [(serve, server.stop), (monitor.start, monitor.stop)]
    if models:
        following = ModelFollower(app, watch, found, outputs, observer, settings.models_interval)
        app.services.append((following.start, following.stop))
    if settings.control.keys:
        count, listening = partial(metrics.command, stream.name), partial(readiness.meet, "control")
        control = ControlReader(settings, stream, found.repository, count, listening, app.crash)
        app.services.append((control.start, control.stop))
    else:
        readiness.meet("control", "no keys, so no commands")
    return app


async def refusal(settings: Settings, stream: StreamDefinition, error: KafkaError) -> BrokerError:
    """Return what to say of a right that was taken away while the worker ran: which, if the brokers tell."""
    try:
        async with admin_client(settings) as admin:
            lacking = await missing_rights(admin, rights_of(settings, stream))
    except (BrokerError, KafkaError):
        lacking = []
    return refused("Kafka", f"this user lacks {', '.join(map(str, lacking))}") if lacking else refused(str(error))


def run_worker(settings: Settings, stream: StreamDefinition, port: int) -> int:
    """Run a worker until it is told to stop (SIGTERM, SIGINT); returns the exit code.

    Raises
    ------
    DwcpError
        It cannot start, its state cannot be read, or its rights were taken away.
    """
    one_heap()
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    app = loop.run_until_complete(create_worker(settings, stream, port))
    worker = faust.Worker(app, loop=loop, override_logging=False, redirect_stdouts=False, loglevel="WARN", quiet=True)
    code = 0
    collect_seldom()
    try:
        worker.execute_from_commandline()
    except SystemExit as exit_:
        code = int(exit_.code or 0)
    if isinstance(worker.crash_reason, REFUSALS):
        raise asyncio.run(refusal(settings, stream, worker.crash_reason)) from worker.crash_reason
    for failure in (app.failure, app.table.data.failed):
        if isinstance(failure, DwcpError):
            raise failure
    return code or int(app.crashed or app.processor.broken is not None)


@contextlib.asynccontextmanager
async def started(app: StreamApp) -> AsyncIterator[StreamApp]:
    """Run an app inside a running loop, for tests."""
    await app.start()
    try:
        yield app
    finally:
        await app.stop()
