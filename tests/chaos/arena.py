"""The arena: a broker of its own, one application, its workers, and what must hold while faults go on."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from aiokafka.errors import KafkaError

from dwcp_stream.errors import BrokerError
from dwcp_stream.kafka.catalogue import changelog
from dwcp_stream.kafka.topics import admin_client, create_topics
from tests.chaos.load import Load
from tests.integration.harness import wait_until
from tests.integration.workers import PARTITIONS, Run, Site, WorkerProcess
from tests.kafka.broker import RealKafka

MOST_WORKERS = 3
DEADLINE = 120.0

QUICK = {
    "DWCP_KAFKA__SESSION_TIMEOUT": "3",
    "DWCP_KAFKA__REBALANCE_TIMEOUT": "3",
    "DWCP_KAFKA__REQUEST_TIMEOUT": "5",
    "DWCP_CHECKPOINT_INTERVAL": "0.5",
    "DWCP_MAX_POLL_RECORDS": "1000",
}
"""Settings under which faults take seconds instead of minutes, and a chunk is small enough to be cut in two often."""

SMALL_SEGMENTS = {"segment.bytes": str(4 << 20), "segment.ms": "10000", "delete.retention.ms": "60000"}
"""So that the state topic is compacted while the faults go on."""


class Arena:
    """A running site: `kafka`, `site`, the `run` under test and its `load`.

    `expected` holds the exit codes that faults have asked for; any other end of a worker is a failure.
    """

    def __init__(self, directory: Path, seed: int, entities: int, rate: float) -> None:
        self.directory, self.seed, self.entities, self.rate = directory, seed, entities, rate
        self.kafka = RealKafka(directory / "kafka")
        self.expected: dict[WorkerProcess, int] = {}
        self._started: set[WorkerProcess] = set()
        self.site: Site
        self.run: Run
        self.load: Load

    async def open(self) -> None:
        """Start the broker, one worker and the load."""
        await asyncio.to_thread(self.kafka.start)
        self.site = Site(self.kafka.bootstrap, self.directory, f"chaos{self.seed}")
        await self.site.create()
        self.run = await self.site.run(**QUICK)
        async with admin_client(self.run.settings) as admin:
            spec = changelog(self.run.changelog, PARTITIONS)
            await create_topics(admin, [replace(spec, config={**spec.config, **SMALL_SEGMENTS})])
        await self.run.ready(self.run.start())
        self.load = Load(self.site, self.entities, self.rate, self.seed)

    async def close(self) -> None:
        """Kill what still runs."""
        if hasattr(self, "load"):
            await self.load.cancel()
        for worker in self.workers:
            worker.resume()
        if hasattr(self, "site"):
            self.site.stop()
        self.kafka.resume()
        await asyncio.to_thread(self.kafka.stop)

    # --- workers ----------------------------------------------------------------------------------------

    @property
    def workers(self) -> list[WorkerProcess]:
        """The workers that run, oldest first."""
        return [w for w in self.run.workers if w.running] if hasattr(self, "run") else []

    def victim(self, draw: float) -> WorkerProcess:
        """A running worker."""
        workers = self.workers
        return workers[int(draw * len(workers))]

    async def kill(self, worker: WorkerProcess) -> None:
        """Kill -9."""
        self.expected[worker] = -signal.SIGKILL
        worker.kill()

    async def terminate(self, worker: WorkerProcess) -> None:
        """TERM, and wait for its end; not before it serves, because until then Python has no handler."""
        await self.until(lambda: self.serves(worker), f"{worker.log.name} serves")
        self.expected[worker] = 0
        await worker.terminate(DEADLINE)

    async def serves(self, worker: WorkerProcess) -> bool:
        """Whether a worker answers over HTTP."""
        return (await worker.get("/health/ready"))[0] != 0

    def check(self) -> None:
        """Assert that no worker ended otherwise than it was told to, and that the load goes on."""
        for worker in self.run.workers:
            if not worker.running:
                code = worker.process.returncode
                assert code == self.expected.get(worker), (
                    f"{worker.log.name} ended with {code} instead of {self.expected.get(worker)}\n{worker.tail(60)}"
                )
        self.load.check()

    # --- conditions -------------------------------------------------------------------------------------

    async def until(self, condition: Callable[[], Awaitable[bool]], what: str, every: float = 0.2) -> float:
        """Wait for a condition while `check` holds; returns the seconds it took."""
        begun = time.monotonic()

        async def met() -> bool:
            self.check()
            try:
                return await condition()
            except (BrokerError, KafkaError, OSError):
                return False  # the broker is only just back

        await wait_until(met, lambda: f"{what}\n{self.run.logs()}", DEADLINE, every)
        return time.monotonic() - begun

    async def settled(self) -> float:
        """Wait until all that is in the topic now has been worked off and written down; returns the seconds."""
        begun, ends = time.monotonic(), {}

        async def asked() -> bool:
            ends.update(await self.run.ends(self.run.source))
            return True

        async def worked_off() -> bool:
            committed = await self.run.committed()
            return all(committed.get(tp, 0) >= end for tp, end in ends.items())

        await self.until(asked, "a broker that answers")
        await self.until(worked_off, "all worked off that was in the topic")
        return time.monotonic() - begun

    async def all_started(self) -> None:
        """Wait until every worker has been ready once: one that finds no broker at its start ends, and may."""
        await self.until(self._all_started, "workers that are ready")

    async def _all_started(self) -> bool:
        for worker in self.workers:
            if worker not in self._started and (await worker.get("/health/ready"))[0] == 200:
                self._started.add(worker)
        return self._started.issuperset(self.workers)

    async def members(self) -> int:
        """Members of the group, as the broker counts them."""
        async with admin_client(self.run.settings) as admin:
            (reply,) = await admin.describe_consumer_groups([self.run.group])
        return len(reply.to_object()["groups"][0]["members"])

    async def failures(self) -> float:
        """Failed checkpoints of all running workers."""
        total = 0.0
        for worker in self.workers:
            status, _ = await worker.get("/metrics")
            total += await worker.metric("dwcp_checkpoint_failures_total") if status == 200 else 0.0
        return total
