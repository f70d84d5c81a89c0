"""The HTTP server: what it answers, where it listens, how it starts and stops."""

import asyncio
import socket

import aiohttp
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from dwcp_stream.errors import ConfigError
from dwcp_stream.setting_sections import HttpSettings
from dwcp_stream.settings import load_settings
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


async def test_with_a_token_every_request_must_bring_it(metrics, readiness):
    token = "0123456789abcdef-secret"
    server = HttpServer(metrics.registry, readiness.check, readiness.check, token=token)
    await server.start()
    try:
        for path in ("/metrics", "/health/live", "/health/ready", "/", "/nowhere"):
            for wrong in (
                None,
                token,
                f"Basic {token}",
                f"Bearer {token[:-1]}",
                f"Bearer {token}x",
                "Bearer",
                "Bearer é",
            ):
                headers = {} if wrong is None else {"Authorization": wrong}
                async with (
                    aiohttp.ClientSession() as session,
                    session.get(server.url + path, headers=headers) as answer,
                ):
                    assert (answer.status, answer.headers["WWW-Authenticate"]) == (401, "Bearer"), (path, wrong)
                    assert await answer.text() == "a bearer token is needed\n"
        assert (await get(server, "/metrics", Authorization=f"Bearer {token}"))[0] == 200
        assert (await get(server, "/health/ready", Authorization=f"bearer {token}"))[0] == 503
        assert (await get(server, "/nowhere", Authorization=f"Bearer {token}"))[0] == 404
    finally:
        await server.stop()


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.7", "metrics.example", ""])
def test_beyond_loopback_it_needs_a_token(monkeypatch, host):
    monkeypatch.setenv("DWCP_HTTP__HOST", host)
    with pytest.raises(ConfigError, match=r"needs a token.*DWCP_HTTP__TOKEN.*openssl rand"):
        load_settings()
    monkeypatch.setenv("DWCP_HTTP__TOKEN", "0123456789abcdef")
    assert load_settings().http.host == host


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost"])
def test_on_loopback_it_needs_none(monkeypatch, host):
    monkeypatch.setenv("DWCP_HTTP__HOST", host)
    assert load_settings().http.token is None


@pytest.mark.parametrize("token", ["", "short", "with spaces in between", "0123456789abcdef\nX: y", "é" * 20])
def test_a_weak_token_is_refused_and_not_repeated(monkeypatch, token):
    monkeypatch.setenv("DWCP_HTTP__TOKEN", token)
    with pytest.raises(ConfigError, match="16 or more") as raised:
        load_settings()
    assert not token or token not in str(raised.value)
