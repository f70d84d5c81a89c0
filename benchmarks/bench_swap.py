"""What a swap of a model's version costs a worker that reads as fast as it can, and what it leaves in memory.

python benchmarks/bench_swap.py
python benchmarks/bench_swap.py --samples 100000 --swaps 2 --json
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.programs import JVM
from benchmarks.support import ROOT, machine, median, options_of, run_benchmark, say, table
from benchmarks.telemetry import fill
from benchmarks.worker_process import BenchmarkError
from dwcp_stream.chunk import Chunk, ChunkResult
from dwcp_stream.kafka.catalogue import catalogue
from dwcp_stream.kafka.topics import admin_client, create_topics
from dwcp_stream.registry import ModelRepository
from dwcp_stream.setting_sections import LogSettings
from dwcp_stream.settings import Settings
from dwcp_stream.streams import load_stream
from dwcp_stream.telemetry.logs import configure_logging
from tests.kafka.broker import RealKafka
from tests.model_graphs import publish_twice
from topologies.app import StreamApp
from topologies.tidy import collect_seldom, one_heap, tidy
from topologies.worker import create_worker, started

MODEL, DEADLINE, SAY_SECONDS, QUARTERS = "consensus-kinds", 120.0, 10.0, 4
METHOD = (
    "A worker of the built-in stream `consensus` with its model, in the process of the benchmark and with the memory\n"
    "settings of `dwcp-stream worker`, reads a full topic of 4 partitions from one Apache Kafka on this machine. By\n"
    "turns, the champion moves to the other of two equal versions until all partitions have swapped, and then nothing\n"
    "happens for as long (of many swaps, after some of them). A gap is the time between the ends of two chunks. The\n"
    "pause of a turn is its longest gap less the median gap of all turns without a swap; so the pause without a swap\n"
    "is what chunks of uneven length do by themselves. Waited: time for which a chunk stood at the offset of an\n"
    "activation that was not confirmed yet. Memory: resident, after the first swap, a quarter of them, half, three\n"
    "quarters and all; the ratio is the last over that after a quarter."
)


@dataclass
class Seen:
    """When chunks ended, when partitions swapped, and how long chunks stood at an activation."""

    ends: list[float] = field(default_factory=list)
    swaps: int = 0
    samples: int = 0
    waited: list[float] = field(default_factory=list)

    def watch(self, app: StreamApp) -> None:
        """Put itself between the processor and those it talks to."""
        observer, gate = app.processor.observer, app.activator
        note, passed = observer.chunk, gate.passed

        def chunk(done: Chunk, result: ChunkResult) -> None:
            note(done, result)
            self.ends.append(time.perf_counter())
            self.swaps += len(result.swaps)
            self.samples += int(result.counts.sum())

        class Timed:
            limit = staticmethod(gate.limit)

            @staticmethod
            async def passed(partition: int) -> None:
                begun = time.perf_counter()
                await passed(partition)
                self.waited.append(time.perf_counter() - begun)

        observer.chunk = chunk  # type: ignore[method-assign]
        app.processor.gate = Timed()

    def gaps(self, begin: float, end: float) -> list[float]:
        """Gaps that ended in a stretch of time."""
        ends = [t for t in self.ends if t <= end]
        return [b - a for a, b in pairwise(ends) if b >= begin]


async def until(done: Callable[[], bool], what: str) -> None:
    """Wait for a condition."""
    end = time.monotonic() + DEADLINE
    while not done():
        if time.monotonic() > end:
            raise BenchmarkError(f"after {DEADLINE:.0f} s the worker has not {what}")
        await asyncio.sleep(0.01)


def resident() -> int:
    """Bytes of memory the process holds when it has been tidied, as a worker is every minute."""
    tidy()
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


async def turns(app: StreamApp, seen: Seen, repository: ModelRepository, options: argparse.Namespace) -> dict[str, Any]:
    """Swap and do nothing, by turns."""
    partitions = len(app.table.pipeline.partitions)
    stretches: dict[str, list[tuple[float, float]]] = {"swap": [], "none": []}
    memory = []

    def running_out() -> bool:
        return options.samples - seen.samples < options.samples * 0.02

    async def turn(kind: str, wait: Callable[[], Awaitable[None]]) -> float:
        begun = time.perf_counter()
        await wait()
        if not running_out():  # what is left is no full load
            stretches[kind].append((begun, time.perf_counter()))
        return time.perf_counter() - begun

    said, every = time.monotonic(), max(1, options.swaps // options.quiet)
    for number in range(options.swaps):
        if time.monotonic() - said > SAY_SECONDS:
            said = time.monotonic()
            say(f"{number} of {options.swaps} swaps")
        wanted = seen.swaps + partitions
        await asyncio.to_thread(repository.set_alias, MODEL, "champion", 2 - number % 2)
        spent = await turn(
            "swap", lambda wanted=wanted: until(lambda: seen.swaps >= wanted or running_out(), "swapped")
        )
        if number % every == 0:
            await turn("none", lambda spent=spent: asyncio.sleep(spent))
        if len(memory) < QUARTERS and number >= options.swaps * len(memory) / QUARTERS:
            memory.append(resident())
            await asyncio.sleep(0.1)  # the pause of looking belongs to no turn
        if running_out():
            say(f"{options.samples} samples were too few for {options.swaps} swaps; --samples says how many there are")
            break
    memory.append(resident())
    if not stretches["swap"] or not stretches["none"] or len(memory) == 1:
        raise BenchmarkError(f"{options.samples} samples are too few for {options.swaps} swaps: raise --samples")
    gaps = {kind: [g for stretch in of for g in seen.gaps(*stretch)] for kind, of in stretches.items()}
    usual = median(gaps["none"])
    pauses = {kind: [max(0.0, max(seen.gaps(*s)) - usual) for s in of] for kind, of in stretches.items()}
    return {
        "swaps": len(stretches["swap"]),
        "partitions": partitions,
        "swap_seconds": median([end - begin for begin, end in stretches["swap"]]),
        "gap": {kind: spread(of) for kind, of in gaps.items()},
        "pause": {kind: spread(of) for kind, of in pauses.items()},
        "ratio_gap_p99": spread(gaps["swap"])["p99"] / spread(gaps["none"])["p99"],
        "waited": spread(seen.waited) if seen.waited else None,
        "waits": len(seen.waited),
        "memory_bytes": memory,
        "ratio_memory": memory[-1] / memory[1],
    }


def spread(seconds: Sequence[float]) -> dict[str, float]:
    """Median, 99th percentile and maximum, in seconds."""
    return {"median": median(seconds), "p99": float(np.quantile(seconds, 0.99)), "max": max(seconds)}


async def run(bootstrap: str, directory: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Fill a topic, start the worker, and take turns once its windows are full."""
    repository = ModelRepository(directory / "models")
    publish_twice(ModelRepository(ROOT / "models"), repository, MODEL)
    stream = load_stream(ROOT / "config" / "streams" / "consensus.toml")
    settings = Settings(
        kafka={"bootstrap_servers": bootstrap}, topics={"partitions": 4}, app_id="bench-swap", models_interval=0.1,
        models_dir=directory / "models", data_dir=directory / "data", max_poll_records=options.chunk,
    )  # fmt: skip
    say("telemetry")
    await fill(settings, stream.topic, options.samples, options.entities)
    async with admin_client(settings) as admin:
        await create_topics(admin, catalogue(settings.topics.prefix, 4, 1))
    one_heap()
    seen, app = Seen(), await create_worker(settings, stream, 0)
    seen.watch(app)
    collect_seldom()
    async with started(app):
        warm = (stream.window + 1) * options.entities
        await until(lambda: seen.samples > warm, "filled its windows")
        say(f"{options.swaps} swaps")
        return await turns(app, seen, repository, options)


