"""Migrations one after the other, of state that a worker left in the middle of a checkpoint."""

from collections import Counter
from contextlib import contextmanager

import msgspec
import pytest

from dwcp_stream.events import Output
from dwcp_stream.kafka.batches import write_records, write_rows
from dwcp_stream.kafka.catalogue import changelog
from dwcp_stream.kafka.clients import producer_client
from dwcp_stream.kafka.generations import PARTITION_KEY, make_key
from dwcp_stream.kafka.processor import to_chunk
from dwcp_stream.kafka.recovering import Recovering
from dwcp_stream.kafka.repartition import Names, Repartitioned, repartition
from dwcp_stream.kafka.topics import admin_client, create_topics
from dwcp_stream.loading import bound_models
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.settings import Settings
from dwcp_stream.windows.snapshot import SnapshotCodec
from tests.integration.harness import read_topic
from tests.integration.probe import Telemetry
from tests.integration.workers import PARTITIONS, Run, Site

pytestmark = pytest.mark.kafka

TELEMETRY = Telemetry(60, 120)


@contextmanager
def quiet(_what, _total):
    yield lambda _amount: None


class Driver:
    """The pipeline on a real topic and a real changelog, driven step by step instead of by Faust."""

    def __init__(self, run: Run) -> None:
        self.run, self.models = run, bound_models(Settings(models_dir=run.directory / "models"), run.stream)
        self.pipeline = Pipeline(run.stream, self.models)
        self.outputs: list[Output] = []
        self.replayed = 0

    async def process(self) -> None:
        """Process all that the topic has from the positions on."""
        records: dict[int, list] = {}
        for record in await read_topic(self.run.settings, self.run.source):
            records.setdefault(record.partition, []).append(record)
        for number, mine in records.items():
            state = self.pipeline.partitions.get(number)
            fresh = [r for r in mine if state is None or state.position is None or r.offset >= state.position]
            if fresh:
                result = self.pipeline.process(to_chunk(fresh))
                self.outputs += result.outputs
                self.replayed += result.replayed

    async def checkpoint(self, generation: int, *, whole: bool = True) -> None:
        """Write a checkpoint, or all of it but the partition records that end it."""
        async with producer_client(self.run.settings) as producer:
            for copy in map(self.pipeline.copy, self.pipeline.moved()):
                records = [(copy.partition, make_key(e, generation), value) for e, value in copy.snapshots()]
                if whole:
                    records.append((copy.partition, make_key(PARTITION_KEY, generation), copy.record()))
                await write_records(producer, self.run.changelog, records)

    async def recover(self) -> None:
        """Begin anew from what the changelog holds."""
        self.pipeline, decode, found = Pipeline(self.run.stream, self.models), SnapshotCodec(self.run.stream).decode, {}
        for r in await read_topic(self.run.settings, self.run.changelog):
            found.setdefault(r.partition, Recovering()).apply(r.key, r.value, decode)
        for number, recovering in found.items():
            settled = recovering.settle()
            assert self.pipeline.restore(number, settled.record, settled.snapshots) == []

    def state(self) -> dict[str, tuple]:
        """Window, but for the offset applied, and parts of every entity."""
        found = {}
        for partition in self.pipeline.partitions.values():
            partition.touched = set(partition.windows.slots.values())
            copy = partition.copy()
            for i, entity in enumerate(copy.windows.entities):
                window = msgspec.structs.replace(copy.windows.core(i), applied=0)
                found[entity] = window, {name: taken.plain(i) for name, taken in copy.parts.items()}
        return found

    def alerts(self) -> Counter:
        """How often each alert was published, by id and content."""
        return Counter((dict(o.headers)["ce_id"], bytes(o.value)) for o in self.outputs if o.topic == "anomalies")


async def write(site: Site, partitions: int, start: int, stop: int | None = None) -> None:
    async with producer_client(site.settings) as producer:
        await write_rows(producer, site.source, TELEMETRY.rows(partitions, start, stop))


async def migrate(run: Run, partitions: int) -> Repartitioned:
    names = Names(run.source, run.group, run.changelog, f"{run.group}-repartition")
    return await repartition(run.settings, run.stream, names, partitions, quiet, delete_copy=True)


async def test_two_migrations_of_half_a_checkpoint_lose_nothing_and_score_nothing_twice(site, kafka, tmp_path) -> None:
    await site.create()
    run = await site.run()
    async with admin_client(run.settings) as admin:
        await create_topics(admin, [changelog(run.changelog, PARTITIONS)])
    driver = Driver(run)
    await write(site, PARTITIONS, 0, 40)
    await driver.process()
    await driver.checkpoint(1)
    await write(site, PARTITIONS, 40, 70)
    await driver.process()
    await driver.checkpoint(1, whole=False)
    await write(site, PARTITIONS, 70, 90)
    backlog = sum(1 for _ in TELEMETRY.samples(40, 90))
    first, second = await migrate(run, 6), await migrate(run, 8)
    assert (first.backlog, second.backlog) == (backlog, backlog), "what the first has moved is the second's backlog"
    assert first.entities == second.entities == TELEMETRY.entities
    assert min(first.moved, second.moved) > 0
    await driver.recover()
    await driver.process()
    assert driver.replayed == sum(1 for _ in TELEMETRY.samples(40, 70)), "the snapshots had seen these"
    await write(site, 8, 90)
    await driver.process()

    twin = Site(kafka.bootstrap, tmp_path / "twin", f"{site.source}-twin")
    await twin.create()
    await write(twin, PARTITIONS, 0)
    undisturbed = Driver(await twin.run())
    await undisturbed.process()
    assert driver.state() == undisturbed.state()
    assert driver.alerts() == undisturbed.alerts()
    assert set(driver.alerts().values()) == {1}
    assert len(driver.alerts()) == len(TELEMETRY.transitions())
