"""Workers as real processes, and what they left behind in Kafka: state, alerts, dead letters, positions."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from aiokafka import ConsumerRecord, TopicPartition
from aiokafka.errors import GroupCoordinatorNotAvailableError

from dwcp_stream.errors import StateError
from dwcp_stream.kafka.batches import write_rows
from dwcp_stream.kafka.catalogue import TopicSpec, catalogue
from dwcp_stream.kafka.clients import consumer_client, producer_client
from dwcp_stream.kafka.generations import PARTITION_KEY, VERSIONS_KEY, split_key
from dwcp_stream.kafka.topics import admin_client, create_topics
from dwcp_stream.settings import Settings
from dwcp_stream.streams import StreamDefinition
from dwcp_stream.windows.snapshot import EntitySnapshot, SnapshotCodec, decode_partition_record
from tests.integration import probe
from tests.integration.harness import DEADLINE, consumer_partitions, make_settings, read_topic, wait_until
from tests.integration.probe import Telemetry
from tests.kafka.broker import free_port

PARTITIONS = 4


class WorkerProcess:
    """One `dwcp-stream worker` process; its output is in `log`."""

    def __init__(self, environment: dict[str, str], log: Path) -> None:
        self.port = free_port()
        self.log = log
        environment = {**environment, "DWCP_HTTP__PORT": str(self.port)}
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dwcp_stream", "worker", probe.STREAM],
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    @property
    def running(self) -> bool:
        """Whether the process has not ended; a paused one runs."""
        return self.process.poll() is None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """Kill -9 and reap."""
        self.process.kill()
        self.process.wait()

    async def terminate(self, deadline: float = 30.0) -> int:
        """Stop by TERM; returns the exit code."""
        self.process.terminate()
        await wait_until(lambda: not self.running, lambda: f"the worker ends after TERM\n{self.tail()}", deadline)
        return int(self.process.returncode)

    def pause(self) -> None:
        """SIGSTOP."""
        self.signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    def tail(self, lines: int = 25) -> str:
        """The end of what it printed, and how it ended if it did."""
        end = "" if self.running else f"\n(ended with code {self.process.returncode})"
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:]) + end

    async def get(self, path: str) -> tuple[int, str]:
        """(status, body) of its HTTP endpoint; status 0 when it does not answer."""
        return await asyncio.to_thread(self._get, path)

    def _get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=2) as reply:
                return reply.status, reply.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except OSError:
            return 0, ""

    async def metric(self, name: str, **labels: str) -> float:
        """Sum of a metric's samples whose labels include `labels`."""
        status, body = await self.get("/metrics")
        assert status == 200, f"/metrics answered {status}\n{self.tail()}"
        total = 0.0
        for line in body.splitlines():
            match = re.fullmatch(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)", line)
            if match and match[1] == name:
                have = dict(re.findall(r'(\w+)="([^"]*)"', match[2] or ""))
                if labels.items() <= have.items():
                    total += float(match[3])
        return total


@dataclass
class Final:
    """What a run left behind, for comparing runs."""

    windows: dict[str, bytes]
    parts: dict[str, bytes]
    positions: dict[int, int]
    alerts: dict[str, dict[str, Any]]
    repeats: int

    @property
    def transitions(self) -> set[tuple[str, str, float]]:
        """(entity, action, event time) of every alert."""
        return {
            (a["entity"], a["action"], datetime.fromisoformat(a["event_time"]).timestamp())
            for a in self.alerts.values()
        }


