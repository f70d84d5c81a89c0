"""Which versions may go, and in what two versions differ."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from dwcp_stream.registry.history import read_history
from dwcp_stream.registry.repository import ModelRepository
from dwcp_stream.registry.signatures import signature_path

QUIET = ("files", "reference")
"""Keys of a manifest in which two versions always differ and that say nothing to people."""


def removable(
    repository: ModelRepository, name: str, *, keep: int, days: float, now: datetime | None = None
) -> list[int]:
    """Return the versions of a model that nothing needs.

    Needed are those that an alias points at, the newest ones, and those that an alias has pointed at lately: a worker
    that comes back after a crash scores again with the version that scored first.

    Parameters
    ----------
    keep
        Newest versions that stay.
    days
        How far back "lately" goes; by the history of moves.
    now
        The present, for tests.
    """
    versions = repository.versions(name)
    since = (now or datetime.now(UTC)) - timedelta(days=days)
    needed = {*versions[-keep:], *repository.aliases(name).values()}
    for move in read_history(repository.storage, name):
        if move.alias != "share" and datetime.fromisoformat(move.at) >= since:
            needed |= {version for version in (move.before, move.version) if version is not None}
    return [version for version in versions if version not in needed]


def remove(repository: ModelRepository, name: str, version: int) -> None:
    """Remove a version and its signature; it disappears at once, whatever happens in between."""
    repository.storage.remove(f"{name}/{version}")
    repository.storage.remove(signature_path(name, version))


def differences(repository: ModelRepository, name: str, before: str | int, after: str | int) -> list[dict[str, Any]]:
    """Return the keys of two versions' manifests, dotted, whose values differ: `key`, `before`, `after`.

    Raises
    ------
    ModelError
        There is no such version, or its manifest cannot be read.
    """
    left, right = (dict(leaves(msgspec.to_builtins(repository.manifest(name, which)))) for which in (before, after))
    keys = [key for key in dict.fromkeys((*left, *right)) if key.split(".")[0] not in QUIET]
    return [
        {"key": key, "before": left.get(key), "after": right.get(key)}
        for key in keys
        if left.get(key) != right.get(key)
    ]


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested mappings with their dotted paths."""
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from leaves(inner, f"{path}.{key}" if path else key)
    else:
        yield path, value
