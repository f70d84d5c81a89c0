"""Records as large as a topic may let through, and larger than the daemon takes, in one topic with good telemetry."""

import pytest
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from dwcp_stream.deadletters import MAX_KEY_BYTES, MAX_VALUE_BYTES
from dwcp_stream.kafka.clients import consumer_client, producer_client
from dwcp_stream.kafka.topics import admin_client
from dwcp_stream.streams.decode import MAX_RECORD_BYTES
from tests.integration.harness import wait_until
from tests.integration.probe import EPOCH, Telemetry, entity_name
from tests.integration.workers import PARTITIONS, Run

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

MIB = 1 << 20
LARGEST = 20 * MIB


def padded(size: int, sample: bytes = b'{"id":"huge","ts":%d,"value":1,"pad":"' % EPOCH) -> bytes:
    """A good sample that is `size` bytes long."""
    return sample + b" " * (size - len(sample) - 2) + b'"}'


async def letters(run: Run, count: int) -> dict[int, tuple[dict[str, bytes], bytes]]:
    """Headers and value of the run's dead letters by the length their records had."""
    found = {}
    options = {"auto_offset_reset": "earliest", "fetch_max_bytes": 2 * LARGEST, "max_partition_fetch_bytes": LARGEST}
    async with consumer_client(run.settings, run.topic("deadletter"), **options) as consumer:

        async def read() -> bool:
            for batch in (await consumer.getmany(timeout_ms=100)).values():
                for record in batch:
                    headers = dict(record.headers)
                    found[int(headers.get("truncated_from", len(record.value)))] = (headers, record.value)
            return len(found) == count

        await wait_until(read, lambda: f"{count} dead letters, have {sorted(found)}\n{run.logs()}")
    return found


async def test_oversized_records_become_dead_letters_and_hold_nothing_up(site) -> None:
    telemetry = Telemetry(50, 60)
    await site.create(**{"max.message.bytes": str(LARGEST + MIB)})
    await site.write(telemetry, 0, 30)
    good = [padded(MIB + 1), padded(MAX_RECORD_BYTES)]
    bad = [padded(MAX_RECORD_BYTES + 1), padded(MAX_VALUE_BYTES), padded(MAX_VALUE_BYTES + 1), b"[" * LARGEST]
    async with producer_client(site.settings, max_request_size=2 * LARGEST, compression_type=None) as producer:
        for number, value in enumerate([*good, *bad]):
            await producer.send_and_wait(site.source, value, key=b"huge", partition=number % PARTITIONS)
        await producer.send_and_wait(site.source, b"{", key=b"k" * (2 * MAX_KEY_BYTES), partition=0)
    await site.write(telemetry, 30)
    run = await site.run()
    worker = run.start()
    await run.caught_up()
    assert await worker.metric("dwcp_checkpoint_failures_total") == 0, worker.tail()
    assert await worker.metric("dwcp_samples_total", outcome="invalid") == len(bad) + 1
    assert await worker.metric("dwcp_dead_letters_total", error_type="too_large") == len(bad)
    found = await letters(run, len(bad) + 1)
    for value in bad:
        headers, kept = found[len(value)]
        assert headers["error_type"] == b"too_large"
        assert kept == value[:MAX_VALUE_BYTES]
    assert found[1][0]["source_key"] == b"k" * MAX_KEY_BYTES
    assert await worker.terminate() == 0, worker.tail()
    final = await run.final()
    assert final.transitions == telemetry.transitions()
    assert set(final.windows) == {entity_name(n) for n in range(telemetry.entities)} | {"huge"}


async def test_what_the_dead_letter_topic_refuses_holds_up_the_checkpoint_until_it_is_taken(site) -> None:
    telemetry = Telemetry(50, 60)
    await site.create(**{"max.message.bytes": str(LARGEST)})
    run = await site.run()
    resource = ConfigResourceType.TOPIC, run.topic("deadletter")
    async with admin_client(run.settings) as admin:
        await admin.alter_configs([ConfigResource(*resource, {"max.message.bytes": str(MIB)})])
    await site.write(telemetry)
    async with producer_client(site.settings, max_request_size=2 * LARGEST, compression_type=None) as producer:
        await producer.send_and_wait(site.source, b"{" + b" " * (2 * MIB), key=b"k", partition=0)
    worker = run.start()

    async def refused() -> bool:
        assert worker.running, worker.tail()
        status, _ = await worker.get("/metrics")
        return status == 200 and await worker.metric("dwcp_checkpoint_failures_total") >= 2

    await wait_until(refused, lambda: f"failing checkpoints\n{worker.tail()}")
    assert await run.lag() > 0
    async with admin_client(run.settings) as admin:
        await admin.alter_configs([ConfigResource(*resource, {"max.message.bytes": str(16 * MIB)})])
    final = await run.finish()
    assert final.transitions == telemetry.transitions()
    assert list(await letters(run, 1)) == [2 * MIB + 1]
