"""The programs a cluster needs: etcd itself, and the launcher that can slow its disk."""

import os
import random
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from lab.etcd.errors import LabError

SOURCE: Final = Path(__file__).with_name("slowdisk.c")
PORTS: Final = (20_000, 30_000)
"""Below the range that Linux takes for outgoing connections, so that a member that was killed finds its port free."""


def find_etcd() -> str:
    """Return the path of etcd's program.

    Raises
    ------
    LabError
        If it is not installed.
    """
    found = shutil.which("etcd")
    if found is None:
        raise LabError(
            "etcd is not installed",
            where="PATH",
            remedy="Run: scripts/system-packages etcd   (Debian package etcd-server; its service is not needed)",
        )
    return found


def build_slowdisk(directory: Path) -> Path:
    """Compile the launcher into a folder and return its path.

    Raises
    ------
    LabError
        If there is no C compiler, or it refuses.
    """
    compiler = shutil.which("gcc") or shutil.which("cc")
    remedy = "Run: scripts/system-packages etcd   (it also installs gcc and libc6-dev)"
    if compiler is None:
        raise LabError("no C compiler, which the slow disk needs", where="PATH", remedy=remedy)
    out = directory / "slowdisk"
    done = subprocess.run(  # noqa: S603 - a compiler from the PATH, and our own source
        [compiler, "-O2", "-Wall", "-Werror", "-o", str(out), str(SOURCE)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise LabError(f"does not compile: {done.stderr.strip()[:400]}", where=str(SOURCE), remedy=remedy)
    return out


def free_ports(count: int) -> list[int]:
    """Return ports of the loopback that nobody listens on."""
    chooser = random.SystemRandom()  # two clusters started from one seed must not want the same ports
    found: list[int] = []
    for port in chooser.sample(range(*PORTS), 2000):
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise LabError("no free ports", where=f"127.0.0.1:{PORTS[0]}-{PORTS[1]}", remedy="End what listens there")


def make_directory(parent: Path | None) -> Path:
    """Make a folder of a cluster's own, for data and logs.

    Parameters
    ----------
    parent
        Where; default the system's temporary folder. It should be on a disk: where syncing costs nothing, latencies
        are not those of a real cluster.
    """
    try:
        if parent is not None:
            parent.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix="dwcp-etcd-", dir=parent))
    except OSError as error:
        raise LabError(f"cannot make a folder: {error.strerror}", where=str(parent), remedy="Choose another") from error


def file_system(path: Path) -> str:
    """Return the kind of file system a path is on, such as ext4; empty if it cannot be told."""
    best, kind = "", ""
    try:
        lines = Path("/proc/self/mounts").read_text().splitlines()
    except OSError:
        return ""
    where = str(path.resolve())
    for line in lines:
        point, name = line.split()[1:3]
        inside = point in {"/", where} or where.startswith(point + os.sep)
        if inside and len(point) >= len(best):
            best, kind = point, name
    return kind
