"""The embedded broker: starts, serves, stops, and says why when it cannot."""

import socket

import pytest

from dwcp_stream.errors import BrokerError
from dwcp_stream.kafka.batches import write_records
from dwcp_stream.kafka.catalogue import catalogue
from dwcp_stream.kafka.clients import producer_client
from dwcp_stream.kafka.embedded import EmbeddedBroker, answers, port_taken
from dwcp_stream.kafka.topics import admin_client, create_topics, describe, differences
from tests.integration.harness import make_settings, read_topic


async def test_it_serves_topics_and_records_on_loopback_until_stopped() -> None:
    async with EmbeddedBroker() as broker:
        settings = make_settings(broker.bootstrap)
        specs = catalogue()
        async with admin_client(settings) as admin:
            assert len(await create_topics(admin, specs)) == len(specs)
            states = await describe(admin, [s.name for s in specs])
        assert [d for d in differences(specs, states) if d.serious] == []
        async with producer_client(settings) as producer:
            assert await write_records(producer, "dwcp.anomalies", [(2, b"k", b"v")]) == {2: 0}
        assert [(r.partition, r.value) for r in await read_topic(settings, "dwcp.anomalies")] == [(2, b"v")]
        assert await answers(broker.port)
    assert not port_taken(broker.port)


async def test_a_taken_port_is_an_error_before_anything_starts() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(BrokerError, match=f"127.0.0.1:{port}: something listens there already"):
            await EmbeddedBroker(port).start()
