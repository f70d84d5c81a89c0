"""Which column is the time, and how far the rows of an entity are apart."""

from pathlib import Path
from typing import Final, Literal, NamedTuple

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dwcp_stream.errors import PayloadError
from dwcp_stream.streams.files import epoch_seconds
from dwcp_stream.streams.infer.guess import Guess

NAMES: Final = ("ts", "time", "timestamp", "datetime", "date_time", "date", "epoch", "time_stamp", "event_time", "when")
NATURAL: Final = (
    0.001, 0.01, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 20.0, 30.0,
    60.0, 120.0, 300.0, 600.0, 900.0, 1200.0, 1800.0, 3600.0, 7200.0, 21600.0, 43200.0, 86400.0,
)  # fmt: skip
NEAR: Final = 0.08  # how far a median may be from a natural step that it is taken for
JITTER: Final = 0.2  # how far, in steps, a gap may be from a whole number of steps
REGULAR: Final = 0.6  # share of gaps that are: of gaps at random it is 0.4
PLAUSIBLE: Final = (946_684_800.0, 4_102_444_800.0)  # 2000 and 2100: numbers without a telling name must lie between


class Step(NamedTuple):
    """The grid: `step` as a definition has it, the median gap in seconds, and the share of steps that have a row."""

    step: float | Literal["irregular"]
    median: float
    fill: float
    guess: Guess


def find_time(frame: pl.DataFrame, path: Path, told: str | None = None) -> tuple[str, pl.Series, Guess]:
    """Return the name of the time column, its epoch seconds, and why it is that one.

    Raises
    ------
    PayloadError
        If there is none, or the one that was told is none.
    """
    if told is not None:
        if told not in frame.columns:
            raise PayloadError(
                f'there is no column "{told}"', where=str(path), remedy=f"Columns are {_listed(frame.columns)}"
            )
        times = epoch_seconds(frame[told], path)
        return told, times, Guess(told, "time", f"as you said{_unit(frame[told], times)}")
    by_name = sorted((c for c in frame.columns if _plain(c) in NAMES), key=lambda c: NAMES.index(_plain(c)))
    for name in by_name:
        found = _times(frame[name], path)
        if found is not None:
            return name, found, Guess(name, "time", f"its name, and its values are times{_unit(frame[name], found)}")
    for name in frame.columns:
        found = _times(frame[name], path)
        if found is not None and bool(found.is_between(*PLAUSIBLE).all()):
            return (
                name,
                found,
                Guess(name, "time", f"the first column whose values are times{_unit(frame[name], found)}"),
            )
    raise PayloadError(
        "no column holds times",
        where=str(path),
        remedy=f"Name it with --time; columns are {_listed(frame.columns)}. Times are epoch seconds or milliseconds,"
        " or text such as 2026-01-31T12:00:00Z",
    )


def find_step(times: NDArray[np.float64], codes: NDArray[np.int64]) -> Step:
    """Return the step of rows with these epoch seconds and entity codes, both [rows]."""
    order = np.lexsort((times, codes))
    gaps, same = np.diff(times[order]), np.diff(codes[order]) == 0
    gaps = gaps[same & (gaps > 0)]
    if not len(gaps):
        return Step(60.0, 60.0, 1.0, Guess("step", "60 s", "no entity has two rows, so this is only a usual value"))
    median = float(np.median(gaps))
    near = min(NATURAL, key=lambda natural: abs(natural - median) / natural)
    step = near if abs(near - median) <= NEAR * near else float(f"{max(median, 0.001):.3g}")
    multiples = gaps / step
    regular = float((np.abs(multiples - np.maximum(np.round(multiples), 1)) <= JITTER).mean())
    if regular < REGULAR:
        why = f"gaps between rows spread from {np.quantile(gaps, 0.1):.3g} to {np.quantile(gaps, 0.9):.3g} s"
        return Step("irregular", median, 1.0, Guess("step", "irregular", why))
    # long silences are breaks, not rows that are missing
    rows = np.round(multiples[multiples < 30.5])
    fill = len(rows) / max(float(rows.sum()), 1.0)
    why = f"median of {len(gaps)} gaps is {median:.6g} s; {regular:.0%} are whole steps"
    return Step(step, median, fill, Guess("step", f"{step:g} s", why))


def _times(column: pl.Series, path: Path) -> pl.Series | None:
    if column.dtype == pl.Boolean or column.null_count() == len(column):
        return None
    try:
        times = epoch_seconds(column, path)
    except PayloadError:
        return None
    if times.null_count() > column.null_count() + len(column) // 20:
        return None
    return times if column.dtype.is_temporal() or bool((times.drop_nulls() >= 0).all()) else None


def _unit(column: pl.Series, times: pl.Series) -> str:
    if not column.dtype.is_numeric():
        return ""
    first: float = column.cast(pl.Float64).drop_nulls()[0]
    seconds: float = times.drop_nulls()[0]
    factor = round(first / seconds) if seconds else 1
    names = {1_000: "milliseconds", 1_000_000: "microseconds", 1_000_000_000: "nanoseconds"}
    if factor in names:
        return f", in {names[factor]}: files are converted, but producers must send seconds"
    return ", in seconds"


def _plain(name: str) -> str:
    return name.lower().strip("_@ ")


def _listed(names: list[str]) -> str:
    return ", ".join(names[:12]) + (", ..." if len(names) > 12 else "")
