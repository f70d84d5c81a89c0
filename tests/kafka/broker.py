"""Apache Kafka 4.1 on this machine: one KRaft node, broker and controller in one process, on loopback only.

    with RealKafka(Path("/tmp/k")) as kafka:
        print(kafka.bootstrap)

Run as a program it keeps a broker in the foreground: `python -m tests.kafka.broker DIR --port 29092`.
"""

from __future__ import annotations

import argparse
import base64
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

ROOT = Path(__file__).resolve().parents[2]
QUICK_START = ("-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto")

# Faster than the defaults where a test would otherwise wait. A kill -9 of the broker still loses nothing: the page
# cache survives the process.
FAST = {
    "num.partitions": "4",
    "auto.create.topics.enable": "false",  # a mistyped topic must fail, not appear
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "log.retention.ms": "-1",
    # Telemetry in tests is dated years ago: the topics' own retention would delete it while a test reads. What looks
    # for such records begins after the first of these and comes again after the second.
    "log.initial.task.delay.ms": str(24 * 3600 * 1000),
    "log.retention.check.interval.ms": str(24 * 3600 * 1000),
    "log.cleaner.backoff.ms": "500",
    "log.segment.delete.delay.ms": "1000",
    "num.recovery.threads.per.data.dir": "2",
    "broker.session.timeout.ms": "3000",  # a killed broker can register again only after this long
    "broker.heartbeat.interval.ms": "500",
}

LOGGING = """status = error
appender.out.type = Console
appender.out.name = OUT
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = [%d] %p %m (%c)%n
rootLogger.level = {level}
rootLogger.appenderRef.out.ref = OUT
"""


class KafkaMissingError(RuntimeError):
    """Java, Maven or Kafka's jars are not there; the message says what to type."""


def free_port() -> int:
    """A TCP port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def jars() -> Path:
    """Folder of Kafka's jars, fetched on first use by scripts/kafka-jars."""
    done = subprocess.run([ROOT / "scripts" / "kafka-jars"], capture_output=True, text=True, check=False)
    if done.returncode:
        raise KafkaMissingError(f"Apache Kafka's jars are not there. Run: make setup\n{done.stderr.strip()}")
    return Path(done.stdout.strip())


def java() -> str:
    """Path of the Java launcher."""
    found = shutil.which("java")
    if not found:
        raise KafkaMissingError("java is missing. Run: make setup")
    return found


def answers(port: int, timeout: float = 2.0) -> bool:
    """Whether a Kafka broker answers an ApiVersions request on 127.0.0.1:port."""
    header = struct.pack(">hhih", 18, 0, 1, -1)
    try:
        with socket.create_connection(("127.0.0.1", port), timeout) as s:
            s.settimeout(timeout)
            s.sendall(struct.pack(">i", len(header)) + header)
            reply = s.recv(10)
    except OSError:
        return False
    return len(reply) == 10 and struct.unpack(">iih", reply)[2] == 0


