"""A site for the live page: a worker for nodes and one for links on real Kafka, simulated telemetry, and the page.

As a program it stays until Ctrl-C, for looking at: `python -m tests.e2e.page_site DIR` (on the embedded broker).
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
import urllib.request
import uuid
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import polars as pl
from aiokafka import AIOKafkaProducer

from dwcp_stream.kafka.catalogue import catalogue, topic_name
from dwcp_stream.kafka.clients import producer_client
from dwcp_stream.kafka.embedded import EmbeddedBroker
from dwcp_stream.kafka.topics import admin_client, create_topics
from dwcp_stream.settings import Settings
from dwcp_stream.streams import StreamDefinition, load_streams
from dwcp_stream.streams.encode import encode_sample
from lab.links import simulate_links
from lab.nodes import simulate_nodes
from tests.integration.harness import make_settings, wait_until
from tests.kafka.broker import free_port

STREAMS = ("link", "node")
STEP = 60.0


class PageSite:
    """Two workers and the page, as processes; an async context manager.

    Telemetry is sent minute by minute of event time, and ends with the present minute, so that samples sent later can
    be newer.
    """

    def __init__(self, bootstrap: str, directory: Path, *, nodes: int = 40, links: int = 24, minutes: int = 45) -> None:
        self.directory, self.minutes = directory, minutes
        self.prefix = f"t{uuid.uuid4().hex[:8]}."
        self.streams: dict[str, StreamDefinition] = dict(load_streams(Path("config/streams")).items())
        self.settings: Settings = make_settings(bootstrap, topics={"prefix": self.prefix, "partitions": 2})
        self.tables = {"node": simulate_nodes(nodes, 1, 5), "link": simulate_links(links, 1, 5)}
        self.ports = {"page": free_port(), **{name: free_port() for name in STREAMS}}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._stack = AsyncExitStack()
        self.producer: AIOKafkaProducer

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.ports['page']}/"

    async def __aenter__(self) -> Self:
        async with admin_client(self.settings) as admin:
            await create_topics(admin, catalogue(self.prefix, 2, 1, self.streams.values()))
        self.producer = await self._stack.enter_async_context(producer_client(self.settings, linger_ms=2))
        self.base = time.time() - time.time() % STEP
        await self.history()
        names = sorted(self.streams)
        for name in STREAMS:
            self._start(name, ["worker", name], DWCP_HTTP__PORT=str(self.ports[name] - names.index(name)))
        workers = ",".join(f'"http://127.0.0.1:{self.ports[name]}"' for name in STREAMS)
        self._start("page", ["page"], DWCP_PAGE__PORT=str(self.ports["page"]), DWCP_PAGE__WORKERS=f"[{workers}]")
        for name in STREAMS:
            await wait_until(lambda name=name: self._ready(name), self.logs, 120, every=0.2)
        return self

    async def __aexit__(self, *exc: object) -> None:
        for process in self._processes.values():
            process.terminate()
        for process in self._processes.values():
            try:
                await asyncio.to_thread(process.wait, 20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        await self._stack.aclose()

    def _start(self, name: str, arguments: list[str], **environment: str) -> None:
        environment = {
            **os.environ,
            "DWCP_KAFKA__BOOTSTRAP_SERVERS": self.settings.kafka.bootstrap_servers,
            "DWCP_TOPICS__PREFIX": self.prefix,
            "DWCP_APP_ID": self.prefix + "app",
            "DWCP_DATA_DIR": str(self.directory / "data"),
            **environment,
        }
        with (self.directory / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", "dwcp_stream", *arguments], env=environment, stdout=log, stderr=log
            )

    def logs(self) -> str:
        """The ends of all logs, for failures."""
        return "\n".join(f"{f.name}: {f.read_text(errors='replace')[-1500:]}" for f in self.directory.glob("*.log"))

    def _ready(self, name: str) -> bool:
        assert all(process.poll() is None for process in self._processes.values()), self.logs()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[name]}/health/ready", timeout=2) as answer:
                return b"2 partitions" in answer.read()
        except OSError:
            return False

    async def history(self) -> None:
        """Send the minutes up to now."""
        for name, table in self.tables.items():
            stamps = sorted(table["ts"].unique().to_list())[: self.minutes]
            shift = self.base - stamps[-1]
            for row in table.filter(pl.col("ts") <= stamps[-1]).sort("ts").to_dicts():
                await self._put(name, row, row["ts"] + shift)
        await self.producer.flush()

    async def _put(self, name: str, row: dict[str, Any], ts: float) -> str:
        stream = self.streams[name]
        values = {f.name: row.get(f.name) for f in stream.fields}
        key, value = encode_sample(stream, {part: row.get(part) for part in stream.entity}, ts, values)
        await self.producer.send(topic_name(self.prefix, stream.topic), value, key=key)
        return key.decode()

    async def fault(self, number: int = 0, minutes: int = 1) -> str:
        """Send samples of a node in trouble, newer than all before; returns its entity."""
        last = self.tables["node"].sort("ts").unique("node_id", keep="first", maintain_order=True).sort("node_id")
        row = last.to_dicts()[number] | {
            "error_rate": 0.45, "timeout_rate": 0.3, "latency_p99": 2400.0, "connection_failures": 90.0,
            "packet_loss_rate": 0.2, "cpu_usage": 99.0, "sla_violations": 30.0,
        }  # fmt: skip
        entity = ""
        for minute in range(minutes):
            entity = await self._put("node", row, self.base + STEP * (minute + 1) - 1.0 * (minutes - 1) * STEP)
        await self.producer.flush()
        return entity


async def _stay(directory: Path) -> None:
    broker = EmbeddedBroker(log_file=directory / "broker.txt")
    await broker.start()
    async with PageSite(broker.bootstrap, directory) as site:
        print(site.url, await site.fault(), flush=True)  # noqa: T201
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(_stay(Path(sys.argv[1])))
