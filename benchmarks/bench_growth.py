"""What a sample, an entity and a day cost one worker, from a hundred entities to a hundred thousand.

python benchmarks/bench_growth.py --plot growth.png
python benchmarks/bench_growth.py --entities 50 500 --samples 30000 --model-samples 3000 --day-seconds 0 --json
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.programs import DEADLINE, JVM
from benchmarks.simulated_day import day
from benchmarks.support import machine, options_of, run_benchmark, say, table
from benchmarks.telemetry import fill
from benchmarks.worker_process import BenchmarkError, WorkerProcess, stream_copy, stream_without_models
from dwcp_stream.kafka.catalogue import catalogue
from dwcp_stream.kafka.topics import admin_client, create_topics
from dwcp_stream.settings import Settings
from dwcp_stream.streams import load_stream, load_streams
from tests.kafka.broker import RealKafka

READY = 5
"""Conditions of readiness, each 1 when it is met."""

WATCH_SECONDS = 0.02
NO_CHECKPOINT = {"DWCP_CHECKPOINT_INTERVAL": "3600"}
METHOD = (
    "A topic of 4 partitions in one Apache Kafka on this machine is filled, then one `dwcp-stream worker\n"
    "consensus` reads it: the built-in stream without models, then with its model (`min_periods` 1, so that every\n"
    "sample is scored from an entity's first on, and a `min_duration` that lets no alert fire). CPU: of all its\n"
    "threads, from the first look that shows samples to the one that shows all, no checkpoint among them. Then it\n"
    "is stopped (TERM) and writes one checkpoint of all entities: CPU per snapshot is what that took beyond\n"
    "stopping a worker that read nothing, and bytes per snapshot are those of the changelog on the broker's disk.\n"
    "Memory: resident, once all samples are processed, and the most until the end; per entity: what it grew by\n"
    "since the smallest number of entities. Values are random, which hardly compresses."
)


def stopped(worker: WorkerProcess) -> tuple[float, int]:
    """Stop a worker; returns the processor seconds that took, and the most memory seen meanwhile."""
    assert worker.process is not None
    begun = busy = worker.cpu_seconds()
    peak = worker.resident_bytes()
    worker.process.terminate()
    while worker.process.poll() is None:
        busy, peak = max(busy, worker.cpu_seconds()), max(peak, worker.resident_bytes())
        time.sleep(WATCH_SECONDS)
    return busy - begun, peak


def idle(worker: WorkerProcess) -> dict[str, float]:
    """Memory of a worker that has read nothing, and the processor seconds of stopping it."""
    with worker:
        worker.until(lambda m: m.get("dwcp_ready", 0) >= READY, "ready", DEADLINE)
        resident = worker.resident_bytes()
        busy, _ = stopped(worker)
    return {"resident_bytes": resident, "stop_cpu_seconds": busy}


def grown(worker: WorkerProcess, samples: int) -> dict[str, float]:
    """Let a worker read all samples and stop."""

    def settled(metrics: dict[str, float]) -> float:
        return metrics.get("dwcp_samples_total", 0.0)

    with worker:
        _, first = worker.until(lambda m: settled(m) > 0, "processed a sample", DEADLINE)
        busy = worker.cpu_seconds()
        worker.until(lambda m: settled(m) >= samples, "processed all samples", DEADLINE)
        busy, resident = worker.cpu_seconds() - busy, worker.resident_bytes()
        stop, peak = stopped(worker)
    counted = samples - settled(first)
    if counted <= 0:
        raise BenchmarkError(f"{samples} samples are too few: the first look at the worker found all of them done")
    return {
        "cpu_us_per_sample": 1e6 * busy / counted,
        "resident_bytes": resident,
        "peak_bytes": peak,
        "stop_cpu_seconds": stop,
    }


async def create(settings: Settings, prefix: str, streams: Path) -> None:
    """Create all topics of a worker."""
    specs = catalogue(prefix, settings.topics.partitions, streams=load_streams(streams).values())
    async with admin_client(settings) as admin:
        await create_topics(admin, specs)


def log_bytes(kafka: RealKafka, topic: str) -> int:
    """Bytes of a topic's records on the broker's disk."""
    return sum(file.stat().st_size for file in (kafka.directory / "data").glob(f"{topic}-[0-9]*/*.log"))


def workers(kafka: RealKafka, directory: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measure every number of entities, without and with the model."""
    settings = Settings(kafka={"bootstrap_servers": kafka.bootstrap})
    plain = stream_without_models(directory / "plain")
    scoring = stream_copy(directory / "scoring", min_periods=1, min_duration=1e6)  # random values would all alert

    def run(prefix: str, name: str, streams: Path) -> WorkerProcess:
        return WorkerProcess(kafka.bootstrap, prefix, name, streams, directory, variables=NO_CHECKPOINT)

    asyncio.run(create(settings, "idle.", plain))
    base, cases = idle(run("idle.", "idle", plain)), []
    for entities in options.entities:
        prefix = f"e{entities}."
        size = asyncio.run(fill(settings, f"{prefix}dwcp.telemetry.consensus", options.samples, entities))
        found: dict[str, Any] = {"entities": entities, "rows": options.samples / entities, "sample_bytes": size}
        found |= grown(run(prefix, f"plain{entities}", plain), options.samples)
        snapshots = min(entities, options.samples)
        found["changelog_bytes_per_snapshot"] = (
            log_bytes(kafka, f"plain{entities}-consensus-state-changelog") / snapshots
        )
        spent = max(found.pop("stop_cpu_seconds") - base["stop_cpu_seconds"], 0.0)
        found["cpu_us_per_snapshot"] = 1e6 * spent / snapshots
        prefix = f"m{entities}."
        asyncio.run(create(settings, prefix, scoring))
        asyncio.run(fill(settings, f"{prefix}dwcp.telemetry.consensus", options.model_samples, entities))
        scored = grown(run(prefix, f"scored{entities}", scoring), options.model_samples)
        found["cpu_us_per_sample_with_model"] = scored["cpu_us_per_sample"]
        cases.append(found)
        say(
            f"{entities:,} entities: {found['cpu_us_per_sample']:.1f} us CPU/sample, with the model"
            f" {found['cpu_us_per_sample_with_model']:.1f}, {found['resident_bytes'] / 1e6:.0f} MB"
        )
    smallest = cases[0]
    for one in cases:
        more = one["entities"] - smallest["entities"]
        for what in ("resident", "peak"):
            grew = one[f"{what}_bytes"] - smallest[f"{what}_bytes"]
            one[f"{what}_bytes_per_entity"] = grew / more if more else None
    return {"idle": base, "cases": cases}


