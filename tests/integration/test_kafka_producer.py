"""The batch writer and the output producer against a real broker."""

import asyncio
from collections import defaultdict

import pytest
from aiokafka.admin import NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from dwcp_stream.errors import BrokerError
from dwcp_stream.events import Output
from dwcp_stream.kafka.batches import write_records
from dwcp_stream.kafka.catalogue import catalogue
from dwcp_stream.kafka.clients import producer_client
from dwcp_stream.kafka.outputs import KafkaOutputs
from dwcp_stream.kafka.producer import OutputProducer, key_hash
from dwcp_stream.kafka.topics import admin_client, create_topics
from dwcp_stream.settings import Settings
from tests.integration.harness import make_settings, read_topic, wait_until

pytestmark = pytest.mark.kafka


@pytest.fixture
def settings(kafka, topic_prefix) -> Settings:
    return make_settings(kafka.bootstrap, topics={"prefix": topic_prefix, "partitions": 3})


async def make_topic(settings: Settings, name: str, **config: str) -> str:
    full = settings.topics.prefix + name
    async with admin_client(settings) as admin:
        await admin.create_topics([NewTopic(full, 3, 1, topic_configs=config)])
    return full


async def set_limit(settings: Settings, topic: str, limit: int) -> None:
    async with admin_client(settings) as admin:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, {"max.message.bytes": str(limit)})])


async def test_many_records_arrive_in_order_with_their_last_offsets(settings) -> None:
    topic = await make_topic(settings, "state")
    records = [(i % 3, b"key%d" % i, None if i % 7 == 0 else b"%06d" % i * 200) for i in range(3_000)]
    async with producer_client(settings) as producer:
        first = await write_records(producer, topic, records)
        second = await write_records(producer, topic, records[:2])
    assert first == {0: 999, 1: 999, 2: 999}
    assert second == {0: 1000, 1: 1000}
    got = defaultdict(list)
    for record in await read_topic(settings, topic):
        got[record.partition].append((record.key, record.value))
    for partition in range(3):
        assert got[partition][:1000] == [(k, v) for p, k, v in records if p == partition]


async def test_a_refused_batch_is_an_error_and_the_producer_goes_on(settings) -> None:
    topic = await make_topic(settings, "state", **{"max.message.bytes": "2000"})
    async with producer_client(settings) as producer:
        with pytest.raises(BrokerError, match="MessageSizeTooLarge"):
            await write_records(producer, topic, [(0, b"a", b"x" * 5_000), (1, b"b", b"y")])
        assert await write_records(producer, topic, [(0, b"a", b"x"), (1, b"b", b"y")]) == {0: 0, 1: 1}


def outputs(numbers: range) -> list[Output]:
    return [
        Output(("anomalies", "drift")[i % 2], b"key%d" % (i % 17), b"%d" % i, [("ce_id", b"%d" % i)]) for i in numbers
    ]


async def test_outputs_arrive_once_in_order_on_the_partition_of_their_key(settings) -> None:
    topics = [await make_topic(settings, name) for name in ("anomalies", "drift")]
    async with producer_client(settings) as producer:
        out = OutputProducer(producer, settings.topics.prefix)
        for start in range(0, 5_000, 50):
            await out.send(outputs(range(start, start + 50)))
        await out.delivered()
        assert out.in_flight == 0
    for parity, topic in enumerate(topics):
        by_key = defaultdict(list)
        for record in await read_topic(settings, topic):
            assert record.partition == key_hash(record.key) % 3
            assert record.headers == (("ce_id", record.value),)
            by_key[record.key].append(int(record.value))
        assert sorted(n for ns in by_key.values() for n in ns) == list(range(parity, 5_000, 2))
        assert all(ns == sorted(ns) for ns in by_key.values())


