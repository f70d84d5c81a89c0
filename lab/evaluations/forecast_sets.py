"""The series that forecasts are judged on, how each is split, and the stream definitions that go with them.

Files are read from a folder given by the caller and written, as a user would have them, to a temporary folder: a
CSV of the training part, one of the test part, and a definition with nothing but names, step and horizons.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import polars as pl

WINDOW, MIN_PERIODS = 30, 24
FOLDS = 5


@dataclass(frozen=True)
class Task:
    """One training and one test file.

    Attributes
    ----------
    name, stream
        Of the task, and of the stream in its definition.
    target, step, horizons
        Field, seconds between rows, rows ahead.
    season
        Rows of a day, for the seasonal peers.
    entity
        Name to give with --entity where the files have no entity column; else None.
    train, test
        Columns ts, the target, and `entity` where there is one.
    seen
        Whether the entities of the test file are also in the training file.
    """

    name: str
    stream: str
    target: str
    step: float
    horizons: tuple[int, ...]
    season: int
    entity: str | None
    train: pl.DataFrame
    test: pl.DataFrame
    seen: bool = True

    def definition(self) -> str:
        """Return the stream's definition as TOML."""
        return f"""name = "{self.stream}"
topic = "lab.{self.stream}"
entity = ["entity"]
step = {self.step}
window = {WINDOW}
min_periods = {MIN_PERIODS}
expire_after = 1e8
ahead_tolerance = 1e8

[[fields]]
name = "{self.target}"
min = 0

[[models]]
name = "{self.stream}-forecast"
task = "forecast"
targets = ["{self.target}"]
horizons = {list(self.horizons)}
"""


def tasks(data: Path) -> Iterator[Task]:
    """Yield the tasks of a folder that holds `isp_traffic` and `ripe_rtt`.

    Parameters
    ----------
    data
        Folder of data sets.
    """
    yield from _traffic(data / "isp_traffic" / "isp_traffic.csv.gz")
    yield from _round_trips(data / "ripe_rtt" / "ripe_rtt.csv.gz")


def _traffic(path: Path) -> Iterator[Task]:
    """Bandwidth of a transatlantic link (Cortez et al. 2012): two thirds train, the last third is the test."""
    whole = pl.read_csv(path).rename({"timestamp": "ts"}).with_columns(_seconds())
    for series, step, horizons in (("A5M", 300.0, (1, 12)), ("A1H", 3600.0, (1,))):
        rows = whole.filter(pl.col("series") == series).select("ts", "value")
        cut = 2 * len(rows) // 3
        season = round(86_400 / step)
        stream = f"traffic_{series.lower()}"
        yield Task(series, stream, "value", step, horizons, season, series, rows[:cut], rows[cut:])


def _round_trips(path: Path) -> Iterator[Task]:
    """Round-trip times of 25 probes (Shao et al. 2017): split by time within each trace, then by trace."""
    whole = (
        pl.read_csv(path)
        .rename({"timestamp": "ts", "probe": "entity"})
        .with_columns(_seconds(), pl.col("entity").cast(pl.String))
        .select("ts", "entity", "rtt_ms")
    )
    parts = whole.partition_by("entity", maintain_order=True)
    common = ("rtt_ms", 240.0, (1, 6, 12), 360, None)
    yield Task(
        "rtt, later time", "rtt_time", *common,
        pl.concat([p[: 2 * len(p) // 3] for p in parts]), pl.concat([p[2 * len(p) // 3 :] for p in parts]),
    )  # fmt: skip
    for fold in range(FOLDS):
        left = [p for i, p in enumerate(parts) if i % FOLDS == fold]
        rest = [p for i, p in enumerate(parts) if i % FOLDS != fold]
        yield Task(
            f"rtt, unseen traces {fold + 1}/{FOLDS}", f"rtt_fold{fold + 1}", *common,
            pl.concat(rest), pl.concat(left), seen=False,
        )  # fmt: skip


def _seconds() -> pl.Expr:
    return pl.col("ts").str.to_datetime().dt.epoch("ms").cast(pl.Float64) / 1000.0
