"""Prometheus, Alertmanager and our own services as real processes, for the tests of alerts that reach people."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any, Self

import yaml

from tests.integration.harness import wait_until
from tests.kafka.broker import free_port

ROOT = Path(__file__).resolve().parents[2]


def program(*names: str) -> str:
    """Path of a program; fails, never skips, where it is missing."""
    for name in names:
        if found := shutil.which(name):
            return found
    raise AssertionError(f"{names[0]} is missing. Type: scripts/system-packages prometheus")


class Service:
    """A process with its output in `log` and HTTP on a port of loopback."""

    def __init__(self, command: list[str], log: Path, port: int, environment: dict[str, str] | None = None) -> None:
        self.command, self.log, self.port = command, log, port
        self.environment = environment or {}
        self.url = f"http://127.0.0.1:{port}"
        self.start()

    def start(self) -> None:
        """Start it, or start it again."""
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                self.command,
                env={**os.environ, **self.environment},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    def kill(self) -> None:
        """Kill -9 and reap."""
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    async def end(self) -> int:
        """TERM; returns the exit code."""
        self.process.terminate()
        return await asyncio.to_thread(self.process.wait, 30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.kill()

    async def get(self, path: str) -> Any:
        """JSON, or the text if it is none; None when it does not answer."""
        return await asyncio.to_thread(self._get, path)

    def _get(self, path: str) -> Any:
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as reply:
                text = reply.read().decode()
        except OSError:
            return None
        return json.loads(text) if text[:1] in "{[" else text

    async def up(self, path: str) -> None:
        """Wait until a path answers."""

        async def answers() -> bool:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            return await self.get(path) is not None

        await wait_until(answers, lambda: f"{path}\n{self.log.read_text()[-3000:]}", every=0.1)


def daemon(arguments: list[str], log: Path, port: int, environment: dict[str, str]) -> Service:
    """One of our own commands."""
    return Service([sys.executable, "-m", "dwcp_stream", *arguments], log, port, environment)


def alertmanager(directory: Path, webhook: str) -> Service:
    """An Alertmanager that tells a webhook of every alert by itself, at once."""
    config = {
        "route": {"receiver": "test", "group_by": ["..."], "group_wait": "0s", "group_interval": "1s"},
        "receivers": [{"name": "test", "webhook_configs": [{"url": webhook, "send_resolved": True}]}],
    }
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "alertmanager.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = [
        program("prometheus-alertmanager", "alertmanager"),
        f"--config.file={directory / 'alertmanager.yml'}", f"--storage.path={directory}", "--cluster.listen-address=",
        f"--web.listen-address=127.0.0.1:{port}",
    ]  # fmt: skip
    return Service(command, directory / "alertmanager.log", port)


def prometheus(directory: Path, jobs: dict[str, list[int]], alerts_to: int, rules: list[Path]) -> Service:
    """A Prometheus that looks every two seconds: a busy machine must not look like a target that is down."""
    config = {
        "global": {"scrape_interval": "2s", "scrape_timeout": "2s", "evaluation_interval": "500ms"},
        "rule_files": [str(path) for path in rules],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [f"127.0.0.1:{alerts_to}"]}]}]},
        "scrape_configs": [
            {"job_name": name, "static_configs": [{"targets": [f"127.0.0.1:{port}" for port in ports]}]}
            for name, ports in jobs.items()
        ],
    }
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "prometheus.yml").write_text(yaml.safe_dump(config))
    port = free_port()
    command = [
        program("prometheus"),
        f"--config.file={directory / 'prometheus.yml'}", f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.retention.time=1h",
    ]  # fmt: skip
    return Service(command, directory / "prometheus.log", port)


def told(bodies: list[Any]) -> list[tuple[str, dict[str, str]]]:
    """(status, labels) of every alert in the webhook's messages, in order."""
    return [(alert["status"], alert["labels"]) for body in bodies for alert in body["alerts"]]
