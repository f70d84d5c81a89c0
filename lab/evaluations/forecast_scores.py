"""From the file that `backtest --scores` wrote to errors: each forecast beside what came and what was known then."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dwcp_stream.training.forecast.compare import diebold_mariano, holm, pooled_skill
from dwcp_stream.training.forecast.report import correlation, mape
from lab.evaluations.forecast_sets import Task

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Series:
    """One entity of a test file on its rows, and the forecasts of one horizon.

    Attributes
    ----------
    entity
        Its name.
    history
        Values of the entity on the grid, training part first, gaps bridged by the value before.
    origin
        [N] position in `history` of the row that each forecast was made at.
    actual
        [N] what came; NaN where nothing came.
    quantiles
        [N, 3] q10, q50, q90.
    """

    entity: str
    history: Floats
    origin: NDArray[np.int64]
    actual: Floats
    quantiles: Floats

    @property
    def last(self) -> Floats:
        """The newest value known at each origin."""
        return self.history[self.origin]


def align(task: Task, scores: pl.DataFrame, horizon: int) -> list[Series]:
    """Return the series of a task for one horizon, only rows whose actual value came and whose forecast exists.

    A row of the test file counts for the grid row nearest to it; `history` holds the training rows of the same
    entity before the first test row, so that peers may use them.
    """
    result = []
    named = scores.with_columns(pl.col("entity").cast(pl.String))
    for entity in named["entity"].unique(maintain_order=True).to_list():
        made = named.filter(pl.col("entity") == entity).sort("ts")
        times, values = _rows(task.test, task, entity)
        past_times, past = _rows(task.train, task, entity) if task.seen else (np.zeros(0), np.zeros(0))
        anchor = float(made["ts"][0])
        slot = np.rint((times - anchor) / task.step).astype(np.int64)
        back = np.rint((past_times - anchor) / task.step).astype(np.int64)
        first = int(min(slot.min(), back.min(initial=slot.min())))
        grid = np.full(int(slot.max()) - first + 1, np.nan)
        for place, given in ((back, past), (slot, values)):
            grid[place[::-1] - first] = given[::-1]  # the first of two samples of a row wins
        origin = np.rint((made["ts"].to_numpy() - anchor) / task.step).astype(np.int64) - first
        at = origin + horizon
        inside = at < len(grid)
        actual = np.where(inside, grid[np.minimum(at, len(grid) - 1)], np.nan)
        columns = [f"{task.target}_h{horizon}_{q}" for q in ("q10", "q50", "q90")]
        quantiles = made.select(columns).cast(pl.Float64).to_numpy()
        filled = pl.Series(grid).fill_nan(None).fill_null(strategy="forward").fill_null(strategy="backward").to_numpy()
        known = np.isfinite(actual) & np.isfinite(quantiles[:, 1])
        result.append(Series(entity, filled, origin[known], actual[known], quantiles[known]))
    return result


def figures(series: list[Series], horizon: int, forecasts: dict[str, list[Floats]]) -> dict[str, Any]:
    """Sum up one horizon.

    Parameters
    ----------
    series
        From `align`.
    horizon
        In rows.
    forecasts
        Name -> one array per series; the first is the model's own median.

    Returns
    -------
    dict
        Per forecast MAE, MAPE and correlation over all rows, the mean correlation within entities (over all rows it
        is mostly that of their levels), and skill over the last value, pooled over entities; for the model also each
        entity's skill, tests and coverage.
    """
    actual = np.concatenate([s.actual for s in series])
    last = np.array([np.abs(s.actual - s.last).mean() for s in series])
    table = {}
    for name, made in forecasts.items():
        values = np.concatenate(made)
        own = np.array([np.abs(s.actual - m).mean() for s, m in zip(series, made, strict=True)])
        pooled, low, high = pooled_skill(own, last)
        table[name] = {
            "mae": float(np.abs(values - actual).mean()),
            "mape": mape(actual, values),
            "correlation": correlation(actual, values),
            "correlation_within": _within(series, made),
            "skill": pooled,
            "skill_95": [low, high],
        }
    return {"horizon": horizon, "rows": len(actual), "forecasts": table, **_entities(series, horizon)}


def _within(series: list[Series], made: list[Floats]) -> float:
    each = [correlation(s.actual, m) for s, m in zip(series, made, strict=True)]
    known = [c for c in each if np.isfinite(c)]
    return float(np.mean(known)) if known else float("nan")


def _entities(series: list[Series], horizon: int) -> dict[str, Any]:
    tests = []
    for s in series:
        own, last = np.abs(s.actual - s.quantiles[:, 1]), np.abs(s.actual - s.last)
        statistic, p = diebold_mariano(own, last, horizon)
        inside = (s.actual >= s.quantiles[:, 0]) & (s.actual <= s.quantiles[:, 2])
        tests.append((1.0 - own.mean() / last.mean(), statistic, p, inside.mean()))
    skills, statistics, p_values, covered = (np.array(v) for v in zip(*tests, strict=True))
    rows = np.array([len(s.actual) for s in series])
    return {
        "entities": len(series),
        "better": int((skills > 0).sum()),
        "worse_significantly": int(((statistics > 0) & (holm(p_values) < 0.05)).sum()),
        "worse_significantly_unadjusted": int(((statistics > 0) & (p_values < 0.05)).sum()),
        "better_significantly": int(((statistics < 0) & (holm(p_values) < 0.05)).sum()),
        "coverage": float((covered * rows).sum() / rows.sum()),
        "coverage_range": [float(covered.min()), float(covered.max())],
        "skill_by_entity": {s.entity: round(float(k), 4) for s, k in zip(series, skills, strict=True)},
    }


def _rows(table: pl.DataFrame, task: Task, entity: str) -> tuple[Floats, Floats]:
    own = table.filter(pl.col("entity") == entity) if task.entity is None else table
    own = own.sort("ts", maintain_order=True)
    return own["ts"].to_numpy(), own[task.target].cast(pl.Float64).fill_null(float("nan")).to_numpy()