def measure(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """Measure workers, then a day's changelog on a broker of its own."""
    options.entities.sort()
    state = machine()
    with RealKafka(directory / "kafka", jvm=JVM) as kafka:
        found = workers(kafka, directory, options)
    stream = load_stream(directory / "plain" / "consensus.toml")
    shape = {"stream": stream.name, "window": stream.window, "fields": len(stream.fields)}
    first, last = found["cases"][0], found["cases"][-1]
    simulated = day(directory, stream, options.day_entities, options.day_seconds) if options.day_seconds else None
    return {
        "benchmark": "growth", "machine": state, "method": METHOD, "measured_at": f"{datetime.now(UTC):%Y-%m-%d}",
        "samples": options.samples, **shape, **found, "day": simulated,
        "ratio": last["cpu_us_per_sample"] / first["cpu_us_per_sample"],
    }  # fmt: skip


def text(found: dict[str, Any]) -> str:
    """Figures as a table, and the day in a sentence."""
    rows = []
    for one in found["cases"]:
        each = one["resident_bytes_per_entity"], one["peak_bytes_per_entity"]
        rows.append((
            f"{one['entities']:,}",
            *(f"{one[f'cpu_us_per_{what}']:.1f}" for what in ("sample", "sample_with_model", "snapshot")),
            f"{one['resident_bytes'] / 1e6:,.0f}", f"{one['peak_bytes'] / 1e6:,.0f}",
            *("-" if bytes_ is None else f"{bytes_:,.0f}" for bytes_ in each),
            f"{one['changelog_bytes_per_snapshot']:,.0f}", f"{one['rows']:g}",
        ))  # fmt: skip
    head = (
        "entities", "CPU us/sample", "with model", "CPU us/snapshot", "MB", "MB at most", "bytes/entity", "at most",
        "log bytes/snapshot", "rows/entity",
    )  # fmt: skip
    lines = [table(head, rows), f"\nA worker that has read nothing: {found['idle']['resident_bytes'] / 1e6:.0f} MB"]
    if found["day"]:
        one = found["day"]
        lines.append(
            f"A day of {one['entities']:,} entities, {one['checkpoints']:,} of its checkpoints every"
            f" {one['checkpoint_interval']:g} s:"
            f" {one['written_bytes'] / 1e6:,.0f} MB written, {one['mean_bytes'] / 1e6:,.1f} MB on disk"
            f" ({one['largest_bytes'] / 1e6:,.1f} MB at most) for {one['live_bytes'] / 1e6:,.2f} MB of state"
        )
    return "\n".join(lines)


def plot(found: dict[str, Any], file: Path) -> None:
    """Draw CPU per sample and memory over the number of entities."""
    import matplotlib as mpl  # noqa: PLC0415  only needed for the picture

    mpl.use("Agg")
    import matplotlib.pyplot as plt  # noqa: PLC0415

    entities = np.array([one["entities"] for one in found["cases"]])
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for key, label in (("cpu_us_per_sample", "without a model"), ("cpu_us_per_sample_with_model", "with its model")):
        left.plot(entities, [one[key] for one in found["cases"]], "o-", label=label)
    left.set(xscale="log", ylim=(0, None), xlabel="entities", title="CPU per sample, µs")
    left.legend(frameon=False)
    for key, label in (("peak_bytes", "during a checkpoint of all"), ("resident_bytes", "between checkpoints")):
        right.plot(entities, [one[key] / 1e6 for one in found["cases"]], "o-", label=label)
    right.set(xscale="log", ylim=(0, None), xlabel="entities", title="Resident memory of the worker, MB")
    right.legend(frameon=False)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(file, dpi=110)


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--entities", type=int, nargs="+", default=[100, 10_000, 100_000], help="numbers of entities")
    parser.add_argument("--samples", type=int, default=400_000, help="samples of each run without models")
    parser.add_argument("--model-samples", type=int, default=40_000, help="samples of each run with the model")
    parser.add_argument("--day-entities", type=int, default=50, help="entities of the simulated day")
    parser.add_argument("--day-seconds", type=float, default=90.0, help="time for the simulated day; 0 leaves it out")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the figures (PNG, SVG or PDF)")
    options, found = run_benchmark(parser, measure, text)
    if options.plot:
        plot(found, options.plot)


if __name__ == "__main__":
    main()
