"""Simple forecasts that the link model must be read beside; all in logarithms, like the model's own medians.

Each gets the rows that are forecast from and the horizon in rows, and gives one value per row and target.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.training.dataset import Floats, Grid, Ints

DAY = 86_400.0
RIDGE = 1.0


class Baselines:
    """Persistence, seasonal naive, mean per link and hour, and AR(1) ridge.

    Parameters
    ----------
    grid
        All rows.
    logs
        [R, Y] logs of the targets, NaN = missing.
    train
        Rows that fitting may use.
    before
        Time before which the per-hour means may look (a held-out link has its own past, too).
    """

    def __init__(self, grid: Grid, logs: Floats, train: Ints, before: float) -> None:
        self._grid, self._logs, self._train = grid, logs, train
        self._held = held_values(grid, logs)
        self._hours = self._hour_means(before)

    def all(self, rows: Ints, horizon: int) -> dict[str, Floats]:
        """Forecasts [N, Y] by name, `horizon` rows after each of `rows`."""
        return {
            "persistence": self._held[rows],
            "seasonal naive": self._yesterday(rows, horizon),
            "mean per hour": self._hourly(rows, horizon),
            "AR(1) ridge": self._autoregression(rows, horizon),
        }

    def _yesterday(self, rows: Ints, horizon: int) -> Floats:
        """Value a day before the target time; persistence where the entity has none."""
        values = values_before(self._grid, self._logs, rows + horizon, DAY)
        return np.where(np.isnan(values), self._held[rows], values)

    def _hour_means(self, before: float) -> Floats:
        """Mean log per entity and hour of day [E * 24, Y] over rows before a time."""
        key = self._grid.entity * 24 + (self._grid.ts % DAY // 3600).astype(np.int64)
        known = (self._grid.ts < before) & np.isfinite(self._logs).all(axis=1)
        size = len(self._grid.entities) * 24
        count = np.bincount(key[known], minlength=size)
        sums = [np.bincount(key[known], weights=column, minlength=size) for column in self._logs[known].T]
        with np.errstate(invalid="ignore"):
            return np.stack(sums, axis=1) / np.where(count > 0, count, np.nan)[:, None]

    def _hourly(self, rows: Ints, horizon: int) -> Floats:
        then = self._grid.ts[rows] + horizon * float(self._grid.stream.step)
        means = self._hours[self._grid.entity[rows] * 24 + (then % DAY // 3600).astype(np.int64)]
        return np.where(np.isnan(means), self._held[rows], means)

    def _autoregression(self, rows: Ints, horizon: int) -> Floats:
        """Change by a ridge on the distance of the last value to the window's mean, pooled over links."""
        result = np.empty((len(rows), self._logs.shape[1]))
        target = np.minimum(self._train + horizon, len(self._logs) - 1)
        for i in range(result.shape[1]):
            x = self._distance(self._train, i)
            change = self._logs[target, i] - self._held[self._train, i]
            same = self._grid.entity[target] == self._grid.entity[self._train]
            known = np.isfinite(x) & np.isfinite(change) & same
            X = np.stack([np.ones(known.sum()), x[known]], axis=1)
            weight = np.linalg.solve(X.T @ X + RIDGE * np.eye(2), X.T @ change[known])
            result[:, i] = self._held[rows, i] + weight[0] + weight[1] * np.nan_to_num(self._distance(rows, i))
        return result

    def _distance(self, rows: Ints, target: int) -> Floats:
        window = rows[:, None] + np.arange(1 - self._grid.stream.window, 1)
        values = self._logs[window, target]
        known = np.isfinite(values)
        mean = np.where(known, values, 0.0).sum(axis=1) / np.maximum(known.sum(axis=1), 1)
        return np.asarray(self._held[rows, target] - mean)


def held_values(grid: Grid, logs: Floats) -> NDArray[Any]:
    """Newest known value at each row [R, Y], not older than the window, NaN if there is none."""
    number = np.arange(len(logs))[:, None]
    newest = np.maximum.accumulate(np.where(np.isfinite(logs), number, 0), axis=0)
    fresh = (number - newest < grid.stream.window) & (grid.entity[newest] == grid.entity[:, None])
    return np.where(fresh, np.take_along_axis(logs, newest, axis=0), np.nan)


def values_before(grid: Grid, values: Floats, rows: Ints, seconds: float) -> Floats:
    """Values [N, Y] of the same entity a time before each row; NaN where there are none.

    Rows of a segment are a step apart, so the row is found by counting; a segment that began later (a gap, a
    padding) shifts the count, and the times then do not agree.
    """
    then = rows - round(seconds / float(grid.stream.step))
    valid = then >= 0
    then = np.maximum(then, 0)
    valid &= grid.entity[then] == grid.entity[rows]
    valid &= np.abs(grid.ts[rows] - grid.ts[then] - seconds) < float(grid.stream.step)
    return np.where(valid[:, None], values[then], np.nan)
