"""Entities of records as small integers, remembered from chunk to chunk so that each is encoded once."""

from array import array
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.streams.definition import StreamDefinition
from dwcp_stream.streams.entity import decode_entity, encode_entity

_FIRST_IDS, _MAX_IDS = 8192, 262_144
_MAX_BYTES = 64 * 2**20
_WORTHWHILE = 8
"""Records for each identity remembered, below which more had better been remembered."""
_FEW = 512
"""Identities that are taken for present at the least: to forget fewer saves nothing."""
_TURNOVER = 2
"""All is forgotten once there are so many times the identities that are present."""

Part = str | int | None


class EntityIds(dict[tuple[bytes | Part, ...], int]):
    """Identity of each (record key, part, part, ...) seen: `ids[key, *parts]` is an index, made when new.

    Parameters
    ----------
    stream
        Its entity parts, and which of them may be absent.
    default_entity
        Encoded entity whose parts stand in for absent ones (telemetry of a single entity).
    """

    def __init__(self, stream: StreamDefinition, default_entity: str | None = None) -> None:
        super().__init__()
        self._parts = stream.entity
        self._required = len(stream.entity) - len(stream.entity_optional)
        self._default = decode_entity(default_entity) if default_entity else ()
        self._limit = _FIRST_IDS
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.clear()
        self._bytes = self._records = 0
        self._present: int | None = None
        self._numbers: dict[str, int] = {}
        self.names: list[str] = []
        self.reasons: dict[int, str] = {}
        self._entity = array("q")
        self._mismatch = array("b")

    def trim(self, records: int) -> None:
        """Forget everything if it has grown past its bound; to be called before each chunk of `records`.

        The bound grows while it is reached too soon, which is when there are more entities than it lets in. Where they
        come and go it is reached late, and those that have gone are forgotten.

        Where few come and go that would be hours late. So once each identity has had some records, which tells how
        many are present, twice as many are taken for a sign that the others have gone.
        """
        worthwhile = self._records >= max(1, _WORTHWHILE * len(self))
        if self._present is None and worthwhile:
            self._present = max(len(self), _FEW)
        if len(self) > self._limit or self._bytes > _MAX_BYTES:
            if not worthwhile:
                self._limit = min(2 * self._limit, _MAX_IDS)
            self.reset()
        elif self._present is not None and worthwhile and len(self) > _TURNOVER * self._present:
            self.reset()
        self._records += records

    def __missing__(self, identity: tuple[bytes | Part, ...]) -> int:
        key, *parts = identity
        number = self[identity] = len(self)
        entity = -1
        try:
            name = self._encode(parts)  # type: ignore[arg-type]
            entity = self._numbers.setdefault(name, len(self._numbers))
            if entity == len(self.names):
                self.names.append(name)
            self._mismatch.append(key != name.encode())
            self._bytes += len(name)
        except ValueError as error:
            self.reasons[number] = str(error)
            self._mismatch.append(False)
        self._entity.append(entity)
        self._bytes += sum(map(_size, identity))
        return number

    def entities(self, numbers: NDArray[np.int64]) -> NDArray[np.int64]:
        """Give each identity's index into `names`; -1 where it is invalid (`reasons` says why)."""
        return np.frombuffer(self._entity, dtype=np.int64)[numbers]

    def mismatches(self, numbers: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Tell whether the record key differs from the entity."""
        return np.frombuffer(self._mismatch, dtype=np.bool_)[numbers]

    def _encode(self, given: Sequence[Part]) -> str:
        parts: list[str] = []
        for index, part in enumerate(given):
            value = part
            if value is None and index < len(self._default):
                value = self._default[index]
            if value is None:
                if index < self._required:
                    raise ValueError(f"{self._parts[index]} is missing")
                continue
            if index > len(parts):
                raise ValueError(f"{self._parts[index]} is given without {self._parts[len(parts)]}")
            parts.append(str(value))
        return encode_entity(parts)


def _size(part: bytes | Part) -> int:
    """Bytes that are about what a part takes; an integer may have thousands of digits."""
    if isinstance(part, int):
        return part.bit_length() // 8
    return 0 if part is None else len(part)


def number_by_appearance(entities: NDArray[np.int64], total: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Renumber in order of first appearance without sorting.

    Parameters
    ----------
    entities
        int64 [n], values in 0..total-1.
    total
        One more than the largest possible value.

    Returns
    -------
    codes, distinct
        int64 [n] with `distinct[codes] == entities`, and the distinct values in order of appearance.
    """
    n = len(entities)
    order = np.arange(n)
    first = np.empty(total, dtype=np.int64)
    first[entities[::-1]] = order[::-1]  # the last write wins, so each keeps its first position
    distinct = entities[first[entities] == order]
    codes = np.empty(total, dtype=np.int64)
    codes[distinct] = np.arange(len(distinct))
    return codes[entities], distinct
