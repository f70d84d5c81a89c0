"""Workers killed with -9: in the middle of a chunk, in the middle of a checkpoint, ten times."""

from collections import defaultdict
from typing import Self

import pytest

from dwcp_stream.kafka.clients import consumer_client
from dwcp_stream.kafka.generations import PARTITION_KEY, VERSIONS_KEY, split_key
from tests.integration.harness import consumer_partitions, read_topic, wait_until
from tests.integration.probe import Telemetry
from tests.integration.workers import Run, WorkerProcess, assert_same

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


class Growth:
    """Watches how much a topic grows, with one client, so that a kill can follow at once."""

    def __init__(self, run: Run, topic: str) -> None:
        self.run, self.topic = run, topic

    async def __aenter__(self) -> Self:
        self.context = consumer_client(self.run.settings)
        self.consumer = await self.context.__aenter__()
        self.partitions = await consumer_partitions(self.run.settings, self.topic)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.context.__aexit__(*error)

    async def size(self) -> int:
        return sum((await self.consumer.end_offsets(self.partitions)).values())


async def kill_in_mid_chunk(run: Run, worker: WorkerProcess, growth: Growth, outputs: int) -> None:
    """Kill as soon as so many more outputs arrived: they are sent chunk by chunk, before any checkpoint."""
    start = await growth.size()

    async def grown() -> bool:
        assert worker.running, worker.tail()
        return await growth.size() >= start + outputs

    await wait_until(grown, lambda: f"{outputs} more outputs\n{worker.tail()}", every=0.002)
    worker.kill()
    assert await run.lag() > 0, "it was killed too late to show anything"


async def kill_again_and_again(run: Run, times: int, outputs: int) -> None:
    async with Growth(run, run.topic("anomalies")) as growth:
        for _ in range(times):
            await kill_in_mid_chunk(run, run.start(), growth, outputs)
    run.start()
    await run.caught_up()
    assert await run.workers[-1].terminate() == 0, run.logs()


async def test_killed_in_mid_chunk(filled, filled_site) -> None:
    run = await filled_site.run()
    await kill_again_and_again(run, times=3, outputs=1_000)
    final = await run.final()
    assert_same(final, filled.reference)
    assert final.transitions == filled.telemetry.transitions()
    # what was sent between the last checkpoint and the kill is sent again, under the same ids
    assert final.repeats > 0


@pytest.mark.full
async def test_ten_kills_lose_nothing(filled, filled_site, record_property) -> None:
    run = await filled_site.run()
    await kill_again_and_again(run, times=10, outputs=450)
    final = await run.final()
    assert_same(final, filled.reference)
    record_property("alerts", len(final.alerts))
    record_property("lost", 0)
    record_property("repeated", final.repeats)


def half_written(records) -> set[int]:
    """Partitions whose last checkpoint has snapshots but not the partition record that ends it."""
    last = defaultdict(lambda: (-1, ""))
    for record in records:
        if record.value is not None:
            name, _ = split_key(record.key)
            if name == VERSIONS_KEY:  # no part of a checkpoint
                continue
            last[record.partition] = max(last[record.partition], (record.offset, name))
    return {partition for partition, (_, name) in last.items() if name != PARTITION_KEY}


async def test_killed_in_mid_checkpoint(site) -> None:
    telemetry, steps = Telemetry(6_000, 36), 3  # many entities, so that a checkpoint takes a while
    await site.create()
    run = await site.run(DWCP_CHECKPOINT_INTERVAL="0.5")
    caught, written = set(), 0
    while not caught and written < telemetry.steps:
        worker = run.start()
        await run.ready(worker)
        async with Growth(run, run.changelog) as growth:
            start = await growth.size()

            async def grows(growth=growth, start=start) -> bool:
                return await growth.size() > start

            await site.write(telemetry, written, written + steps)
            written += steps
            await wait_until(grows, lambda: f"a checkpoint\n{run.logs()}", every=0.0)
            worker.kill()
        caught = half_written(await read_topic(run.settings, run.changelog))
    assert caught, "no kill came in the middle of a checkpoint"
    assert await run.lag() > 0, "it was killed too late to show anything"
    await site.write(telemetry, written)
    run.start()
    final = await run.finish()
    assert_same(final, await site.reference())
    assert final.transitions == telemetry.transitions()
