"""Forecasts by other people's methods for the rows of a grid: each entity's history on its own time axis."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import polars as pl
from numpy.typing import NDArray

from dwcp_stream.training.dataset import Grid, Ints
from dwcp_stream.training.peers import forecast
from dwcp_stream.training.peers.fitting import Fitting

Floats = NDArray[np.float64]
DAY: Final = 86_400.0
SEASONS: Final = 3
"""Whole seasons that a training part must hold for least squares on a season before."""
MOST_SLOTS: Final = 20
"""Rows of the time axis for each row with a value; where there are more, rows are counted instead."""
ASKED: Final = 10
"""Series that AutoETS is asked about."""


@dataclass(frozen=True)
class History:
    """One entity's values of one field.

    Attributes
    ----------
    values
        [R] on the time axis, gaps bridged by the value before.
    at
        [N] positions of forecasts among those wanted.
    origin
        [N] row of `values` that each of them is made at.
    first
        First row of `values` that may not be fitted on.
    """

    values: Floats
    at: Ints
    origin: Ints
    first: int


def histories(fitting: Fitting, grid: Grid, rows: Ints, column: int) -> Iterator[History]:
    """Yield the history of each entity that has rows among `rows` [N], where forecasts are made."""
    for number in np.unique(grid.entity[rows]):
        own = np.flatnonzero((grid.entity == number) & grid.filled)
        own = own[np.argsort(grid.ts[own], kind="stable")]
        ts, values = grid.ts[own], grid.values[own, column].astype(np.float64)
        before = _before(fitting, grid, grid.entities[number], float(ts[0]), column)
        times, known = np.concatenate([before[0], ts]), np.concatenate([before[1], values])
        slot = _slots(grid, times)
        axis = np.full(int(slot.max()) + 1, np.nan)
        axis[slot[::-1]] = known[::-1]
        filled = pl.Series(axis).fill_nan(None).fill_null(strategy="forward").fill_null(strategy="backward")
        place = np.zeros(len(grid.ts), np.int64)
        place[own] = slot[len(before[0]) :]
        judged = own[fitting.judged[own]]
        at = np.flatnonzero(grid.entity[rows] == number)
        if len(judged) and not filled.has_nulls():
            yield History(filled.to_numpy().astype(np.float64), at, place[rows[at]], int(place[judged[0]]))


def simple_peers(histories: Sequence[History], count: int, horizon: int, season: int) -> dict[str, Floats]:
    """Forecasts [count] by name, `horizon` rows ahead; `season` rows of a day, 0 for none."""
    made = {name: np.full(count, np.nan) for name in ("AR(12)", "AR(12), day before")}
    for own in histories:
        usable = season > horizon and own.first >= SEASONS * season
        made["AR(12)"][own.at] = forecast.autoregression(own.values, own.origin, horizon, own.first)
        if usable:
            made["AR(12), day before"][own.at] = forecast.autoregression(
                own.values, own.origin, horizon, own.first, season
            )
    return {name: values for name, values in made.items() if np.isfinite(values).any()}


def autoets(histories: Sequence[History], count: int, horizon: int, season: int) -> Floats:
    """Forecasts [count] of AutoETS at evenly spaced rows of the first series, NaN elsewhere."""
    made = np.full(count, np.nan)
    asked = histories[:ASKED]
    for own in asked:
        if own.first > 2 * forecast.ORDER:
            values, chosen = forecast.autoets(
                own.values, own.origin, horizon, own.first, max(season, 1), forecast.ORIGINS // len(asked)
            )
            made[own.at[chosen]] = values
    return made


def day_rows(grid: Grid) -> int:
    """Rows of a day; 0 for a stream without a step."""
    return 0 if isinstance(grid.stream.step, str) else round(DAY / float(grid.stream.step))


def _before(fitting: Fitting, grid: Grid, entity: str, until: float, column: int) -> tuple[Floats, Floats]:
    """Return times and values of the entity in files of their own, as far as they are earlier."""
    train = fitting.grid
    if train is grid or entity not in train.entities:
        return np.zeros(0), np.zeros(0)
    own = np.flatnonzero((train.entity == train.entities.index(entity)) & train.filled & (train.ts < until))
    own = own[np.argsort(train.ts[own], kind="stable")]
    return train.ts[own], train.values[own, column].astype(np.float64)


def _slots(grid: Grid, times: Floats) -> Ints:
    """Row of the time axis of each time; the count of rows where there is no step or the axis would be mostly empty."""
    count = np.arange(len(times))
    if isinstance(grid.stream.step, str):
        return count
    slot = np.rint((times - times[0]) / float(grid.stream.step)).astype(np.int64)
    return slot if slot[-1] < MOST_SLOTS * len(times) else count
