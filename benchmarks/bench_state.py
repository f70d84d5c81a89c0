"""What a checkpoint costs when many entities were touched, and how fast a worker gets its state back.

dwcp-stream bench state
dwcp-stream bench state --entities 1000 --rows 5 --rounds 1 --json
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.programs import DEADLINE, JVM, RAW_PROGRAM, run_program
from benchmarks.support import machine, median, options_of, run_benchmark, say, table
from benchmarks.telemetry import fill, samples
from benchmarks.worker_process import WorkerProcess, stream_without_models
from dwcp_stream.chunk import Chunk
from dwcp_stream.kafka.catalogue import catalogue, changelog
from dwcp_stream.kafka.checkpoint import Checkpointer, CheckpointStats
from dwcp_stream.kafka.generations import Generations
from dwcp_stream.kafka.locks import PartitionLocks
from dwcp_stream.kafka.outputs import KafkaOutputs
from dwcp_stream.kafka.producer import key_hash
from dwcp_stream.kafka.topics import admin_client, create_topics
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.settings import Settings, variable
from dwcp_stream.streams import StreamDefinition, load_stream
from tests.kafka.broker import RealKafka

CHUNK = 4000
RECOVERED = "dwcp_recovery_entities_total"
STATE, PREFIX, APP = "checkpoint-state", "recovery.", "bench-recovery"
CHECKPOINTS = "dwcp_checkpoint_duration_seconds_count"
METHOD = (
    "Checkpoint: the worker's own `Checkpointer` over a pipeline without models whose entities were all touched since\n"
    "the last one; locked is the time for which no chunk can be processed. Writing alone: the same records, encoded\n"
    "already, through the same producer; the ratio is its time by the checkpoint's. While reading a backlog: means of\n"
    "the checkpoints, every second, of a worker process that reads the topic as fast as it can. Recovery: one that\n"
    "reads the topic, stops (TERM), and starts again; entities per second by its own metrics, from the assignment to\n"
    "the restored state. Reading alone: raw aiokafka on the changelog, records per second; the ratio is entities per\n"
    "second by that. One Apache Kafka on this machine, 4 partitions. Medians of the rounds."
)


@dataclass
class Held:
    """What a checkpoint asks of the state table's store: every partition is ready, nothing was recovered."""

    ready: set[int]
    changelog: dict[int, int] = field(default_factory=dict)
    generations: dict[int, Generations] = field(default_factory=lambda: defaultdict(Generations))


def filled(stream: StreamDefinition, entities: int, rows: int, partitions: int) -> tuple[Pipeline, list[Chunk]]:
    """A pipeline whose entities have `rows` samples, and the chunks that give each entity one more."""
    waiting: list[list[tuple[int, bytes, bytes]]] = [[] for _ in range(partitions)]
    ends, pipeline, last = [0] * partitions, Pipeline(stream), []

    def taken(number: int) -> Chunk:
        records, waiting[number] = waiting[number], []
        offsets = np.arange(ends[number], ends[number] + len(records))
        ends[number] += len(records)
        stamps = np.array([stamp for stamp, _, _ in records], np.int64)
        return Chunk("t", number, offsets, stamps, [k for _, k, _ in records], [v for _, _, v in records])

    total = entities * (rows + 1)
    for index, record in enumerate(samples(total, entities)):
        if index == total - entities:
            for number in range(partitions):
                pipeline.process(taken(number))
        number = key_hash(record[1]) % partitions
        waiting[number].append(record)
        if len(waiting[number]) == CHUNK:
            chunk = taken(number)
            if index < total - entities:
                pipeline.process(chunk)
            else:
                last.append(chunk)
    return pipeline, last + [taken(number) for number in range(partitions)]


async def checkpoints(settings: Settings, stream: StreamDefinition, options: argparse.Namespace) -> dict[str, Any]:
    """Figures of checkpoints that write every entity."""
    partitions = settings.topics.partitions
    async with admin_client(settings) as admin:
        await create_topics(admin, [changelog(STATE, partitions), *catalogue(settings.topics.prefix, partitions)])
    pipeline, last = filled(stream, options.entities, options.rows, partitions)
    outputs, seen, written, alone = KafkaOutputs(settings), [], [], []

    async def write(records: Any) -> Any:
        written.extend(records)
        return await outputs.write(STATE, records)

    def take(stats: CheckpointStats) -> None:
        seen.append(stats)

    checkpointer = Checkpointer(
        source=pipeline,
        store=Held(set(range(partitions))),  # type: ignore[arg-type]
        topic="t",
        locks=PartitionLocks(),
        generation=lambda: 1,
        outputs=outputs.delivered,
        write=write,
        report=take,
    )
    await outputs.start()
    try:
        for chunk in last:
            pipeline.process(chunk)
        for _ in range(options.rounds):
            for state in pipeline.partitions.values():  # as if each had had one more sample
                state.touched, state.confirmed = set(state.windows.slots.values()), None
            written.clear()
            await checkpointer()
            begun = time.perf_counter()
            await outputs.write(STATE, list(written))
            alone.append(time.perf_counter() - begun)
    finally:
        await outputs.stop()
    if any(stats.failed for stats in seen):
        raise RuntimeError("a checkpoint failed")
    return {
        "entities": seen[-1].entities,
        "bytes": seen[-1].bytes,
        "locked_seconds": median([s.locked_seconds for s in seen]),
        "seconds": median([s.seconds for s in seen]),
        "entities_per_second": median([s.entities / s.seconds for s in seen]),
        "write_alone_seconds": median(alone),
        "ratio": median([a / s.seconds for a, s in zip(alone, seen, strict=True)]),
    }


