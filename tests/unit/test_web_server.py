"""The HTTP server: what it answers, where it listens, how it starts and stops."""

import asyncio
import socket

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from dwcp_stream.errors import ConfigError
from dwcp_stream.settings import HttpSettings
from dwcp_stream.telemetry.health import Check, Readiness, Report
from dwcp_stream.telemetry.metrics import Metrics
from dwcp_stream.web import HttpServer


@pytest.fixture
def metrics() -> Metrics:
    return Metrics(CollectorRegistry())


@pytest.fixture
def readiness() -> Readiness:
    return Readiness(("assigned", "models"))


@pytest.fixture
async def server(metrics, readiness):
    stalled = Report(False, {"partition 3": Check(False, "at offset 1 for 60 s")})
    server = HttpServer(metrics.registry, lambda: stalled, readiness.check)
    await server.start()
    yield server
    await server.stop()


async def get(server: HttpServer, path: str, **headers: str) -> tuple[int, str, str]:
    async with aiohttp.ClientSession() as session, session.get(server.url + path, headers=headers) as answer:
        return answer.status, answer.headers["Content-Type"], await answer.text()


async def test_metrics_are_served_as_prometheus_reads_them(server, metrics):
    metrics.samples("node", [1, 2, 3, 4, 5])
    status, content_type, text = await get(server, "/metrics")
    assert status == 200
    assert content_type.startswith("text/plain; version=")
    families = {family.name: family for family in text_string_to_metric_families(text)}
    assert {s.labels["outcome"]: s.value for s in families["dwcp_samples"].samples if s.name.endswith("_total")} == {
        "scored": 1,
        "warming_up": 2,
        "duplicate": 3,
        "late": 4,
        "invalid": 5,
    }
    _, content_type, text = await get(server, "/metrics", Accept="application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert text.endswith("# EOF\n")


async def test_health_says_why(server, readiness):
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{server.url}/health/live") as answer:
            assert answer.status == 503
            body = await answer.json()
        assert body == {
            "ok": False,
            "checks": {"partition 3": {"ok": False, "reason": "at offset 1 for 60 s"}},
        }
        async with session.get(f"{server.url}/health/ready") as answer:
            assert answer.status == 503
            assert (await answer.json())["checks"]["models"] == {"ok": False, "reason": "not yet"}
        readiness.meet("assigned", "4 partitions")
        readiness.meet("models")
        async with session.get(f"{server.url}/health/ready") as answer:
            assert answer.status == 200
            assert (await answer.json())["checks"]["assigned"] == {"ok": True, "reason": "4 partitions"}


async def test_nothing_else_is_answered(server):
    assert (await get(server, "/"))[0] == 404
    async with aiohttp.ClientSession() as session, session.post(f"{server.url}/metrics") as answer:
        assert answer.status == 405


async def test_by_default_it_listens_on_loopback_only(server):
    assert server.url.startswith("http://127.0.0.1:")
    assert HttpSettings().host == "127.0.0.1"
    (address,) = server._runner.addresses
    assert address[0] == "127.0.0.1"


async def test_it_shares_the_loop_and_can_start_again(metrics, readiness):
    server = HttpServer(metrics.registry, readiness.check, readiness.check)
    port = await server.start()
    assert port > 0
    answers = await asyncio.gather(*(get(server, "/metrics") for _ in range(5)))
    assert [status for status, _, _ in answers] == [200] * 5
    await server.stop()
    await server.stop()
    with pytest.raises(aiohttp.ClientConnectionError):
        await get(server, "/metrics")
    assert await server.start() == port
    await server.stop()


async def test_a_taken_port_is_told_with_a_remedy(metrics, readiness):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        server = HttpServer(metrics.registry, readiness.check, readiness.check, port=taken.getsockname()[1])
        with pytest.raises(ConfigError, match="DWCP_HTTP__PORT"):
            await server.start()
