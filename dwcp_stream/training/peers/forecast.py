"""Forecasts of one series by other people's methods: simple rules, least squares, and AutoETS where it is installed.

A series is its history on the time grid, [R] without gaps, and the positions in it that forecasts are made at, [N].
All but AutoETS are plain numpy. AutoETS (`statsforecast`, no dependency of the project) is chosen and fitted on the
training part once per series, then rolled on without refitting, at evenly spaced rows.
"""

from importlib import import_module
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
ORDER = 12
ORIGINS = 300
"""Rows of a series that AutoETS is asked at."""
HISTORY = 1500
"""Newest rows that AutoETS is fitted and rolled on."""
MOST_SEASON = 24
"""Rows of the longest season that exponential smoothing, as it is implemented there, can have."""


def persistence(history: Floats, origin: Ints) -> Floats:
    """Repeat the last value."""
    return history[origin]


def seasonal_naive(history: Floats, origin: Ints, horizon: int, season: int) -> Floats:
    """Repeat the value a season before the target row; the last value where that was before the history."""
    at = origin + horizon - season
    return np.where(at >= 0, history[np.maximum(at, 0)], history[origin])


def autoregression(history: Floats, origin: Ints, horizon: int, first: int, season: int = 0) -> Floats:
    """Least squares on the newest 12 rows, fitted for this horizon on the rows before `first`.

    With a `season` (in rows, longer than the horizon) also on the rows a season before the newest and the target row.

    Parameters
    ----------
    history, origin
        The series; the last value is repeated where `first` leaves too few rows to fit on.
    horizon, first
        Rows ahead; position of the first row that must not be looked at.
    """
    lags = np.r_[np.arange(ORDER), [season, season - horizon] if season else []].astype(np.int64)
    oldest = int(lags.max())
    fitted = np.arange(oldest, first - horizon)
    if len(fitted) < 4 * ORDER:
        return history[origin]
    unit = max(float(np.std(history[:first])), 1e-12)
    X = np.c_[history[fitted[:, None] - lags] / unit, np.ones(len(fitted))]
    weights = np.linalg.lstsq(X, history[fitted + horizon] / unit, rcond=None)[0]
    start = np.maximum(origin, oldest)
    made: Floats = unit * (np.c_[history[start[:, None] - lags] / unit, np.ones(len(start))] @ weights)
    return made


def has_autoets() -> bool:
    """Tell whether statsforecast can be imported."""
    return find_spec("statsforecast") is not None


def autoets(
    history: Floats, origin: Ints, horizon: int, start: int, season: int, origins: int = ORIGINS
) -> tuple[Floats, Ints]:
    """Forecasts of AutoETS (Hyndman et al. 2008) and the positions in `origin` that they are for.

    Parameters
    ----------
    history, origin, horizon
        The series and the rows ahead.
    start
        It is fitted on the rows before this one, and asked at rows from it on.
    season
        Rows of a season; longer ones than `MOST_SEASON` are not tried.
    origins
        Rows that it is asked at, at most.
    """
    usable = np.flatnonzero(origin >= start)
    chosen = usable[np.linspace(0, len(usable) - 1, min(origins, len(usable))).astype(np.int64)]
    length = season if season <= MOST_SEASON else 1
    kind = import_module("statsforecast.models").AutoETS  # not a dependency, see has_autoets
    model = kind(season_length=length).fit(history[max(0, start - HISTORY) : start])
    made = []
    for i in chosen:
        end = int(origin[i]) + 1
        made.append(model.forward(history[max(0, end - HISTORY) : end], h=horizon)["mean"][-1])
    return np.asarray(made, np.float64), chosen
