"""A stream that is lived through hour by hour: a worker as a process, the trainer beside it, on real Kafka."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec
import numpy as np
import onnx
import onnx.numpy_helper
import polars as pl

from benchmarks.loop_series import DAY, Series
from benchmarks.support import say
from benchmarks.worker_process import BenchmarkError, WorkerProcess
from dwcp_stream.events import Accuracy, ModelDecision
from dwcp_stream.kafka.batches import Row, write_rows
from dwcp_stream.kafka.catalogue import TopicSpec
from dwcp_stream.kafka.clients import producer_client
from dwcp_stream.kafka.producer import key_hash
from dwcp_stream.kafka.scan import scan
from dwcp_stream.kafka.topics import admin_client, create_topics
from dwcp_stream.registry import ModelRepository, make_golden
from dwcp_stream.settings import Settings
from dwcp_stream.streams import StreamDefinition, load_streams
from dwcp_stream.training.job import Job
from dwcp_stream.training.publish import publish
from dwcp_stream.training.trainers import find_trainer
from topologies.trainer_process import TrainerProcess, trainer_process

PARTITIONS, DEADLINE = 2, 60.0
Hook = Callable[["Site", float], Awaitable[None]]


@dataclass
class Site:
    """A series with its stream, its models and its worker."""

    series: Series
    stream: StreamDefinition
    settings: Settings
    directory: Path
    worker: WorkerProcess
    crash: bool = False
    decisions: list[ModelDecision] = field(default_factory=list)
    sent: int = 0
    base: int = 0

    @property
    def model(self) -> str:
        """The model's name."""
        return self.stream.models[0].name

    @property
    def repository(self) -> ModelRepository:
        """Its models."""
        return ModelRepository(self.directory / "models")

    def train(self, rows: pl.DataFrame) -> int:
        """Train on rows and publish, whatever comes of it; returns the version."""
        file = self.directory / "train.parquet"
        rows.write_parquet(file)
        binding = self.stream.models[0]
        job = Job(self.stream, binding, (file,), command="bench loop")
        return publish(find_trainer(binding, self.stream.name)(job), job, self.repository)

    def sabotage(self, factor: float = 1.3) -> int:
        """Publish the champion again with all that it forecasts times a factor; returns the version."""
        repository = self.repository
        version = repository.resolve(self.model, "champion")
        folder = self.directory / "models" / self.model / str(version)
        graph = onnx.load_model(folder / "model.onnx")
        honest, by = f"quantiles of {version}", f"sabotage of {version}"
        for node in graph.graph.node:
            node.output[:] = [honest if name == "quantiles" else name for name in node.output]
            node.input[:] = [honest if name == "quantiles" else name for name in node.input]
        graph.graph.initializer.append(onnx.numpy_helper.from_array(np.float32(factor), by))
        graph.graph.node.append(onnx.helper.make_node("Mul", [honest, by], ["quantiles"]))
        data = graph.SerializeToString()
        golden = np.load(folder / "golden.npz")
        state = golden.get("state_in")
        files = {"model.onnx": data, "golden.npz": make_golden(data, golden["window"], golden["time"], state)}
        manifest = msgspec.to_builtins(repository.manifest(self.model, version))
        plain = {key: value for key, value in manifest.items() if key not in ("name", "version", "files")}
        return repository.publish(self.model, files, plain)

    async def restart(self) -> None:
        """Kill the worker and start another, until it has processed what was sent."""
        self.worker.__exit__(None, None, None)
        self.worker = new_worker(self.series.name, self.settings, self.directory)
        self.worker.__enter__()
        _, found = await asyncio.to_thread(
            self.worker.until, lambda m: m.get("dwcp_position", 0.0) >= self.sent, "caught up", DEADLINE
        )
        self.base = self.sent - int(found["dwcp_metrics_processed_total"])

    async def caught_up(self) -> None:
        """Wait until the worker has processed what was sent."""
        end = time.monotonic() + DEADLINE
        while True:
            found = await asyncio.to_thread(self.worker.metrics)
            if found.get("dwcp_metrics_processed_total", 0.0) + self.base >= self.sent:
                return
            if self.worker.process is None or self.worker.process.poll() is not None or time.monotonic() > end:
                raise BenchmarkError(f"the worker has not processed {self.sent}: {found}\n{self.worker.tail()}")
            await asyncio.sleep(0.01)


