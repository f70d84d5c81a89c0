"""Tables of telemetry on the time grid, and windows out of them.

The grid is that of `dwcp_stream.windows`: phase anchored at an entity's first row, a step without a sample
is a row of NaN, a gap longer than the window starts anew, of two samples for one row the first wins,
counters become rates. Here whole files are laid out at once, so that a training batch is one fancy index.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dwcp_stream.errors import PayloadError
from dwcp_stream.streams import encode_entity
from dwcp_stream.streams.definition import Field, StreamDefinition

Floats = NDArray[np.floating[Any]]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Grid:
    """Rows of all entities on their grids, one after another, with window - 1 empty rows before each segment.

    Attributes
    ----------
    stream
        Its definition.
    values
        [R, F] float32, columns as the stream's fields, codes for words, NaN = missing.
    ts
        [R] float64, the grid's time of each row.
    entity
        [R] int64, position in `entities`.
    entities
        Entity keys; a file without entity columns is one entity.
    filled
        [R] bool, whether a sample arrived for the row.
    source
        [R] int64, position of the file in the list of files.
    columns
        Other columns that were asked for, [R] each (NaN or "" in rows without a sample).
    """

    stream: StreamDefinition
    values: NDArray[np.float32]
    ts: NDArray[np.float64]
    entity: Ints
    entities: tuple[str, ...]
    filled: NDArray[np.bool_]
    source: Ints
    columns: dict[str, NDArray[Any]]

    def ends(self) -> Ints:
        """Rows whose windows the daemon would score: filled, with at least `min_periods` filled rows."""
        counts = np.concatenate([[0], np.cumsum(self.filled)])
        last = np.arange(1, len(self.filled) + 1)
        inside = counts[last] - counts[np.maximum(last - self.stream.window, 0)]
        return np.flatnonzero(self.filled & (inside >= self.stream.min_periods))

    def windows(
        self, ends: Ints, columns: Sequence[int] | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Windows [B, T, F] float32 and their times [B, T] float64 that end at the rows `ends`."""
        index = ends[:, None] + np.arange(1 - self.stream.window, 1)
        rows = self.values[index]
        return rows if columns is None else rows[..., list(columns)], self.ts[index]

    def any_in_window(self, mask: NDArray[np.bool_], ends: Ints) -> NDArray[np.bool_]:
        """Whether any row of the window that ends at each of `ends` is marked."""
        counts = np.concatenate([[0], np.cumsum(mask)])
        found = counts[ends + 1] - counts[ends + 1 - self.stream.window]
        return np.asarray(found > 0)


def load_grid(
    stream: StreamDefinition, files: Sequence[Path], *, extra: Sequence[str] = (), entity: str | None = None
) -> Grid:
    """Read files and lay them on the grid.

    Parameters
    ----------
    stream
        Says which columns, words and entity parts to expect.
    files
        CSV, gzipped CSV or Parquet: a column per field, the time column, the entity's columns.
    extra
        Other columns to keep, such as `label`; missing ones are left out.
    entity
        Entity of files that lack the entity's columns; default the file's name.

    Raises
    ------
    PayloadError
        If a file cannot be read, has no rows, no time column, none of the fields, or an unknown word.
    """
    parts = [_lay_out(stream, path, i, extra, entity) for i, path in enumerate(files)]
    if not parts:
        raise PayloadError("no files", remedy="Give at least one file with --data")
    entities = tuple(dict.fromkeys(name for part in parts for name in part.entities))
    position = {name: i for i, name in enumerate(entities)}
    shared = set.intersection(*(set(part.columns) for part in parts))
    return Grid(
        stream=stream,
        values=np.concatenate([p.values for p in parts]),
        ts=np.concatenate([p.ts for p in parts]),
        entity=np.concatenate([np.array([position[n] for n in p.entities])[p.entity] for p in parts]),
        entities=entities,
        filled=np.concatenate([p.filled for p in parts]),
        source=np.concatenate([p.source for p in parts]),
        columns={name: np.concatenate([p.columns[name] for p in parts]) for name in sorted(shared)},
    )


def read_table(path: Path) -> pl.DataFrame:
    """Read CSV (also .gz) or Parquet.

    Raises
    ------
    PayloadError
        If the file is missing or not a table.
    """
    try:
        if path.suffix == ".parquet":
            return pl.read_parquet(path)
        return pl.read_csv(path, infer_schema_length=None)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise PayloadError(
            f"cannot be read as a table: {error}", where=str(path), remedy="Give CSV, CSV.gz or Parquet"
        ) from error


def code_words(column: pl.Series, field: Field, where: str) -> Floats:
    """Codes of a column of words (position in the vocabulary; aliases and case ignored), NaN = missing."""
    codes = {word.lower(): float(i) for i, word in enumerate(field.vocabulary)}
    codes |= {alias.lower(): codes[word.lower()] for alias, word in field.aliases.items()}
    words = column.cast(pl.String).str.to_lowercase()
    unknown = sorted(set(words.drop_nulls().unique().to_list()) - set(codes) - {""})
    if unknown:
        raise PayloadError(
            f"{unknown[0]!r} is not in the vocabulary of {field.name}",
            where=where,
            remedy="Add the word, or an alias, to the stream's definition",
        )
    coded = words.replace_strict(codes, default=None, return_dtype=pl.Float64)
    return np.asarray(coded.fill_null(float("nan")).to_numpy(), np.float64)