def under_ingest(metrics: dict[str, float]) -> dict[str, Any]:
    """Figures of the checkpoints that a worker wrote while it read a backlog, means of all of them."""
    count = metrics[CHECKPOINTS]
    seconds, entities = metrics["dwcp_checkpoint_duration_seconds_sum"], metrics["dwcp_checkpoint_entities_total"]
    return {
        "checkpoints": count,
        "entities": entities / count,
        "seconds": seconds / count,
        "entities_per_second": entities / seconds,
        "bytes_per_sample": metrics["dwcp_checkpoint_bytes_total"] / metrics["dwcp_samples_total"],
    }


def recovery(bootstrap: str, streams: Path, directory: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Figures of workers that come back to their state, and of the one that made it."""
    settings, total = Settings(kafka={"bootstrap_servers": bootstrap}), options.entities * options.rows
    asyncio.run(fill(settings, f"{PREFIX}dwcp.telemetry.consensus", total, options.entities))
    often = {variable("checkpoint_interval"): "1"}
    with WorkerProcess(bootstrap, PREFIX, APP, streams, directory, variables=often) as worker:
        worker.until(lambda m: m.get("dwcp_samples_total", 0) >= total, "processed all samples", DEADLINE)
        _, metrics = worker.until(lambda m: m.get(CHECKPOINTS, 0) > 0, "written a checkpoint", DEADLINE)
        busy = under_ingest(metrics)
        worker.finish(total, DEADLINE)
    rates, alone, seconds, entities = [], [], [], 0.0
    for _ in range(options.rounds):
        with WorkerProcess(bootstrap, PREFIX, APP, streams, directory) as worker:
            _, metrics = worker.until(lambda m: m.get(RECOVERED, 0) >= options.entities, "recovered", DEADLINE)
            worker.finish(total, DEADLINE)
        entities, spent = metrics[RECOVERED], metrics["dwcp_recovery_duration_seconds_sum"]
        rates.append(entities / spent)
        seconds.append(spent)
        alone.append(run_program(RAW_PROGRAM, bootstrap, f"{APP}-consensus-state-changelog", options.entities, 1).rate)
    return {
        "under_ingest": busy,
        "entities": entities,
        "seconds": median(seconds),
        "entities_per_second": median(rates),
        "read_alone_per_second": median(alone),
        "ratio": median([r / a for r, a in zip(rates, alone, strict=True) if a]),
    }


def measure(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """Measure both on one broker."""
    state, streams = machine(), stream_without_models(directory / "streams")
    with RealKafka(directory / "kafka", jvm=JVM) as kafka:
        settings = Settings(kafka={"bootstrap_servers": kafka.bootstrap})
        say("checkpoints")
        written = asyncio.run(checkpoints(settings, load_stream(streams / "consensus.toml"), options))
        say("recovery")
        back = recovery(kafka.bootstrap, streams, directory, options)
        busy = back.pop("under_ingest")
    found = {"benchmark": "state", "machine": state, "method": METHOD, "rows_per_entity": options.rows}
    return {**found, "checkpoint": written, "under_ingest": busy, "recovery": back}


def text(found: dict[str, Any]) -> str:
    """Figures as a table."""
    one, busy, back = found["checkpoint"], found["under_ingest"], found["recovery"]
    rows = [
        ("checkpoint", f"{one['entities']:,} entities, {one['bytes'] / 1e6:.1f} MB"),
        ("  locked", f"{1000 * one['locked_seconds']:.1f} ms"),
        ("  in all", f"{one['seconds']:.2f} s, {one['entities_per_second']:,.0f} entities/s"),
        ("  writing alone / in all", f"{one['ratio']:.2f}"),
        ("while reading a backlog", f"{busy['checkpoints']:.0f} of {busy['entities']:,.0f} entities"),
        ("  in all", f"{busy['seconds']:.2f} s each, {busy['entities_per_second']:,.0f} entities/s"),
        ("  written per sample", f"{busy['bytes_per_sample']:,.0f} bytes"),
        ("recovery", f"{back['entities']:,.0f} entities"),
        ("  in all", f"{back['seconds']:.2f} s, {back['entities_per_second']:,.0f} entities/s"),
        ("  of reading alone", f"{back['ratio']:.2f}"),
    ]
    return table(("what", "figure"), rows)


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--entities", type=int, default=20_000, help="entities, all of them touched")
    parser.add_argument("--rows", type=int, default=30, help="samples of each entity; a full window has 30")
    parser.add_argument("--rounds", type=int, default=3, help="checkpoints and recoveries; the median counts")
    run_benchmark(parser, measure, text)


if __name__ == "__main__":
    main()