def prepare(series: Series, bootstrap: str, directory: Path, trainer: dict[str, float], name: str = "dwcp") -> Site:
    """Write the definition, train the first version on what is before the series goes live, and set up a worker.

    `name` begins the names of topics and groups.
    """
    streams = directory / "streams"
    streams.mkdir(parents=True)
    (streams / f"{series.name}.toml").write_text(series.definition(f"{name}.telemetry.{series.name}"))
    settings = Settings(
        kafka={"bootstrap_servers": bootstrap}, app_id=f"{name}-loop", models_dir=directory / "models",
        streams_dir=streams, data_dir=directory / "data", trainer=trainer,
        topics={"partitions": PARTITIONS, "prefix": f"{name}."},
    )  # fmt: skip
    worker = new_worker(series.name, settings, directory)
    site = Site(series, load_streams(streams)[series.name], settings, directory, worker)
    site.train(series.rows.filter(pl.col("ts") < series.live))
    return site


def new_worker(stream: str, settings: Settings, directory: Path) -> WorkerProcess:
    """Return a worker that is not started yet."""
    variables = {
        "DWCP_MODELS_DIR": str(directory / "models"),
        "DWCP_MODELS_INTERVAL": "0.05",
        "DWCP_TOPICS__PARTITIONS": str(PARTITIONS),
        "DWCP_CHECKPOINT_INTERVAL": "1",
    }
    return WorkerProcess(
        settings.kafka.bootstrap_servers, settings.topics.prefix, settings.app_id, directory / "streams", directory,
        stream=stream, variables=variables,
    )  # fmt: skip


async def live(site: Site, hook: Hook, *, seconds: float = 7200.0) -> None:
    """Send the series in slices of event time; after each let the worker catch up and the trainer look.

    `hook` is called after each with the event time reached.
    """
    topic = site.stream.topic
    async with admin_client(site.settings) as admin:
        await create_topics(admin, [TopicSpec(topic, PARTITIONS, "entity", "benchmark")])
    rows = site.series.rows
    rows = rows.filter(pl.col("ts") >= site.series.live - 30 * site.series.step)
    begin, end = float(rows["ts"].min()), float(rows["ts"].max())  # type: ignore[arg-type]
    slices = rows.with_columns(slice=((pl.col("ts") - begin) / seconds).floor()).partition_by(
        "slice", maintain_order=True
    )
    async with (
        producer_client(site.settings) as producer,
        trainer_process(site.settings, [site.stream], site.decisions.append) as process,
    ):
        if not await process.lead(DEADLINE):
            raise BenchmarkError("the trainer does not lead")
        said, clock = 0, time.monotonic()
        for part in slices:
            records: dict[int, list[Row]] = defaultdict(list)
            for key, value in encoded(part):
                records[key_hash(key) % PARTITIONS].append((key, value, [], None))
            await write_rows(producer, topic, dict(records))
            site.sent += len(part)
            if site.crash:
                site.crash = False
                await site.restart()
            await site.caught_up()
            now = float(part["ts"].max())  # type: ignore[arg-type]
            await settle(process)
            await hook(site, now)
            if time.monotonic() - clock > 10 or len(site.decisions) > said:
                said, clock = len(site.decisions), time.monotonic()
                last = site.decisions[-1] if site.decisions else None
                what = "" if last is None else f"; last decision: {last.decision} version {last.version}"
                say(f"{site.series.name}: day {(now - begin) / DAY:.1f} of {(end - begin) / DAY:.1f}{what}")


async def settle(process: TrainerProcess) -> None:
    """Let the trainer decide all there is to decide, and train what is due."""
    while True:
        await process.catch_up()
        made = await process.trainer.look()
        await process.trainer.idle()
        if not made:
            return


def encoded(rows: pl.DataFrame) -> Iterable[tuple[bytes, bytes]]:
    """Yield key and value of each row."""
    encode = msgspec.json.Encoder().encode
    for row in rows.drop("slice").iter_rows(named=True):
        yield row["entity"].encode(), encode(row)


async def realised(settings: Settings) -> list[Accuracy]:
    """Return all realised errors that the topic holds, each once."""
    found: dict[bytes, Accuracy] = {}
    async for record in scan(settings, "accuracy"):
        headers = dict(record.headers)
        if headers["ce_type"] == b"dwcp.accuracy.bucket":
            found[headers["ce_id"]] = msgspec.json.decode(record.value, type=Accuracy)
    return list(found.values())