def measure(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """Measure on a broker of its own."""
    state = machine()
    with RealKafka(directory / "kafka", jvm=JVM) as kafka:
        found = asyncio.run(run(kafka.bootstrap, directory, options))
    return {"benchmark": "swap", "machine": state, "method": METHOD, "model": MODEL, **found}


def text(found: dict[str, Any]) -> str:
    """Figures as a table."""

    def of(name: str, kind: str) -> tuple[str, ...]:
        spread = found[name][kind]
        return f"{name}, {'with a swap' if kind == 'swap' else 'without'}", *(
            f"{1000 * spread[key]:.1f}" for key in ("median", "p99", "max")
        )

    rows = [of(name, kind) for name in ("gap", "pause") for kind in ("none", "swap")]
    if found["waited"]:
        rows.append(("waited", *(f"{1000 * found['waited'][key]:.1f}" for key in ("median", "p99", "max"))))
    sizes = ", ".join(f"{size / 1e6:.0f}" for size in found["memory_bytes"])
    lines = [
        table(("ms", "median", "p99", "max"), rows),
        "",
        f"{found['swaps']} swaps of {found['partitions']} partitions; chunks that had to wait: {found['waits']}",
        f"from the move of the alias to the last partition: {found['swap_seconds']:.2f} s",
        f"p99 of gaps with swaps / without: {found['ratio_gap_p99']:.2f}",
        f"memory in MB, from the first swap to the last: {sizes}; last over second: {found['ratio_memory']:.3f}",
    ]
    return "\n".join(lines)


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--samples", type=int, default=1_800_000, help="samples in the topic; must outlast the swaps")
    parser.add_argument("--entities", type=int, default=400, help="entities")
    parser.add_argument("--swaps", type=int, default=20, help="swaps of all partitions")
    parser.add_argument("--quiet", type=int, default=50, help="turns without a swap, spread over the swaps, at most")
    parser.add_argument("--chunk", type=int, default=500, help="most records of a chunk")
    configure_logging(LogSettings(level="warning"))
    run_benchmark(parser, measure, text)


if __name__ == "__main__":
    main()
