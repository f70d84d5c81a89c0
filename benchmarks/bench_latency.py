"""How long an alert takes from the sample that completes it to a consumer, at 10, 50 and 80 % of the maximum load.

python benchmarks/bench_latency.py
python benchmarks/bench_latency.py --model threshold --load 0.5
python benchmarks/bench_latency.py --entities 200 --load 0.5 --transitions 50 --seconds 3 --trial-seconds 2 --json
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import threshold_model
from benchmarks.programs import DEADLINE, JVM
from benchmarks.support import ROOT, machine, options_of, run_benchmark, say, table
from benchmarks.worker_process import BenchmarkError, WorkerProcess, stream_copy
from dwcp_stream.kafka.catalogue import TopicSpec, catalogue
from dwcp_stream.kafka.lane import FETCH_WAIT_MS
from dwcp_stream.kafka.topics import admin_client, create_topics
from dwcp_stream.settings import Settings
from dwcp_stream.streams import load_streams
from tests.kafka.broker import RealKafka

HERE = Path(__file__).resolve().parent
SHIPPED = "consensus-kinds"
MODELS = (SHIPPED, threshold_model.NAME)
STEPS = ("fetch", "queue", "process", "produce", "consume")
QUANTILES = {"p50": 50.0, "p99": 99.0, "p99_9": 99.9, "max": 100.0}
WARM_ROWS = 24
FIRST_TRIAL, NEXT_TRIAL, TRIALS = 0.95, 0.9, 8
KEPT_PACE = 0.97
LAG_POLL_SECONDS = 0.5
BEHIND = 86_400
MAX_LAG_SECONDS = 1.0
SETTLED = 0.1
METHOD = (
    "Latency of an alert: from the Kafka timestamp (CreateTime) of the sample that completes its transition to\n"
    "the record being in the hands of a consumer of the alerts' topic, in a process of its own. One Apache Kafka,\n"
    "4 partitions; generator, broker, worker and consumer share this machine. The telemetry is a recorded etcd\n"
    "cluster under faults, played by all entities out of step; `min_duration`, which delays detection and not\n"
    "delivery, is 0. Entities send one sample a second of event time, which passes as fast as the rate asks for.\n"
    "Maximum: the worker drains a filled topic; from 95 % of that rate down by tenths, the first rate at which a\n"
    "paced run ends with less than one second's samples of lag (mean of its second half). Steps of each alert:\n"
    "fetch (sent, in the broker, until the worker's consumer has it), queue (until its chunk is begun), process\n"
    "(the pipeline, the whole chunk), produce (until the broker has appended the alert), consume; the percentiles\n"
    "of steps do not add up. The first tenth of a run does not count. Echo: aiokafka alone reads the same\n"
    "telemetry at the same rate and writes every n-th record to a topic, as many as there were alerts; the ratio\n"
    "is p99 by its p99, nearest 50 % of the maximum."
)


@dataclass
class Telemetry:
    """A topic, and how far its telemetry has been sent."""

    bootstrap: str
    topic: str
    entities: int
    epoch: float
    sent: int = 0

    def generator(self, samples: int, rate: float = 0.0) -> subprocess.Popen[str]:
        """Start sending the next samples from a process of its own; 0: as fast as it can."""
        first, self.sent = self.sent, self.sent + samples
        numbers = {"entities": self.entities, "samples": samples, "first": first, "rate": rate, "epoch": self.epoch}
        options = [f"--{name}={value}" for name, value in numbers.items()]
        command = [sys.executable, str(HERE / "paced_producer.py"), self.bootstrap, self.topic, *options]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


@dataclass
class Site:
    """The worker under measurement and what it reads."""

    worker: WorkerProcess
    prefix: str
    telemetry: Telemetry
    directory: Path

    def processed(self, samples: int, what: str) -> tuple[float, dict[str, float]]:
        """Wait until the worker has processed so many samples."""
        return self.worker.until(lambda m: m.get("dwcp_samples_total", 0.0) >= samples, what, DEADLINE)

    def caught_up(self) -> None:
        """Wait until the worker has processed all that was sent."""
        self.processed(self.telemetry.sent, "processed all samples")

    def paced(self, rate: float, seconds: float) -> dict[str, Any]:
        """Send at a pace and watch the worker's lag; returns the generator's word and the lag in samples."""
        lags: list[tuple[float, float]] = []
        process, begun = self.telemetry.generator(round(rate * seconds), rate), time.perf_counter()
        busy = self.worker.cpu_seconds()
        while process.poll() is None:
            time.sleep(LAG_POLL_SECONDS)
            lags.append((time.perf_counter() - begun, self.worker.metrics().get("dwcp_consumer_lag", 0.0)))
        ended, busy = time.perf_counter() - begun, self.worker.cpu_seconds() - busy
        half = [lag for at, lag in lags if at > ended - seconds / 2]
        return {**told(process), "lag": float(np.mean(half)), "worker_cpu_share": busy / ended}


def told(generator: subprocess.Popen[str]) -> dict[str, Any]:
    """Wait for a generator's end and return what it says of itself."""
    out, _ = generator.communicate(timeout=DEADLINE)
    if generator.returncode:
        raise BenchmarkError(f"the generator ended with code {generator.returncode}")
    return dict(json.loads(out))


