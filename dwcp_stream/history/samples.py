"""Decoded samples as tables: what `dwcp-stream train --data FILE` reads, made of what came through Kafka."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dwcp_stream.chunk import pieces
from dwcp_stream.streams import ChunkDecoder, StreamDefinition, decode_entity
from dwcp_stream.streams.decoded import Decoded

PARTITION, OFFSET = "kafka_partition", "kafka_offset"
"""Columns that tell which of two samples came first; they are no part of the telemetry."""


@dataclass(frozen=True)
class Records:
    """Raw records of one partition, columns side by side.

    Attributes
    ----------
    partition
        Its number.
    offsets, timestamps_ms
        Kafka offsets and record timestamps in milliseconds, n each.
    keys, values
        Their bytes.
    """

    partition: int
    offsets: Sequence[int]
    timestamps_ms: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]


class SampleReader:
    """Decodes records as a worker does, and counts what becomes of the samples.

    Parameters
    ----------
    stream
        The stream's definition.

    Attributes
    ----------
    samples, invalid
        Samples seen, and those of them that are invalid; a record that cannot be decoded counts as one.
    """

    def __init__(self, stream: StreamDefinition) -> None:
        self.stream = stream
        self.samples = self.invalid = 0
        self._decoder = ChunkDecoder(stream)

    def read(self, records: Records) -> pl.DataFrame:
        """Return the valid samples in their order, with the columns of `columns` and where each came from."""
        found = []
        for part in pieces(records.values):
            decoded = self._decoder.decode(records.values[part], records.keys[part], records.timestamps_ms[part])
            self.samples += decoded.samples_in
            self.invalid += sum(reject.samples for reject in decoded.rejects)
            offsets = np.asarray(records.offsets[part], np.int64)[decoded.record]
            found.append(
                table_of(self.stream, decoded).with_columns(
                    pl.lit(records.partition, pl.Int32).alias(PARTITION), pl.Series(OFFSET, offsets, pl.Int64)
                )
            )
        return pl.concat(found)


def columns(stream: StreamDefinition) -> Mapping[str, pl.DataType]:
    """Return the columns of a stream's samples: time in epoch seconds, entity parts, fields; words for coded ones."""
    kinds = {field.name: pl.String() if field.coded else pl.Float64() for field in stream.fields}
    return {stream.time: pl.Float64(), **dict.fromkeys(stream.entity, pl.String()), **kinds}


def table_of(stream: StreamDefinition, decoded: Decoded) -> pl.DataFrame:
    """Return decoded samples as a table; what is missing is null, counters are as they were sent."""
    parts = [decode_entity(entity) for entity in decoded.entities]
    series = [pl.Series(stream.time, decoded.ts, pl.Float64)]
    for i, name in enumerate(stream.entity):
        names = pl.Series(name, [part[i] if i < len(part) else None for part in parts], pl.String)
        series.append(names.gather(decoded.entity))
    for i, field in enumerate(stream.fields):
        values = decoded.values[:, i]
        series.append(
            _words(field.name, field.vocabulary, values)
            if field.coded
            else pl.Series(field.name, values, pl.Float64, nan_to_null=True)
        )
    return pl.DataFrame(series)


def once(table: pl.DataFrame, stream: StreamDefinition) -> pl.DataFrame:
    """Keep the first sample of each entity and time, in order of time.

    Parameters
    ----------
    table
        With the columns that `SampleReader.read` adds, by which the first one is told; they are dropped.
    """
    ordered = table.sort(PARTITION, OFFSET, maintain_order=True).drop(PARTITION, OFFSET)
    unique = ordered.unique([*stream.entity, stream.time], keep="first", maintain_order=True)
    return unique.sort(stream.time, *stream.entity, maintain_order=True)


def empty(stream: StreamDefinition) -> pl.DataFrame:
    """Return a table without samples."""
    return pl.DataFrame(schema={**columns(stream), PARTITION: pl.Int32(), OFFSET: pl.Int64()})


def _words(name: str, vocabulary: Sequence[str], codes: NDArray[np.float64]) -> pl.Series:
    words = pl.Series(name, vocabulary, pl.String)
    known = np.isfinite(codes)
    at = pl.Series(np.where(known, codes, 0).astype(np.int64))
    return words.gather(at).set(pl.Series(~known), None)