async def test_refused_outputs_are_reported_kept_and_sent_later(settings) -> None:
    topic = await make_topic(settings, "anomalies", **{"max.message.bytes": "300"})
    async with producer_client(settings) as producer:
        out = OutputProducer(producer, settings.topics.prefix)
        await out.send([Output("anomalies", b"k", b"small", [])])
        await out.delivered()
        await out.send([Output("anomalies", b"k", b"x" * 1_000, []), Output("anomalies", b"k", b"after", [])])
        with pytest.raises(BrokerError, match="MessageSizeTooLarge"):
            await out.delivered()
        assert out.in_flight == 2
        await set_limit(settings, topic, 1_000_000)
        await wait_until(lambda: out.in_flight == 0, "outputs confirmed")
        await out.delivered()
    assert [r.value for r in await read_topic(settings, topic)] == [b"small", b"x" * 1_000, b"after"]


async def test_send_waits_while_too_much_is_in_flight(settings) -> None:
    await make_topic(settings, "anomalies", **{"max.message.bytes": "100"})
    topic = settings.topics.prefix + "anomalies"
    async with producer_client(settings) as producer:
        out = OutputProducer(producer, settings.topics.prefix, max_in_flight=10)
        await out.send([Output("anomalies", b"k", b"x" * 500, []) for _ in range(10)])
        blocked = asyncio.create_task(out.send([Output("anomalies", b"k", b"y", [])]))
        with pytest.raises(BrokerError):
            await out.delivered()
        assert not blocked.done()
        await set_limit(settings, topic, 1_000_000)
        await asyncio.wait_for(blocked, 30)
        await out.delivered()
    assert len(await read_topic(settings, topic)) == 11


async def test_outputs_for_a_topic_that_does_not_exist_are_refused_with_the_remedy(kafka, topic_prefix) -> None:
    settings = make_settings(kafka.bootstrap, kafka={"request_timeout": 2.0}, topics={"prefix": topic_prefix})
    async with producer_client(settings) as producer:
        out = OutputProducer(producer, topic_prefix)
        with pytest.raises(BrokerError, match="topics create"):
            await out.send([Output("drift", b"k", b"v", [])])
        assert out.in_flight == 0
        await asyncio.wait_for(out.delivered(), 5)


async def test_outputs_survive_a_broker_that_is_killed_and_comes_back(own_kafka, topic_prefix) -> None:
    settings = make_settings(own_kafka.bootstrap, topics={"prefix": topic_prefix})
    topic = await make_topic(settings, "anomalies")
    async with producer_client(settings) as producer:
        out = OutputProducer(producer, topic_prefix)
        await out.send([Output("anomalies", b"k%d" % i, b"%d" % i, []) for i in range(100)])
        await out.delivered()
        await asyncio.to_thread(own_kafka.kill)
        await out.send([Output("anomalies", b"k%d" % i, b"%d" % i, []) for i in range(100, 200)])
        confirmed = asyncio.ensure_future(out.delivered())
        await asyncio.to_thread(own_kafka.start)
        await asyncio.wait_for(confirmed, 60)
    assert {int(r.value) for r in await read_topic(settings, topic)} == set(range(200))


async def test_the_first_output_for_a_topic_waits_for_a_broker_that_is_away(own_kafka, topic_prefix) -> None:
    """A worker that had no output before the broker went away must not take the topic for missing, and end."""
    settings = make_settings(
        own_kafka.bootstrap, topics={"prefix": topic_prefix, "partitions": 3}, kafka={"request_timeout": 2.0}
    )
    async with admin_client(settings) as admin:
        await create_topics(admin, catalogue(topic_prefix, 3))
    outputs = KafkaOutputs(settings)
    await outputs.start()
    await asyncio.to_thread(own_kafka.kill)
    await outputs.send([Output("anomalies", b"k", b"first", [])])
    await asyncio.to_thread(own_kafka.start)

    async def delivered() -> bool:
        try:
            await outputs.delivered()
        except BrokerError:
            return False
        return True

    await wait_until(delivered, "the output confirmed")
    await outputs.stop()
    assert [r.value for r in await read_topic(settings, f"{topic_prefix}anomalies")] == [b"first"]


async def test_outputs_cannot_start_without_their_topics(kafka, topic_prefix) -> None:
    settings = make_settings(kafka.bootstrap, kafka={"request_timeout": 2.0}, topics={"prefix": topic_prefix})
    outputs = KafkaOutputs(settings)
    with pytest.raises(BrokerError, match="topics create"):
        await outputs.start()
    await outputs.stop()
