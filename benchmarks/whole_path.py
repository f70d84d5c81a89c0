"""One model's whole path: JSON samples in Kafka to published verdicts, by one worker process or several of a group.

The workers fill their windows first; then bursts of further samples are written, and what is scored from the end of
the writing on counts. Between two bursts the machine is free for whatever is compared with.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.programs import DEADLINE
from benchmarks.telemetry import write
from benchmarks.worker_process import POLL_SECONDS, BenchmarkError, WorkerProcess, stream_with_models
from dwcp_stream.chunk import Chunk
from dwcp_stream.kafka.catalogue import topic_name
from dwcp_stream.settings import Settings, variable
from dwcp_stream.streams import StreamDefinition

SAMPLES, BATCHES, OUTPUTS = "dwcp_samples_total", "dwcp_pba_prediction_latency_seconds_count", "dwcp_outputs_total"
ASSIGNED = "dwcp_partitions_assigned"


@dataclass
class Burst:
    """What the workers did with one burst; `windows_per_batch` is of one run of the model's graph."""

    windows_per_second: float
    windows_per_batch: float
    outputs_per_window: float


class Fleet:
    """Workers of one group that watch one stream with one model.

    Parameters
    ----------
    bootstrap
        The broker.
    stream, model
        The built-in stream, and which of its models scores.
    count, threads
        Worker processes, and how many chunks each may process at once.
    directory
        For their files.
    """

    def __init__(
        self, bootstrap: str, stream: StreamDefinition, model: str, count: int, threads: int, directory: Path
    ) -> None:
        self.name = f"{model}-{count}-{threads}"
        variables = {variable("threads"): str(threads)}
        self.settings = Settings(kafka={"bootstrap_servers": bootstrap})
        self.topic = topic_name(f"{self.name}.", stream.topic)
        streams = stream_with_models(directory / self.name, stream.name, [model])
        self.workers = [
            WorkerProcess(
                bootstrap,
                f"{self.name}.",
                f"bench-{self.name}",
                streams,
                directory,
                stream=stream.name,
                variables=variables,
            )
            for _ in range(count)
        ]
        self.samples = 0

    @contextlib.contextmanager
    def running(self, warm: Sequence[Chunk]) -> Iterator[None]:
        """Start the workers, give each its share of the partitions, and let them take the first samples."""
        self._write(())
        with contextlib.ExitStack() as stack:
            for worker in self.workers:
                stack.enter_context(worker)
            share = self.settings.topics.partitions // len(self.workers)
            self._until(lambda found: all(m.get(ASSIGNED, 0) == share for m in found), "shared the partitions")
            self._write(warm)
            self._until(self._all_done, "filled the windows")
            yield
            for worker in self.workers:
                worker.finish(self.samples, DEADLINE)  # of the group: each waits until all is committed

    def burst(self, chunks: Sequence[Chunk]) -> Burst:
        """Write some more samples and let the workers score them."""
        self._write(chunks)
        begun, first = self._until(all, "answered")
        ended, last = self._until(self._all_done, "scored all samples")
        windows, batches, outputs = (
            sum(m.get(name, 0.0) for m in last) - sum(m.get(name, 0.0) for m in first)
            for name in ("scored", BATCHES, OUTPUTS)
        )
        if windows <= 0:
            raise BenchmarkError(f"{self.name}: a burst is too short, all was scored while it was being written")
        return Burst(windows / (ended - begun), windows / max(batches, 1.0), outputs / windows)

    def _write(self, chunks: Sequence[Chunk]) -> None:
        records = (
            (int(stamp), key or b"", value or b"")
            for chunk in chunks
            for stamp, key, value in zip(chunk.timestamps_ms, chunk.keys, chunk.values, strict=True)
        )
        asyncio.run(write(self.settings, self.topic, records))
        self.samples += sum(map(len, chunks))

    def _all_done(self, found: Sequence[dict[str, float]]) -> bool:
        return sum(m.get(SAMPLES, 0.0) for m in found) >= self.samples

    def _until(
        self, done: Callable[[Sequence[dict[str, float]]], bool], what: str
    ) -> tuple[float, list[dict[str, float]]]:
        """Ask all workers for their metrics until a condition holds; returns when that was, and the metrics."""
        end = time.monotonic() + DEADLINE
        while True:
            found = [worker.metrics() for worker in self.workers]
            now = time.perf_counter()
            if all(found) and done(found):
                return now, found
            for worker in self.workers:
                if worker.process is None or worker.process.poll() is not None:
                    raise BenchmarkError(f"a worker of {self.name} ended before it {what}:\n{worker.tail()}")
            if time.monotonic() > end:
                raise BenchmarkError(f"{self.name} has not {what}:\n{self.workers[0].tail()}")
            time.sleep(POLL_SECONDS)
