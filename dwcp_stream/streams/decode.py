"""Decoding of a chunk of Kafka records into checked samples: the hot path of every stream."""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import astuple
from numpy.typing import NDArray

from dwcp_stream.errors import UNREADABLE
from dwcp_stream.streams.blocks import BlockBuilder, join, select
from dwcp_stream.streams.decoded import Decoded, Fault, Reject
from dwcp_stream.streams.definition import StreamDefinition
from dwcp_stream.streams.entity_ids import EntityIds, number_by_appearance
from dwcp_stream.streams.nesting import MAX_DEPTH, SHALLOW_BYTES, too_deep
from dwcp_stream.streams.record_types import MAX_LEARNED, RecordTypes
from dwcp_stream.streams.salvage import Salvager, ragged, too_many_rows
from dwcp_stream.streams.validate import Samples, Validator

MAX_RECORD_BYTES = 8 * 2**20
MAX_FRAME_ROWS = 65_536
# records decoded in one go: their values stay in the processor's cache until they are arrays
_SWEEP = 512

__all__ = ["MAX_FRAME_ROWS", "MAX_RECORD_BYTES", "ChunkDecoder"]


class ChunkDecoder:
    """Decodes and validates records of one stream, a chunk at a time.

    A record is one sample, a JSON object, or a frame, an object of columns: a list of times, and for each
    entity part and field a list of the same length or one value for all rows. What comes out depends on
    the bytes alone: neither on how records are cut into chunks nor on what was decoded before.

    Parameters
    ----------
    stream
        The stream's definition.
    default_entity
        Encoded entity whose parts stand in for parts that a record lacks.
    check_ahead
        Whether a sample may not be more than `ahead_tolerance` ahead of its record's timestamp. Turn off
        for files, whose records have no timestamp of their own.
    max_record_bytes, max_frame_rows
        Larger records are rejected as too_large.

    Examples
    --------
    >>> from dwcp_stream.streams.definition import Field
    >>> stream = StreamDefinition(
    ...     name="demo", topic="demo", entity=("id",), step=1.0, window=5, fields=(Field(name="load", max=1),)
    ... )
    >>> decoded = ChunkDecoder(stream).decode(
    ...     [b'{"id": "a", "ts": 10, "load": 0.5}', b'{"id": "b", "ts": [10, 11], "load": [0.5, 7]}'],
    ...     [b"a", b"b"],
    ...     [10_000, 11_000],
    ... )
    >>> decoded.samples_in, decoded.entities, decoded.values[:, 0]
    (3, ['a', 'b'], array([0.5, 0.5]))
    >>> decoded.rejects[0].rows, decoded.rejects[0].error_type
    ((1,), 'out_of_range')
    """

    def __init__(
        self,
        stream: StreamDefinition,
        *,
        default_entity: str | None = None,
        check_ahead: bool = True,
        max_record_bytes: int = MAX_RECORD_BYTES,
        max_frame_rows: int = MAX_FRAME_ROWS,
    ) -> None:
        self.stream = stream
        self._check_ahead = check_ahead
        self._max_bytes = max_record_bytes
        self._max_rows = max_frame_rows
        self._types = RecordTypes(stream)
        self._salvager = Salvager(self._types, max_frame_rows)
        self._identities = EntityIds(stream, default_entity)
        self._builder = BlockBuilder(stream, self._identities)
        self._validator = Validator(stream)

    def decode(
        self,
        values: Sequence[bytes | None],
        keys: Sequence[bytes | None],
        timestamps_ms: Sequence[int],
    ) -> Decoded:
        """Decode one chunk; never raises for what the records hold.

        Parameters
        ----------
        values, keys
            Values and keys of n records.
        timestamps_ms
            Kafka timestamps of the records in milliseconds; negative means that a record has none.
        """
        self._identities.trim(len(values))
        chunk = _Chunk(values, keys)
        bounded = self._bound(values)
        for start in range(0, len(values), _SWEEP):
            self._sweep(chunk, start, bounded[start : start + _SWEEP])
        decoded = self._settle(chunk, join(chunk.blocks, len(self.stream.fields)), timestamps_ms)
        self._learn(chunk.learn)
        return decoded

    def _bound(self, values: Sequence[bytes | None]) -> Sequence[bytes]:
        """Put nothing in the place of records that must not be parsed; the second look says why."""
        try:
            if max(map(len, values), default=0) <= min(self._max_bytes, SHALLOW_BYTES):  # type: ignore[arg-type]
                return values  # type: ignore[return-value]
        except TypeError:  # a tombstone: None has no length
            pass
        return [b"" if value is None or len(value) > self._max_bytes or too_deep(value) else value for value in values]

    def _sweep(self, chunk: "_Chunk", start: int, values: Sequence[bytes]) -> None:
        """Decode some records in one go; each that is refused gets a second look."""
        rest = iter(values)
        width = len(self._types.names) + len(self._types.learned)
        flat: list[Any] = []
        refused: list[int] = []
        while True:
            try:
                # extend keeps what it got before an error, and `rest` then stands after the record at fault
                flat.extend(chain.from_iterable(map(astuple, map(self._types.decode_sample, rest))))
            except UNREADABLE:
                index = start + len(flat) // width + len(refused)
                salvaged = self._second_look(chunk, index)
                if salvaged is None:
                    refused.append(index)
                else:
                    flat.extend(salvaged)
            else:
                break
        if not flat:
            return
        record = np.arange(start, start + len(values), dtype=np.int64)
        keys = chunk.keys[start : start + len(values)]
        if refused:
            record = np.delete(record, np.array(refused) - start)
            keys = [chunk.keys[index] for index in record.tolist()]
        block, unknown = self._builder.singles(flat, width, record, keys)
        chunk.unknown += unknown
        chunk.blocks.append(block)

    def _second_look(self, chunk: "_Chunk", index: int) -> tuple[Any, ...] | None:
        """Take record `index` as a frame, or field by field; returns its values if it is a single sample."""
        value = chunk.values[index]
        if not value:
            chunk.faults[index] = Fault("undecodable", "the record has no value")
            return None
        if len(value) > self._max_bytes:
            reason = f"the record has {len(value)} bytes, more than {self._max_bytes}"
            chunk.faults[index] = Fault("too_large", reason)
            return None
        if too_deep(value):
            chunk.faults[index] = Fault("undecodable", f"the record is nested more than {MAX_DEPTH} levels")
            return None
        try:
            frame = self._types.decode_frame(value)
        except UNREADABLE:
            return self._salvage(chunk, index, value)
        columns = astuple(frame)
        known = len(self._types.names)
        chunk.unknown += sum(column is not msgspec.UNSET for column in columns[known:])
        self._add_frame(chunk, index, columns[:known])
        return None

    def _salvage(self, chunk: "_Chunk", index: int, value: bytes) -> tuple[Any, ...] | None:
        found = self._salvager.salvage(value)
        chunk.unknown += found.unknown
        chunk.learn.update(dict.fromkeys(found.names))
        if found.fault is not None:
            chunk.faults[index] = found.fault
        elif found.rows is None:
            # its unknown fields are counted, so none of the learned ones is said to be there
            return (*found.columns, *[msgspec.UNSET] * len(self._types.learned))
        else:
            chunk.bad_rows.update({(index, row): fault for row, fault in found.bad.items()})
            self._add_frame(chunk, index, found.columns)
        return None

    def _add_frame(self, chunk: "_Chunk", index: int, columns: Sequence[Any]) -> None:
        rows = len(columns[0])
        if rows > self._max_rows:
            chunk.faults[index] = too_many_rows(rows, self._max_rows)
            return
        for name, column in zip(self._types.names, columns, strict=True):
            if isinstance(column, list) and len(column) != rows:
                chunk.faults[index] = ragged(name, len(column), rows)
                return
        chunk.frames.add(index)
        if rows:
            chunk.blocks.append(self._builder.frame(columns, index, chunk.keys[index]))

    def _settle(self, chunk: "_Chunk", samples: Samples, timestamps_ms: Sequence[int]) -> Decoded:
        """Validate, part good from bad, and number the entities of the good."""
        n = len(samples.record)
        rejects = [Reject(index, (), 1, *fault) for index, fault in chunk.faults.items()]
        mismatches = 0
        entity = np.empty(0, np.int64)
        if n:
            entity = self._identities.entities(samples.identity)
            mismatch = self._identities.mismatches(samples.identity)
            if mismatch.any():
                mismatches = len(np.unique(samples.record[mismatch]))
            bad = self._validator.bad(samples, entity, self._limits(samples, timestamps_ms))
            for position in self._positions(chunk, samples):
                bad[position] = True
            if bad.any():
                rejects += self._rejects(chunk, samples, bad)
                rejects.sort()
                samples, entity = select(samples, ~bad), entity[~bad]
        codes, distinct = number_by_appearance(entity, len(self._identities.names))
        return Decoded(
            samples_in=n + len(chunk.faults),
            record=samples.record,
            row=samples.row,
            ts=samples.ts,
            entity=codes,
            entities=[self._identities.names[number] for number in distinct.tolist()],
            values=samples.values,
            rejects=rejects,
            unknown_fields=chunk.unknown,
            key_mismatches=mismatches,
        )

    def _limits(self, samples: Samples, timestamps_ms: Sequence[int]) -> NDArray[np.float64] | None:
        if not self._check_ahead:
            return None
        stamp = np.asarray(timestamps_ms, dtype=np.float64) / 1000.0
        limit = np.where(stamp < 0, np.inf, stamp + self.stream.ahead_tolerance)
        return limit[samples.record]

    @staticmethod
    def _positions(chunk: "_Chunk", samples: Samples) -> list[int]:
        """Positions of the rows already known to be bad."""
        starts: dict[int, int] = {}
        for record, _ in chunk.bad_rows:
            if record not in starts:
                starts[record] = int(np.searchsorted(samples.record, record))
        return [starts[record] + row for record, row in chunk.bad_rows]

    def _rejects(self, chunk: "_Chunk", samples: Samples, bad: NDArray[np.bool_]) -> list[Reject]:
        """One reject per record that has a bad row, explained by the first of them."""

        def original(at: int, name: str) -> object:
            record = int(samples.record[at])
            given = msgspec.json.decode(chunk.values[record] or b"", type=dict[str, msgspec.Raw])[name]
            if record in chunk.frames and bytes(given).startswith(b"["):
                # only this row's item: others of the column may be what no decoder takes
                given = msgspec.json.decode(given, type=list[msgspec.Raw])[int(samples.row[at])]
            return msgspec.json.decode(given)

        at = np.flatnonzero(bad)
        records, first, counts = np.unique(samples.record[at], return_index=True, return_counts=True)
        rejects = []
        for record, begin, count in zip(records.tolist(), first.tolist(), counts.tolist(), strict=True):
            position = int(at[begin])
            fault = chunk.bad_rows.get((record, int(samples.row[position])))
            if fault is None:
                reason = self._identities.reasons.get(int(samples.identity[position]))
                fault = self._validator.explain(samples, position, reason, original)
            rows: tuple[int, ...] = ()
            if record in chunk.frames:
                rows = tuple(samples.row[at[begin : begin + count]].tolist())
            rejects.append(Reject(record, rows, count, *fault))
        return rejects

    def _learn(self, names: dict[str, None]) -> None:
        """Make unknown fields that were seen part of the types, so that the next chunk decodes fast."""
        learned = self._types.learned
        new = tuple(name for name in names if name not in learned)[: MAX_LEARNED - len(learned)]
        if new:
            self._types = RecordTypes(self.stream, learned + new)


class _Chunk:
    """What is known about a chunk while it is decoded."""

    def __init__(self, values: Sequence[bytes | None], keys: Sequence[bytes | None]) -> None:
        self.values, self.keys = values, keys
        self.blocks: list[Samples] = []
        self.frames: set[int] = set()
        self.faults: dict[int, Fault] = {}  # records that are bad as a whole
        self.bad_rows: dict[tuple[int, int], Fault] = {}
        self.unknown = 0
        self.learn: dict[str, None] = {}
