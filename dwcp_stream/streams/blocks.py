"""Columns of Python values as blocks of arrays: one block for the single samples, one for each frame."""

from collections.abc import Sequence
from itertools import repeat
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from dwcp_stream.streams.definition import StreamDefinition
from dwcp_stream.streams.entity_ids import EntityIds
from dwcp_stream.streams.floats import floats
from dwcp_stream.streams.timestamps import seconds
from dwcp_stream.streams.validate import Samples
from dwcp_stream.streams.vocabulary import Codes


class BlockBuilder:
    """Turns decoded columns (time, entity parts, fields) into arrays."""

    def __init__(self, stream: StreamDefinition, identities: EntityIds) -> None:
        self._parts = len(stream.entity)
        self._codes = [Codes(field) if field.coded else None for field in stream.fields]
        self._identities = identities

    def singles(
        self, flat: list[Any], width: int, record: NDArray[np.int64], keys: Sequence[bytes | None]
    ) -> tuple[Samples, int]:
        """Build a block of single samples.

        Parameters
        ----------
        flat
            Values of n samples, at least one: those of the first, then those of the second, and so on.
        width
            Values per sample.
        record
            int64 [n], their records.
        keys
            Keys of these records, n.

        Returns
        -------
        block, unknown
            The block, and how many learned unknown fields the samples have.
        """
        columns = [flat[index::width] for index in range(width)]
        first = 1 + self._parts
        last = first + len(self._codes)
        n = len(record)
        identity = np.fromiter(
            map(self._identities.__getitem__, zip(keys, *columns[1:first], strict=True)), np.int64, n
        )
        values = self._values(columns[first:last], n)
        unknown = sum(n - column.count(msgspec.UNSET) for column in columns[last:])
        block = Samples(record, np.zeros(n, np.int64), seconds(columns[0]), identity, values)
        return block, unknown

    def frame(self, columns: Sequence[Any], record: int, key: bytes | None) -> Samples:
        """Build the block of one frame whose lists are all as long as its first column, the times."""
        ts = seconds(columns[0])
        n = len(ts)
        first = 1 + self._parts
        entity = columns[1:first]
        if any(isinstance(part, list) for part in entity):
            parts = [part if isinstance(part, list) else repeat(part, n) for part in entity]
            each = zip(repeat(key, n), *parts, strict=True)
            identity = np.fromiter(map(self._identities.__getitem__, each), np.int64, n)
        else:
            identity = np.full(n, self._identities[key, *entity])
        values = self._values(columns[first : first + len(self._codes)], n)
        return Samples(np.full(n, record), np.arange(n), ts, identity, values)

    def _values(self, columns: Sequence[Any], n: int) -> NDArray[np.float64]:
        values = np.empty((n, len(self._codes)), dtype=np.float64)
        for index, (column, codes) in enumerate(zip(columns, self._codes, strict=True)):
            if not isinstance(column, list):  # absent, or one value for the whole frame
                values[:, index] = np.nan if column is None else column if codes is None else codes[column]
            elif codes is None:
                values[:, index] = floats(column)
            elif column.count(column[0]) == n:  # a category is constant more often than not
                values[:, index] = codes[column[0]]
            else:
                values[:, index] = np.fromiter(map(codes.__getitem__, column), np.float64, n)
        return values


def join(blocks: Sequence[Samples], fields: int) -> Samples:
    """Concatenate blocks in record order."""
    if not blocks:
        none = np.empty(0, np.int64)
        return Samples(none, none, np.empty(0), none, np.empty((0, fields)))
    if len(blocks) == 1:
        return blocks[0]
    record = np.concatenate([block.record for block in blocks])
    joined = Samples(
        record,
        np.concatenate([block.row for block in blocks]),
        np.concatenate([block.ts for block in blocks]),
        np.concatenate([block.identity for block in blocks]),
        np.concatenate([block.values for block in blocks]),
    )
    if (np.diff(record) >= 0).all():
        return joined
    return select(joined, np.argsort(record, kind="stable"))


def select(samples: Samples, at: NDArray[np.int64] | NDArray[np.bool_]) -> Samples:
    """Take some samples, by index or by mask."""
    return Samples(samples.record[at], samples.row[at], samples.ts[at], samples.identity[at], samples.values[at])
