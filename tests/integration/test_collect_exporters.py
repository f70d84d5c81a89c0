"""From a real etcd, a real Prometheus and a real node_exporter to samples in a real Kafka."""

import asyncio
import contextlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
from prometheus_client import CollectorRegistry

from dwcp_stream.collect import load_map
from dwcp_stream.kafka.catalogue import TopicSpec
from dwcp_stream.kafka.collector import Collector
from dwcp_stream.kafka.inspection import source_topic
from dwcp_stream.kafka.scraping import page_address
from dwcp_stream.kafka.topics import admin_client, create_topics
from dwcp_stream.streams import load_stream
from dwcp_stream.streams.decode import ChunkDecoder
from dwcp_stream.telemetry.metrics import Metrics
from lab.etcd.cluster import Cluster
from lab.etcd.tools import free_ports
from tests.integration.harness import make_settings, read_topic, wait_until

pytestmark = pytest.mark.kafka

CONFIG = Path(__file__).resolve().parents[2] / "config"
PATIENCE = 60.0


def program(name):
    found = shutil.which(name)
    assert found, f"{name} is missing. Run: scripts/system-packages etcd prometheus"
    return found


@contextlib.contextmanager
def running(*command, log):
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, stdin=subprocess.DEVNULL)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


async def ask(url):
    try:
        async with aiohttp.ClientSession() as session, session.get(url, timeout=aiohttp.ClientTimeout(2)) as answer:
            return await answer.text() if answer.status == 200 else ""
    except (TimeoutError, aiohttp.ClientError):
        return ""


async def prepared(kafka, prefix, name):
    """Settings and a stream whose topic is there."""
    settings = make_settings(kafka.bootstrap, topics={"prefix": prefix})
    stream = load_stream(CONFIG / "streams" / f"{name}.toml")
    async with admin_client(settings) as admin:
        await create_topics(admin, [TopicSpec(source_topic(settings, stream), 2, "entity", "")])
    return settings, stream


def decoded(stream, records):
    """Samples of records, by field; every one must be valid and keyed by its entity."""
    found = ChunkDecoder(stream).decode(
        [r.value for r in records], [r.key for r in records], [r.timestamp for r in records]
    )
    assert not list(found.rejects)
    assert found.key_mismatches == 0
    return [json.loads(r.value) for r in records]


async def test_members_of_a_cluster_become_one_sample_a_second(kafka, topic_prefix, unique):
    settings, stream = await prepared(kafka, topic_prefix, "consensus")
    topic = source_topic(settings, stream)
    async with Cluster(3, disk=False) as cluster:
        urls = [page_address(member.url) for member in cluster.members]
        metrics = Metrics(CollectorRegistry())
        mapping = load_map(CONFIG / "maps/etcd.toml")
        collector = Collector(settings, stream, mapping, urls, metrics, unique)
        stop = asyncio.Event()
        task = asyncio.create_task(collector.run(stop))
        written = 0

        async def rows(least, *, active):
            nonlocal written
            assert not task.done(), task
            with contextlib.suppress(TimeoutError, aiohttp.ClientError):
                await cluster.apis[0].put(f"k{written}", b"x", 2.0)
            written += 1
            found = decoded(stream, await read_topic(settings, topic))
            fit = [row for row in found if row.get("active_nodes") == active and "proposals_committed" in row]
            return found if len(fit) >= least else None

        await wait_until(lambda: rows(4, active=3), "samples of three members", PATIENCE, every=0.2)
        leader = await cluster.need_leader()
        follower = next(i for i in (1, 2) if i != leader)
        await cluster.members[follower].kill()
        found = await wait_until(lambda: rows(2, active=2), "sample of two members", PATIENCE, every=0.2)
        assert collector.live().ok
        assert collector.ready().ok
        stop.set()
        totals = await asyncio.wait_for(task, 20)
    assert {row["cluster_id"] for row in found} == {unique}
    assert max(row.get("proposals_committed", 0) for row in found) > 0
    assert all(row["quorum_size"] == 2 for row in found)
    assert any(row.get("latency_p99", 0) > 0 for row in found)
    times = sorted(row["ts"] for row in found)
    assert len({int(ts) for ts in times}) == len(times), "more than one sample in a step"
    assert totals.failed > 0, "the member that was killed"
    assert totals.sent == len(await read_topic(settings, topic))
    assert totals.dropped == 0


@pytest.fixture
async def site(tmp_path):
    """A node_exporter, and a Prometheus that scrapes it every second; addresses of both."""
    exporter, server = free_ports(2)
    config = tmp_path / "prometheus.yml"
    config.write_text(
        "global: { scrape_interval: 1s }\nscrape_configs:\n"
        f'  - {{ job_name: rack, static_configs: [ {{ targets: ["127.0.0.1:{exporter}"] }} ] }}\n'
    )
    node = (program("prometheus-node-exporter"), f"--web.listen-address=127.0.0.1:{exporter}")
    prometheus = (
        program("prometheus"),
        f"--config.file={config}",
        f"--storage.tsdb.path={tmp_path / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{server}",
    )
    with running(*node, log=tmp_path / "node.log"), running(*prometheus, log=tmp_path / "prometheus.log"):
        direct, federation = f"http://127.0.0.1:{exporter}", f"http://127.0.0.1:{server}/federate"
        await wait_until(lambda: ask(f"{direct}/metrics"), "node_exporter", PATIENCE, every=0.2)
        await wait_until(
            lambda: ask(f'{federation}?match[]={{__name__="node_memory_MemTotal_bytes"}}'),
            "Prometheus",
            PATIENCE,
            every=0.2,
        )
        yield direct, federation


async def collect(settings, *arguments):
    """Run the command as typed; returns exit code, stdout and stderr."""
    environment = {
        "DWCP_KAFKA__BOOTSTRAP_SERVERS": settings.kafka.bootstrap_servers,
        "DWCP_TOPICS__PREFIX": settings.topics.prefix,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "dwcp_stream", "collect", *arguments,
        env=os.environ | environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 90)
    return process.returncode, out.decode(), err.decode()


async def test_a_machine_from_its_exporter_and_from_a_server(kafka, topic_prefix, site):
    settings, stream = await prepared(kafka, topic_prefix, "node")
    direct, federation = site
    for url, more in ((direct, ("--job", "direct")), (federation, ())):
        code, out, err = await collect(
            settings, "--map", "node_exporter", "--prometheus", url, *more, "--once", "--json"
        )
        assert code == 0, err
        assert json.loads(out)["sent"] == 1
    rows = decoded(stream, await read_topic(settings, source_topic(settings, stream)))
    assert {row["cluster_id"] for row in rows} == {"direct", "rack"}
    for row in rows:
        assert row["node_id"].startswith("127.0.0.1:")
        assert 0 < row["memory_usage"] < 100
        assert 0 <= row["cpu_usage"] <= 100
        assert 0 <= row["error_rate"] <= 1


async def test_what_is_wrong_is_said(kafka, topic_prefix):
    settings, _ = await prepared(kafka, topic_prefix, "consensus")
    (port,) = free_ports(1)
    away = f"http://127.0.0.1:{port}"
    code, _, err = await collect(settings, "--map", "nope", "--prometheus", away)
    assert code == 1
    assert "--map etcd" in err
    code, _, err = await collect(settings, "--map", "node_exporter", "--prometheus", away)
    assert code == 1
    assert "topics create" in err, "the topic of node is not there"
