"""From Kafka to durable windows: the worker beside raw aiokafka, Quix Streams, Bytewax and Faust, by turns.

dwcp-stream bench ingest
dwcp-stream bench ingest --samples 100000 --warm 10000 --entities 1000 --rounds 1 --peers none --json
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.programs import JVM, PEER_PYTHON, PEERS, RAW, RAW_PROGRAM, Run, run_program, run_worker
from benchmarks.support import machine, median, options_of, report, say, table
from benchmarks.telemetry import fill, write
from benchmarks.worker_process import WorkerProcess, stream_without_models
from dwcp_stream.settings import Settings
from tests.kafka.broker import RealKafka

LABELS = {RAW: RAW_PROGRAM.label, **{name: peer.label for name, peer in PEERS.items()}, "worker": "dwcp-stream worker"}
METHOD = (
    "Each round runs, one after the other, on the same topic of 4 partitions in one Apache Kafka on this machine,\n"
    "each in a process of its own: raw aiokafka (getmany, nothing decoded); Quix Streams (RocksDB and changelog),\n"
    "Bytewax (state in memory, recovery off) and idiomatic Faust (Record, Table, changelog), which decode each\n"
    "sample, keep the last 30 rows of each entity and publish a message for every 1,000 samples; and `dwcp-stream\n"
    "worker consensus` with the built-in stream but no models, which decodes, validates, keeps the same windows\n"
    "and checkpoints them. The first samples of each count for nothing (warm-up, the same number for all); slow\n"
    "programs read a prefix of the topic. Worker: samples per second by its own /metrics. Durable: until the\n"
    "source offsets of all samples are committed by a last checkpoint, which is made at once (TERM) instead of\n"
    "waiting for the timer. Medians of the rounds; a ratio, ours by theirs, is the median of each round's own\n"
    "ratio. CPU: of all threads."
)


@dataclass
class Case:
    """The runs on one topic, round by round; rates are in samples, of which a record holds `rows`."""

    entities: int
    samples: int
    warm: int
    rows: int = 1
    bytes_per_sample: float = 0.0
    runs: dict[str, list[Run]] = field(default_factory=lambda: defaultdict(list))

    @property
    def prefix(self) -> str:
        """Prefix of the worker's topics."""
        return f"e{self.entities}r{self.rows}."

    @property
    def topic(self) -> str:
        """Topic of the telemetry."""
        return f"{self.prefix}dwcp.telemetry.consensus"

    def reads(self, name: str) -> int:
        """How many samples a program reads."""
        return min(self.samples, PEERS[name].prefix) if name in PEERS else self.samples

    def round(self, bootstrap: str, peers: Sequence[str], streams: Path, directory: Path) -> None:
        """Run every program once."""
        for name in (RAW, *peers):
            program = PEERS.get(name, RAW_PROGRAM)
            run = run_program(program, bootstrap, self.topic, self.reads(name) // self.rows, self.warm // self.rows)
            self._took(name, Run(run.rate * self.rows, run.cpu_us and run.cpu_us / self.rows))
        app_id = f"bench-{self.prefix}{len(self.runs['worker'])}"
        worker = WorkerProcess(bootstrap, self.prefix, app_id, streams, directory)
        self._took("worker", run_worker(worker, self.samples, self.warm, self.samples // self.rows))

    def _took(self, name: str, run: Run) -> None:
        self.runs[name].append(run)
        what = "samples" if self.rows == 1 else f"samples in frames of {self.rows}"
        number = len(self.runs[name])
        say(f"{self.entities:,} entities, round {number}, {LABELS[name]}: {run.rate:,.0f} {what}/s")

    def summary(self) -> dict[str, Any]:
        """Medians, and the medians of each round's ratios."""
        rates = {name: [run.rate for run in runs] for name, runs in self.runs.items()}
        durable = [run.durable for run in self.runs["worker"]]
        others = [name for name in rates if name != "worker"]
        return {
            "entities": self.entities,
            "rows_per_record": self.rows,
            "bytes_per_sample": round(self.bytes_per_sample),
            "samples_read": {name: self.reads(name) for name in rates},
            "warm_samples": self.warm,
            "samples_per_second": {**{name: median(of) for name, of in rates.items()}, "durable": median(durable)},
            "cpu_us": {name: median([run.cpu_us or 0.0 for run in runs]) for name, runs in self.runs.items()},
            "ratio": {name: ratio(rates["worker"], rates[name]) for name in others},
            "durable": {"ratio": {name: ratio(durable, rates[name]) for name in others}},
            "checkpoints": [run.checkpoints for run in self.runs["worker"]],
            "rounds": {**rates, "durable": durable},
        }


def ratio(of: list[float], to: list[float]) -> float:
    """Median over the rounds of one program's rate by another's."""
    return median([a / b for a, b in zip(of, to, strict=True)])


def measure(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """Fill the topics, run the rounds, and return the figures."""
    state, streams = machine(), stream_without_models(directory / "streams")
    cases = [Case(entities, options.samples, options.warm) for entities in options.entities]
    if options.frame_samples:
        rows = options.frame_rows
        whole, warm = (number // rows * rows for number in (options.frame_samples, options.frame_samples // 10))
        cases.append(Case(options.entities[0], whole, warm, rows))
    with RealKafka(directory / "kafka", jvm=JVM) as kafka:
        settings = Settings(kafka={"bootstrap_servers": kafka.bootstrap})
        for case in cases:
            begun = time.perf_counter()
            case.bytes_per_sample = asyncio.run(fill(settings, case.topic, case.samples, case.entities, case.rows))
            asyncio.run(write(settings, f"{case.topic}.output", ()))
            say(f"{case.topic}: {case.samples:,} samples written in {time.perf_counter() - begun:.1f} s")
        for _ in range(options.rounds):
            for case in cases:
                case.round(kafka.bootstrap, options.peers if case.rows == 1 else (), streams, directory)
    found = [case.summary() for case in cases]
    return {
        "benchmark": "ingest",
        "machine": state,
        "method": METHOD,
        "cases": [one for one in found if one["rows_per_record"] == 1],
        "frames": [one for one in found if one["rows_per_record"] > 1],
    }


def text(found: dict[str, Any]) -> str:
    """Figures as a table."""
    rows = []
    for case in [*found["cases"], *found.get("frames", ())]:
        rates, cpu = case["samples_per_second"], case["cpu_us"]
        what = f"{case['entities']:,}" + (", frames" if case["rows_per_record"] > 1 else "")
        for name, rate in rates.items():
            ours = case["ratio"].get(name)
            label = "  until durable" if name == "durable" else LABELS[name]
            read = case["samples_read"].get(name)
            cells = (f"{read:,}" if read else "", f"{rate:,.0f}", f"{ours:.2f}" if ours else "")
            rows.append((what, label, *cells, f"{cpu[name]:.1f}" if cpu.get(name) else ""))
    return table(("entities", "program", "samples read", "samples/s", "ours / theirs", "CPU us/sample"), rows)


def peers_wanted(parser: argparse.ArgumentParser, given: Sequence[str]) -> tuple[str, ...]:
    """Names of the peers, once their environment is there."""
    wanted = tuple(name for name in given if name != "none")
    if wanted and not PEER_PYTHON.exists():
        parser.error("the environment of the peers is missing. Type: scripts/peer-environment, or give --peers none")
    return wanted


def arguments(parser: argparse.ArgumentParser, samples: int, rounds: int) -> None:
    """Add the options that the comparisons have in common."""
    parser.add_argument("--samples", type=int, default=samples, help="samples in each topic")
    parser.add_argument("--warm", type=int, default=30_000, help="samples done before the clock starts")
    parser.add_argument("--rounds", type=int, default=rounds, help="runs of each program; the median counts")
    choices = (*PEERS, "none")
    parser.add_argument(
        "--peers", nargs="+", choices=choices, default=list(PEERS), help="frameworks to measure beside ours"
    )


def main() -> None:
    parser = options_of(__doc__)
    arguments(parser, samples=800_000, rounds=3)
    parser.add_argument("--entities", type=int, nargs="+", default=[1_000, 20_000], help="entities, a topic for each")
    parser.add_argument("--frame-samples", type=int, default=3_000_000, help="samples in the topic of frames; 0: none")
    parser.add_argument("--frame-rows", type=int, default=60, help="samples in a frame")
    options = parser.parse_args()
    options.peers = peers_wanted(parser, options.peers)
    with tempfile.TemporaryDirectory(prefix="dwcp-bench-") as directory:
        found = measure(options, Path(directory))
    report(found, options.json, text(found))


if __name__ == "__main__":
    main()
