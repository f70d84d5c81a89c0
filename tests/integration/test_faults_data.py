"""Bad data: a flood of poison, more entities than are allowed."""

import msgspec
import pytest

from dwcp_stream.kafka.batches import write_rows
from dwcp_stream.kafka.clients import producer_client
from tests.integration.harness import read_topic
from tests.integration.probe import EPOCH, Telemetry, entity_name
from tests.integration.workers import PARTITIONS, Site, assert_same

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


def poison(number: int) -> tuple[bytes | None, bytes | None]:
    """A bad record; the kinds take turns."""
    good = {"id": entity_name(number % 50), "ts": EPOCH + 30, "value": 0.5}
    encode = msgspec.json.encode
    kinds = (
        (b"k", b"\xff\xfe not json"),
        (b"k", b""),
        (None, None),
        (b"k", b"[" * 5_000),
        (b"k", encode(good | {"value": "high"})),
        (b"k", encode(good | {"value": -1})),
        (b"k", encode(good | {"ts": "yesterday"})),
        (b"k", encode(good | {"ts": 4e9})),
        (b"k", encode({"ts": EPOCH, "value": 1})),
        (b"k", encode(good | {"ts": [EPOCH, EPOCH + 1], "value": [1, 2, 3]})),
        (b"k", encode(good | {"value": -1, 'a "quoted" \\ \t name': 1})),
        (b"k", b'{"id":"e","ts":1,"value":1,"x":' + b"[" * 450 + b"]" * 450 + b"}"),
        (b"k", b'{"id":"e","ts":[],"value":1e999}'),
    )
    return kinds[number % len(kinds)]


async def test_a_flood_of_poison_stops_nothing(site) -> None:
    telemetry, bad = Telemetry(200, 120), 1_000
    half = telemetry.steps // 2
    await site.create()
    await site.write(telemetry, 0, half)
    async with producer_client(site.settings) as producer:
        flood = {p: [] for p in range(PARTITIONS)}
        for number in range(bad):
            flood[number * 7 % PARTITIONS].append((*poison(number), [], None))
        await write_rows(producer, site.source, flood)
    await site.write(telemetry, half)
    run = await site.run()
    worker = run.start()
    await run.caught_up()
    total = bad + sum(1 for _ in telemetry.samples())
    assert await worker.metric("dwcp_samples_total") == total
    assert await worker.metric("dwcp_samples_total", outcome="invalid") == bad
    assert await worker.terminate() == 0, worker.tail()
    final = await run.final()
    assert final.transitions == telemetry.transitions()
    assert len(final.windows) == telemetry.entities
    letters = await read_topic(run.settings, run.topic("deadletter"))
    assert len(letters) == bad
    source = {(r.partition, r.offset): r for r in await read_topic(run.settings, run.source)}
    for letter in letters:
        headers = dict(letter.headers)
        origin = source.pop((int(headers["source_partition"]), int(headers["source_offset"])))
        assert letter.value == (origin.value or b"")
        assert headers["error_type"]
        assert headers["reason"]
        assert headers["stage"] == b"receiving"


async def test_more_entities_than_allowed(kafka, tmp_path, unique) -> None:
    site = Site(kafka.bootstrap, tmp_path, unique, max_entities=20)
    telemetry = Telemetry(200, 400)
    try:
        await site.create()
        await site.write(telemetry)
        reference = await site.reference()
        run = await site.run(DWCP_MAX_POLL_RECORDS="100", DWCP_THREADS="1", DWCP_CHECKPOINT_INTERVAL="0.1")
        run.start()
        await run.processing(0.1)
        run.workers[0].kill()
        assert await run.lag() > 0, "it was killed too late to show anything"
        run.start()
        final = await run.finish()
        assert_same(final, reference)
        assert len(final.windows) == 20 * PARTITIONS
        kept = set(final.windows)
        assert final.transitions == {t for t in telemetry.transitions() if t[0] in kept}
        letters = await read_topic(run.settings, run.topic("deadletter"))
        refused = {dict(r.headers)["ce_id"] for r in letters}
        assert len(refused) == sum(entity_name(e) not in kept for e, _ in telemetry.samples())
        assert {dict(r.headers)["error_type"] for r in letters} == {b"entity_limit"}
    finally:
        site.stop()
