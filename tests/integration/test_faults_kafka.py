"""Kafka's side of trouble: refused checkpoints, deleted records, gaps in the offsets, damaged state."""

import msgspec
import pytest
from aiokafka import TopicPartition
from aiokafka.admin import RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from dwcp_stream.kafka.batches import write_records
from dwcp_stream.kafka.catalogue import changelog
from dwcp_stream.kafka.clients import producer_client
from dwcp_stream.kafka.generations import OWN_KEYS, PARTITION_KEY, make_key, split_key
from dwcp_stream.kafka.topics import admin_client, create_topics
from dwcp_stream.windows.snapshot import decode_partition_record, encode_partition_record
from tests.integration.harness import read_topic, wait_until
from tests.integration.probe import EPOCH, Telemetry
from tests.integration.workers import PARTITIONS, Run, WorkerProcess, assert_same

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

TELEMETRY = Telemetry(200, 200)


async def limit_records(run: Run, topic: str, size: int) -> None:
    """Let a topic refuse records larger than `size` bytes."""
    async with admin_client(run.settings) as admin:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": str(size)})])


async def refused(run: Run, worker: WorkerProcess) -> None:
    """Wait until a worker has processed the source, and two more checkpoints have failed."""
    total = sum((await run.ends(run.source)).values())

    async def through() -> bool:
        assert worker.running, worker.tail()
        status, _ = await worker.get("/metrics")
        return status == 200 and await worker.metric("dwcp_samples_total") >= total

    await wait_until(through, lambda: f"all samples processed\n{worker.tail()}")
    failures = await worker.metric("dwcp_checkpoint_failures_total")

    async def failed() -> bool:
        return await worker.metric("dwcp_checkpoint_failures_total") >= failures + 2

    await wait_until(failed, lambda: f"failing checkpoints\n{worker.tail()}")


@pytest.mark.parametrize("what", ["state", "outputs"])
async def test_a_refused_checkpoint_commits_nothing_and_forgets_nothing(filled, filled_site, what) -> None:
    run = await filled_site.run()
    async with admin_client(run.settings) as admin:
        await create_topics(admin, [changelog(run.changelog, PARTITIONS)])
    topic = run.changelog if what == "state" else run.topic("anomalies")
    await limit_records(run, topic, 150)
    worker = run.start()
    await refused(run, worker)
    assert sum((await run.committed()).values()) == 0
    await limit_records(run, topic, 1_000_000)
    await run.caught_up()
    assert await worker.metric("dwcp_samples_replayed_total") == 0
    assert await worker.terminate() == 0, worker.tail()
    final = await run.final()
    assert_same(final, filled.reference)
    assert final.repeats == 0


async def test_killed_while_checkpoints_are_refused(filled, filled_site) -> None:
    run = await filled_site.run()
    async with admin_client(run.settings) as admin:
        await create_topics(admin, [changelog(run.changelog, PARTITIONS)])
    await limit_records(run, run.changelog, 150)
    worker = run.start()
    await refused(run, worker)
    worker.kill()
    await limit_records(run, run.changelog, 1_000_000)
    run.start()
    assert_same(await run.finish(), filled.reference)


async def test_records_deleted_before_they_were_read(site) -> None:
    half = TELEMETRY.steps // 2
    await site.create()
    await site.write(TELEMETRY, 0, half)
    undisturbed, run = await site.run(), await site.run()
    for one in (undisturbed, run):
        one.start()
        await one.caught_up()
        assert await one.workers[0].terminate() == 0, one.logs()
    before = await run.ends(run.source)
    await site.write(TELEMETRY, half)
    deleted = {tp: end + 2_000 for tp, end in before.items()}
    async with admin_client(run.settings) as admin:
        await admin.delete_records({tp: RecordsToDelete(offset) for tp, offset in deleted.items()})
    undisturbed.start()
    reference = await undisturbed.finish()
    run.start(DWCP_MAX_POLL_RECORDS="200")
    await run.processing(0.8)
    run.workers[1].kill()
    run.start()
    final = await run.finish()
    assert_same(final, reference)
    assert len(final.windows) == TELEMETRY.entities
    expected = TELEMETRY.transitions()
    # 2,000 records of a partition are about 40 steps; bursts that begin after them are seen from begin to end
    assert {t for t in final.transitions if t[2] >= EPOCH + 170} >= {t for t in expected if t[2] >= EPOCH + 170}
    assert final.transitions != expected, "what was deleted cannot have been seen"


