"""`aliases.json`: which version of a model is champion, challenger, shadow or last_good, and the challenger's share."""

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from dwcp_stream.errors import UNREADABLE, ModelError
from dwcp_stream.registry.atomic import replace_file
from dwcp_stream.registry.history import Move, append_moves, local_user, now

FILE: Final = "aliases.json"
Alias = Literal["champion", "challenger", "shadow", "last_good"]
ALIASES: Final[tuple[Alias, ...]] = ("champion", "challenger", "shadow", "last_good")
Entry = Alias | Literal["share"]
"""`share` is the percentage of entities that the challenger serves."""
ENTRIES: Final[tuple[Entry, ...]] = (*ALIASES, "share")
Table = dict[str, dict[Entry, Annotated[int, msgspec.Meta(ge=1)]]]


def read_aliases(root: Path) -> dict[str, dict[Alias, int]]:
    """Read the aliases of all models; empty if there is no file yet.

    Raises
    ------
    ModelError
        If the file is not {name: {alias: version}}.
    """
    table = _read(root)
    return {name: {alias: row[alias] for alias in ALIASES if alias in row} for name, row in table.items()}


def read_share(root: Path, name: str) -> int:
    """Return the percentage of entities that a model's challenger serves; 0 if it has none."""
    return _read(root).get(name, {}).get("share", 0)


def _read(root: Path) -> Table:
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


def move_alias(root: Path, name: str, alias: Entry, version: int | None) -> None:
    """Point an alias at a version, or at nothing (None); see `move_aliases`."""
    move_aliases(root, name, {alias: version})


def move_aliases(
    root: Path, name: str, moves: Mapping[Entry, int | None], *, by: str | None = None, reason: str = ""
) -> None:
    """Point aliases of one model at versions, or at nothing (None), and note it in the history.

    Readers see the old table or the new one, never a mixture; several processes may move aliases at once. The history
    comes first: it may hold a move that a crash prevented, but lacks none.

    Parameters
    ----------
    by
        Who moves them; the user of this process if not given.
    reason
        Why, for people.
    """
    with _locked(root):
        table = _read(root)
        of_model = table.setdefault(name, {})
        if moves.get("challenger", 0) is None:  # nobody has a share then
            moves = {**moves, "share": None}
        at, who = now(), by or local_user()
        news = [
            Move(at=at, by=who, model=name, alias=alias, before=of_model.get(alias), version=version, reason=reason)
            for alias, version in moves.items()
            if of_model.get(alias) != version
        ]
        if not news:
            return
        append_moves(root, news)
        for alias, version in moves.items():
            if version is None:
                of_model.pop(alias, None)
            else:
                of_model[alias] = version
        ordered = {
            model: {entry: row[entry] for entry in ENTRIES if entry in row}
            for model, row in sorted(table.items())
            if row
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
