"""What scoring costs beside bare ONNX Runtime: from Kafka to published verdicts, and each part of it in memory.

dwcp-stream bench scoring
dwcp-stream bench scoring --model consensus-kinds --workers 1 --json
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.programs import JVM
from benchmarks.support import ROOT, machine, median, options_of, run_benchmark, say, table
from benchmarks.whole_path import Burst, Fleet
from dwcp_stream.chunk import Chunk
from dwcp_stream.errors import ModelError
from dwcp_stream.parts import drift_monitor, psi_blocks
from dwcp_stream.pipeline import Pipeline
from dwcp_stream.registry import ModelRepository
from dwcp_stream.scoring import Model
from dwcp_stream.scoring.batching import MAX_BATCH
from dwcp_stream.scoring.session import make_session
from dwcp_stream.streams import Field, StreamDefinition, load_streams
from tests.kafka.broker import RealKafka

BATCHES = (1, 64, 256)
EPOCH = 1_790_000_000
METHOD = (
    "Windows per second. Bare, one thread: `InferenceSession.run` of the model's own file with the worker's\n"
    "session options, on float32 arrays that are ready. Whole path: `dwcp-stream worker` processes of one group\n"
    "with this model alone and `threads` as given, on JSON samples in one Apache Kafka on this machine (4\n"
    "partitions), windows full, from the end of writing a burst until /metrics shows all of it processed and\n"
    "handed to the producer; against bare runs of as many windows as the worker had in a batch. Score:\n"
    "`Model.score` on windows of the stream (columns chosen, batch padded to fours). Pipeline: `Pipeline.process`\n"
    "on JSON samples in memory, one per entity and step (decode, windows, score, alerts or forecasts, drift),\n"
    "against bare runs of the largest batch. Drift: a `DriftMonitor` alone, on as many rows a step and with a\n"
    "block closed whenever one is over, against the pipeline. By turns, a round each; medians; a ratio is the\n"
    "median of each round's own ratio. Inputs are made up: each field close to a level of the entity's own. Many\n"
    "outputs per window mean forecasts, or that a model takes them for incidents."
)


def values(field: Field, steps: int, entities: int, rng: np.random.Generator) -> Any:
    """A calm field: [steps, entities], each entity a twentieth around a level of its own; codes stay as they are."""
    if field.vocabulary:
        return np.tile(rng.integers(0, len(field.vocabulary), entities).astype(np.float64), (steps, 1))
    low = 0.0 if field.min is None else field.min
    span = 100.0 if field.max is None else min(100.0, field.max - low)
    level = low + span * rng.uniform(0.2, 0.6, entities)
    return level * (1.0 + 0.05 * rng.uniform(-1.0, 1.0, (steps, entities)))


def step_of(stream: StreamDefinition) -> float:
    """Seconds between two samples."""
    return 1.0 if isinstance(stream.step, str) else stream.step


def arrays(stream: StreamDefinition, count: int) -> tuple[Any, Any]:
    """Windows float32[count, T, F] and times float64[count, T] of a stream."""
    rng = np.random.default_rng(3)
    columns = [values(field, stream.window, count, rng).T for field in stream.fields]
    times = EPOCH + step_of(stream) * np.arange(stream.window) + np.zeros((count, 1))
    return np.stack(columns, axis=-1).astype(np.float32), times


def chunks(stream: StreamDefinition, entities: int, steps: int) -> list[Chunk]:
    """One chunk per step, with a JSON sample of every entity."""
    rng, encode = np.random.default_rng(4), msgspec.json.Encoder().encode
    columns = {field.name: values(field, steps, entities, rng).tolist() for field in stream.fields}
    made = []
    for step in range(steps):
        ts, lines, keys = EPOCH + step * step_of(stream), [], []
        for number in range(entities):
            parts = {part: f"{part}-{number:05d}" for part in stream.entity}
            sample: dict[str, Any] = {stream.time: ts, **parts}
            for field in stream.fields:
                value = columns[field.name][step][number]
                sample[field.name] = field.vocabulary[int(value)] if field.vocabulary else value
            lines.append(encode(sample))
            keys.append("/".join(parts.values()).encode())
        begin = step * entities
        stamps = np.full(entities, int(ts * 1000), np.int64)
        made.append(Chunk(stream.topic, 0, np.arange(begin, begin + entities), stamps, keys, lines))
    return made


def rate(run: Callable[[], int], seconds: float) -> float:
    """Call for some seconds, at least once; windows per second."""
    begun, done = time.perf_counter(), 0
    while True:
        done += run()
        spent = time.perf_counter() - begun
        if spent >= seconds:
            return done / spent


def bare_runner(model: Model, repository: ModelRepository, windows: Any, times: Any) -> Callable[[], int]:
    """What runs the model's file without any of our code."""
    path = repository.root / model.name / str(model.version) / "model.onnx"
    session = make_session(path.read_bytes())
    feed = model._feed(windows, times, None)
    names = [output.name for output in session.get_outputs()]

    def run() -> int:
        session.run(names, feed)
        return len(windows)

    return run


