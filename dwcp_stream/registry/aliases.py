"""`aliases.json`: which version of a model is champion, challenger, shadow or last_good."""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from dwcp_stream.errors import UNREADABLE, ModelError
from dwcp_stream.registry.atomic import replace_file

FILE: Final = "aliases.json"
Alias = Literal["champion", "challenger", "shadow", "last_good"]
ALIASES: Final[tuple[Alias, ...]] = ("champion", "challenger", "shadow", "last_good")
Table = dict[str, dict[Alias, Annotated[int, msgspec.Meta(ge=1)]]]


def read_aliases(root: Path) -> Table:
    """Read the aliases of all models; empty if there is no file yet.

    Raises
    ------
    ModelError
        If the file is not {name: {alias: version}}.
    """
    path = root / FILE
    try:
        return msgspec.json.decode(path.read_bytes(), type=Table)
    except FileNotFoundError:
        return {}
    except (*UNREADABLE, OSError) as error:
        raise ModelError(
            f"is not a table of aliases: {error}",
            where=str(path),
            remedy="Restore it; the versions themselves are untouched",
        ) from error


def move_alias(root: Path, name: str, alias: Alias, version: int | None) -> None:
    """Point an alias at a version, or at nothing (None); see `move_aliases`."""
    move_aliases(root, name, {alias: version})


def move_aliases(root: Path, name: str, moves: Mapping[Alias, int | None]) -> None:
    """Point aliases of one model at versions, or at nothing (None).

    Readers see the old table or the new one, never a mixture; several processes may move aliases at once.
    """
    with _locked(root):
        table = read_aliases(root)
        of_model = table.setdefault(name, {})
        for alias, version in moves.items():
            if version is None:
                of_model.pop(alias, None)
            else:
                of_model[alias] = version
        ordered = {
            model: {a: aliases[a] for a in ALIASES if a in aliases}
            for model, aliases in sorted(table.items())
            if aliases
        }
        replace_file(root / FILE, msgspec.json.format(msgspec.json.encode(ordered), indent=2) + b"\n")


@contextmanager
def _locked(root: Path) -> Iterator[None]:
    """Hold an advisory lock on the folder, so that of two writers none loses the other's change."""
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)  # releases the lock