@dataclass
class Run:
    """One application: its own group, state and output topics, on a source topic that runs share.

    The output topics' prefix is a beginning of the source topic's name, and differs from run to run: a
    worker reads the source as it is named, and writes to topics of its own.
    """

    settings: Settings
    stream: StreamDefinition
    environment: dict[str, str]
    directory: Path
    source: str
    workers: list[WorkerProcess] = field(default_factory=list)

    @property
    def group(self) -> str:
        """The consumer group."""
        return f"{self.settings.app_id}-{self.stream.name}"

    @property
    def changelog(self) -> str:
        """The state topic."""
        return f"{self.group}-state-changelog"

    def topic(self, name: str) -> str:
        """Full name of an output topic."""
        return self.settings.topics.prefix + name

    def start(self, **environment: str) -> WorkerProcess:
        """Start a worker."""
        log = self.directory / f"{self.settings.app_id}-{len(self.workers)}.log"
        worker = WorkerProcess({**self.environment, **environment}, log)
        self.workers.append(worker)
        return worker

    def stop_all(self) -> None:
        """Kill whatever still runs."""
        for worker in self.workers:
            if worker.running:
                worker.kill()

    def logs(self) -> str:
        """The ends of all workers' logs, for failures."""
        return "\n".join(f"--- {w.log.name}\n{w.tail()}" for w in self.workers)

    async def committed(self) -> dict[TopicPartition, int]:
        """Committed source offsets; none while the broker still makes its first group coordinator."""
        async with admin_client(self.settings) as admin:
            try:
                found = await admin.list_consumer_group_offsets(self.group)
            except GroupCoordinatorNotAvailableError:
                return {}
        return {tp: o.offset for tp, o in found.items() if tp.topic == self.source}

    async def ends(self, topic: str) -> dict[TopicPartition, int]:
        """End offsets of a topic."""
        partitions = await consumer_partitions(self.settings, topic)
        async with consumer_client(self.settings) as consumer:
            return dict(await consumer.end_offsets(partitions)) if partitions else {}

    async def lag(self) -> int:
        """Source records that no checkpoint has covered."""
        committed, ends = await self.committed(), await self.ends(self.source)
        return sum(end - committed.get(tp, 0) for tp, end in ends.items())

    async def caught_up(self, deadline: float = DEADLINE) -> None:
        """Wait for lag 0; fails at once when no worker runs."""

        async def check() -> bool:
            assert any(w.running for w in self.workers), f"no worker runs\n{self.logs()}"
            return await self.lag() == 0

        try:
            await wait_until(check, "lag 0", deadline, every=0.1)
        except AssertionError as error:
            raise AssertionError(f"{error}: {await self.committed()}\n{self.logs()}") from error

    async def finish(self) -> Final:
        """Wait until all is read and written down, then read back what the run left.

        Workers are killed: at lag 0 the last checkpoint covers everything, and a TERM would only take time.
        """
        await self.caught_up()
        self.stop_all()
        return await self.final()

    async def processing(self, share: float, deadline: float = DEADLINE) -> None:
        """Wait until a share of the source is committed."""
        total = sum((await self.ends(self.source)).values())

        async def check() -> bool:
            assert any(w.running for w in self.workers), f"no worker runs\n{self.logs()}"
            return sum((await self.committed()).values()) >= share * total

        await wait_until(check, lambda: f"{share:.0%} of the source committed\n{self.logs()}", deadline)

    async def ready(self, worker: WorkerProcess) -> None:
        """Wait until a worker says it is ready."""

        async def check() -> bool:
            assert worker.running, f"the worker ended\n{worker.tail()}"
            return (await worker.get("/health/ready"))[0] == 200

        await wait_until(check, lambda: f"a ready worker\n{worker.tail()}")

    async def final(self) -> Final:
        """Read back what the run left: the newest snapshots, positions, alerts."""
        snapshots, positions = latest_state(await read_topic(self.settings, self.changelog), self.stream)
        alerts, seen = {}, Counter()
        for record in await read_topic(self.settings, self.topic("anomalies")):
            ce_id = dict(record.headers)["ce_id"].decode()
            seen[ce_id] += 1
            alert = msgspec.json.decode(record.value)
            assert alerts.setdefault(ce_id, alert) == alert, f"alert {ce_id} was repeated with other content"
        return Final(
            {entity: msgspec.msgpack.encode(s.state) for entity, s in snapshots.items()},
            {entity: msgspec.msgpack.encode(s.parts) for entity, s in snapshots.items()},
            positions,
            alerts,
            sum(seen.values()) - len(seen),
        )


def latest_state(
    records: list[ConsumerRecord], stream: StreamDefinition
) -> tuple[dict[str, EntitySnapshot], dict[int, int]]:
    """Newest snapshot by entity and position by partition, as a reader of the state topic finds them.

    Of the snapshots of several generations the one with the highest applied offset counts, of the partition records the
    newest generation's.
    """
    newest: dict[tuple[int, bytes], ConsumerRecord] = {(r.partition, r.key): r for r in records}
    codec = SnapshotCodec(stream)
    found: dict[str, EntitySnapshot] = {}
    positions: dict[int, tuple[int, int]] = {}
    for (partition, key), record in newest.items():
        if record.value is None:
            continue
        name, generation = split_key(key)
        if name == PARTITION_KEY:
            position = decode_partition_record(record.value).position
            positions[partition] = max(positions.get(partition, (-1, 0)), (generation, position))
            continue
        if name == VERSIONS_KEY:
            continue
        try:
            snapshot = codec.decode(record.value)
        except StateError as error:
            raise AssertionError(f"{name} on {partition}: {error}") from error
        if name not in found or found[name].state.applied < snapshot.state.applied:
            found[name] = snapshot
    return found, {partition: position for partition, (_, position) in positions.items()}


