"""Runs the blocks of a page as its reader would: in order, in one folder that looks like a clone."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.docs.pages import ROOT, Block

COPIED = ("config", "models")
LINKED = ("docs", "lab", "tests", "scripts", "benchmarks", "Makefile", "pyproject.toml", "constraints.txt", "README.md")
STOP_SECONDS = 40.0


def free_ports(count: int) -> int:
    """The first of some neighbouring ports that nothing listens on."""
    for first in range(20_000, 60_000, 97):
        try:
            for port in range(first, first + count):
                with socket.socket() as s:
                    s.bind(("127.0.0.1", port))
        except OSError:
            continue
        return first
    raise AssertionError("no free ports")


@dataclass
class Serving:
    """A block that runs until it is told to stop."""

    block: Block
    process: subprocess.Popen[bytes]
    log: Path

    def tail(self) -> str:
        """The end of what it printed."""
        return self.log.read_text()[-4000:]


class Session:
    """A folder, an environment, and what runs in it."""

    def __init__(self, folder: Path, bootstrap: str, name: str) -> None:
        self.folder = folder
        for part in COPIED:
            shutil.copytree(ROOT / part, folder / part)
        for part in LINKED:
            (folder / part).symlink_to(ROOT / part)
        (folder / ".venv").symlink_to(sys.prefix)
        ours = ("DWCP_", "MAKE", "MFLAGS")
        self.environment = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        self.environment |= {
            "PATH": f"{Path(sys.prefix) / 'bin'}:{os.environ['PATH']}",
            "DWCP_KAFKA__BOOTSTRAP_SERVERS": bootstrap,
            "DWCP_TOPICS__PREFIX": f"{name}.",
            "DWCP_APP_ID": name,
            "DWCP_HTTP__PORT": str(free_ports(8)),
            "COLUMNS": "120",
        }
        self.serving: list[Serving] = []

    def run(self, block: Block, timeout: float) -> str:
        """Run a block to its end and return what it printed; AssertionError if it fails."""
        self._alive()
        command = ["python", "-"] if block.language == "python" else ["bash", "-euo", "pipefail", "-s"]
        done = subprocess.run(
            command,
            input=block.text,
            cwd=self.folder,
            env=self.environment | ({"MAKEFLAGS": "n"} if "dry" in block.marks else {}),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )
        assert done.returncode == 0, (
            f"{block} ended with {done.returncode}:\n{block.text}\n{done.stdout}\n{done.stderr}"
        )
        self._alive()
        return done.stdout

    def serve(self, block: Block) -> None:
        """Start a block whose last line runs until it is told to stop."""
        *before, last = block.text.rstrip("\n").split("\n")
        log = self.folder / f"serve-{len(self.serving)}.log"
        with log.open("wb") as out:
            process = subprocess.Popen(
                ["bash", "-euo", "pipefail", "-c", "\n".join([*before, f"exec env {last}"])],
                cwd=self.folder,
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )
        self.serving.append(Serving(block, process, log))

    def _alive(self) -> None:
        for it in self.serving:
            assert it.process.poll() is None, f"{it.block} ended with {it.process.returncode}:\n{it.tail()}"

    def stop(self) -> None:
        """Tell everything that serves to stop; AssertionError if it does not end well."""
        for it in reversed(self.serving):
            if it.process.poll() is None:
                it.process.send_signal(signal.SIGTERM)
        for it in self.serving:
            try:
                it.process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(it.process.pid, signal.SIGKILL)
                it.process.wait()
        ended, self.serving = self.serving, []
        for it in ended:
            code = it.process.returncode
            assert code == 0, f"{it.block} ended with {code} when told to stop:\n{it.tail()}"
