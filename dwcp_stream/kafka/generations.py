"""Changelog keys carry the writer's group generation.

A worker that was paused and lost its partitions may write once more when it wakes. Because its generation is part of
the key, it cannot overwrite the new owner's snapshots under compaction; recovery takes the snapshot with the largest
applied offset, and the keys of other generations are deleted.
"""

from dwcp_stream.errors import UNREADABLE, StateError

PARTITION_KEY = "\x00partition"
"""Name under which a partition's own record stands; no entity can have it, because entities are percent-encoded."""

VERSIONS_KEY = "\x00versions"
"""Name under which a partition's schedule of model versions stands."""

OWN_KEYS = frozenset({PARTITION_KEY, VERSIONS_KEY})
"""Names that are no entity's."""


def make_key(name: str, generation: int) -> bytes:
    """Return the changelog key of an entity, or of the partition record, for a writer's generation."""
    return f"{name}@{generation}".encode()


def split_key(key: bytes) -> tuple[str, int]:
    """Return (name, generation) of a changelog key; StateError if it is none."""
    try:
        name, _, generation = key.decode().rpartition("@")
        return name, int(generation)
    except UNREADABLE as error:
        raise StateError(
            f"{key[:80]!r} is no key of a state topic",
            where="changelog",
            remedy="Something else wrote to the topic: stop it, and delete that key",
        ) from error


class Generations:
    """Which generation's key holds each name's current record in one partition, and which keys can go."""

    def __init__(self) -> None:
        self._current: dict[str, int] = {}
        self._stale: set[tuple[str, int]] = set()

    def winner(self, name: str) -> int | None:
        """Return the generation that holds a name's current record."""
        return self._current.get(name)

    def won(self, name: str, generation: int) -> None:
        """Note that a record under this generation is now the current one."""
        before = self._current.get(name)
        if before is not None and before != generation:
            self._stale.add((name, before))
        self._current[name] = generation
        self._stale.discard((name, generation))

    def lost(self, name: str, generation: int) -> None:
        """Note that a record under this generation is not the current one."""
        if self._current.get(name) != generation:
            self._stale.add((name, generation))

    def forget(self, name: str, generation: int) -> None:
        """Note that a key has been deleted."""
        self._stale.discard((name, generation))
        if self._current.get(name) == generation:
            del self._current[name]

    def retire(self, name: str) -> None:
        """Note that a name is gone (expired): all its keys can go."""
        generation = self._current.pop(name, None)
        if generation is not None:
            self._stale.add((name, generation))

    def stale(self) -> list[tuple[str, int]]:
        """Return the keys to delete once a partition record has been confirmed."""
        return sorted(self._stale)
