"""Restarts one after the other, and state that a later release has written."""

import signal

import msgspec
import pytest

from dwcp_stream.kafka.batches import write_records
from dwcp_stream.kafka.clients import producer_client
from dwcp_stream.kafka.generations import OWN_KEYS, PARTITION_KEY, split_key
from dwcp_stream.windows.snapshot import ENTITY_VERSION, PARTITION_VERSION
from tests.integration.harness import read_topic, wait_until
from tests.integration.probe import Telemetry
from tests.integration.workers import Feeder, WorkerProcess, assert_same

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.mark.parametrize("what", ["snapshot", "partition record"])
async def test_state_of_a_later_release_is_refused_and_left_alone(site, what) -> None:
    await site.create()
    await site.write(Telemetry(40, 40))
    run = await site.run()
    worker = run.start()
    await run.caught_up()
    assert await worker.terminate() == 0, worker.tail()
    records = await read_topic(run.settings, run.changelog)
    newest = {r.key: r for r in records if r.value is not None}
    is_record = what == "partition record"
    named = {split_key(r.key)[0]: r for r in newest.values()}
    victim = named[PARTITION_KEY if is_record else min(named.keys() - OWN_KEYS)]
    fields = msgspec.msgpack.decode(victim.value)
    fields[0] = (PARTITION_VERSION if is_record else ENTITY_VERSION) + 1
    later = (victim.partition, victim.key, msgspec.msgpack.encode([*fields, "something new"]))
    async with producer_client(run.settings) as producer:
        await write_records(producer, run.changelog, [later])
    await site.write(Telemetry(40, 60), 40)
    before = await run.ends(run.changelog), await run.committed()
    refused = run.start()
    await wait_until(lambda: not refused.running, lambda: f"a worker that stops\n{refused.tail()}")
    assert refused.process.returncode == 1, refused.tail()
    (line,) = [line for line in refused.tail().splitlines() if line.startswith("error: ")]
    assert f"has version {fields[0]}, newer than this release reads" in line
    assert (await run.ends(run.changelog), await run.committed()) == before


async def test_a_rolling_restart_loses_nothing_and_scores_nothing_twice(site) -> None:
    await site.create()
    run = await site.run(DWCP_KAFKA__SESSION_TIMEOUT="20")
    workers: dict[str, WorkerProcess] = {name: run.start(DWCP_INSTANCE_ID=name) for name in ("a", "b")}
    feeder = Feeder(site, entities=200, steps_per_second=20)
    for worker in workers.values():
        await run.ready(worker)
    for name in ("a", "b"):
        workers[name].signal(signal.SIGTERM)
        old = workers[name]
        await wait_until(lambda old=old: not old.running, lambda old=old: f"the worker ends\n{old.tail()}")
        assert old.process.returncode == 0, old.tail()
        workers[name] = run.start(DWCP_INSTANCE_ID=name)
        await run.ready(workers[name])
        moved = await processed(workers[name])

        async def goes_on(name=name, moved=moved) -> bool:
            return await processed(workers[name]) > moved

        await wait_until(goes_on, lambda: f"the new worker has partitions and reads them\n{run.logs()}")
    telemetry = await feeder.stop()
    await run.caught_up()
    assert sum([await worker.metric("dwcp_samples_replayed_total") for worker in workers.values()]) == 0
    for worker in workers.values():
        assert await worker.terminate() == 0, worker.tail()
    final = await run.final()
    assert_same(final, await site.reference())
    assert final.transitions == telemetry.transitions()
    assert final.repeats == 0, "a worker that is stopped hands over exactly where it was"


async def processed(worker: WorkerProcess) -> float:
    assert worker.running, worker.tail()
    status, _ = await worker.get("/metrics")
    return await worker.metric("dwcp_samples_total") if status == 200 else 0.0
