"""Simple forecasts that the model must be read beside, in the target's unit."""

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.training.dataset import Grid
from dwcp_stream.training.forecast.fit import linear, standardise
from dwcp_stream.training.forecast.layout import Layout
from dwcp_stream.training.forecast.network import is_cold, linear_median
from dwcp_stream.training.forecast.plan import DAY, restored
from dwcp_stream.training.forecast.rows import F32, Split, Table

RIDGE = 1e-3


def forecasts(grid: Grid, parted: Split, table: Table, shape: Layout) -> dict[str, NDArray[np.float64]]:
    """Forecasts [N, H, Y] by name for all windows.

    `persistence` repeats the last value; `seasonal naive` repeats the value a season before the target time (the
    last value where there is none); `autoregression` is a linear median on the window's rows alone; `window mean`.
    """
    origin = table.origin.astype(np.float64)[:, None]
    scale = table.scale.astype(np.float64)[:, None]
    flat = np.zeros((1, len(shape.horizons), 1))
    mean = table.x[:, :, shape.lags + len(shape.medians)].astype(np.float64)[:, None]
    made = {
        "persistence": origin + flat,
        "window mean": origin + scale * mean + flat,
        "autoregression": origin + scale * _autoregression(parted, table, shape),
    }
    result = {name: restored(values, shape) for name, values in made.items()}
    result["seasonal naive"] = _season_before(grid, parted, shape, result["persistence"])
    return result


def _autoregression(parted: Split, table: Table, shape: Layout) -> NDArray[np.float64]:
    bare = shape.with_seasons(())
    lags = Table(table.x[:, :, : bare.common], table.origin, table.scale, table.actual)
    mean, spread = standardise(lags, parted.train)
    use = np.zeros(bare.common, bool)
    use[: shape.lags] = True  # medians, level and covariates are the model's own
    lags = Table(np.where(use, lags.x, mean), lags.origin, lags.scale, lags.actual)
    weights: F32 = linear(lags, parted.train, mean, spread, bare, RIDGE)
    made = linear_median(weights, (lags.x - mean) / spread, is_cold(lags.x, bare), bare)
    return made.transpose(0, 2, 1).astype(np.float64)


def _season_before(grid: Grid, parted: Split, shape: Layout, last: NDArray[np.float64]) -> NDArray[np.float64]:
    season = shape.seasons[0].seconds if shape.seasons else DAY
    columns = [grid.stream.field_index(name) for name in shape.targets]
    result = last.copy()
    for i, horizon in enumerate(shape.horizons):
        back = round(season / shape.step) - horizon
        at = parted.rows - back
        fits = (back > 0) & (at >= 0)
        at = np.maximum(at, 0)
        fits &= grid.entity[at] == grid.entity[parted.rows]
        then = grid.ts[parted.rows] + horizon * shape.step - season
        fits &= np.abs(grid.ts[at] - then) < shape.step
        values = grid.values[at][:, columns].astype(np.float64)
        use = fits[:, None] & np.isfinite(values)
        result[:, i] = np.where(use, values, result[:, i])
    return result
