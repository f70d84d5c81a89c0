"""From Kafka to durable windows: the worker beside raw aiokafka on the same topics, by turns.

python benchmarks/bench_ingest.py
python benchmarks/bench_ingest.py --samples 100000 --entities 1000 --rounds 1 --json
"""

from __future__ import annotations

import argparse
import asyncio
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.support import ROOT, machine, median, report, say, table
from benchmarks.telemetry import fill
from benchmarks.worker_process import BenchmarkError, WorkerProcess, stream_without_models
from dwcp_stream.settings import Settings
from tests.kafka.broker import RealKafka

JVM = ("-Xms1g", "-Xmx1g", "-XX:+UseG1GC")
DEADLINE = 300.0
METHOD = (
    "Each round runs, one after the other, on a topic of 4 partitions in one Apache Kafka on this machine: raw\n"
    "aiokafka (getmany in a process of its own, nothing decoded), a given prototype, and `dwcp-stream worker\n"
    "consensus` with the built-in stream but no models. Worker: samples per second by its own /metrics, from the\n"
    "first answer that shows samples to the one that shows all of them; what was processed by then does not count.\n"
    "Durable: up to the source offsets of all samples being committed by the last checkpoint, which is made at once\n"
    "(TERM) instead of waiting for the timer. Medians; a ratio is the median of each round's own ratio. CPU: of all\n"
    "threads of the process, per message."
)


@dataclass
class Run:
    """One program once: messages per second, processor time per message, and of the worker what else there is."""

    rate: float
    cpu_us: float | None = None
    durable: float = 0.0
    checkpoints: int = 0


@dataclass
class Case:
    """The runs on one topic, round by round."""

    entities: int
    bytes_per_sample: float
    raw: list[Run] = field(default_factory=list)
    prototype: list[Run] = field(default_factory=list)
    worker: list[Run] = field(default_factory=list)

    @property
    def topic(self) -> str:
        """Topic of the telemetry."""
        return f"{self.prefix}dwcp.telemetry.consensus"

    @property
    def prefix(self) -> str:
        """Prefix of the worker's topics."""
        return f"e{self.entities}."

    def summary(self) -> dict[str, Any]:
        """Medians, and the medians of each round's ratios."""
        rates = {name: [run.rate for run in getattr(self, name)] for name in ("raw", "prototype", "worker")}
        rates["worker_durable"] = [run.durable for run in self.worker]
        return {
            "entities": self.entities,
            "bytes_per_sample": round(self.bytes_per_sample),
            **{name: median(of) if of else None for name, of in rates.items()},
            "ratio": ratio(rates["worker"], rates["raw"]),
            "ratio_durable": ratio(rates["worker_durable"], rates["raw"]),
            "ratio_prototype": ratio(rates["prototype"], rates["raw"]),
            "cpu_us_raw": median([run.cpu_us or 0.0 for run in self.raw]),
            "cpu_us_worker": median([run.cpu_us or 0.0 for run in self.worker]),
            "checkpoints": [run.checkpoints for run in self.worker],
            "rounds": rates,
        }


def ratio(of: list[float], to: list[float]) -> float | None:
    """Median over the rounds of one program's rate by another's; None if it was not measured."""
    return median([a / b for a, b in zip(of, to, strict=True)]) if of and all(to) else None


def run_program(program: Path, bootstrap: str, topic: str, messages: int) -> Run:
    """Run a program with BOOTSTRAP TOPIC MESSAGES and read the last "N messages/s" it prints."""
    done = subprocess.run(
        [sys.executable, str(program), bootstrap, topic, str(messages)],
        cwd=ROOT, capture_output=True, text=True, timeout=DEADLINE, check=False,
    )  # fmt: skip
    printed = done.stdout + done.stderr  # Faust takes stdout for its log
    found = re.findall(r"([\d,]+(?:\.\d+)?) messages/s(?:, ([\d.]+) us CPU)?", printed)
    if not found:
        raise BenchmarkError(f"{program} printed no `N messages/s`:\n{printed[-2000:]}")
    rate, spent = found[-1]
    return Run(float(rate.replace(",", "")), float(spent) if spent else None)


