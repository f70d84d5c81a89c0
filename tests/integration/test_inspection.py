"""What doctor sees in topics and records of a real broker."""

import time

import msgspec
import pytest

from dwcp_stream.kafka.batches import write_rows
from dwcp_stream.kafka.catalogue import catalogue, changelog
from dwcp_stream.kafka.clients import consumer_client, producer_client
from dwcp_stream.kafka.inspection import check_records, check_topics, newest_records, source_topic
from dwcp_stream.kafka.topics import admin_client, create_topics
from dwcp_stream.kafka.version import broker_version
from dwcp_stream.streams import Field, StreamDefinition
from tests.integration.harness import make_settings

pytestmark = pytest.mark.kafka

STREAM = StreamDefinition(
    name="demo", topic="telemetry", entity=("id",), step=1.0, window=5, fields=(Field(name="load", max=1),)
)


@pytest.fixture
def settings(kafka, topic_prefix):
    return make_settings(kafka.bootstrap, topics={"prefix": topic_prefix, "partitions": 2})


def record(entity, load=0.5, key=None, ts=None, stamp=None):
    body = {"id": entity, "ts": time.time() if ts is None else ts, "load": load}
    return (entity.encode() if key is None else key, msgspec.json.encode(body), [], stamp)


async def examine(settings, rows, most=100):
    topic = source_topic(settings, STREAM)
    async with admin_client(settings) as admin:
        await create_topics(admin, catalogue(settings.topics.prefix, 2, 1, [STREAM]))
    async with producer_client(settings) as producer:
        await write_rows(producer, topic, rows)
    async with consumer_client(settings) as consumer:
        newest = await newest_records(consumer, topic, 2, most)
    return check_records(STREAM, topic, newest, time.time())


async def test_good_records_give_no_findings(settings) -> None:
    rows = {0: [record("a") for _ in range(30)], 1: [record("b") for _ in range(30)]}
    check, findings = await examine(settings, rows)
    assert findings == []
    assert (check.records, check.samples, check.entities, check.invalid) == (60, 60, 2, 0)


async def test_only_the_newest_records_are_looked_at(settings) -> None:
    old = [record("a", key=b"wrong") for _ in range(50)]
    rows = {0: old + [record("a") for _ in range(10)], 1: [record("b")]}
    check, findings = await examine(settings, rows, most=20)
    assert (check.records, findings) == (11, [])


async def test_each_fault_is_named_with_topic_and_remedy(settings) -> None:
    ahead = int(time.time() * 1000) + 60_000
    rows = {
        0: [record("a"), record("b", key=b"other"), record("c", load=7.0), record("d", stamp=ahead)],
        1: [record("a"), (b"x", b"not json", [], None)],
    }
    check, findings = await examine(settings, rows)
    by_check = {f.check: f for f in findings}
    assert set(by_check) == {"record keys", "partitions", "samples", "clock"}
    assert "b has key b'other'" in by_check["record keys"].what
    assert "a on [0, 1]" in by_check["partitions"].what
    assert by_check["samples"].what.startswith("2 of 6")
    assert by_check["samples"].level == "note"
    assert {f.level for f in findings if f.check != "samples"} == {"problem"}
    assert all(f.where == source_topic(settings, STREAM) and f.remedy for f in findings)
    assert check.entities_on_two_partitions == check.key_mismatches == 1
    assert 50 < check.clock_ahead_seconds <= 60


async def test_an_empty_topic_is_fine(settings) -> None:
    check, findings = await examine(settings, {})
    assert (check.records, findings) == (0, [])


async def test_a_state_topic_with_other_partitions_than_its_source_is_a_problem(settings) -> None:
    specs = catalogue(settings.topics.prefix, 2, 1, [STREAM])
    source, state = source_topic(settings, STREAM), settings.topics.prefix + "state"
    async with admin_client(settings) as admin:
        missing = await check_topics(admin, specs, {source: state}, 1)
        assert {f.where for f in missing} == {s.name for s in specs}
        await create_topics(admin, specs)
        assert await check_topics(admin, specs, {source: state}, 1) == []  # the worker will make the state topic
        await create_topics(admin, [changelog(state, 3)])
        (found,) = await check_topics(admin, specs, {source: state}, 1)
    assert (found.level, found.where) == ("problem", state)
    assert "partitions is 3, expected 2" in found.what


async def test_the_broker_says_which_it_is(settings) -> None:
    async with admin_client(settings) as admin:
        version = await broker_version(admin)
    assert version["version"] == "4.1 or later"
    assert version["brokers"] == [settings.kafka.bootstrap_servers]
