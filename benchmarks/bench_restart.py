"""How long a partition stands still while two workers are restarted one after the other.

python benchmarks/bench_restart.py
python benchmarks/bench_restart.py --entities 50 --rounds 1 --json
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.programs import DEADLINE, JVM
from benchmarks.support import machine, median, options_of, run_benchmark, say, table
from benchmarks.telemetry import samples
from benchmarks.worker_process import BenchmarkError, WorkerProcess, stream_without_models
from dwcp_stream.kafka.batches import Row, write_rows
from dwcp_stream.kafka.catalogue import TopicSpec
from dwcp_stream.kafka.clients import producer_client
from dwcp_stream.kafka.producer import key_hash
from dwcp_stream.kafka.topics import admin_client, create_topics
from dwcp_stream.settings import Settings
from tests.kafka.broker import RealKafka

CONDITIONS = 6
"""Conditions of readiness: assigned, recovered, models, partitions, rights."""
PARTITIONS, POLL_SECONDS, SESSION_SECONDS = 4, 0.05, "30"
METHOD = (
    "Two worker processes share a topic of 4 partitions into which every entity writes a sample a second, all\n"
    "through. One is stopped (TERM) and started again, then the other. A partition moves when its committed offset\n"
    "does; the gap is the longest time for which some partition has not moved, asked for every 50 ms, with a\n"
    "checkpoint every 0.2 s. Fixed names: each worker has a DWCP_INSTANCE_ID (static membership). Undisturbed: the\n"
    "same figure while nothing is restarted. Restart: from TERM to a new process that is ready. Medians of the\n"
    "rounds, kinds by turns."
)


class Watch:
    """Writes a sample a second of each entity, and notes how long each partition's committed offset stands still."""

    def __init__(self, settings: Settings, topic: str, group: str, entities: int) -> None:
        self.settings, self.topic, self.group, self.entities = settings, topic, group, entities
        self._stop, self.gap, self._since = threading.Event(), 0.0, dict[int, tuple[int, float]]()
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="watch")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._stop.set()
        self._thread.join()
        if self._failed is not None and error is None:
            raise self._failed

    def begin(self) -> None:
        """Start a new measurement, once every partition moves."""
        end = time.monotonic() + DEADLINE
        while len(self._since) < PARTITIONS:
            if time.monotonic() > end or not self._thread.is_alive():
                raise BenchmarkError(f"only {len(self._since)} of {PARTITIONS} partitions move")
            time.sleep(POLL_SECONDS)
        now = time.perf_counter()
        self._since = {p: (offset, now) for p, (offset, _) in self._since.items()}
        self.gap = 0.0

    def _run(self) -> None:
        try:
            asyncio.run(self._both())
        except Exception as error:  # noqa: BLE001  raised again where the watch ends
            self._failed = error

    async def _both(self) -> None:
        async with producer_client(self.settings) as producer, admin_client(self.settings) as admin:
            feeding = asyncio.create_task(self._feed(producer))
            while not self._stop.is_set():
                offsets = await admin.list_consumer_group_offsets(self.group)
                now = time.perf_counter()
                for tp, held in offsets.items():
                    if tp.topic == self.topic:
                        self._moved(tp.partition, held.offset, now)
                await asyncio.sleep(POLL_SECONDS)
            feeding.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await feeding

    def _moved(self, partition: int, offset: int, now: float) -> None:
        before, since = self._since.get(partition, (-1, now))
        self.gap = max(self.gap, now - since)
        if offset != before:
            self._since[partition] = offset, now

    async def _feed(self, producer: Any) -> None:
        begin, sent, endless = time.monotonic(), 0, samples(10**9, self.entities)
        while True:
            rows: dict[int, list[Row]] = {p: [] for p in range(PARTITIONS)}
            portion = max(1, round(self.entities * POLL_SECONDS))
            for _, key, value in islice(endless, portion):
                rows[key_hash(key) % PARTITIONS].append((key, value, [], None))
            await write_rows(producer, self.topic, rows)
            sent += portion
            await asyncio.sleep(max(0.0, begin + sent / self.entities - time.monotonic()))


