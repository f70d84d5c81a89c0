"""Telemetry files: CSV or Parquet, also gzipped, as tables with a stream's columns, and as records."""

import gzip
import io
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from dwcp_stream.errors import PayloadError
from dwcp_stream.streams.decode import ChunkDecoder
from dwcp_stream.streams.decoded import Decoded
from dwcp_stream.streams.definition import StreamDefinition
from dwcp_stream.streams.encode import encode_sample
from dwcp_stream.streams.entity import decode_entity
from dwcp_stream.streams.timestamps import MAX_SECONDS

_SCALARS = (pl.String, pl.Boolean, pl.Null, pl.Categorical, pl.Enum)


def read_table(
    path: Path | str,
    stream: StreamDefinition,
    entity: str | None = None,
    *,
    extra: Sequence[str] = (),
) -> pl.DataFrame:
    """Read a file of samples.

    Parameters
    ----------
    path
        `*.csv` or `*.parquet`, either with `.gz`.
    stream
        Whose columns are read: the time, the entity's parts, the fields; others are ignored.
    entity
        Encoded entity whose parts stand in for entity columns that the file lacks: all parts by position,
        or just as many as are missing. A file that lacks them is one entity; where a single part tells entities
        apart it is named after the file unless told.
    extra
        Further columns to keep, such as a label.

    Returns
    -------
    polars.DataFrame
        Rows in file order. The time as Float64 epoch seconds (null where it is missing or no time), entity
        parts as String, fields as the file has them, then `extra`. Fields the file lacks are left out.

    Raises
    ------
    PayloadError
        Naming the file, the column and the remedy.
    """
    path = Path(path)
    frame = read_columns(path, stream.entity)
    if stream.time not in frame.columns:
        near = next((name for name in ("timestamp", "time", "ts") if name in frame.columns), None)
        raise PayloadError(
            f'there is no time column "{stream.time}"',
            where=str(path),
            remedy=f'Rename "{near}" to "{stream.time}"' if near else f'Add "{stream.time}", epoch seconds',
        )
    fields = [name for name in stream.field_names if name in frame.columns]
    if not fields:
        raise PayloadError(
            f"it has none of the fields of stream {stream.name}",
            where=str(path),
            remedy=f"Expected are columns such as {', '.join(stream.field_names[:4])}",
        )
    for name in fields:
        kind = frame[name].dtype
        if not kind.is_numeric() and kind not in _SCALARS:
            raise PayloadError(f'column "{name}" holds {kind}', where=str(path), remedy="Write numbers or words")
    for name in extra:
        if name not in frame.columns:
            raise PayloadError(f'there is no column "{name}"', where=str(path), remedy="Add it to the file")
    return frame.select(
        epoch_seconds(frame[stream.time], path),
        *_entity_columns(frame, stream, entity, path),
        *(pl.col(name) for name in fields),
        *(pl.col(name) for name in extra if name not in fields),
    )


def rows_to_records(table: pl.DataFrame, stream: StreamDefinition) -> Iterator[tuple[bytes, bytes, int]]:
    """Yield (key, value, timestamp in ms) of each row of a table made by `read_table`, in its order.

    A record's timestamp is its sample's time; that of a row without a valid time is the last one's.
    """
    parts = [name for name in stream.entity if name in table.columns]
    fields = [field for field in stream.fields if field.name in table.columns]
    names = [field.name for field in fields]
    split = 1 + len(parts)
    stamp = 0
    columns = [_cells(table[field.name], text=field.coded) for field in fields]
    for row in zip(*(table[name] for name in (stream.time, *parts)), *columns, strict=True):
        ts = row[0]
        if ts is not None and 0 <= ts < MAX_SECONDS:
            stamp = round(ts * 1000)
        entity = dict(zip(parts, row[1:split], strict=True))
        key, value = encode_sample(stream, entity, ts, dict(zip(names, row[split:], strict=True)))
        yield key, value, stamp


def decode_table(table: pl.DataFrame, stream: StreamDefinition) -> Decoded:
    """Decode a whole table the way the daemon would; `record` of the result is the row in the table."""
    records = list(rows_to_records(table, stream))
    return ChunkDecoder(stream, check_ahead=False).decode(
        [value for _, value, _ in records], [key for key, _, _ in records], [ts for _, _, ts in records]
    )