def score_runner(model: Model, windows: Any, times: Any) -> Callable[[], int]:
    """What scores the same windows as the worker does."""

    def run() -> int:
        model.score(windows, times)
        return len(windows)

    return run


def pipeline_rate(
    stream: StreamDefinition, model: Model, warm: list[Chunk], measured: list[Chunk]
) -> tuple[float, float]:
    """Windows per second of the whole pipeline once its windows are warm, and outputs per window."""
    bound = msgspec.structs.replace(stream, models=tuple(b for b in stream.models if b.name == model.name))
    pipeline = Pipeline(bound, [model])
    for chunk in warm:
        pipeline.process(chunk)
    begun, scored, outputs = time.perf_counter(), 0, 0
    for chunk in measured:
        result = pipeline.process(chunk)
        scored += result.scored_windows[model.name]
        outputs += len(result.outputs)
    return scored / (time.perf_counter() - begun), outputs / max(scored, 1)


def drift_runner(stream: StreamDefinition, model: Model, entities: int) -> Callable[[], int]:
    """What the pipeline tells a drift monitor within one block, and its end; shares of inputs are already judged."""
    monitor, block = drift_monitor(stream, model, 0), 0
    steps = max(1, round(stream.drift_block / step_of(stream)))
    windows, _ = arrays(stream, entities)
    inputs = windows[:, -1, [stream.field_index(name) for name in model.fields]]
    scores = np.random.default_rng(5).uniform(0.0, 0.5, (steps, entities)).astype(np.float32)

    def run() -> int:
        nonlocal block
        begin = EPOCH + block * stream.drift_block
        for step, score in enumerate(scores):
            ts = np.full(entities, begin + step * step_of(stream))
            monitor.observe(ts, score, inputs, score if model.targets else None)
        block += 1
        monitor.finish(begin + stream.drift_block + stream.lateness)
        return steps * entities

    for _ in range(psi_blocks(stream.drift_block)):
        run()
    return run


def counted(number: int, noun: str) -> str:
    """A number with its noun."""
    return f"{number} {noun}{'s' if number > 1 else ''}"


def whole_path(
    model: Model,
    repository: ModelRepository,
    stream: StreamDefinition,
    options: Any,
    kafka: RealKafka,
    bare_rate: float,
) -> list[dict[str, Any]]:
    """Figures of worker processes on Kafka, one entry for each number of threads of one, and of processes.

    `bare_rate` is what the bare graph reaches, windows per second; a burst keeps it busy for `whole_seconds`.
    """
    steps = max(2, round(options.whole_seconds * bare_rate / options.whole_entities))
    made = chunks(stream, options.whole_entities, stream.window + options.rounds * steps)
    found: list[dict[str, Any]] = []
    runs = [(options.workers[0], threads) for threads in options.threads]
    for count, threads in [*runs, *((count, options.threads[0]) for count in options.workers[1:])]:
        fleet = Fleet(kafka.bootstrap, stream, model.name, count, threads, kafka.directory.parent)
        bursts: list[Burst] = []
        bare: list[float] = []
        with fleet.running(made[: stream.window]):
            for number in range(options.rounds):
                begin = stream.window + number * steps
                bursts.append(fleet.burst(made[begin : begin + steps]))
                batch = min(MAX_BATCH, max(1, round(bursts[0].windows_per_batch)))
                bare.append(rate(bare_runner(model, repository, *arrays(stream, batch)), options.seconds))
        rates = [burst.windows_per_second for burst in bursts]
        ratios = {"onnxruntime": median([r / b for r, b in zip(rates, bare, strict=True)])}
        if found:
            ratios["first_run"] = median(rates) / found[0]["windows_per_second"]
        run = f"{counted(count, 'worker')}, {counted(threads, 'thread')}"
        found.append(
            {
                "run": run,
                "workers": count,
                "threads": threads,
                "windows_per_second": median(rates),
                "windows_per_batch": median([burst.windows_per_batch for burst in bursts]),
                "outputs_per_window": median([burst.outputs_per_window for burst in bursts]),
                "bare": median(bare),
                "ratio": ratios,
            }
        )
        say(f"{model.name}, {run}: {median(rates):,.0f} windows/s, bare {median(bare):,.0f}")
    return found


