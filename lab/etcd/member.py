"""One member of a cluster: an etcd process that can be paused, killed and started again."""

import asyncio
import mmap
import signal
import struct
import subprocess
from pathlib import Path
from typing import Final

from lab.etcd.errors import LabError

GRACE: Final = 10.0  # seconds a member may take to stop in good order


class Member:
    """An etcd process with a data directory and ports of its own.

    Parameters
    ----------
    index
        Position in the cluster; the name is `m<index>`.
    arguments
        Command line, etcd's program first.
    directory
        For its log and the control of its disk.
    launcher
        The compiled slow disk; None runs etcd without it, and `slow_disk` is refused.
    url
        Where it takes clients.
    """

    def __init__(self, index: int, arguments: list[str], directory: Path, launcher: Path | None, url: str) -> None:
        self.index, self.name, self.url = index, f"m{index}", url
        self.log = directory / f"{self.name}.log"
        self.wanted = False
        self._arguments = arguments
        self._launcher = launcher
        self._control = directory / f"{self.name}.disk"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def start(self) -> None:
        """Start the process; it is not yet ready then.

        To be called on the main thread: the process dies with the thread that started it, so that nothing stays
        behind even after a kill -9.
        """
        if self.pid is not None:
            return
        command = self._arguments
        if self._launcher is not None:
            self._control.write_bytes(bytes(8))
            command = [str(self._launcher), str(self._control), *command]
        with self.log.open("ab") as log:
            # A session of its own: Ctrl-C goes to the recorder, which then stops its members in order.
            self._process = subprocess.Popen(  # noqa: S603 - etcd from the PATH, and arguments of our own
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.wanted = True

    def pause(self) -> None:
        """Stop it where it is: it neither answers nor closes its connections."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused member go on."""
        self._signal(signal.SIGCONT)

    async def kill(self) -> None:
        """End it as a crash would."""
        self.wanted = False
        self._signal(signal.SIGKILL)
        await self._ended(GRACE)

    async def stop(self) -> None:
        """End it in good order (a leader hands over first); kill it if it takes too long."""
        self.wanted = False
        self._signal(signal.SIGTERM)
        self._signal(signal.SIGCONT)
        try:
            await self._ended(GRACE)
        except subprocess.TimeoutExpired:
            await self.kill()

    def slow_disk(self, delay_ms: float, jitter_ms: float = 0.0) -> None:
        """Make every sync take longer by a delay and a uniform share of a jitter, in ms; 0 ends it."""
        if self._launcher is None:
            raise LabError("the disk cannot be slowed", where=self.name, remedy="Make the cluster with disk=True")
        # In one store, by mapping: the helper reads the file while it is written.
        with self._control.open("r+b") as file, mmap.mmap(file.fileno(), 8) as view:
            view[:8] = struct.pack("=II", round(delay_ms * 1000), round(jitter_ms * 1000))

    def check(self) -> None:
        """Raise if it ended by itself.

        Raises
        ------
        LabError
            With the end of its log.
        """
        if self.wanted and self.pid is None:
            raise LabError(f"etcd ended by itself: {self.last_words()}", where=str(self.log), remedy="Read its log")

    def last_words(self) -> str:
        """Return the last lines of its log."""
        try:
            lines = self.log.read_text(errors="replace").splitlines()
        except OSError:
            return "no log"
        return " / ".join(lines[-3:])[-500:]

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    async def _ended(self, seconds: float) -> None:
        if self._process is not None:
            await asyncio.to_thread(self._process.wait, seconds)
