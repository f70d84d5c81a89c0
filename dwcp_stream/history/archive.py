"""Telemetry on disk: Parquet files by stream and date, written whole or not at all, read without the repeats.

A file is `DIR/STREAM/date=YYYY-MM-DD/HH-ID.parquet`: samples whose own time lies in one hour (UTC), of one flush. Files
are never changed; those of a date go together when they are too old.
"""

import io
import math
import secrets
import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Final

import polars as pl

from dwcp_stream.errors import PayloadError
from dwcp_stream.history.samples import empty, once
from dwcp_stream.registry.atomic import replace_file
from dwcp_stream.streams import StreamDefinition

HOUR: Final = 3600.0
DATE: Final = "date="


def write_archive(folder: Path, stream: StreamDefinition, table: pl.DataFrame) -> list[Path]:
    """Write samples, a file for each hour of their own time; all are on disk when this returns.

    Parameters
    ----------
    folder
        Of the archive.
    table
        As `SampleReader.read` gives it.

    Raises
    ------
    OSError
        If it cannot be written; some of the files may be there then, which reading them twice does not show.
    """
    written = []
    hours = table.with_columns((pl.col(stream.time) // HOUR).cast(pl.Int64).alias("__hour"))
    for (hour,), part in sorted(hours.partition_by("__hour", as_dict=True, include_key=False).items()):
        begin = datetime.fromtimestamp(int(hour) * HOUR, UTC)
        day = folder / stream.name / f"{DATE}{begin:%Y-%m-%d}"
        day.mkdir(parents=True, exist_ok=True)
        path = day / f"{begin:%H}-{secrets.token_hex(8)}.parquet"
        content = io.BytesIO()
        part.write_parquet(content, compression="zstd")
        replace_file(path, content.getvalue())
        written.append(path)
    return written


def read_archive(
    folder: Path, stream: StreamDefinition, since: float = -math.inf, until: float = math.inf
) -> pl.DataFrame:
    """Read the samples of some time, each entity and time once: the first in its partition wins.

    Parameters
    ----------
    folder
        Of the archive.
    since, until
        Epoch seconds of the samples' own time, inclusive.

    Returns
    -------
    polars.DataFrame
        Columns as `history.samples.columns`, in order of time; a field that a file does not know is null there.

    Raises
    ------
    PayloadError
        If there is no archive of the stream, or a file is damaged.
    """
    root = folder / stream.name
    if not root.is_dir():
        raise PayloadError(
            f"there is no archive of the stream {stream.name}",
            where=str(folder),
            remedy=f"Run `dwcp-stream archive {stream.name}`, or name its folder",
        )
    wanted = empty(stream)
    parts = [wanted]
    for path in _files(root, since, until):
        try:
            found = pl.read_parquet(path, memory_map=False)
            found = found.select(name for name in wanted.columns if name in found.columns).cast(
                {name: kind for name, kind in wanted.schema.items() if name in found.columns}
            )
            parts.append(found.filter(pl.col(stream.time).is_between(since, until)))
        except FileNotFoundError:  # it has become too old meanwhile
            continue
        except (OSError, pl.exceptions.PolarsError) as error:
            raise PayloadError(
                f"cannot be read: {str(error).splitlines()[0]}",
                where=str(path),
                remedy="Take the file away; its samples may still be in the topic",
            ) from error
    return once(pl.concat(parts, how="diagonal"), stream)


def prune(folder: Path, stream: StreamDefinition, retention_days: float, today: date) -> list[str]:
    """Delete the dates that are too old.

    A date is held against the newest one that the archive holds, or today, whichever is earlier: what was replayed
    from last year is not deleted at once, and a sample from the future deletes nothing.

    Parameters
    ----------
    retention_days
        Days to keep beside the newest one.
    today
        In UTC.

    Returns
    -------
    list of str
        The dates deleted.
    """
    days = _days(folder / stream.name)
    if not days:
        return []
    last = min(max(days), today) - timedelta(days=retention_days)
    gone = [day for day in sorted(days) if day < last]
    for day in gone:
        shutil.rmtree(days[day], ignore_errors=True)
    return [day.isoformat() for day in gone]


def _days(root: Path) -> dict[date, Path]:
    found = {}
    for path in root.glob(f"{DATE}*"):
        try:
            found[date.fromisoformat(path.name.removeprefix(DATE))] = path
        except ValueError:  # somebody else's
            continue
    return found


def _files(root: Path, since: float, until: float) -> list[Path]:
    """Return the files whose hour overlaps a time, in order of name."""
    found = []
    for day, path in sorted(_days(root).items()):
        midnight = datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
        for file in sorted(path.glob("[0-9][0-9]-*.parquet")):
            begin = midnight + int(file.name[:2]) * HOUR
            if begin <= until and since < begin + HOUR:
                found.append(file)
    return found
