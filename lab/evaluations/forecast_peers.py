"""Forecasts to be read beside the model's, for the same rows: simple rules, and AutoETS where statsforecast is there.

All but AutoETS are plain numpy. The rules may look at the entity's training part where the task has one: a value of
a day before the first test row is there. AutoETS is chosen and fitted on the training part once per series, then
rolled on without refitting, at evenly spaced rows.
"""

from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from lab.evaluations.forecast_scores import Series
from lab.evaluations.forecast_sets import Task

Floats = NDArray[np.float64]
ORDER = 12
ORIGINS = 300
"""Rows of a series that AutoETS is asked at."""
HISTORY = 1500
"""Newest rows that AutoETS is fitted and rolled on."""


def persistence(series: Series) -> Floats:
    """Repeat the last value."""
    return series.last


def seasonal_naive(series: Series, horizon: int, season: int) -> Floats:
    """Repeat the value a season before the target row; the last value where that was before the history."""
    at = series.origin + horizon - season
    return np.where(at >= 0, series.history[np.maximum(at, 0)], series.last)


def autoregression(series: Series, horizon: int, first: int, season: int = 0) -> Floats:
    """Least squares on the newest 12 rows, fitted for this horizon on the rows before `first`.

    With a `season` (in rows, longer than the horizon) also on the rows a season before the newest and the target row.

    Parameters
    ----------
    series
        With its training part in `history`.
    horizon, first
        Rows ahead; position of the first row that must not be looked at.
    """
    lags = np.r_[np.arange(ORDER), [season, season - horizon] if season else []].astype(np.int64)
    oldest = int(lags.max())
    fitted = np.arange(oldest, first - horizon)
    if len(fitted) < 4 * ORDER:
        return series.last
    unit = max(float(np.std(series.history[:first])), 1e-12)
    X = np.c_[series.history[fitted[:, None] - lags] / unit, np.ones(len(fitted))]
    weights = np.linalg.lstsq(X, series.history[fitted + horizon] / unit, rcond=None)[0]
    origin = np.maximum(series.origin, oldest)
    return unit * (np.c_[series.history[origin[:, None] - lags] / unit, np.ones(len(origin))] @ weights)


def has_autoets() -> bool:
    """Tell whether statsforecast can be imported."""
    return find_spec("statsforecast") is not None


def autoets(series: Series, task: Task, horizon: int, first: int) -> tuple[Floats, NDArray[np.int64]]:
    """Forecasts of AutoETS (Hyndman et al. 2008) and the positions in `series.origin` that they are for.

    A season of more than 24 rows is beyond exponential smoothing as it is implemented there; those series get the
    best model without a season.
    """
    from statsforecast.models import AutoETS  # noqa: PLC0415 - lives in an environment of its own

    season = task.season if task.season <= 24 else 1
    start = first if task.seen else max(first, len(series.history) // 3)
    usable = np.flatnonzero(series.origin >= start)
    chosen = usable[np.linspace(0, len(usable) - 1, min(ORIGINS, len(usable))).astype(np.int64)]
    model = AutoETS(season_length=season).fit(series.history[max(0, start - HISTORY) : start])
    made = []
    for i in chosen:
        end = int(series.origin[i]) + 1
        made.append(model.forward(series.history[max(0, end - HISTORY) : end], h=horizon)["mean"][-1])
    return np.asarray(made, np.float64), chosen
