"""The Faust app of one stream: the chunk lane, the state table and the checkpoint put together."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import faust
from aiokafka.errors import KafkaError
from faust.types import TP
from structlog import get_logger

from dwcp_stream.errors import BrokerError
from dwcp_stream.kafka.activator import Activator
from dwcp_stream.kafka.catalogue import topic_name
from dwcp_stream.kafka.checkpoint import Checkpointer
from dwcp_stream.kafka.credentials import broker_credentials
from dwcp_stream.kafka.lane import Lane, lane_transport
from dwcp_stream.kafka.locks import PartitionLocks
from dwcp_stream.kafka.outputs import KafkaOutputs
from dwcp_stream.kafka.processor import ChunkProcessor, positions
from dwcp_stream.kafka.store import StateTable
from dwcp_stream.loading import BoundModels
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.settings import Settings
from dwcp_stream.windows.snapshot import SnapshotCodec
from topologies.names import TABLE, app_id, changelog_topic
from topologies.observer import MetricsObserver

log = get_logger(__name__)


class StreamApp(faust.App):
    """A Faust app with what one stream's worker needs beside it.

    `services` are started before Kafka is read and stopped after the last checkpoint, in reverse order.
    """

    failure: Exception | None = None
    table: StateTable
    lane: Lane
    processor: ChunkProcessor
    checkpointer: Checkpointer
    activator: Activator
    services: list[tuple[Callable[[], Awaitable[Any]], Callable[[], Awaitable[Any]]]]

    async def on_start(self) -> None:
        """Start the producer and the web endpoint; what fails is kept in `failure` for the command to say."""
        try:
            for start, _ in self.services:
                await start()
        except Exception as error:
            self.failure = error
            raise
        await super().on_start()

    async def on_shutdown(self) -> None:
        """Stop the rest once the consumer is gone, because stopping it writes the last checkpoint.

        One that fails must not keep the others from it: the last to stop is the producer, with outputs to send.
        """
        await super().on_shutdown()
        for _, stop in reversed(self.services):
            try:
                await stop()
            except Exception:
                log.exception("a service did not stop in good order")


ASK_SECONDS = 5.0
"""Longest wait for the brokers' answer where partitions end."""


def create_app(
    settings: Settings,
    pipeline: Pipeline,
    partitions: int,
    outputs: KafkaOutputs,
    observer: MetricsObserver,
    models: BoundModels | None = None,
) -> StreamApp:
    """Put together the app of one stream.

    Parameters
    ----------
    partitions
        Partitions of the stream's topic, which must exist; the state table gets as many.
    models
        Where versions of the models come from that are not the pipeline's.
    """
    stream, kafka = pipeline.stream, settings.kafka
    source = topic_name(settings.topics.prefix, stream.topic)
    lane = Lane(source, changelog_topic(settings, stream), settings.max_poll_records)
    app = StreamApp(
        app_id(settings, stream),
        broker=[f"kafka://{server.strip()}" for server in kafka.bootstrap_servers.split(",")],
        broker_credentials=broker_credentials(settings),
        broker_client_id=kafka.client_id,
        broker_request_timeout=kafka.request_timeout,
        broker_session_timeout=kafka.session_timeout,
        # the group waits no longer than the rebalance timeout for a member that learns of it by its next heartbeat
        broker_heartbeat_interval=min(kafka.session_timeout, kafka.rebalance_timeout) / 5,
        broker_rebalance_timeout=kafka.rebalance_timeout,
        broker_commit_interval=settings.checkpoint_interval,
        broker_max_poll_records=settings.max_poll_records,
        broker_commit_livelock_soft_timeout=10 * settings.checkpoint_interval + 60,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=4 << 20,
        consumer_group_instance_id=settings.instance_id,
        datadir=str(settings.data_dir / app_id(settings, stream)),
        store="memory://",
        topic_partitions=partitions,
        topic_allow_declare=False,
        topic_disable_leader=True,
        table_standby_replicas=0,
        stream_recovery_delay=0.0,
        stream_wait_empty=True,
        web_enabled=False,
        worker_redirect_stdouts=False,
    )
    app.transport = lane_transport(lane)(app.conf.broker, app)
    app.lane, locks = lane, PartitionLocks()

    async def write(records: Sequence[tuple[int, bytes, bytes | None]]) -> Mapping[int, int]:
        return await outputs.write(lane.changelog, records)

    app.table = StateTable(
        app,
        name=TABLE,
        key_type=bytes,
        value_type=bytes,
        partitions=partitions,
        use_partitioner=True,
        source=source,
        pipeline=pipeline,
        decode=SnapshotCodec(stream).decode,
        write=write,
        recovered=observer.recovered,
    )
    app.tables.add(app.table)
    found = models or BoundModels(settings, stream)
    app.activator = Activator(
        pipeline=pipeline,
        store=app.table.data,
        locks=locks,
        load=found.load,
        write=write,
        ends=lambda numbers: source_ends(app, numbers),
        refused=observer.refused,
        running=lambda: not app.should_stop,
        end=lambda number: lane.end_offsets.get(TP(source, number)),
    )
    app.table.take_over = app.activator.take_over

    def generation() -> int:
        return int(app.consumer_generation_id)

    async def seek(where: dict[TP, int]) -> None:
        await app.consumer.seek_wait(where)

    app.processor = ChunkProcessor(
        lane=lane,
        pipeline=pipeline,
        locks=locks,
        pool=ThreadPoolExecutor(settings.threads or os.cpu_count(), "chunk"),
        ready=lambda partition: partition in app.table.data.ready,
        generation=generation,
        seek=seek,
        send=outputs.send,
        observer=observer,
        gate=app.activator,
    )
    app.checkpointer = Checkpointer(
        source=pipeline,
        store=app.table.data,
        topic=source,
        locks=locks,
        # The generation that the state was held in: the app's own number already is the next one while a worker that
        # has lost its partitions still holds their old state, and would write it over the new owner's.
        generation=lambda: app.table.data.member_of,
        outputs=outputs.delivered,
        write=write,
        report=observer.checkpoint,
        usable=lambda: app.processor.broken is None and not app.processor.halted,
    )
    lane.checkpoint = app.checkpointer
    lane.positions = lambda: positions(lane, pipeline)
    app.services = [(outputs.start, outputs.stop)]
    return app


async def source_ends(app: StreamApp, numbers: Sequence[int]) -> Mapping[int, int]:
    """Ask the brokers where partitions of the source topic end.

    Raises
    ------
    BrokerError
        They do not answer.
    """
    partitions = [TP(app.lane.topic, number) for number in numbers]
    try:
        ends = await asyncio.wait_for(app.consumer.highwaters(*partitions), ASK_SECONDS)
    except (TimeoutError, KafkaError) as error:
        raise BrokerError(f"the brokers do not say where partitions end: {error!r}", where=app.lane.topic) from error
    return {tp.partition: int(end) for tp, end in ends.items()}
