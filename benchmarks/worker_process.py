"""One `dwcp-stream worker` process under measurement, and what it says of itself on /metrics."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import ClassVar, Self

from benchmarks.support import ROOT, guard
from dwcp_stream.kafka.catalogue import catalogue
from dwcp_stream.kafka.topics import admin_client, create_topics
from dwcp_stream.settings import Settings
from tests.kafka.broker import free_port

POLL_SECONDS = 0.1
LINE = re.compile(r"([a-zA-Z_:][\w:]*)(?:\{(.*)\})? (\S+)")
OUTCOME = re.compile(r'outcome="(\w+)"')


class BenchmarkError(RuntimeError):
    """A worker or program under measurement did not do what was to be measured."""


def stream_without_models(directory: Path, name: str = "consensus") -> Path:
    """Copy a built-in stream definition without its models; returns the folder."""
    return stream_with_models(directory, name, ())


def stream_with_models(directory: Path, name: str, models: Sequence[str]) -> Path:
    """Copy a built-in stream definition with some of its models; returns the folder."""
    wanted = [f'name = "{model}"' for model in models]
    return _copied(directory, name, lambda table: any(line in table.splitlines() for line in wanted))


def stream_copy(directory: Path, name: str = "consensus", *, models: bool = True, **keys: float) -> Path:
    """Copy a built-in stream definition, some of its keys with other values; returns the folder."""
    return _copied(directory, name, lambda _: models, **keys)


def _copied(directory: Path, name: str, keep: Callable[[str], bool], **keys: float) -> Path:
    text = (ROOT / "config" / "streams" / f"{name}.toml").read_text(encoding="utf-8")
    tables = re.split(r"(?m)^(?=\[)", text)
    kept = [table for table in tables if not table.startswith("[[models]]") or keep(table)]
    if not any(table.startswith("[[models]]") for table in kept):
        kept.insert(0, "models = []\n")
    text = "".join(kept)
    for key, value in keys.items():
        text, found = re.subn(rf"(?m)^{key} = \S+", f"{key} = {value}", text)
        if found != 1:
            raise BenchmarkError(f"{name}.toml has {found} keys {key}")
    directory.mkdir(parents=True, exist_ok=True)
    (directory / f"{name}.toml").write_text(text, encoding="utf-8")
    return directory


async def create_outputs(settings: Settings, prefix: str) -> None:
    """Create the topics that a worker writes, if they are not there."""
    async with admin_client(settings) as admin:
        await create_topics(admin, catalogue(prefix, settings.topics.partitions))


class WorkerProcess:
    """The worker of a stream in a process of its own, as a user starts it.

    Parameters
    ----------
    bootstrap, prefix
        The broker, and the prefix of the topics: the telemetry is in `{prefix}dwcp.telemetry.{stream}`.
    app_id
        Consumer group and state topic; a new name begins without state.
    streams
        Folder of stream definitions.
    directory
        For its log and its own files.
    program
        What Python runs before the arguments of `dwcp-stream`.
    stream
        What it watches.
    variables
        Further settings, as environment variables.
    """

    _sites: ClassVar[set[tuple[str, str]]] = set()
    """Brokers and prefixes whose topics for outputs are there."""

    def __init__(
        self,
        bootstrap: str,
        prefix: str,
        app_id: str,
        streams: Path,
        directory: Path,
        *,
        program: Sequence[str] = ("-m", "dwcp_stream"),
        stream: str = "consensus",
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.stream = stream
        self.port = free_port()
        self.log = directory / f"{app_id}-{self.port}.log"  # workers of one group have a log each
        self.settings = Settings(kafka={"bootstrap_servers": bootstrap}, app_id=app_id)
        self.environment = {
            **os.environ,
            "DWCP_KAFKA__BOOTSTRAP_SERVERS": bootstrap,
            "DWCP_TOPICS__PREFIX": prefix,
            "DWCP_APP_ID": app_id,
            "DWCP_STREAMS_DIR": str(streams),
            "DWCP_DATA_DIR": str(directory / f"data-{self.port}"),
            "DWCP_HTTP__PORT": str(self.port),
            "DWCP_LOG__LEVEL": "warning",
            **(variables or {}),
        }
        self.program = program
        self.process: subprocess.Popen[bytes] | None = None
        self._prefix = prefix

    def __enter__(self) -> Self:
        if (site := (self.settings.kafka.bootstrap_servers, self._prefix)) not in self._sites:
            with ThreadPoolExecutor(1) as pool:  # the caller may be in an event loop
                pool.submit(asyncio.run, create_outputs(self.settings, self._prefix)).result()
            self._sites.add(site)
        command = [*guard(), sys.executable, *self.program, "worker", self.stream]
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                command, cwd=ROOT, env=self.environment, stdin=subprocess.DEVNULL, stdout=out, stderr=out
            )
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def metrics(self) -> dict[str, float]:
        """Sums of its metrics by name, and samples by outcome (`scored`, ...); empty while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/metrics", timeout=10) as reply:
                body = reply.read().decode()
        except OSError:
            return {}
        found: dict[str, float] = {}
        for line in body.splitlines():
            if match := LINE.fullmatch(line):
                found[match[1]] = found.get(match[1], 0.0) + float(match[3])
                if match[1] == "dwcp_samples_total" and (outcome := OUTCOME.search(match[2] or "")):
                    found[outcome[1]] = float(match[3])
        return found

    def cpu_seconds(self) -> float:
        """Processor time the process has had in all its threads; 0 where there is no /proc."""
        assert self.process is not None
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def resident_bytes(self) -> int:
        """Memory of the process that is in RAM; 0 where there is no /proc."""
        assert self.process is not None
        try:
            pages = Path(f"/proc/{self.process.pid}/statm").read_text(encoding="ascii").split()[1]
        except OSError:
            return 0
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def until(
        self, done: Callable[[dict[str, float]], bool], what: str, deadline: float
    ) -> tuple[float, dict[str, float]]:
        """Ask for the metrics until a condition holds; returns when that was (perf_counter), and the metrics."""
        end = time.monotonic() + deadline
        while True:
            found = self.metrics()
            now = time.perf_counter()
            if found and done(found):
                return now, found
            if self.process is None or self.process.poll() is not None:
                raise BenchmarkError(f"the worker ended before {what}:\n{self.tail()}")
            if time.monotonic() > end:
                raise BenchmarkError(f"after {deadline:.0f} s the worker has not {what}: {found}\n{self.tail()}")
            time.sleep(POLL_SECONDS)

    def finish(self, records: int, deadline: float) -> float:
        """Stop by TERM; returns when (perf_counter) its last checkpoint had committed all records."""
        assert self.process is not None
        self.process.terminate()
        committed = asyncio.run(self._committed(records, deadline))
        code = self.process.wait(deadline)
        if code:
            raise BenchmarkError(f"the worker ended with code {code}:\n{self.tail()}")
        return committed

    async def _committed(self, records: int, deadline: float) -> float:
        end, group = time.monotonic() + deadline, f"{self.settings.app_id}-{self.stream}"
        async with admin_client(self.settings) as admin:
            while True:
                offsets = await admin.list_consumer_group_offsets(group)
                done = sum(o.offset for tp, o in offsets.items() if tp.topic.endswith(f"dwcp.telemetry.{self.stream}"))
                if done == records:
                    return time.perf_counter()
                if time.monotonic() > end:
                    raise BenchmarkError(f"{done} of {records} records committed\n{self.tail()}")
                await asyncio.sleep(POLL_SECONDS)

    def tail(self, lines: int = 25) -> str:
        """The end of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
