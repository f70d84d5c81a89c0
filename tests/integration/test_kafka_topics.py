"""The topic catalogue against a real broker."""

from dataclasses import replace

import pytest

from dwcp_stream.errors import BrokerError
from dwcp_stream.kafka.catalogue import TopicSpec, catalogue, changelog, topic_name
from dwcp_stream.kafka.topics import admin_client, create_topics, describe, differences, partition_count
from dwcp_stream.settings import Settings
from tests.integration.harness import make_settings

pytestmark = pytest.mark.kafka


@pytest.fixture
def settings(kafka, topic_prefix) -> Settings:
    return make_settings(kafka.bootstrap, topics={"prefix": topic_prefix, "partitions": 3})


@pytest.fixture
def specs(settings) -> list[TopicSpec]:
    class Stream:
        name, topic = "probe", "telemetry.probe"

    topics = settings.topics
    own = catalogue(topics.prefix, topics.partitions, topics.replication, [Stream()])
    return [*own, changelog(topic_name(topics.prefix, "state-changelog"), 3)]


async def test_created_topics_are_as_the_catalogue_says(settings, specs) -> None:
    async with admin_client(settings) as admin:
        created = await create_topics(admin, specs)
        states = await describe(admin, created)
    assert sorted(created) == sorted(s.name for s in specs)
    assert differences(specs, states) == []
    for spec in specs:
        have = states[spec.name].config
        assert {k: have[k] for k in spec.config} == dict(spec.config)
    by_name = {s.name.removeprefix(settings.topics.prefix): states[s.name] for s in specs}
    assert by_name["models"].partitions == 1
    assert by_name["models"].config["cleanup.policy"] == "compact"
    assert by_name["telemetry.probe"].partitions == 3
    assert by_name["state-changelog"].config["segment.bytes"] == str(64 << 20)


async def test_creating_again_changes_nothing(settings, specs) -> None:
    async with admin_client(settings) as admin:
        await create_topics(admin, specs)
        assert await create_topics(admin, specs) == []
        more = [replace(s, partitions=s.partitions + 5) for s in specs]
        assert await create_topics(admin, more) == []
        assert await partition_count(admin, specs[0].name) == specs[0].partitions
        assert await partition_count(admin, specs[0].name + "-not") is None


async def test_differences_name_topic_and_remedy(settings, specs) -> None:
    wrong = [
        replace(s, partitions=2) if s.name.endswith(".models") else s for s in specs if not s.name.endswith("drift")
    ]
    wrong = [replace(s, config={"cleanup.policy": "compact"}) if s.name.endswith("anomalies") else s for s in wrong]
    async with admin_client(settings) as admin:
        await create_topics(admin, wrong)
        found = differences(specs, await describe(admin, [s.name for s in specs]))
    serious = {(d.topic.removeprefix(settings.topics.prefix), d.what) for d in found if d.serious}
    assert serious == {("models", "partitions"), ("anomalies", "cleanup"), ("drift", "missing")}
    assert all(d.remedy for d in found)


async def test_a_refused_topic_is_an_error_with_the_brokers_reason(settings, topic_prefix) -> None:
    async with admin_client(settings) as admin:
        with pytest.raises(BrokerError, match=r"too\.many.*(?i:replica)"):
            await create_topics(admin, [TopicSpec(f"{topic_prefix}too.many", 1, "k", "p", replication=9)])


async def test_no_broker_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(BrokerError, match=r"127\.0\.0\.1:1: no broker answers.*dwcp-stream broker"):
        async with admin_client(make_settings("127.0.0.1:1")):
            pass
