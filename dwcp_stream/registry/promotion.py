"""Make a version champion, or go back: the aliases move together, and only to a version that verifies."""

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
    moves: dict[Entry, int | None] = {"champion": version}
    beside: tuple[Alias, Alias] = ("challenger", "shadow")
    moves |= {alias: None for alias in beside if pointed.get(alias) == version}
    if before not in (None, version) and repository.verify(name, before, stream).ok:
        moves["last_good"] = before
    move_aliases(repository.root, name, moves, by=by, reason=reason)
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
            where=str(repository.root / FILE),
            remedy="Use `dwcp-stream models promote` with a version",
        )
    _demand(repository, name, version, stream)
    move_aliases(repository.root, name, {"champion": version}, by=by, reason=reason)
    return before, version


def _demand(repository: ModelRepository, name: str, version: int, stream: StreamDefinition | None) -> None:
    found = repository.verify(name, version, stream)
    if found.error is not None:
        raise found.error
