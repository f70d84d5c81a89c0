"""`history.jsonl`: who moved which alias, when, from which version to which, and why."""

import getpass
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from dwcp_stream.errors import UNREADABLE, ModelError

FILE: Final = "history.jsonl"


class Move(msgspec.Struct, frozen=True, kw_only=True):
    """One alias that came to point at another version, or at none.

    `by` is a user and machine, or the key of a signed command with its place in the control topic.
    """

    at: str
    by: str
    model: str
    alias: str
    before: int | None
    version: int | None
    reason: str = ""


def local_user() -> str:
    """Return who runs this process, as user@machine."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def now() -> str:
    """Return the time as RFC 3339 with milliseconds."""
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def append_moves(root: Path, moves: list[Move]) -> None:
    """Add to the history, durably; the caller holds the lock of the aliases.

    A line that a crash has torn stays, and the next begins on a line of its own.
    """
    path = root / FILE
    with path.open("ab+") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                file.write(b"\n")
        file.write(b"".join(msgspec.json.encode(move) + b"\n" for move in moves))
        file.flush()
        os.fsync(file.fileno())


def read_history(root: Path, name: str | None = None) -> Iterator[Move]:
    """Yield the moves of all models, or of one, oldest first; what a crash has torn is passed over.

    Raises
    ------
    ModelError
        The file is there and cannot be read.
    """
    path = root / FILE
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return
    except OSError as error:
        raise ModelError(f"cannot be read: {error.strerror}", where=str(path), remedy="Check its rights") from error
    for line in lines:
        try:
            move = msgspec.json.decode(line, type=Move)
        except UNREADABLE:
            continue
        if name in (None, move.model):
            yield move
