"""A worker under half load for an hour or more, with entities that come and go, and whether anything grows.

python benchmarks/soak.py --minutes 60
python benchmarks/soak.py --minutes 2 --rate 500 --output /tmp/soak --json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.soak_load import Feeder, Population
from benchmarks.soak_report import draw, judge
from benchmarks.support import ROOT, machine, report, say, table
from benchmarks.worker_process import BenchmarkError, WorkerProcess
from dwcp_stream.kafka.catalogue import TopicSpec, catalogue, changelog
from dwcp_stream.kafka.topics import admin_client, create_topics
from dwcp_stream.settings import Settings
from tests.kafka.broker import RealKafka

PREFIX, APP, TOPIC = "soak.", "soak", "soak.dwcp.telemetry.consensus"
STATE = f"{APP}-consensus-state-changelog"
EVERY_SECONDS = 5.0
SAY_SECONDS = 30.0
READY_SECONDS = 90.0
MIB = 1 << 20
KEPT = {"retention.bytes": str(32 * MIB), "segment.bytes": str(8 * MIB)}
"""Every topic that is not compacted keeps 32 MiB of a partition, or an hour would fill the disk."""
QUICK_STATE = {"segment.bytes": str(8 * MIB), "segment.ms": "30000", "delete.retention.ms": "30000"}
"""The state topic is compacted every half minute, not every five, so that a short run sees it many times."""
METHOD = (
    "One `dwcp-stream worker consensus` with its shipped model on one Apache Kafka of this machine, 4 partitions, in\n"
    "real time: each live entity sends a sample a second; the oldest are replaced all the time, and expire after 30 s\n"
    "of silence; 2 records in 1000 are bad. Memory is the resident set of the process. Trends are lines through 12\n"
    "block means after the first quarter of the run. Topics keep 32 MiB of a partition; the state topic is compacted."
)


def options(arguments: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--rate", type=int, default=2000, help="samples a second, as many as live entities")
    parser.add_argument("--lifetime", type=float, default=120.0, help="seconds that an entity lives")
    parser.add_argument("--output", type=Path, default=ROOT / "var" / "soak", help="folder for soak.json and soak.png")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    return parser.parse_args(arguments)


def definition(directory: Path) -> Path:
    """Copy the built-in stream with an expiry of half a minute; returns the folder."""
    text = (ROOT / "config" / "streams" / "consensus.toml").read_text(encoding="utf-8")
    quick, changed = re.subn(r"(?m)^expire_after = [\d.]+", "expire_after = 30.0", text)
    assert changed == 1
    directory.mkdir()
    (directory / "consensus.toml").write_text(quick, encoding="utf-8")
    return directory


async def create(settings: Settings) -> None:
    """Create all topics, bounded in size."""
    partitions = settings.topics.partitions
    own = [
        TopicSpec(s.name, s.partitions, s.key, s.purpose, {**s.config, **KEPT} if s.cleanup == "delete" else s.config)
        for s in catalogue(PREFIX, partitions)
    ]
    state = changelog(STATE, partitions)
    state = TopicSpec(STATE, partitions, state.key, state.purpose, {**state.config, **QUICK_STATE}, fixed=True)
    async with admin_client(settings) as admin:
        await create_topics(admin, [*own, TopicSpec(TOPIC, partitions, "entity", "soak", KEPT), state])


def disk(kafka: RealKafka, topic: str) -> int:
    """Bytes of a topic's segments on disk."""
    total = 0
    for file in (kafka.directory / "data").glob(f"{topic}-*/*.log"):
        try:
            total += file.stat().st_size
        except FileNotFoundError:  # the cleaner has just replaced it
            continue
    return total


def reading(worker: WorkerProcess, notes: Path, kafka: RealKafka, feeder: Feeder, begun: float) -> dict[str, Any]:
    """One row of figures."""
    assert worker.process is not None
    if worker.process.poll() is not None:
        raise BenchmarkError(f"the worker ended:\n{worker.tail()}")
    found = worker.metrics()
    status = Path(f"/proc/{worker.process.pid}/status").read_text(encoding="ascii")
    memory = json.loads(notes.read_text(encoding="ascii").splitlines()[-1])
    return {
        "t": round(time.monotonic() - begun, 1),
        "rss": int(re.search(r"VmRSS:\s+(\d+)", status)[1]) * 1024,  # type: ignore[index]
        "threads": int(re.search(r"Threads:\s+(\d+)", status)[1]),  # type: ignore[index]
        "cpu_seconds": worker.cpu_seconds(),
        "blocks": memory["blocks"],
        "collections": memory["collections"],
        "uncollectable": memory["uncollectable"],
        "processed": int(found.get("dwcp_samples_total", 0)),
        "alerts": int(found.get("dwcp_alert_transitions_total", 0)),
        "dead_letters": int(found.get("dwcp_dead_letters_total", 0)),
        "checkpoint_failures": int(found.get("dwcp_checkpoint_failures_total", 0)),
        "lag": int(found.get("dwcp_consumer_lag", 0)),
        "entities": int(found.get("dwcp_entities", 0)),
        "state_bytes": disk(kafka, STATE),
        "sent": feeder.sent,
        "sender_late": round(feeder.late, 2),
    }


