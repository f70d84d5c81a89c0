"""`aliases.json`: which version of a model is champion, challenger, shadow or last_good, and the challenger's share."""

from collections.abc import Mapping
from typing import Annotated, Final, Literal

import msgspec

from dwcp_stream.errors import UNREADABLE, ModelError
from dwcp_stream.registry.history import Move, append_moves, local_user, now
from dwcp_stream.registry.storage import Root, Storage, open_storage

FILE: Final = "aliases.json"
MAX_BYTES: Final = 4 << 20
Alias = Literal["champion", "challenger", "shadow", "last_good"]
ALIASES: Final[tuple[Alias, ...]] = ("champion", "challenger", "shadow", "last_good")
Entry = Alias | Literal["share"]
"""`share` is the percentage of entities that the challenger serves."""
ENTRIES: Final[tuple[Entry, ...]] = (*ALIASES, "share")
Table = dict[str, dict[Entry, Annotated[int, msgspec.Meta(ge=1)]]]


def read_aliases(root: Root) -> dict[str, dict[Alias, int]]:
    """Read the aliases of all models; empty if there is no file yet.

    Raises
    ------
    ModelError
        If the file is not {name: {alias: version}}.
    """
    table = _read(open_storage(root))
    return {name: {alias: row[alias] for alias in ALIASES if alias in row} for name, row in table.items()}


def read_share(root: Root, name: str) -> int:
    """Return the percentage of entities that a model's challenger serves; 0 if it has none."""
    return _read(open_storage(root)).get(name, {}).get("share", 0)


def _read(storage: Storage) -> Table:
    try:
        return msgspec.json.decode(storage.read(FILE, MAX_BYTES), type=Table)
    except FileNotFoundError:
        return {}
    except (*UNREADABLE, OSError) as error:
        raise ModelError(
            f"is not a table of aliases: {error}",
            where=storage.where(FILE),
            remedy="Restore it; the versions themselves are untouched",
        ) from error


def move_alias(root: Root, name: str, alias: Entry, version: int | None) -> None:
    """Point an alias at a version, or at nothing (None); see `move_aliases`."""
    move_aliases(root, name, {alias: version})


def move_aliases(
    root: Root, name: str, moves: Mapping[Entry, int | None], *, by: str | None = None, reason: str = ""
) -> None:
    """Point aliases of one model at versions, or at nothing (None), and note it in the history.

    Readers see the old table or the new one, never a mixture; several processes may move aliases at once
    if the storage keeps them apart, as a folder does. The history
    comes first: it may hold a move that a crash prevented, but lacks none.

    Parameters
    ----------
    by
        Who moves them; the user of this process if not given.
    reason
        Why, for people.
    """
    storage = open_storage(root)
    with storage.exclusive():
        table = _read(storage)
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
        append_moves(storage, news)
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
        storage.replace(FILE, msgspec.json.format(msgspec.json.encode(ordered), indent=2) + b"\n")