@contextlib.contextmanager
def started(worker: WorkerProcess) -> Iterator[WorkerProcess]:
    """Start a worker, and wait until its partitions' state is back."""
    with worker:
        worker.until(lambda m: m.get("dwcp_ready", 0) >= CONDITIONS, "become ready", DEADLINE)
        yield worker


def round_of(kafka: str, streams: Path, directory: Path, fixed: bool, options: argparse.Namespace) -> dict[str, float]:
    """One rolling restart; returns the gaps in seconds."""
    unique = f"restart-{'fixed' if fixed else 'free'}-{time.monotonic_ns()}"
    prefix, topic = f"{unique}.", f"{unique}.dwcp.telemetry.consensus"
    settings = Settings(kafka={"bootstrap_servers": kafka}, app_id=unique)

    async def create() -> None:
        async with admin_client(settings) as admin:
            await create_topics(admin, [TopicSpec(topic, PARTITIONS, "entity", "telemetry")])

    def worker(name: str) -> WorkerProcess:
        (directory / unique / name).mkdir(parents=True, exist_ok=True)
        found = WorkerProcess(kafka, prefix, unique, streams, directory / unique / name)
        found.environment |= {"DWCP_CHECKPOINT_INTERVAL": "0.2", "DWCP_KAFKA__SESSION_TIMEOUT": SESSION_SECONDS}
        if fixed:
            found.environment["DWCP_INSTANCE_ID"] = name
        return found

    asyncio.run(create())
    restarts = []
    with contextlib.ExitStack() as stack:
        running = {name: stack.enter_context(started(worker(name))) for name in ("a", "b")}
        watch = stack.enter_context(Watch(settings, topic, f"{unique}-consensus", options.entities))
        watch.begin()
        time.sleep(options.seconds)
        undisturbed = watch.gap
        watch.begin()
        for name, old in list(running.items()):
            begun = time.perf_counter()
            assert old.process is not None
            old.process.terminate()
            if code := old.process.wait(DEADLINE):
                raise BenchmarkError(f"the worker ended with code {code}:\n{old.tail()}")
            running[name] = stack.enter_context(started(worker(name)))
            restarts.append(time.perf_counter() - begun)
            running[name].until(lambda m: m.get("dwcp_samples_total", 0) > 0, "gone on", DEADLINE)
        time.sleep(options.seconds)
        return {"undisturbed": undisturbed, "gap": watch.gap, "restart": median(restarts)}


def measure(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """Measure both kinds on one broker."""
    state, streams = machine(), stream_without_models(directory / "streams")
    rounds: dict[str, list[dict[str, float]]] = {"fixed": [], "free": []}
    with RealKafka(directory / "kafka", jvm=JVM) as kafka:
        for number in range(options.rounds):
            for kind, found in rounds.items():
                say(f"round {number + 1}, {kind} names")
                found.append(round_of(kafka.bootstrap, streams, directory, kind == "fixed", options))
    cases = {
        kind: {f"{name}_seconds": median([one[name] for one in found]) for name in ("gap", "undisturbed", "restart")}
        for kind, found in rounds.items()
    }
    found = {"benchmark": "restart", "machine": state, "method": METHOD, "entities": options.entities}
    return {**found, **cases, "ratio": cases["fixed"]["gap_seconds"] / cases["free"]["gap_seconds"]}


def text(found: dict[str, Any]) -> str:
    """Figures as a table."""
    rows = [
        (name, *(f"{found[kind][f'{what}_seconds']:.2f} s" for what in ("undisturbed", "restart", "gap")))
        for kind, name in (("fixed", "fixed names"), ("free", "without"))
    ]
    return table(("two workers", "undisturbed", "restart", "gap"), rows)


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--entities", type=int, default=400, help="entities, with a sample a second each")
    parser.add_argument("--seconds", type=float, default=5.0, help="how long to watch before and after the restarts")
    parser.add_argument("--rounds", type=int, default=3, help="rolling restarts of each kind; the median counts")
    run_benchmark(parser, measure, text)


if __name__ == "__main__":
    main()