async def soak(kafka: RealKafka, directory: Path, given: argparse.Namespace) -> list[dict[str, Any]]:
    """Run for the time asked for; returns the readings."""
    settings = Settings(kafka={"bootstrap_servers": kafka.bootstrap}, app_id=APP, topics={"prefix": PREFIX})
    await create(settings)
    feeder = Feeder(settings, TOPIC, Population(given.rate, given.lifetime))
    notes, rows = directory / "memory.jsonl", []
    program = ("-m", "benchmarks.soak_worker", str(notes))
    streams = definition(directory / "streams")
    with WorkerProcess(kafka.bootstrap, PREFIX, APP, streams, directory, program=program) as worker:
        ready = await asyncio.to_thread(worker.until, lambda m: m.get("dwcp_ready", 0) >= 4, "is ready", READY_SECONDS)
        assert ready
        begun, said = time.monotonic(), 0.0
        feeding = asyncio.create_task(feeder.run())
        try:
            while (now := time.monotonic() - begun) < given.minutes * 60:
                await asyncio.wait({feeding}, timeout=EVERY_SECONDS)
                if feeding.done():
                    feeding.result()
                rows.append(await asyncio.to_thread(reading, worker, notes, kafka, feeder, begun))
                if now - said >= SAY_SECONDS:
                    said, row = now, rows[-1]
                    say(
                        f"{row['t'] / 60:5.1f} of {given.minutes:g} min: {row['rss'] / MIB:.0f} MiB, lag {row['lag']}, "
                        f"{row['entities']} of {feeder.population.entities} entities, "
                        f"state topic {row['state_bytes'] / MIB:.1f} MiB, {row['processed']} samples"
                    )
        finally:
            feeder.stop()
            await feeding
            assert worker.process is not None
            worker.process.terminate()
            await asyncio.to_thread(worker.process.wait, 60)
    return rows


def main(arguments: list[str] | None = None) -> int:
    """Run, judge, write and draw; 1 if something grows."""
    given = options(arguments)
    given.output.mkdir(parents=True, exist_ok=True)
    state = machine()
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        config = {"log.retention.check.interval.ms": "5000", "log.cleaner.backoff.ms": "2000"}
        with RealKafka(directory / "kafka", config=config) as kafka:
            try:
                rows = asyncio.run(soak(kafka, directory, given))
            finally:
                for file in (*directory.glob("*.trace"), *directory.glob("*.log")):
                    (given.output / file.name).write_bytes(file.read_bytes())
    found = {"benchmark": "soak", "minutes": given.minutes, "rate": given.rate, "method": METHOD, "machine": state}
    found |= judge(rows, given.rate)
    (given.output / "soak.json").write_text(json.dumps({**found, "readings": rows}) + "\n", encoding="ascii")
    draw(rows, found, given.output / "soak.png")
    memory, last = found["memory_bytes_per_hour"], rows[-1]
    lines = [
        ["samples processed", f"{last['processed']}"],
        ["memory, mean", f"{memory['mean'] / MIB:.0f} MiB"],
        [
            "memory, per hour",
            f"{memory['slope'] / MIB:+.1f} ({memory['low'] / MIB:+.1f} to {memory['high'] / MIB:+.1f})",
        ],
        ["lag, median and largest", f"{found['lag']['median']:.0f}, {found['lag']['largest']}"],
        [
            "state topic, largest before and after",
            " and ".join(f"{v / MIB:.1f}" for v in found["state_bytes"].values()),
        ],
        *([name, "yes" if held else "NO"] for name, held in found["verdict"].items()),
    ]
    report(found, given.json, table(["figure", "value"], lines))
    return 0 if all(found["verdict"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
