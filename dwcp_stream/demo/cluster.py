"""The processes of the demo: one embedded broker, and a worker per stream."""

import asyncio
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Self

import aiohttp

from dwcp_stream.errors import BrokerError, DwcpError
from dwcp_stream.kafka.catalogue import catalogue
from dwcp_stream.kafka.embedded import EmbeddedBroker, free_port
from dwcp_stream.kafka.topics import admin_client, create_topics
from dwcp_stream.settings import Settings
from dwcp_stream.streams import StreamDefinition

READY_SECONDS = 60.0
STOP_SECONDS = 20.0


class Cluster:
    """Broker and workers; an async context manager.

    Parameters
    ----------
    settings
        The user's settings; the broker's address replaces theirs.
    folder
        For logs and the workers' files.
    """

    def __init__(self, settings: Settings, streams: Mapping[str, StreamDefinition], folder: Path) -> None:
        self._streams, self._folder = streams, folder
        self._broker = EmbeddedBroker(log_file=folder / "broker.log")
        kafka = settings.kafka.model_copy(
            update={"bootstrap_servers": self._broker.bootstrap, "security_protocol": "PLAINTEXT"}
        )
        self.settings = settings.model_copy(update={"kafka": kafka})
        self._workers: dict[str, asyncio.subprocess.Process] = {}
        self.urls: dict[str, str] = {}

    async def __aenter__(self) -> Self:
        await self._broker.start()
        try:
            async with admin_client(self.settings) as admin:
                topics = self.settings.topics
                await create_topics(
                    admin,
                    catalogue(topics.prefix, topics.partitions, topics.replication, self._streams.values()),
                )
            for index, name in enumerate(sorted(self._streams)):
                await self._start_worker(name, index)
            await asyncio.gather(*(self._wait_ready(name) for name in self._workers))
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.stop()

    async def _start_worker(self, name: str, index: int) -> None:
        port = free_port()
        environment = {
            **os.environ,
            "DWCP_KAFKA__BOOTSTRAP_SERVERS": self._broker.bootstrap,
            "DWCP_KAFKA__SECURITY_PROTOCOL": "PLAINTEXT",
            "DWCP_APP_ID": "demo",
            "DWCP_CHECKPOINT_INTERVAL": "2",
            "DWCP_HTTP__PORT": str(port - index),
            "DWCP_DATA_DIR": str(self._folder),
        }
        with (self._folder / f"{name}.log").open("wb") as log:
            self._workers[name] = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "dwcp_stream", "worker", name,
                env=environment, stdout=log, stderr=log, stdin=asyncio.subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip
        self.urls[name] = f"http://127.0.0.1:{port}"

    async def _wait_ready(self, name: str) -> None:
        deadline = asyncio.get_running_loop().time() + READY_SECONDS
        async with aiohttp.ClientSession() as session:
            while asyncio.get_running_loop().time() < deadline:
                if self._workers[name].returncode is not None:
                    break
                try:
                    async with session.get(f"{self.urls[name]}/health/ready") as answer:
                        if answer.status == 200 and "4 partitions" in await answer.text():
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.2)
        raise BrokerError("did not become ready", where=f"worker {name}", remedy=self._tail(name))

    def _tail(self, name: str) -> str:
        lines = (self._folder / f"{name}.log").read_text(errors="replace").splitlines()
        return "Its log ends: " + " | ".join(lines[-3:])

    def check(self) -> None:
        """Raise if a worker has ended."""
        for name, process in self._workers.items():
            if process.returncode is not None:
                raise DwcpError(
                    f"ended with code {process.returncode}", where=f"worker {name}", remedy=self._tail(name)
                )

    async def metrics(self) -> dict[str, str]:
        """Return the text of each worker's /metrics by stream."""
        texts = {}
        async with aiohttp.ClientSession() as session:
            for name, url in self.urls.items():
                async with session.get(f"{url}/metrics") as answer:
                    texts[name] = await answer.text()
        return texts

    async def stop(self) -> None:
        """Stop the workers, which write a last checkpoint, then the broker."""
        for process in self._workers.values():
            if process.returncode is None:
                process.terminate()
        for process in self._workers.values():
            try:
                await asyncio.wait_for(process.wait(), STOP_SECONDS)
            except TimeoutError:
                process.kill()
                await process.wait()
        self._workers.clear()
        await self._broker.stop()