@contextmanager
def helper(program: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run one of the programs beside this one; it is ready when the block begins, and killed after it."""
    process = subprocess.Popen(
        [sys.executable, str(HERE / program), *arguments],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        if process.stdout.readline() != "ready\n":
            raise BenchmarkError(f"{program} ended before it was ready")
        yield process
    finally:
        process.kill()
        process.communicate()


@contextmanager
def collected(bootstrap: str, topic: str, directory: Path) -> Iterator[list[Any]]:
    """Collect what comes to a topic while the block runs; the list is filled when it has ended."""
    taken: list[Any] = []
    file = directory / "taken.json"
    with helper("timed_consumer.py", bootstrap, topic, str(file)) as process:
        yield taken
        process.communicate("", timeout=DEADLINE)
        if process.returncode:
            raise BenchmarkError(f"the consumer ended with code {process.returncode}")
    taken += json.loads(file.read_text(encoding="utf-8"))


def quantiles(values: NDArray[np.float64]) -> dict[str, float]:
    """Percentiles of `QUANTILES`."""
    return {name: float(np.percentile(values, q)) for name, q in QUANTILES.items()}


def latencies(taken: Sequence[Any], seconds: float, trace: dict[str, list[float]]) -> dict[str, Any]:
    """Milliseconds from the telling samples to the consumer in a run of so many seconds; and the steps of each."""
    settled = min((source for _, source, *_ in taken), default=0) + 1000 * SETTLED * seconds
    rows = [(name, source, appended, came) for name, source, appended, came in taken if source >= settled]
    if not rows:
        raise BenchmarkError("no record came: the run is too short")
    found: dict[str, Any] = {
        "records": len(rows), **quantiles(np.array([came - source for _, source, _, came in rows]))
    }  # fmt: skip
    steps = np.array([
        np.diff([source, *trace[name], appended, came]) for name, source, appended, came in rows if name in trace
    ])  # fmt: skip
    if len(steps):
        found["steps"] = {step: quantiles(steps[:, i]) for i, step in enumerate(STEPS)}
    return found


def load(site: Site, share: float, top: float, options: argparse.Namespace) -> dict[str, Any]:
    """Measure the alerts' latency at a share of the maximum, then that of the echo at the same rate."""
    rate, so_far = share * top, site.worker.metrics()
    per_sample = max(so_far["dwcp_alert_transitions_total"], 1.0) / so_far["dwcp_samples_total"]
    seconds = max(options.seconds, min(options.transitions / rate / per_sample, options.most_seconds))
    with collected(site.telemetry.bootstrap, f"{site.prefix}anomalies", site.directory) as taken:
        pace = site.paced(rate, seconds)
        site.caught_up()
    lines = site.worker.environment["TRACE_FILE"]
    trace = [json.loads(line) for line in Path(lines).read_text(encoding="utf-8").splitlines()]
    alerts = latencies(taken, seconds, {name: times for name, *times in trace})
    echo = echoed(site, rate, round(rate * seconds * (1 - SETTLED) / alerts["records"]) or 1, options)
    say(
        f"{share:.0%} of the maximum, {rate:,.0f}/s: p50 {alerts['p50']:.1f} ms, p99 {alerts['p99']:.1f} ms, p99.9"
        f" {alerts['p99_9']:.1f} ms of {alerts['records']:,} alerts; echo p99 {echo['p99']:.1f} ms"
    )
    return {
        "share": share, "rate": rate, "seconds": seconds, "generator": pace, "lag": pace.pop("lag"),
        "worker_cpu_share": pace.pop("worker_cpu_share"), "alerts": alerts, "echo": echo,
        "ratio": alerts["p99"] / echo["p99"],
    }  # fmt: skip


def echoed(site: Site, rate: float, every: int, options: argparse.Namespace) -> dict[str, Any]:
    """Milliseconds that aiokafka alone takes with the same telemetry at the same rate."""
    source, target = f"{site.prefix}echo.in", f"{site.prefix}echo.out"
    telemetry = Telemetry(site.telemetry.bootstrap, source, site.telemetry.entities, site.telemetry.epoch)
    bootstrap = telemetry.bootstrap
    with (
        helper("echo.py", bootstrap, source, target, str(every), str(FETCH_WAIT_MS)),
        collected(bootstrap, target, site.directory) as taken,
    ):
        told(telemetry.generator(round(rate * options.seconds), rate))
    return {"every": every, **latencies(taken, options.seconds, {})}


def maximum(site: Site, options: argparse.Namespace) -> dict[str, Any]:
    """Find the highest rate that the worker, just started, keeps up with."""
    telemetry, warm = site.telemetry, WARM_ROWS * site.telemetry.entities
    begun, first = site.processed(warm, "warmed up")
    ended, _ = site.processed(telemetry.sent, "drained the topic")
    counted = telemetry.sent - first["dwcp_samples_total"]
    if counted <= 0:
        raise BenchmarkError(f"--drain {options.drain} is too little: the first look found all of it processed")
    drain = counted / (ended - begun)
    say(f"the worker drains {drain:,.0f}/s")
    if options.rate:
        return {"drain": drain, "maximum": drain, "trials": []}
    rate, trials = FIRST_TRIAL * drain, []
    for _ in range(TRIALS):
        found = site.paced(rate, options.trial_seconds)
        held = found["lag"] < MAX_LAG_SECONDS * rate and found["rate"] > KEPT_PACE * rate
        trials.append({"rate": rate, "achieved": found["rate"], "lag": found["lag"], "held": held})
        say(f"paced {rate:,.0f}/s: achieved {found['rate']:,.0f}/s, lag {found['lag']:,.0f}")
        site.caught_up()
        if held:
            return {"drain": drain, "maximum": rate, "trials": trials}
        rate *= NEXT_TRIAL
    raise BenchmarkError(f"the worker keeps up with no rate down to {rate:,.0f}/s: {trials}")


def case(bootstrap: str, model: str, directory: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measure one model."""
    directory.mkdir(parents=True)
    streams = stream_copy(directory / "streams", models=model == SHIPPED, min_duration=0.0)
    variables = {"TRACE_FILE": str(directory / "trace.jsonl")}
    if model != SHIPPED:
        threshold_model.publish(directory / "models", streams)
        variables["DWCP_MODELS_DIR"] = str(directory / "models")
    prefix = f"{model}."
    worker = WorkerProcess(
        bootstrap, prefix, f"latency-{model}", streams, directory,
        program=[str(HERE / "traced_worker.py")], variables=variables,
    )  # fmt: skip
    source = f"{prefix}dwcp.telemetry.consensus"
    telemetry = Telemetry(bootstrap, source, options.entities, float(int(time.time()) - BEHIND))
    site = Site(worker, prefix, telemetry, directory)
    asyncio.run(create(worker.settings, site, streams))
    unpaced = told(telemetry.generator(WARM_ROWS * options.entities + options.drain))
    say(f"{model}: the generator sends {unpaced['rate']:,.0f}/s unpaced")
    with worker:
        found = maximum(site, options)
        shares = [rate / found["maximum"] for rate in options.rate] if options.rate else options.load
        loads = [load(site, share, found["maximum"], options) for share in shares]
        metrics = worker.metrics()
    per_sample = metrics["dwcp_alert_transitions_total"] / metrics["dwcp_samples_total"]
    generator = {"generator_unpaced": unpaced["rate"], "transitions_per_sample": per_sample}
    return {"model": model, "entities": options.entities, **generator, **found, "loads": loads}


async def create(settings: Settings, site: Site, streams: Path) -> None:
    """Create the topics; what is measured is stamped by the broker, so that a record says when it arrived there."""
    stamped = {"message.timestamp.type": "LogAppendTime"}
    specs = [
        replace(spec, config={**spec.config, **stamped}) if spec.name.endswith("anomalies") else spec
        for spec in catalogue(site.prefix, streams=load_streams(streams).values())
    ]
    count = settings.topics.partitions
    specs += [
        TopicSpec(f"{site.prefix}echo.in", count, "entity", "benchmark"),
        TopicSpec(f"{site.prefix}echo.out", count, "entity", "benchmark", stamped),
    ]
    async with admin_client(settings) as admin:
        await create_topics(admin, specs)


def measure(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """Measure the models one after the other on one broker."""
    state = machine()
    with RealKafka(directory / "kafka", jvm=JVM) as kafka:
        cases = [case(kafka.bootstrap, model, directory / model, options) for model in options.model or MODELS]
    nearest = min(cases[0]["loads"], key=lambda one: abs(one["share"] - 0.5))
    return {"benchmark": "latency", "machine": state, "method": METHOD, "cases": cases, "ratio": nearest["ratio"]}


def text(found: dict[str, Any]) -> str:
    """Figures as two tables: whole latencies, and p99 by step."""
    whole, steps = [], []
    for one in found["cases"]:
        for at in one["loads"]:
            name, alerts, late = f"{one['model']} {at['share']:.0%}", at["alerts"], at["generator"]["late_ms"]
            figures = [f"{alerts[q]:.1f}" for q in QUANTILES]
            rates = (f"{at['rate']:,.0f}", f"{at['generator']['rate']:,.0f}", f"{late['p99']:.1f}")
            peer = (f"{at['echo']['p99']:.1f}", f"{at['ratio']:.1f}")
            whole.append((name, *rates, f"{alerts['records']:,}", *figures, *peer))
            steps += [(name, q, *(f"{alerts['steps'][step][q]:.1f}" for step in STEPS)) for q in ("p50", "p99")]
    head = ("load", "samples/s", "achieved", "late p99", "alerts", "p50 ms", "p99", "p99.9", "max", "echo p99", "ratio")
    tops = [
        f"{one['model']}: maximum {one['maximum']:,.0f}/s with {one['entities']:,} entities"
        f" (drains {one['drain']:,.0f}/s; the generator alone {one['generator_unpaced']:,.0f}/s)"
        for one in found["cases"]
    ]
    return "\n".join([*tops, "", table(head, whole), "", table(("steps, ms", "", *STEPS), steps)])


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--model", action="append", choices=MODELS, help="only this model; may be repeated")
    parser.add_argument("--load", type=float, nargs="+", default=[0.1, 0.5, 0.8], help="shares of the maximum")
    parser.add_argument(
        "--rate", type=float, nargs="+",
        help="samples per second instead of shares: nothing looks for the maximum, which is then what is drained",
    )  # fmt: skip
    parser.add_argument("--entities", type=int, default=2000, help="entities")
    parser.add_argument("--drain", type=int, default=50_000, help="samples of full windows in the filled topic")
    parser.add_argument("--trial-seconds", type=float, default=20.0, help="length of a run that looks for the maximum")
    parser.add_argument("--seconds", type=float, default=40.0, help="least length of a run at a load")
    parser.add_argument("--transitions", type=int, default=4000, help="a run at a load is made longer for so many")
    parser.add_argument("--most-seconds", type=float, default=150.0, help="but no longer than this")
    run_benchmark(parser, measure, text)


if __name__ == "__main__":
    main()