def read_columns(path: Path, text: Sequence[str] = ()) -> pl.DataFrame:
    """Read a whole file, whatever its columns are.

    Parameters
    ----------
    path
        `*.csv` or `*.parquet`, either with `.gz`.
    text
        Columns of a CSV that are text even where they look like numbers: node 007 is not node 7.

    Raises
    ------
    PayloadError
        If it cannot be read.
    """
    suffixes = [suffix.lower() for suffix in path.suffixes]
    zipped = suffixes[-1:] == [".gz"]
    kind = "".join(suffixes[:-1][-1:] if zipped else suffixes[-1:])
    if kind not in (".csv", ".parquet"):
        raise PayloadError(
            "the kind of file is unknown", where=str(path), remedy="Name it *.csv or *.parquet (or with .gz)"
        )
    try:
        content = path.read_bytes()
        content = gzip.decompress(content) if zipped else content
        if kind == ".parquet":
            return pl.read_parquet(io.BytesIO(content))
        kept = dict.fromkeys(text, pl.String)
        return pl.read_csv(io.BytesIO(content), schema_overrides=kept, infer_schema_length=None, raise_if_empty=True)
    except OSError as error:  # gzip's errors too
        raise PayloadError(
            f"cannot read the file: {error.strerror or error}",
            where=str(path),
            remedy="Check path and rights",
        ) from error
    except (pl.exceptions.PolarsError, EOFError, ValueError) as error:
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise PayloadError(
            f"not a readable {kind[1:]} file: {first}",
            where=str(path),
            remedy="The first line must name the columns, and each row must have as many cells, in UTF-8",
        ) from error


def epoch_seconds(column: pl.Series, path: Path) -> pl.Series:
    """Return a time column as epoch seconds: datetimes and ISO text taken as UTC if local, numbers by their size.

    Numbers of which every one is too large for seconds are milliseconds, microseconds or nanoseconds.

    Raises
    ------
    PayloadError
        If there are values, but no times.
    """
    if column.dtype.is_numeric():
        return _scaled(column.cast(pl.Float64))
    if column.dtype == pl.Date or isinstance(column.dtype, pl.Datetime):
        return column.cast(pl.Datetime("us")).dt.epoch("us").cast(pl.Float64) / 1e6
    if column.dtype == pl.String:
        times = pl.Series(column.name, [_parse(text) for text in column], dtype=pl.Float64)
        given = column.drop_nulls()
        if times.is_not_null().any() or given.is_empty():
            return times
        example = f'such as "{given[0]}"'
    else:
        example = f"of type {column.dtype}"
    raise PayloadError(
        f'column "{column.name}" has no times but values {example}',
        where=str(path),
        remedy="Write epoch seconds, or text such as 2026-01-31T12:00:00Z",
    )


def _scaled(numbers: pl.Series) -> pl.Series:
    given = numbers.drop_nulls().drop_nans()
    for _ in range(3):
        least: Any = given.min()
        if least is None or least < MAX_SECONDS:
            break
        numbers, given = numbers / 1e3, given / 1e3
    return numbers


def _parse(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        number = float(text)
    except ValueError:
        pass
    else:
        return number if np.isfinite(number) else None
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        return None
    return (time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp()


def _entity_columns(frame: pl.DataFrame, stream: StreamDefinition, entity: str | None, path: Path) -> list[pl.Series]:
    absent = [name for name in stream.entity if name not in frame.columns]
    needed = [name for name in stream.entity if name not in stream.entity_optional]
    fill: dict[str, str] = {}
    if entity is None and len(absent) == len(stream.entity) and len(needed) == 1:
        fill = {needed[0]: path.name.split(".")[0]}
    if entity is not None:
        parts = decode_entity(entity)
        if len(parts) > len(stream.entity):
            raise PayloadError(
                f'entity "{entity}" has {len(parts)} parts',
                where=str(path),
                remedy=f"Stream {stream.name} has {'/'.join(stream.entity)}; write %2F for a slash in a part",
            )
        fill = dict(zip(absent if len(parts) == len(absent) else stream.entity, parts, strict=False))
    columns: list[Any] = []
    for name in stream.entity:
        if name in frame.columns:
            columns.append(_text(frame[name]))
        elif name in fill:
            columns.append(pl.Series(name, [fill[name]] * len(frame), dtype=pl.String))
        elif name not in stream.entity_optional:
            missing = "/".join(part for part in absent if part not in stream.entity_optional)
            raise PayloadError(
                f'there is no entity column "{name}"',
                where=str(path),
                remedy=f"Add it, or give the entity of the whole file: --entity {missing.upper()}",
            )
    return columns


def _cells(column: pl.Series, *, text: bool) -> pl.Series | list[Any]:
    """Cells of a field; one cell that is no number makes a CSV column text, the others stay numbers."""
    if column.dtype.is_decimal():
        return column.cast(pl.Float64)
    if text:
        return column.cast(pl.String) if column.dtype == pl.Boolean else column
    if column.dtype != pl.String:
        return column
    numbers = column.str.strip_chars().cast(pl.Float64, strict=False)
    return [cell if number is None else number for cell, number in zip(column, numbers, strict=True)]


def _text(column: pl.Series) -> pl.Series:
    """Entity parts as text; whole numbers that a Parquet file holds as floats lose their ".0"."""
    if column.dtype.is_float() and ((column == column.round(0)) | column.is_null()).all():
        column = column.cast(pl.Int64)
    return column.cast(pl.String)
