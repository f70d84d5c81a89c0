"""The incident service on a real broker: killed at any point, the incidents are those of an undisturbed one."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from dwcp_stream.events import Alert
from dwcp_stream.incidents import Incident, IncidentTracker
from dwcp_stream.kafka.catalogue import catalogue
from dwcp_stream.kafka.clients import producer_client
from dwcp_stream.kafka.incidents import incident_service, known_incidents
from dwcp_stream.kafka.topics import admin_client, create_topics
from dwcp_stream.settings import Settings
from dwcp_stream.streams import load_streams
from tests.integration.harness import make_settings, read_topic, wait_until
from tests.unit.test_incidents import message

pytestmark = pytest.mark.kafka

ROOT = Path(__file__).parents[2]


@pytest.fixture
async def settings(kafka, topic_prefix: str, unique: str) -> Settings:
    settings = make_settings(
        kafka.bootstrap, topics={"prefix": topic_prefix}, app_id=unique, streams_dir=ROOT / "config/streams"
    )
    async with admin_client(settings) as admin:
        await create_topics(admin, catalogue(topic_prefix, 3))
    return settings


def environment(settings: Settings) -> dict[str, str]:
    return {
        **os.environ,
        "DWCP_KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "DWCP_TOPICS__PREFIX": settings.topics.prefix,
        "DWCP_APP_ID": settings.app_id,
        "DWCP_STREAMS_DIR": str(settings.streams_dir),
        "DWCP_KAFKA__SESSION_TIMEOUT": "6",
    }


def start(settings: Settings, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        return subprocess.Popen(
            [sys.executable, "-m", "dwcp_stream", "incidents", "run"],
            env=environment(settings), stdout=out, stderr=subprocess.STDOUT,
        )  # fmt: skip


def cli(settings: Settings, *words: str) -> Any:
    done = subprocess.run(
        [sys.executable, "-m", "dwcp_stream", *words, "--json"],
        env=environment(settings), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


async def send(settings: Settings, alerts: list[Alert]) -> None:
    async with producer_client(settings) as producer:
        for alert in alerts:
            value = msgspec.json.encode(alert)
            await producer.send_and_wait(f"{settings.topics.prefix}anomalies", value, alert.fingerprint.encode())


def clusters(begin: int, end: int) -> list[Alert]:
    """Faults of some clusters: a link, a node and the consensus; the first two are over again."""
    return [
        alert
        for n in range(begin, end)
        for alert in (
            message("link", f"c{n}/n1/n2", 0, 60, severity="critical"),
            message("node", f"c{n}/n1", 60, 120),
            message("consensus", f"c{n}", 30, 40),
            message("link", f"c{n}/n1/n2", 0, 300, "resolved", "critical"),
            message("node", f"c{n}/n1", 60, 300, "resolved"),
        )
    ]


async def test_killed_and_started_again_it_tells_the_same_incidents(settings: Settings, tmp_path: Path) -> None:
    log, alerts = tmp_path / "incidents.log", clusters(0, 12)
    await send(settings, alerts[:25])
    process = start(settings, log)
    try:

        async def told(n: int) -> bool:
            assert process.poll() is None, log.read_text()
            return len(await known_incidents(settings)) >= n

        await wait_until(lambda: told(1), lambda: f"an incident\n{log.read_text()}", every=0.2)
        process.kill()
        process.wait()
        await send(settings, alerts[25:])
        process = start(settings, log)
        await wait_until(lambda: told(12), lambda: f"all incidents\n{log.read_text()}", every=0.2)
    finally:
        process.kill()
        process.wait()
    cli(settings, "incidents", "run", "--once")
    wanted = IncidentTracker(load_streams(ROOT / "config/streams"), settings.incidents.gap)
    for alert in alerts:
        wanted.alert(alert)

    def plain(incidents: list[Incident]) -> list[Incident]:
        return [msgspec.structs.replace(i, action="opened") for i in incidents]

    assert plain(await known_incidents(settings)) == plain(wanted.incidents())
    records = await read_topic(settings, f"{settings.topics.prefix}incidents")
    ids = [dict(record.headers)["ce_id"] for record in records]
    assert len(ids) == len(set(ids)), "nothing is told twice"
    assert cli(settings, "incidents", "run", "--once") == {"incidents": []}
    listed = cli(settings, "incidents", "list", "--open")["incidents"]
    assert [i["cause"]["stream"] for i in listed] == ["link"] * 12
    assert cli(settings, "incidents", "show", listed[0]["id"][:12])["alert_count"] == 3


async def test_silences_are_added_listed_and_ended_and_hush_incidents(settings: Settings) -> None:
    said = await asyncio.to_thread(
        cli, settings, "silence", "add", "c0/*", "--from", "2026-01-01T00:00Z", "--for", "3650d", "--reason", "work"
    )
    await send(settings, clusters(0, 2))
    streams = list(load_streams(ROOT / "config/streams").values())
    async with incident_service(settings, streams) as service:
        await asyncio.wait_for(service.leads.wait(), 60)
        by = {i.cluster: i.silenced_by for i in await service.look()}
        assert by == {"c0": [said["id"]], "c1": []}
        listed = await asyncio.to_thread(cli, settings, "silence", "list")
        assert [s["pattern"] for s in listed["silences"]] == ["c0/*"]
        await asyncio.to_thread(cli, settings, "silence", "expire", said["id"])
        assert [(i.cluster, i.action, i.silenced_by) for i in await service.look()] == [("c0", "updated", [])]
    assert (await asyncio.to_thread(cli, settings, "silence", "list"))["silences"] == []
