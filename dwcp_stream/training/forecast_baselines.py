"""Values that simple forecasts repeat: the newest known one, and that of a day or a week before."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.training.dataset import Floats, Grid, Ints


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