def _lay_out(stream: StreamDefinition, path: Path, source: int, extra: Sequence[str], entity: str | None) -> Grid:
    table = read_table(path)
    if stream.time not in table.columns:
        raise PayloadError(f"no column {stream.time!r}", where=str(path), remedy="Name the time column so")
    if not len(table):
        raise PayloadError("no rows", where=str(path), remedy="Give more telemetry; alerts may have left all of it out")
    if not set(stream.field_names) & set(table.columns):
        raise PayloadError(f"no field of the stream {stream.name}", where=str(path), remedy="Give its files")
    names, codes = _entities(stream, table, entity or path.name.split(".")[0])
    ts = _epoch(table[stream.time], str(path))
    order = np.lexsort((ts, codes))
    ts, codes = ts[order], codes[order]
    row, nominal, begins, length = _grid_rows(stream, ts, codes)
    keep = np.concatenate([[True], row[1:] != row[:-1]]) if len(row) else np.zeros(0, bool)
    where = row[keep]

    values = np.full((length, len(stream.fields)), np.nan, np.float32)
    for i, field in enumerate(stream.fields):
        if field.name in table.columns:
            column = _column(table[field.name], field, str(path))[order]
            if field.kind == "counter":
                column = _rate(column, ts, begins)
            values[where, i] = column[keep]
    filled = np.zeros(length, bool)
    filled[where] = True
    # A row without a sample belongs to the next one that has: its segment's padding goes before it.
    following = np.minimum(np.searchsorted(where, np.arange(length)), len(where) - 1)
    steps = (np.arange(length) - where[following]) * _step(stream)
    kept = {}
    for name in extra:
        if name in table.columns:
            kept[name] = _scatter(table[name], order[keep], where, length)
    return Grid(
        stream=stream,
        values=values,
        ts=nominal[keep][following] + steps,
        entity=codes[keep][following],
        entities=names,
        filled=filled,
        source=np.full(length, source, np.int64),
        columns=kept,
    )


def _grid_rows(stream: StreamDefinition, ts: Floats, codes: Ints) -> tuple[Ints, Floats, NDArray[np.bool_], int]:
    """Row of each sample (by entity and time) and its nominal time, which begin a segment, and rows in all."""
    step, pad = _step(stream), stream.window - 1
    new = np.concatenate([[True], codes[1:] != codes[:-1]])
    if not stream.irregular:
        new |= np.concatenate([[False], np.diff(ts) > stream.window * step])
    segment = np.cumsum(new) - 1
    anchor = np.flatnonzero(new)
    if stream.irregular:
        repeated = np.concatenate([[False], np.diff(ts) == 0]) & ~new
        within = np.cumsum(~repeated) - 1
        within = within - within[anchor][segment]
    else:
        within = np.rint((ts - ts[anchor][segment]) / step).astype(np.int64)
    last = np.concatenate([anchor[1:] - 1, [len(ts) - 1]])
    sizes = within[last] + 1 + pad
    starts = np.concatenate([[0], np.cumsum(sizes)])
    nominal = ts if stream.irregular else ts[anchor][segment] + within * step
    return starts[segment] + pad + within, nominal, new, int(starts[-1])


def _entities(stream: StreamDefinition, table: pl.DataFrame, default: str) -> tuple[tuple[str, ...], Ints]:
    present = [part for part in stream.entity if part in table.columns]
    needed = [part for part in stream.entity if part not in stream.entity_optional]
    if not set(needed) <= set(present):
        return (encode_entity([default]),), np.zeros(len(table), np.int64)
    keys = table.select(pl.col(present).cast(pl.String)).to_struct("entity")
    unique = keys.unique(maintain_order=True)
    names = [encode_entity([v for v in row.values() if v]) for row in unique.to_list()]
    lookup = pl.DataFrame({"entity": unique, "code": np.arange(len(unique), dtype=np.int64)})
    joined = pl.DataFrame({"entity": keys}).join(lookup, on="entity", how="left", maintain_order="left")
    return tuple(names), joined["code"].to_numpy()


def _column(column: pl.Series, field: Field, where: str) -> Floats:
    if field.coded:
        return code_words(column, field, where)
    return np.asarray(column.cast(pl.Float64, strict=False).fill_null(float("nan")).to_numpy(), dtype=np.float64)


def _rate(raw: Floats, ts: Floats, begins: NDArray[np.bool_]) -> Floats:
    """Reset-aware growth per second since the sample before; NaN where a segment begins."""
    elapsed = np.diff(ts)
    growth = np.where(raw[1:] >= raw[:-1], raw[1:] - raw[:-1], raw[1:])
    known = (elapsed > 0) & ~begins[1:]
    rate = np.full(len(raw), np.nan)
    rate[1:][known] = growth[known] / elapsed[known]
    return rate


def _scatter(column: pl.Series, order: Ints, where: Ints, length: int) -> NDArray[Any]:
    if column.dtype.is_numeric() or column.dtype == pl.Boolean:
        numbers = np.full(length, np.nan)
        numbers[where] = column.cast(pl.Float64).fill_null(float("nan")).to_numpy()[order]
        return numbers
    words = np.full(length, "", dtype=object)
    words[where] = column.cast(pl.String).fill_null("").to_numpy()[order]
    return words


def _epoch(column: pl.Series, where: str) -> Floats:
    if column.dtype.is_numeric():
        return np.asarray(column.cast(pl.Float64).to_numpy(), np.float64)
    try:
        times = column.str.to_datetime(time_zone="UTC") if column.dtype == pl.String else column
        return np.asarray(times.dt.timestamp("us").to_numpy() / 1e6, np.float64)
    except pl.exceptions.PolarsError as error:
        raise PayloadError(f"bad time: {error}", where=where, remedy="Give epoch seconds or RFC 3339") from error


def _step(stream: StreamDefinition) -> float:
    return 1.0 if isinstance(stream.step, str) else float(stream.step)
