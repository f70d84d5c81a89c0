"""The probe of a container's health check, against real servers on free ports."""

import asyncio
import shutil
import socket
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from dwcp_stream.errors import ConfigError
from dwcp_stream.telemetry.health import Readiness
from dwcp_stream.web import HttpServer
from dwcp_stream.web.probe import ask, probe

TOKEN = "0123456789abcdef0123"
STREAMS = Path(__file__).resolve().parents[2] / "config" / "streams"


@pytest.fixture
def free_ports() -> int:
    """First of two ports in a row that nothing listens on."""
    for first in range(20000, 30000, 2):
        with socket.socket() as one, socket.socket() as two:
            try:
                one.bind(("127.0.0.1", first))
                two.bind(("127.0.0.1", first + 1))
            except OSError:
                continue
            return first
    raise AssertionError("no two free ports in a row")


@pytest.fixture
async def workers(tmp_path, monkeypatch, free_ports):
    """Two servers as `worker --all` starts them, and the variables that lead the probe to them."""
    streams = tmp_path / "streams"
    streams.mkdir()
    for name in ("consensus.toml", "node.toml"):
        shutil.copy(STREAMS / name, streams)
    monkeypatch.setenv("DWCP_STREAMS_DIR", str(streams))
    monkeypatch.setenv("DWCP_HTTP__PORT", str(free_ports))
    monkeypatch.setenv("DWCP_HTTP__HOST", "0.0.0.0")
    monkeypatch.setenv("DWCP_HTTP__TOKEN", TOKEN)
    states = [Readiness(("recovered",)), Readiness(("recovered",))]
    servers = [
        HttpServer(CollectorRegistry(), state.check, state.check, port=free_ports + place, token=TOKEN)
        for place, state in enumerate(states)
    ]
    for server in servers:
        await server.start()
    yield states
    for server in servers:
        await server.stop()


async def test_every_stream_must_say_yes(workers):
    workers[0].meet("recovered")
    assert await asyncio.to_thread(probe, ["live"]) == {"node": "recovered: not yet"}
    assert await asyncio.to_thread(probe, ["ready", "consensus"]) == {}
    workers[1].meet("recovered")
    assert await asyncio.to_thread(probe, []) == {}


async def test_another_token_is_told_as_such(workers, monkeypatch):
    monkeypatch.setenv("DWCP_HTTP__TOKEN", "another-0123456789abcdef")
    (reason,) = set((await asyncio.to_thread(probe, ["live", "node"])).values())
    assert "wants another token" in reason
    assert "another-0123456789abcdef" not in reason


async def test_what_it_does_not_know_is_told(workers, monkeypatch):
    for arguments in (["alive"], ["live", "nothing"]):
        with pytest.raises(ConfigError, match="not known"):
            probe(arguments)
    monkeypatch.setenv("DWCP_HTTP__PORT", "0")
    with pytest.raises(ConfigError, match="DWCP_HTTP__PORT"):
        probe(["live"])


def test_silence_is_a_no(free_ports):
    assert "no answer" in ask("127.0.0.1", free_ports, "live")