async def test_gaps_that_transactions_leave_in_the_offsets(site) -> None:
    await site.create()
    async with producer_client(site.settings, transactional_id=site.source, acks="all") as producer:
        for step in range(0, TELEMETRY.steps, 5):
            async with producer.transaction():
                for partition, rows in TELEMETRY.rows(PARTITIONS, step, step + 5).items():
                    batch = producer.create_batch()
                    for key, value, headers, _ in rows:
                        assert batch.append(key=key, value=value, timestamp=None, headers=headers) is not None
                    await (await producer.send_batch(batch, site.source, partition=partition))
    records = sum(1 for _ in TELEMETRY.samples())
    run = await site.run(DWCP_MAX_POLL_RECORDS="200")
    assert sum((await run.ends(run.source)).values()) > records, "there are gaps"
    worker = run.start()
    await run.processing(0.3)
    worker.kill()
    worker = run.start()
    await run.ready(worker)  # TERM before that may meet a process that does not listen yet
    # the last offset is a marker that no reader ever sees, so the lag stays at one for each partition
    await wait_until(lambda: seen_all(run, worker), lambda: f"all samples processed\n{worker.tail()}")
    assert await worker.terminate() == 0, worker.tail()
    final = await run.final()
    assert final.transitions == TELEMETRY.transitions()
    assert len(final.windows) == TELEMETRY.entities


async def seen_all(run: Run, worker: WorkerProcess) -> bool:
    assert worker.running, worker.tail()
    return await run.lag() <= PARTITIONS


async def test_a_truncated_snapshot(filled, filled_site) -> None:
    run = await filled_site.run(DWCP_MAX_POLL_RECORDS="200")
    first = run.start()
    await run.processing(0.4)
    assert await first.terminate() == 0, first.tail()
    assert await run.lag() > 0, "it was stopped too late to show anything"
    records = await read_topic(run.settings, run.changelog)
    victim = next(r for r in reversed(records) if r.value is not None and split_key(r.key)[0] not in OWN_KEYS)
    async with producer_client(run.settings) as producer:
        damaged = victim.value[: len(victim.value) // 2]
        await write_records(producer, run.changelog, [(victim.partition, victim.key, damaged)])
    # what is committed does not go back, so at lag 0 a partition that had been read to its end may be half rebuilt
    committed, ends = await run.committed(), await run.ends(run.source)
    left = sum(end - committed.get(tp, 0) for tp, end in ends.items() if tp.partition != victim.partition)
    left += sum(end for tp, end in ends.items() if tp.partition == victim.partition)
    second = run.start()

    async def rebuilt() -> bool:
        assert second.running, second.tail()
        status, _ = await second.get("/metrics")
        return status == 200 and await second.metric("dwcp_samples_total") >= left

    await wait_until(rebuilt, lambda: f"{left} samples processed\n{second.tail()}")
    assert await second.terminate() == 0, second.tail()
    assert "damaged" in second.log.read_text()
    assert_same(await run.final(), filled.reference)


async def test_a_partition_record_that_a_former_owner_wrote_late(filled, filled_site) -> None:
    """It was further, but its snapshots are gone: from its position on, all before would be missing."""
    run = await filled_site.run(DWCP_MAX_POLL_RECORDS="200")
    first = run.start()
    await run.processing(0.4)
    assert await first.terminate() == 0, first.tail()
    assert await run.lag() > 1_000, "it was stopped too late to show anything"
    late = {}
    for record in await read_topic(run.settings, run.changelog):
        name, generation = split_key(record.key)
        if name == PARTITION_KEY and record.value is not None:
            found = decode_partition_record(record.value)
            further = msgspec.structs.replace(found, position=found.position + 200)
            key = make_key(PARTITION_KEY, generation - 1)
            late[record.partition] = (record.partition, key, encode_partition_record(further))
    async with producer_client(run.settings) as producer:
        await write_records(producer, run.changelog, late.values())
    run.start()
    assert_same(await run.finish(), filled.reference)


async def test_positions_are_those_of_every_partition(filled) -> None:
    ends = {tp.partition: end for tp, end in (await filled.site.runs[0].ends(filled.site.source)).items()}
    assert filled.reference.positions == ends
    assert TopicPartition(filled.site.source, 0).partition in ends