def run_worker(worker: WorkerProcess, messages: int) -> Run:
    """Let a worker read the whole topic, make it durable, and stop."""

    def settled(metrics: dict[str, float]) -> float:
        return metrics.get("dwcp_samples_total", 0.0)

    with worker:
        begun, first = worker.until(lambda m: settled(m) > 0, "processed a sample", DEADLINE)
        busy = worker.cpu_seconds()
        ended, last = worker.until(lambda m: settled(m) >= messages, "processed all samples", DEADLINE)
        busy = worker.cpu_seconds() - busy
        durable = worker.finish(messages, DEADLINE)
    counted = messages - settled(first)
    if counted <= 0:
        raise BenchmarkError(f"{messages} samples are too few: the first look at the worker found all of them done")
    checkpoints = int(last.get("dwcp_checkpoint_duration_seconds_count", 0))
    return Run(counted / (ended - begun), 1e6 * busy / counted, counted / (durable - begun), checkpoints)


def measure(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """Fill the topics, run the rounds, and return the figures."""
    state, streams = machine(), stream_without_models(directory / "streams")
    cases = [Case(entities, 0.0) for entities in options.entities]
    with RealKafka(directory / "kafka", jvm=JVM) as kafka:
        for case in cases:
            begun, settings = time.perf_counter(), Settings(kafka={"bootstrap_servers": kafka.bootstrap})
            case.bytes_per_sample = asyncio.run(fill(settings, case.topic, options.samples, case.entities))
            say(f"{case.topic}: {options.samples:,} samples written in {time.perf_counter() - begun:.1f} s")
        for number in range(options.rounds):
            for case in cases:
                raw = Path(__file__).with_name("raw_consumer.py")
                case.raw.append(run_program(raw, kafka.bootstrap, case.topic, options.samples))
                if options.prototype:
                    case.prototype.append(run_program(options.prototype, kafka.bootstrap, case.topic, options.samples))
                name = f"bench-{case.entities}-{number}"
                worker = WorkerProcess(kafka.bootstrap, case.prefix, name, streams, directory)
                case.worker.append(run_worker(worker, options.samples))
                say(
                    f"round {number + 1}, {case.entities:,} entities: raw {case.raw[-1].rate:,.0f}/s"
                    + (f", prototype {case.prototype[-1].rate:,.0f}/s" if case.prototype else "")
                    + f", worker {case.worker[-1].rate:,.0f}/s"
                )
    return {
        "benchmark": "ingest",
        "machine": state,
        "method": METHOD,
        "samples": options.samples,
        "cases": [case.summary() for case in cases],
    }


def text(found: dict[str, Any]) -> str:
    """Figures as a table."""
    rows = []
    for case in found["cases"]:
        lines = [
            ("raw aiokafka", case["raw"], 1.0, case["cpu_us_raw"]),
            ("prototype", case["prototype"], case["ratio_prototype"], None),
            ("worker", case["worker"], case["ratio"], case["cpu_us_worker"]),
            ("worker, durable", case["worker_durable"], case["ratio_durable"], None),
        ]
        rows += [
            (f"{case['entities']:,}", name, f"{rate:,.0f}", f"{share:.2f}", f"{cpu:.1f}" if cpu else "-")
            for name, rate, share, cpu in lines
            if rate is not None and share is not None
        ]
    return table(("entities", "program", "messages/s", "of raw", "CPU us/message"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=400_000, help="samples in each topic")
    parser.add_argument("--entities", type=int, nargs="+", default=[1_000, 20_000], help="entities, a topic for each")
    parser.add_argument("--rounds", type=int, default=3, help="runs of each program; the median counts")
    parser.add_argument(
        "--prototype", type=Path, metavar="PATH",
        help="measure this Python program too: run with BOOTSTRAP TOPIC MESSAGES, it prints `N messages/s`",
    )  # fmt: skip
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dwcp-bench-") as directory:
        found = measure(options, Path(directory))
    report(found, options.json, text(found))


if __name__ == "__main__":
    main()
