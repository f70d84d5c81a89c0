"""Which version serves, and which runs beside it: aliases move together, and only to a version that verifies."""

from collections.abc import Mapping
from typing import Literal

from dwcp_stream.errors import ModelError
from dwcp_stream.registry.aliases import FILE, Alias, Entry, move_aliases
from dwcp_stream.registry.repository import ModelRepository
from dwcp_stream.streams import StreamDefinition


def promote(
    repository: ModelRepository,
    name: str,
    version: int,
    stream: StreamDefinition | None = None,
    *,
    by: str | None = None,
    reason: str = "",
) -> int | None:
    """Make a version champion; the one before becomes last_good, unless it does not verify any more.

    It is challenger and shadow no longer then.

    Parameters
    ----------
    stream
        Definition that the version must fit, if it is at hand.
    by, reason
        For the history of moves: who, if not the user of this process, and why.

    Returns
    -------
    int or None
        The champion before, if there was one.

    Raises
    ------
    ModelError
        If there is no such version, or it is refused; nothing has moved then.
    """
    _demand(repository, name, version, stream)
    pointed = repository.aliases(name)
    before = pointed.get("champion")
    moves = _alone(pointed, "champion", version)
    if before not in (None, version) and repository.verify(name, before, stream).ok:
        moves["last_good"] = before
    move_aliases(repository.storage, name, moves, by=by, reason=reason)
    return before


def rollback(
    repository: ModelRepository,
    name: str,
    stream: StreamDefinition | None = None,
    *,
    by: str | None = None,
    reason: str = "",
) -> tuple[int, int]:
    """Make last_good champion again; parameters as for `promote`.

    Returns
    -------
    tuple
        The champion before and the one now.

    Raises
    ------
    ModelError
        If there is no last good version or it is champion already, or it is refused; nothing has moved then.
    """
    version, before = repository.resolve(name, "last_good"), repository.aliases(name).get("champion")
    if before is None or before == version:
        raise ModelError(
            f"there is nothing to go back to: version {version} of {name!r} is last_good and champion is {before}",
            where=repository.storage.where(FILE),
            remedy="Use `dwcp-stream models promote` with a version",
        )
    _demand(repository, name, version, stream)
    moves = _alone(repository.aliases(name), "champion", version)
    move_aliases(repository.storage, name, moves, by=by, reason=reason)
    return before, version


def shadow(
    repository: ModelRepository,
    name: str,
    version: int | None,
    stream: StreamDefinition | None = None,
    *,
    by: str | None = None,
    reason: str = "",
) -> int | None:
    """Let a version score everything beside the champion without being heard, or none (None).

    It is challenger no longer then. Parameters and errors are those of `promote`; the champion is refused as well.

    Returns
    -------
    int or None
        The shadow before, if there was one.
    """
    return _beside(repository, name, "shadow", version, stream, by, reason)


def split(
    repository: ModelRepository,
    name: str,
    version: int | None,
    share: int,
    stream: StreamDefinition | None = None,
    *,
    by: str | None = None,
    reason: str = "",
) -> int | None:
    """Make a version challenger: it serves a share of the entities in the champion's place. None ends it.

    It is shadow no longer then. Parameters and errors are those of `promote`; the champion is refused as well.

    Parameters
    ----------
    share
        Percentage of the entities, 1 to 100; of no meaning without a version.

    Returns
    -------
    int or None
        The challenger before, if there was one.
    """
    if version is not None and not 1 <= share <= 100:
        raise ModelError(
            f"a share of {share} % is none", where=name, remedy="Give a whole percentage of the entities from 1 to 100"
        )
    return _beside(repository, name, "challenger", version, stream, by, reason, share)


def _beside(
    repository: ModelRepository,
    name: str,
    alias: Literal["challenger", "shadow"],
    version: int | None,
    stream: StreamDefinition | None,
    by: str | None,
    reason: str,
    share: int | None = None,
) -> int | None:
    pointed = repository.aliases(name)
    if version is None:
        repository.resolve(name, next(iter(repository.versions(name)), 1))  # says which models there are
        moves: dict[Entry, int | None] = {alias: None}
    else:
        if pointed.get("champion") == version:
            raise ModelError(
                f"version {version} of {name!r} is champion and cannot be its own {alias}",
                where=repository.storage.where(FILE),
                remedy="Choose another version; `dwcp-stream models list` shows them",
            )
        _demand(repository, name, version, stream)
        moves = _alone(pointed, alias, version)
        if share is not None:
            moves["share"] = share
    move_aliases(repository.storage, name, moves, by=by, reason=reason)
    return pointed.get(alias)


def _alone(pointed: Mapping[Alias, int], alias: Alias, version: int) -> dict[Entry, int | None]:
    """Return the moves that make a version `alias` and no other arm: each arm is another version."""
    moves: dict[Entry, int | None] = {alias: version}
    arms: tuple[Alias, ...] = ("champion", "challenger", "shadow")
    return moves | {arm: None for arm in arms if arm != alias and pointed.get(arm) == version}


def _demand(repository: ModelRepository, name: str, version: int, stream: StreamDefinition | None) -> None:
    found = repository.verify(name, version, stream)
    if found.error is not None:
        raise found.error