def bench(
    model: Model, repository: ModelRepository, stream: StreamDefinition, options: Any, kafka: RealKafka | None
) -> dict[str, Any]:
    """Figures of one model."""
    model.bind(stream)
    batches: list[dict[str, Any]] = []
    for batch in options.batches:
        windows, times = arrays(stream, batch)
        runs = {"bare": bare_runner(model, repository, windows, times), "score": score_runner(model, windows, times)}
        rates: dict[str, list[float]] = {name: [] for name in runs}
        for _ in range(options.rounds):
            for name, run in runs.items():
                rates[name].append(rate(run, options.seconds))
        ratio = median([s / b for s, b in zip(rates["score"], rates["bare"], strict=True)])
        batches.append({"batch": batch, "bare": median(rates["bare"]), "score": median(rates["score"]), "ratio": ratio})
    made = chunks(stream, options.entities, stream.window + options.steps)
    bare = bare_runner(model, repository, *arrays(stream, max(options.batches)))
    drift = drift_runner(stream, model, options.entities)
    turns, outputs = [], 0.0
    for _ in range(options.rounds):
        inside, outputs = pipeline_rate(stream, model, made[: stream.window], made[stream.window :])
        turns.append((inside, rate(bare, options.seconds), rate(drift, options.seconds)))
    whole = whole_path(model, repository, stream, options, kafka, batches[-1]["bare"]) if kafka else []
    return {
        "model": model.name,
        "version": model.version,
        **({"ratio": {"onnxruntime": whole[0]["ratio"]["onnxruntime"]}} if whole else {}),
        "whole_path": whole,
        "batches": batches,
        "pipeline": {
            "entities": options.entities,
            "windows_per_second": median([w for w, _, _ in turns]),
            "outputs_per_window": outputs,
            "ratio": median([w / b for w, b, _ in turns]),
        },
        "drift": {
            "microseconds_per_sample": 1e6 / median([d for _, _, d in turns]),
            "ratio": {"pipeline": median([w / d for w, _, d in turns])},
        },
    }


def measure(options: argparse.Namespace, directory: Path) -> dict[str, Any]:
    """Figures of every model of the repository that fits a stream."""
    state = machine()
    repository, streams = ModelRepository(options.models), load_streams(options.streams)
    found = []
    with contextlib.ExitStack() as stack:
        kafka = stack.enter_context(RealKafka(directory / "kafka", jvm=JVM)) if options.workers else None
        for name in options.model or repository.names():
            model = repository.load(name)
            if model.stream not in streams:
                raise ModelError(f"is of the stream {model.stream!r}", where=name, remedy=f"Not in {options.streams}")
            say(f"{name} version {model.version}")
            found.append(bench(model, repository, streams[model.stream], options, kafka))
    return {"benchmark": "scoring", "machine": state, "method": METHOD, "models": found}


def text(found: dict[str, Any]) -> str:
    """Figures as a table, and what drift costs."""
    rows: list[tuple[str, ...]] = []
    drifts = []
    for one in found["models"]:
        name = f"{one['model']} v{one['version']}"
        for whole in one["whole_path"]:
            what = f"{name}, whole path, {whole['run']}"
            figures = (f"{whole['bare']:,.0f}", f"{whole['windows_per_second']:,.0f}")
            last = (f"{whole['ratio']['onnxruntime']:.2f}", f"{whole['outputs_per_window']:.2f}")
            rows.append((what, f"{whole['windows_per_batch']:.0f}", *figures, *last))
        rows += [
            (f"{name}, score", str(b["batch"]), f"{b['bare']:,.0f}", f"{b['score']:,.0f}", f"{b['ratio']:.2f}", "")
            for b in one["batches"]
        ]
        inside = one["pipeline"]
        pipeline = (
            f"{inside['windows_per_second']:,.0f}",
            f"{inside['ratio']:.2f}",
            f"{inside['outputs_per_window']:.2f}",
        )
        rows.append((f"{name}, pipeline", f"{inside['entities']} a chunk", "", *pipeline))
        cost, share = one["drift"]["microseconds_per_sample"], one["drift"]["ratio"]["pipeline"]
        drifts.append(f"Drift of {name} costs {cost:.2f} us a sample, {share:.1%} of the pipeline's time.")
    head = ("model", "batch", "bare windows/s", "ours windows/s", "ours / bare", "outputs/window")
    return "\n".join((table(head, rows), "", *drifts))


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--models", type=Path, default=ROOT / "models", help="folder of the model repository")
    parser.add_argument("--streams", type=Path, default=ROOT / "config" / "streams", help="folder of the streams")
    parser.add_argument("--model", action="append", help="only this model; may be repeated")
    parser.add_argument("--workers", type=int, nargs="*", default=[1, 2], help="workers on Kafka; nothing: no Kafka")
    parser.add_argument(
        "--threads", type=int, nargs="+", default=[1, 2], help="chunks that one worker processes at once"
    )
    parser.add_argument("--whole-entities", type=int, default=1_000, help="entities of the whole path")
    parser.add_argument("--whole-seconds", type=float, default=2.0, help="bare run time of the windows of a burst")
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES), help="windows of a batch")
    parser.add_argument("--entities", type=int, default=250, help="entities in memory, one sample of each in a chunk")
    parser.add_argument("--steps", type=int, default=20, help="chunks measured once the windows are full")
    parser.add_argument("--seconds", type=float, default=0.5, help="least time of a measurement")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each; the median counts")
    run_benchmark(parser, measure, text)


if __name__ == "__main__":
    main()
