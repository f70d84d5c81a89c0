"""The series of `bench loop`: a link whose behaviour changes twice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

DAY = 86_400.0
ROUND_TRIPS_BEGIN = 1_480_000_000.0 // DAY * DAY


@dataclass(frozen=True)
class Series:
    """Samples of a stream in order of time, and when they change.

    Attributes
    ----------
    name, field
        Of the stream, and of what is forecast.
    step, horizons
        Seconds between samples, and rows ahead.
    rows
        Columns ts (epoch seconds), entity, and the field.
    live
        Time from which on the loop runs; what is before is for the first version.
    changes
        Times at which the behaviour changes, if somebody knows.
    """

    name: str
    field: str
    step: float
    horizons: tuple[int, ...]
    rows: pl.DataFrame
    live: float
    changes: tuple[float, ...]

    def definition(self, topic: str) -> str:
        """Return the stream's definition as TOML."""
        return f"""name = "{self.name}"
topic = "{topic}"
entity = ["entity"]
step = {self.step}
window = 30
min_periods = 24
expire_after = {10 * DAY}
drift_block = 3600.0

[[fields]]
name = "{self.field}"
min = 0

[[models]]
name = "{self.name}-forecast"
task = "forecast"
targets = ["{self.field}"]
horizons = {list(self.horizons)}
"""


def changed(values: NDArray[np.float64], at: tuple[int, int], seed: int = 0) -> NDArray[np.float64]:
    """Change level, period and noise of a series twice.

    From the first row on it runs twice as fast at 1.8 times its level, so that a day is over in twelve hours, with 5 %
    noise; from the second on it is back in time, at 0.6 times its level and with 15 % noise.
    """
    rng = np.random.default_rng(seed)
    first, second = at
    n = len(values)
    index = np.arange(n)
    fast = np.where(index < first, index, first + 2 * (index - first)) % n
    out = values.copy()
    out[first:second] = 1.8 * values[fast[first:second]] * rng.lognormal(0.0, 0.05, second - first)
    out[second:] = 0.6 * values[second:] * rng.lognormal(0.0, 0.15, n - second)
    return out


def traffic(data: Path, *, days: float = 51.0) -> Series:
    """A transatlantic link's traffic, one sample in five minutes (Cortez et al. 2012), changed at days 16 and 33."""
    table = pl.read_csv(data / "isp_traffic" / "isp_traffic.csv.gz").filter(pl.col("series") == "A5M")
    ts = table["timestamp"].str.to_datetime().dt.epoch("s").cast(pl.Float64).to_numpy()
    day = round(DAY / 300.0)
    at = (16 * day, 33 * day)
    values = changed(table["value"].to_numpy() / 1e6, at)
    rows = pl.DataFrame({"ts": ts, "entity": ["transatlantic"] * len(ts), "mbits": values})
    rows = rows.filter(pl.col("ts") < ts[0] + days * DAY)
    return Series("traffic", "mbits", 300.0, (1, 12), rows, ts[0] + 10 * DAY, tuple(float(ts[i]) for i in at))


def round_trips(data: Path) -> Series:
    """Round-trip times of 25 long paths, one in four minutes (Shao et al. 2017), as they are; all begin at one time."""
    return _paths("rtt", _traces(data), 5)


def one_path(data: Path, probe: int = 11119) -> Series:
    """One of these paths alone, whose behaviour changes by itself once the first version has been trained.

    Chosen for that: see docs/performance.md for what training again is worth on each of the others.
    """
    return _paths("path", _traces(data).filter(pl.col("entity") == str(probe)), 5)


def _traces(data: Path) -> pl.DataFrame:
    table = pl.read_csv(data / "ripe_rtt" / "ripe_rtt.csv.gz")
    ts = pl.col("timestamp").str.to_datetime().dt.epoch("s").cast(pl.Float64)
    return table.select(
        ts=ts - ts.min().over("probe") + ROUND_TRIPS_BEGIN,
        entity=pl.col("probe").cast(pl.String),
        rtt_ms=pl.col("rtt_ms"),
    ).drop_nulls().sort("ts", "entity")  # fmt: skip


def _paths(name: str, rows: pl.DataFrame, days: float) -> Series:
    return Series(name, "rtt_ms", 240.0, (1, 6, 12), rows, ROUND_TRIPS_BEGIN + days * DAY, ())


def simulated(days: float = 12.0, seed: int = 0) -> Series:
    """Two links whose period and level change after half of the time; made up, for a quick look."""
    rng = np.random.default_rng(seed)
    step, begin = 300.0, 1_700_000_000.0 // DAY * DAY
    n = round(days * DAY / step)
    t = np.arange(n) * step
    late = t >= days / 2 * DAY
    shape = np.where(late, np.sin(2 * np.pi * t / 3_000.0), np.sin(2 * np.pi * t / 7_200.0))
    tables = []
    for entity in ("a", "b"):
        noise = np.exp(0.03 * rng.normal(size=n))
        values = np.where(late, 250.0, 100.0) * (1.0 + 0.4 * shape) * noise
        tables.append(pl.DataFrame({"ts": begin + t, "entity": [entity] * n, "mbits": values}))
    rows = pl.concat(tables).sort("ts", "entity")
    return Series("simulated", "mbits", step, (1, 6), rows, begin + days / 4 * DAY, (begin + days / 2 * DAY,))
