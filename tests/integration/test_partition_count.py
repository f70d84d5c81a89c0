"""What a worker checks of the partition count, and who stands in the way of changing it."""

import pytest
from aiokafka import AIOKafkaConsumer
from prometheus_client import CollectorRegistry

from dwcp_stream.errors import BrokerError, StateError
from dwcp_stream.kafka.batches import write_records
from dwcp_stream.kafka.catalogue import changelog
from dwcp_stream.kafka.clients import consumer_client, producer_client
from dwcp_stream.kafka.generations import make_key
from dwcp_stream.kafka.journal import Entry, Journal
from dwcp_stream.kafka.outputs import KafkaOutputs
from dwcp_stream.kafka.repartition import Names, repartition
from dwcp_stream.kafka.topics import add_partitions, admin_client, create_topics, describe
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.telemetry.health import Liveness, Readiness
from dwcp_stream.telemetry.metrics import Metrics
from tests.integration.driver import Driver, quiet
from tests.integration.probe import Telemetry
from tests.integration.workers import PARTITIONS, Run
from topologies.app import create_app
from topologies.observer import MetricsObserver
from topologies.worker import Monitor, prepare_topics

pytestmark = pytest.mark.kafka

REMEDY = "dwcp-stream topics repartition probe --partitions"


async def site_with_state(site) -> tuple[Run, Driver]:
    """A source with samples, and the state that a worker would have written of them."""
    await site.create()
    run = await site.run()
    async with admin_client(run.settings) as admin:
        await create_topics(admin, [changelog(run.changelog, PARTITIONS)])
    driver = Driver(run)
    await site.write(Telemetry(60, 20))
    await driver.process()
    await driver.checkpoint(1)
    return run, driver


def names_of(run: Run) -> Names:
    return Names(run.source, run.group, run.changelog, f"{run.group}-repartition")


async def grow(run: Run, partitions: int) -> None:
    async with admin_client(run.settings) as admin:
        await add_partitions(admin, run.source, partitions)


async def topics_of(run: Run) -> dict[str, int]:
    names = names_of(run)
    async with admin_client(run.settings) as admin:
        found = await describe(admin, [names.source, names.changelog, names.journal, names.saved(PARTITIONS)])
    return {name: state.partitions for name, state in found.items()}


async def test_a_worker_starts_with_the_partitions_of_its_state_only(site) -> None:
    run, _ = await site_with_state(site)
    assert await prepare_topics(run.settings, run.stream) == PARTITIONS
    async with admin_client(run.settings) as admin, producer_client(run.settings) as producer:
        journal = Journal(f"{run.group}-repartition")
        await journal.create(admin)
        with pytest.raises(BrokerError, match=r"is being changed, or that was interrupted.*topics repartition probe"):
            await prepare_topics(run.settings, run.stream)
        entry = Entry(migration="m", before=4, found=4, partitions=6, phase="moved", attempt="b", positions=[1, 2])
        lost, kept = {f"e{i}": 1 for i in range(5)}, {f"e{i}": i for i in range(25_000)}
        await journal.write(producer, Entry(migration="m", before=4, found=4, partitions=6, attempt="a"), lost)
        await journal.write(producer, entry, kept)
    async with consumer_client(run.settings) as consumer:
        assert await journal.read(consumer) == (entry, kept)


async def test_added_partitions_halt_a_running_worker_and_keep_another_from_starting(site, tmp_path) -> None:
    run, driver = await site_with_state(site)
    readiness = Readiness()
    pipeline = Pipeline(run.stream, driver.models)
    observer = MetricsObserver(pipeline, Metrics(CollectorRegistry()), Liveness(lambda: 0.0, 60.0), readiness)
    outputs = KafkaOutputs(run.settings)
    app = create_app(run.settings.model_copy(update={"data_dir": tmp_path}), pipeline, PARTITIONS, outputs, observer)
    monitor = Monitor(app, run.settings, run.stream, observer, PARTITIONS, ())
    try:
        await monitor._check_topics()
        assert readiness.check().checks["partitions"].ok
        assert not app.processor.halted
        await grow(run, 6)
        await monitor._check_topics()
        check = readiness.check().checks["partitions"]
        assert not check.ok
        assert f"{REMEDY} 6" in check.reason
        assert app.processor.halted == check.reason
        assert await app.checkpointer() == {}
        with pytest.raises(BrokerError, match=f"{REMEDY} 6"):
            await prepare_topics(run.settings, run.stream)
    finally:
        await outputs.stop()


async def test_members_of_the_group_stand_in_the_way(site) -> None:
    run, _ = await site_with_state(site)
    before = await topics_of(run)
    worker = AIOKafkaConsumer(
        run.source,
        bootstrap_servers=run.settings.kafka.bootstrap_servers,
        group_id=run.group,
        client_id="a-worker",
    )
    await worker.start()
    try:
        planned = await repartition(run.settings, run.stream, names_of(run), 6, quiet, dry_run=True)
        assert [m.split()[0] for m in planned.members] == ["a-worker"]
        assert planned.entities > planned.moved > 0
        with pytest.raises(BrokerError, match="1 workers of the stream run: a-worker"):
            await repartition(run.settings, run.stream, names_of(run), 6, quiet)
    finally:
        await worker.stop()
    assert await topics_of(run) == before


async def test_what_cannot_be_migrated_is_refused_before_anything_is_changed(site) -> None:
    run, driver = await site_with_state(site)
    before = await topics_of(run)
    with pytest.raises(StateError, match=r"has 4 partitions; Kafka takes none away"):
        await repartition(run.settings, run.stream, names_of(run), 3, quiet)
    partition = driver.pipeline.partitions[1]
    partition.touched = set(partition.windows.slots.values())
    entity, snapshot = partition.copy().snapshots()[0]
    async with producer_client(run.settings) as producer:
        await write_records(producer, run.changelog, [(0, make_key(entity, 1), snapshot)])
        with pytest.raises(StateError, match=f"1 entities are not on the partition of their key, such as {entity}"):
            await repartition(run.settings, run.stream, names_of(run), 6, quiet)
        await write_records(producer, run.changelog, [(0, make_key(entity, 1), snapshot[:-1])])
        with pytest.raises(StateError, match="1 records of partition 0 are damaged"):
            await repartition(run.settings, run.stream, names_of(run), 6, quiet)
    assert await topics_of(run) == before
