"""The programs that read a filled topic, each in a process of its own: ours, raw aiokafka, and other frameworks."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.support import ROOT, guard
from benchmarks.worker_process import BenchmarkError, WorkerProcess

JVM = ("-Xms1g", "-Xmx1g", "-XX:+UseG1GC")
DEADLINE = 300.0
PEER_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
RAW = "raw_aiokafka"


@dataclass(frozen=True)
class Program:
    """A program run with BOOTSTRAP TOPIC MESSAGES WARM; it prints `N messages/s`, and `N us CPU` if it can.

    `prefix` is how many messages it reads: slow programs read the beginning of the topic only.
    """

    label: str
    path: Path
    python: Path = PEER_PYTHON
    prefix: int = sys.maxsize


PEERS = {
    "quix": Program("Quix Streams", ROOT / "benchmarks/peers/quix_streams.py", prefix=90_000),
    "bytewax": Program("Bytewax", ROOT / "benchmarks/peers/bytewax_flow.py", prefix=200_000),
    "faust": Program("Faust, idiomatic", ROOT / "benchmarks/peers/idiomatic_faust.py", prefix=60_000),
}
RAW_PROGRAM = Program("raw aiokafka", ROOT / "benchmarks/raw_consumer.py", python=Path(sys.executable))


@dataclass
class Run:
    """One program once: messages per second, processor time per message, and of the worker what else there is."""

    rate: float
    cpu_us: float | None = None
    durable: float = 0.0
    checkpoints: int = 0


def run_program(program: Program, bootstrap: str, topic: str, messages: int, warm: int) -> Run:
    """Run a program to its end, in an empty folder, and read the last rate it prints."""
    command = [*guard(), str(program.python), str(program.path), bootstrap, topic, str(messages), str(warm)]
    with tempfile.TemporaryDirectory(prefix="dwcp-peer-") as folder:
        try:
            done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=DEADLINE, check=False)
        except subprocess.TimeoutExpired as error:
            said = error.stderr[-2000:].decode(errors="replace") if error.stderr else ""
            raise BenchmarkError(f"{program.path} did not end in {DEADLINE:.0f} s:\n{said}") from None
    printed = done.stdout + done.stderr
    found = re.findall(r"([\d,]+(?:\.\d+)?) messages/s(?:, ([\d.]+) us CPU)?", printed)
    if done.returncode or not found:
        raise BenchmarkError(
            f"{program.path} ended with {done.returncode} and printed no `N messages/s`:\n{printed[-2000:]}"
        )
    rate, spent = found[-1]
    return Run(float(rate.replace(",", "")), float(spent) if spent else None)


def run_worker(worker: WorkerProcess, samples: int, warm: int, records: int | None = None) -> Run:
    """Let a worker read the whole topic, make it durable, and stop.

    Parameters
    ----------
    samples, warm
        Samples in the topic, and how many are done before the clock starts.
    records
        Records they are in, if not one for each.
    """

    def settled(metrics: dict[str, float]) -> float:
        return metrics.get("dwcp_samples_total", 0.0)

    with worker:
        begun, first = worker.until(lambda m: settled(m) >= max(warm, 1), "processed a sample", DEADLINE)
        busy = worker.cpu_seconds()
        ended, last = worker.until(lambda m: settled(m) >= samples, "processed all samples", DEADLINE)
        busy = worker.cpu_seconds() - busy
        durable = worker.finish(records or samples, DEADLINE)
    counted = samples - settled(first)
    if counted <= 0:
        raise BenchmarkError(f"{samples} samples are too few: the first look at the worker found all of them done")
    checkpoints = int(last.get("dwcp_checkpoint_duration_seconds_count", 0))
    return Run(counted / (ended - begun), 1e6 * busy / counted, counted / (durable - begun), checkpoints)
