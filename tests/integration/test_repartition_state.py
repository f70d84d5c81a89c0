"""Migrations one after the other, of state that a worker left in the middle of a checkpoint."""

import pytest

from dwcp_stream.kafka.batches import write_rows
from dwcp_stream.kafka.catalogue import changelog
from dwcp_stream.kafka.clients import producer_client
from dwcp_stream.kafka.repartition import Names, Repartitioned, repartition
from dwcp_stream.kafka.topics import admin_client, create_topics
from tests.integration.driver import Driver, quiet
from tests.integration.probe import Telemetry
from tests.integration.workers import PARTITIONS, Run, Site

pytestmark = pytest.mark.kafka

TELEMETRY = Telemetry(60, 120)


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