class Site:
    """A source topic with telemetry, and the runs that read it."""

    def __init__(self, bootstrap: str, directory: Path, unique: str, max_entities: int = 100_000) -> None:
        self.bootstrap, self.directory = bootstrap, directory
        self.source = f"{unique}-abcdefghijklmnopqrstuvwxyz"
        self.stream = probe.write_definition(directory / "streams", self.source, max_entities)
        probe.publish_model(directory / "models", self.stream)
        self.settings = make_settings(bootstrap)
        self.runs: list[Run] = []

    async def create(self, **config: str) -> None:
        """Create the source topic."""
        async with admin_client(self.settings) as admin:
            await create_topics(admin, [TopicSpec(self.source, PARTITIONS, "entity", "probe", config)])

    async def write(self, telemetry: Telemetry, start: int = 0, stop: int | None = None) -> None:
        """Append telemetry to the source."""
        async with producer_client(self.settings) as producer:
            await write_rows(producer, self.source, telemetry.rows(PARTITIONS, start, stop))

    async def run(self, **environment: str) -> Run:
        """A new application, with its output topics."""
        number = len(self.runs)
        prefix = self.source[: len(self.source) - 26 + number]
        environment = {
            "DWCP_KAFKA__BOOTSTRAP_SERVERS": self.bootstrap,
            "DWCP_KAFKA__SESSION_TIMEOUT": "3",
            "DWCP_KAFKA__REBALANCE_TIMEOUT": "3",
            "DWCP_TOPICS__PREFIX": prefix,
            "DWCP_TOPICS__PARTITIONS": str(PARTITIONS),
            "DWCP_APP_ID": f"{self.source}-app{number}",
            "DWCP_CHECKPOINT_INTERVAL": "0.3",
            "DWCP_STREAMS_DIR": str(self.directory / "streams"),
            "DWCP_MODELS_DIR": str(self.directory / "models"),
            "DWCP_DATA_DIR": str(self.directory / f"data{number}"),
            "DWCP_LOG__LEVEL": "info",
            "DWCP_LOG__JSON": "true",
            **environment,
        }
        settings = make_settings(
            self.bootstrap,
            topics={"prefix": prefix, "partitions": PARTITIONS},
            app_id=environment["DWCP_APP_ID"],
        )
        async with admin_client(settings) as admin:
            await create_topics(admin, catalogue(prefix, PARTITIONS, 1))
        run = Run(settings, self.stream, environment, self.directory, self.source)
        self.runs.append(run)
        return run

    async def reference(self, **environment: str) -> Final:
        """What one undisturbed worker makes of the source as it is now."""
        run = await self.run(**environment)
        run.start()
        return await run.finish()

    def stop(self) -> None:
        """Kill the workers of all runs."""
        for run in self.runs:
            run.stop_all()


class Feeder:
    """Appends telemetry, some steps of event time each second, until told to stop."""

    def __init__(self, site: Site, entities: int, steps_per_second: float) -> None:
        self.site, self.entities, self.rate = site, entities, steps_per_second
        self._stopping = asyncio.Event()
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> Telemetry:
        """Stop, and return the telemetry that was sent."""
        self._stopping.set()
        return Telemetry(self.entities, await self._task)

    async def _run(self) -> int:
        telemetry = Telemetry(self.entities, sys.maxsize)
        step, begin = 0, time.monotonic()
        async with producer_client(self.site.settings) as producer:
            while not self._stopping.is_set():
                await write_rows(producer, self.site.source, telemetry.rows(PARTITIONS, step, step + 1))
                step += 1
                ahead = begin + step / self.rate - time.monotonic()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stopping.wait(), max(ahead, 0.001))
        return step


def assert_same(run: Final, reference: Final) -> None:
    """Assert that two runs ended in the same windows, parts, positions and alerts."""
    assert run.positions == reference.positions
    assert run.windows.keys() == reference.windows.keys()
    count = len(reference.windows)
    different = [e for e, w in reference.windows.items() if run.windows[e] != w]
    assert not different, f"{len(different)} of {count} windows differ, such as {different[:5]}"
    different = [e for e, p in reference.parts.items() if run.parts[e] != p]
    assert not different, f"what is kept beside {len(different)} windows differs, such as {different[:5]}"
    lost, extra = reference.alerts.keys() - run.alerts.keys(), run.alerts.keys() - reference.alerts.keys()
    count = len(reference.alerts)
    assert not lost, f"{len(lost)} of {count} alerts lost, such as {reference.alerts[min(lost)]}"
    assert not extra, f"{len(extra)} alerts that should not be, such as {run.alerts[min(extra)]}"
    assert run.alerts == reference.alerts
