"""A site for the live page: a worker for nodes and one for links on real Kafka, simulated telemetry, and the page."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Collection
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Self

import polars as pl
from aiokafka import AIOKafkaProducer

from dwcp_stream.kafka.catalogue import catalogue, topic_name
from dwcp_stream.kafka.clients import producer_client
from dwcp_stream.kafka.topics import admin_client, create_topics
from dwcp_stream.registry import ModelRepository
from dwcp_stream.registry.promotion import shadow, split
from dwcp_stream.settings import Settings
from dwcp_stream.streams import StreamDefinition, load_streams
from dwcp_stream.streams.encode import encode_sample
from lab.links import simulate_links
from lab.nodes import simulate_nodes
from tests.integration.harness import make_settings, wait_until
from tests.kafka.broker import free_port
from tests.model_graphs import publish_again

STREAMS = ("link", "node")
SHADOWED, CHALLENGED = "link-forecast", "node-gbt"
STEP = 60.0
TROUBLE = {
    "error_rate": 0.45, "timeout_rate": 0.3, "latency_p99": 2400.0, "connection_failures": 90.0,
    "packet_loss_rate": 0.2, "cpu_usage": 99.0, "sla_violations": 30.0,
}  # fmt: skip
"""What a node in trouble measures."""


class PageSite:
    """Two workers and the page, as processes; an async context manager.

    Telemetry is of the last hours: `minutes` of it are there at first, each `step` sends one more, and after `ahead`
    of them it has come to the present.
    """

    def __init__(
        self, bootstrap: str, directory: Path, *, nodes: int, links: int, minutes: int = 45, ahead: int = 30
    ) -> None:
        self.directory, self.minutes, self.ahead = directory, minutes, ahead
        self.prefix = f"t{uuid.uuid4().hex[:8]}."
        self.streams: dict[str, StreamDefinition] = dict(load_streams(Path("config/streams")).items())
        self.settings: Settings = make_settings(bootstrap, topics={"prefix": self.prefix, "partitions": 2})
        self.tables = {"node": simulate_nodes(nodes, 1, 5), "link": simulate_links(links, 1, 5)}
        self.ports = {"page": free_port(), **{name: free_port() for name in STREAMS}}
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._stack = AsyncExitStack()
        self.minute = 0
        self.producer: AIOKafkaProducer

    @property
    def url(self) -> str:
        """Where the page is."""
        return f"http://127.0.0.1:{self.ports['page']}/"

    async def __aenter__(self) -> Self:
        async with admin_client(self.settings) as admin:
            await create_topics(admin, catalogue(self.prefix, 2, 1, self.streams.values()))
        self.producer = await self._stack.enter_async_context(producer_client(self.settings, linger_ms=2))
        self.base = time.time() - time.time() % STEP - (self.minutes + self.ahead) * STEP
        await self.history()
        await asyncio.to_thread(self._publish)
        names = sorted(self.streams)
        for name in STREAMS:
            self._start(name, ["worker", name], DWCP_HTTP__PORT=str(self.ports[name] - names.index(name)))
        workers = ",".join(f"http://127.0.0.1:{self.ports[name]}" for name in STREAMS)
        self._start("page", ["page"], DWCP_PAGE__PORT=str(self.ports["page"]), DWCP_PAGE__WORKERS=workers)
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

    def _publish(self) -> None:
        """Let another version of a model of each stream run beside its champion: a shadow, and a challenger."""
        models = self.directory / "models"
        shutil.copytree("models", models)
        repository = ModelRepository(models)
        beside = {name: publish_again(repository, repository, name) for name in (SHADOWED, CHALLENGED)}
        shadow(repository, SHADOWED, beside[SHADOWED], self.streams["link"], by="a test")
        split(repository, CHALLENGED, beside[CHALLENGED], 50, self.streams["node"], by="a test")

    def _start(self, name: str, arguments: list[str], **environment: str) -> None:
        environment = {
            **os.environ,
            "DWCP_KAFKA__BOOTSTRAP_SERVERS": self.settings.kafka.bootstrap_servers,
            "DWCP_TOPICS__PREFIX": self.prefix,
            "DWCP_APP_ID": self.prefix + "app",
            "DWCP_DATA_DIR": str(self.directory / "data"),
            "DWCP_MODELS_DIR": str(self.directory / "models"),
            **environment,
        }
        with (self.directory / f"{name}.log").open("wb") as log:
            self._processes[name] = subprocess.Popen(
                [sys.executable, "-m", "dwcp_stream", *arguments], env=environment, stdout=log, stderr=log
            )

    async def stop(self, name: str) -> None:
        """Stop a process, as an operator would."""
        process = self._processes.pop(name)
        process.terminate()
        await asyncio.to_thread(process.wait, 30)

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
        """Send the first minutes."""
        while self.minute < self.minutes:
            await self._minute()
        await self.producer.flush()

    async def step(self, faulty: Collection[int] = ()) -> None:
        """Send the next minute of all entities; those nodes are in trouble."""
        await self._minute(faulty)
        await self.producer.flush()

    async def _minute(self, faulty: Collection[int] = ()) -> None:
        self.minute += 1
        for name, table in self.tables.items():
            stamps = sorted(table["ts"].unique().to_list())
            rows = table.filter(pl.col("ts") == stamps[self.minute]).sort(*self.streams[name].entity).to_dicts()
            for number, row in enumerate(rows):
                changed = row | TROUBLE if name == "node" and number in faulty else row
                await self._put(name, changed, self.base + self.minute * STEP)

    def node(self, number: int) -> str:
        """Name of a node as an entity."""
        parts = self.tables["node"].select(self.streams["node"].entity).unique().sort(*self.streams["node"].entity)
        return "/".join(parts.row(number))

    async def _put(self, name: str, row: dict[str, Any], ts: float) -> None:
        stream = self.streams[name]
        values = {f.name: row.get(f.name) for f in stream.fields}
        key, value = encode_sample(stream, {part: row.get(part) for part in stream.entity}, ts, values)
        await self.producer.send(topic_name(self.prefix, stream.topic), value, key=key)
