"""The forecasts of `dwcp-stream evaluate --peers` for the series of an evaluation.

The rules may look at the entity's training part where the task has one: a value of a day before the first test row
is there.
"""

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.training.peers import forecast
from dwcp_stream.training.peers.forecast import ORIGINS, has_autoets
from lab.evaluations.forecast_scores import Series
from lab.evaluations.forecast_sets import Task

__all__ = ["ORIGINS", "autoets", "autoregression", "has_autoets", "persistence", "seasonal_naive"]

Floats = NDArray[np.float64]


def persistence(series: Series) -> Floats:
    """Repeat the last value."""
    return forecast.persistence(series.history, series.origin)


def seasonal_naive(series: Series, horizon: int, season: int) -> Floats:
    """Repeat the value a season before the target row; the last value where that was before the history."""
    return forecast.seasonal_naive(series.history, series.origin, horizon, season)


def autoregression(series: Series, horizon: int, first: int, season: int = 0) -> Floats:
    """Least squares on the newest 12 rows, fitted on the rows before `first`."""
    return forecast.autoregression(series.history, series.origin, horizon, first, season)


def autoets(series: Series, task: Task, horizon: int, first: int) -> tuple[Floats, NDArray[np.int64]]:
    """Forecasts of AutoETS and the positions in `series.origin` that they are for."""
    start = first if task.seen else max(first, len(series.history) // 3)
    return forecast.autoets(series.history, series.origin, horizon, start, task.season)