class RealKafka:
    """One Kafka node whose data live in `directory`; it can be started again on the same data.

    Parameters
    ----------
    directory
        Holds data, server.properties and kafka.log.
    port
        Client port on 127.0.0.1; 0 picks a free one, which then stays the same over restarts.
    jvm
        Java options. DWCP_TEST_JVM (separated by spaces) replaces the default, which favours a quick start
        over throughput; `-Xmx2g -XX:+UseG1GC` suits a benchmark.
    config
        Server properties over those of `FAST`.
    die_with_parent
        Kill the broker when this process dies, even by kill -9.
    """

    def __init__(
        self,
        directory: Path,
        *,
        port: int = 0,
        jvm: Sequence[str] | None = None,
        config: Mapping[str, str] | None = None,
        die_with_parent: bool = True,
    ) -> None:
        self.directory = Path(directory)
        self.port = port or free_port()
        self.controller_port = free_port()
        self.jvm = tuple(jvm or os.environ.get("DWCP_TEST_JVM", "").split() or QUICK_START)
        self.config = dict(config or {})
        self.die_with_parent = die_with_parent
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def bootstrap(self) -> str:
        """`host:port` for clients."""
        return f"127.0.0.1:{self.port}"

    @property
    def log_file(self) -> Path:
        """What the broker printed, over all its starts."""
        return self.directory / "kafka.log"

    def start(self, timeout: float = 90.0) -> Self:
        """Start, or start again on the same data; returns when the broker answers."""
        if self.process is not None and self.process.poll() is None:
            return self
        properties = self.directory / "server.properties"
        self.directory.mkdir(parents=True, exist_ok=True)
        self._write_properties(properties)
        if not (self.directory / "data" / "meta.properties").exists():
            cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
            options = [f"--cluster-id={cluster}", "-c", str(properties), *self._format_options()]
            self._run("kafka.tools.StorageTool", "format", *options)
        with self.log_file.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._guard(), *self._java("kafka.Kafka", str(properties))],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C in a terminal is for the tests, which then stop the broker
            )
        self._wait(timeout)
        return self

    def stop(self, timeout: float = 30.0) -> None:
        """Stop in good order; kill when that takes longer than `timeout` seconds."""
        if self.process is None:
            return
        self.resume()
        self.process.terminate()
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None

    def kill(self) -> None:
        """Kill -9."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def restart(self) -> None:
        """Stop and start on the same data and port."""
        self.stop()
        self.start()

    def pause(self) -> None:
        """Stop answering without closing connections (SIGSTOP)."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Go on after `pause`."""
        self._signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.stop()

    def _signal(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def _guard(self) -> list[str]:
        found = shutil.which("setpriv") if self.die_with_parent else None
        return [found, "--pdeathsig", "KILL"] if found else []

    def _java(self, *arguments: str) -> list[str]:
        logging = self.directory / "log4j2.properties"
        logging.write_text(LOGGING.format(level=os.environ.get("DWCP_TEST_KAFKA_LOG", "warn")))
        return [java(), *self.jvm, f"-Dlog4j2.configurationFile={logging}", "-cp", f"{jars()}/*", *arguments]

    def _format_options(self) -> list[str]:
        """Further options for the formatting of the data folder."""
        return []

    def _run(self, *arguments: str) -> None:
        done = subprocess.run(self._java(*arguments), capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"{arguments[0]} failed:\n{done.stdout}{done.stderr}")

    def _write_properties(self, path: Path) -> None:
        listeners = f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{self.controller_port}"
        settings = {
            **FAST,
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{self.controller_port}",
            "controller.listener.names": "CONTROLLER",
            "listeners": listeners,
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": str(self.directory / "data"),
            **self.config,
        }
        path.write_text("".join(f"{k}={v}\n" for k, v in settings.items()))

    def _wait(self, timeout: float) -> None:
        assert self.process is not None
        deadline = time.monotonic() + timeout
        while not answers(self.port):
            if self.process.poll() is not None:
                raise RuntimeError(f"Kafka ended with code {self.process.returncode} at its start:\n{self._tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"Kafka did not answer on {self.bootstrap} in {timeout:.0f} s:\n{self._tail()}")
            time.sleep(0.05)

    def _tail(self) -> str:
        return "\n".join(self.log_file.read_text(errors="replace").splitlines()[-20:])


def main() -> None:
    """Run a broker in the foreground until Ctrl-C or TERM."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="a server property")
    arguments = parser.parse_args()
    kafka = RealKafka(
        arguments.directory, port=arguments.port, config=dict(pair.split("=", 1) for pair in arguments.set)
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with kafka:
        sys.stdout.write(f"Kafka answers on {kafka.bootstrap}; log in {kafka.log_file}\n")
        sys.stdout.flush()
        assert kafka.process is not None
        raise SystemExit(kafka.process.wait())


if __name__ == "__main__":
    main()
