"""`history.jsonl`: who moved which alias, when, from which version to which, and why."""

import getpass
import os
import socket
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

import msgspec

from dwcp_stream.errors import UNREADABLE, ModelError
from dwcp_stream.registry.storage import Root, open_storage

FILE: Final = "history.jsonl"
MAX_BYTES: Final = 256 << 20


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


def append_moves(root: Root, moves: list[Move]) -> None:
    """Add to the history, durably; the caller keeps other writers out."""
    open_storage(root).append(FILE, b"".join(msgspec.json.encode(move) + b"\n" for move in moves))


def read_history(root: Root, name: str | None = None) -> Iterator[Move]:
    """Yield the moves of all models, or of one, oldest first; what a crash has torn is passed over.

    Raises
    ------
    ModelError
        The file is there and cannot be read, or is larger than `MAX_BYTES`.
    """
    storage = open_storage(root)
    try:
        data = storage.read(FILE, MAX_BYTES)
    except FileNotFoundError:
        return
    except OSError as error:
        raise ModelError(
            f"cannot be read: {error.strerror}", where=storage.where(FILE), remedy="Check its rights"
        ) from error
    if len(data) > MAX_BYTES:
        raise ModelError(
            f"is larger than {MAX_BYTES} bytes", where=storage.where(FILE), remedy="Move it away; a new one begins"
        )
    for line in data.split(b"\n"):
        try:
            move = msgspec.json.decode(line, type=Move)
        except UNREADABLE:
            continue
        if name in (None, move.model):
            yield move
