"""Fit the forecaster's weights: seasons and ridge by validation, the linear median, then the network."""

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.training import fitting
from dwcp_stream.training.forecast import network
from dwcp_stream.training.forecast.judge import EDGE_LIMIT, Start
from dwcp_stream.training.forecast.layout import Layout
from dwcp_stream.training.forecast.network import Weights
from dwcp_stream.training.forecast.regression import fit_quantile
from dwcp_stream.training.forecast.rows import F32, Mask, Table
from dwcp_stream.training.sequence import Progress

RIDGES = (1e-4, 1e-3, 1e-2, 1e-1)
USUAL = 1e-3
"""Ridge that seasons are compared at."""
MOST_ROWS, LEAST_ROWS = 200_000, 4_000
"""Rows that all regressions are solved on together, evenly spaced, and the least that each may have."""
PRIOR = (5.0, 50.0)
"""Range of the number of forecasts that the validation's edge counts as."""
FEW = 60
"""Fewer rows get no linear weights of their own."""
EPOCHS, MOST_EPOCHS, STEPS = 12, 60, 600
"""Passes over the rows, more of them where they are so few that there would be fewer steps than `STEPS`."""
BATCHES, LEAST_BATCH, BATCH, RATE = 24, 32, 256, 2e-3
"""Batches that a pass shall at least have, if they can be of 32 rows; largest batch; peak learning rate."""


@dataclass(frozen=True)
class Fitted:
    """Weights, and how they came about.

    `ridge` and `epochs` are those that validation chose; `train_loss` and `valid_loss` per epoch of the network.
    """

    weights: Weights
    ridge: float
    epochs: int
    train_loss: list[float]
    valid_loss: list[float]


def standardise(table: Table, train: Mask) -> tuple[F32, F32]:
    """Mean and spread [Y, K] of training rows; columns that do not vary get spread 1."""
    x = table.x[train]
    spread = x.std(axis=0)
    return x.mean(axis=0), np.where(spread > 1e-6, spread, 1.0).astype(np.float32)


def persistence_cost(table: Table, rows: Mask) -> F32:
    """Mean absolute error of repeating the last value [Y, H], in scales; at least 0.001."""
    with np.errstate(invalid="ignore"):
        known = np.isfinite(table.actual[rows])
        total = np.where(known, np.abs(table.actual[rows]), 0.0).sum(axis=0)
    cost: F32 = np.maximum(total / np.maximum(known.sum(axis=0), 1), 1e-3).astype(np.float32)
    return cost


def linear(table: Table, train: Mask, mean: F32, spread: F32, shape: Layout, ridge: float) -> F32:
    """Linear medians [2, Y, H, I + J + 1] of standardised features: of warm rows, and of cold ones.

    A part with too few rows takes the other's weights.
    """
    y, h = table.actual.shape[1:]
    result = np.zeros((2, y, h, shape.common + shape.seasonal + 1), np.float32)
    cold = network.is_cold(table.x, shape)
    for i in range(y):
        parts = [np.flatnonzero(train & (cold[:, i] == state)) for state in (False, True)]
        for j in range(h):
            found = [_solve(table, rows, mean, spread, shape, ridge, (i, j)) for rows in parts]
            for part in range(2):
                chosen = found[part] if found[part] is not None else found[1 - part]
                if chosen is not None:
                    result[part, i, j] = chosen
    return result


def _solve(
    table: Table, rows: NDArray[np.int64], mean: F32, spread: F32, shape: Layout, ridge: float, at: tuple[int, int]
) -> F32 | None:
    i, j = at
    known = rows[np.isfinite(table.actual[rows, i, j])]
    if len(known) < FEW:
        return None
    most = min(40_000, max(LEAST_ROWS, MOST_ROWS // (len(shape.targets) * len(shape.horizons))))
    known = known[np.linspace(0, len(known) - 1, min(len(known), most)).astype(np.int64)]
    use = network.columns(shape, j)
    X = ((table.x[known, i][:, use] - mean[i, use]) / spread[i, use]).astype(np.float64)
    return fit_quantile(X, table.actual[known, i, j].astype(np.float64), ridge=ridge).astype(np.float32)


def choose_ridge(
    table: Table, train: Mask, valid: Mask, shape: Layout, ridges: tuple[float, ...] = RIDGES
) -> tuple[float, float]:
    """Ridge with the smallest validation error, and that error as a share of persistence's (mean over Y and H)."""
    mean, spread = standardise(table, train)
    standard = ((table.x[valid] - mean) / spread).astype(np.float32)
    cold, actual, unit = network.is_cold(table.x[valid], shape), table.actual[valid], persistence_cost(table, valid)
    costs = {}
    for ridge in ridges:
        made = network.linear_median(linear(table, train, mean, spread, shape, ridge), standard, cold, shape)
        costs[ridge] = float((np.nanmean(_known(np.abs(made - actual)), axis=0) / unit).mean())
    best = min(costs, key=lambda ridge: (costs[ridge], -ridge))
    return best, costs[best]


def fit_weights(
    table: Table,
    train: Mask,
    valid: Mask,
    shape: Layout,
    *,
    seed: int,
    epochs: int | None,
    progress: Progress,
    like: Fitted | None = None,
    hidden: int = network.HIDDEN,
    rate: float = RATE,
) -> Fitted:
    """Fit on training rows.

    Parameters
    ----------
    table, train, valid, shape
        Rows, and which of them to fit and to choose by.
    seed, epochs, progress
        Of the network.
    like
        Take ridge, number of epochs and gate from there, and choose nothing: `valid` then decides nothing.
    hidden, rate
        Width of the network, and its peak learning rate.
    """
    mean, spread = standardise(table, train)
    ridge = choose_ridge(table, train, valid, shape)[0] if like is None else like.ridge
    median = linear(table, train, mean, spread, shape, ridge)
    standard = ((table.x - mean) / spread).astype(np.float32)
    base = network.linear_median(median, standard, network.is_cold(table.x, shape), shape)
    unit = persistence_cost(table, train)
    with np.errstate(invalid="ignore"):
        widths = 1.5 * np.nanmedian(_known(np.abs(table.actual - base)[train]), axis=0)
    start = network.init(seed, len(shape.targets), standard.shape[2], np.nan_to_num(widths, nan=1.0), hidden)

    def batches(numbers: NDArray[np.int64]) -> dict[str, F32]:
        return {"x": standard[numbers], "base": base[numbers], "actual": table.actual[numbers], "unit": unit}

    judged = np.flatnonzero(valid)
    batch = int(np.clip(train.sum() // BATCHES, LEAST_BATCH, BATCH))
    batch = min(batch, int(train.sum()))
    passes = min(MOST_EPOCHS, max(EPOCHS, math.ceil(STEPS / max(int(train.sum()) // batch, 1))))
    done = fitting.fit(
        start, network.loss, np.flatnonzero(train), judged, batches,
        epochs=(epochs or passes) if like is None else like.epochs,
        batch=batch, rate=rate, seed=seed, progress=progress,
    )  # fmt: skip
    weights = Weights(mean, spread, median, done.params, np.ones(base.shape[1:], np.float32))
    gate = _gate(weights, table, base, valid, shape) if like is None else like.weights.gate
    return Fitted(
        replace(weights, gate=gate), ridge,
        done.best_epoch + 1 if like is None else like.epochs, done.train_loss, done.valid_loss,
    )  # fmt: skip


def calibrate(weights: Weights, table: Table, valid: Mask, shape: Layout) -> Start:
    """Where unseen entities start: factors with which validation rows are covered, and the model's edge there.

    The edge is the mean difference of errors plus its standard error: little validation data starts with the last
    value, and counts for little beside what the entity itself shows.
    """
    middle, lower, upper = network.predict(weights, table.x[valid], shape)
    actual = table.actual[valid]
    with np.errstate(invalid="ignore"):
        below, above = (middle - actual) / lower, (actual - middle) / upper
        came, told = (_distance(value, table.scale[valid], shape) for value in (actual, middle))
        edge = np.clip(np.abs(came - told) - np.abs(came), -EDGE_LIMIT, EDGE_LIMIT)
    factors = [
        np.log(np.clip(np.nanquantile(_known(part), 0.9, axis=0), 0.05, 20.0)).T.astype(np.float32)
        for part in (below, above)
    ]
    # forecasts that overlap tell the same: an error of the mean that forgets it would be too small
    count = np.maximum(np.isfinite(edge).sum(axis=0) / np.asarray(shape.horizons), 2.0)
    cautious = np.nanmean(_known(edge), axis=0) + np.nanstd(_known(edge), axis=0) / np.sqrt(count)
    prior = np.clip(count, *PRIOR).astype(np.float32)
    return Start(cautious.T.astype(np.float32), prior.T, factors[0], factors[1])


def _distance(away: F32, scale: F32, shape: Layout) -> F32:
    """Measure distances [N, Y, H] from the last value, in scales [N, Y], as `judge` does in the graph."""
    logs = np.array([t.log for t in shape.transforms])[:, None]
    unit = scale[..., None]
    grown = np.expm1(np.clip(away * unit, -10.0, 10.0)) / unit
    return np.asarray(np.where(logs, grown, away), np.float32)


def _gate(weights: Weights, table: Table, base: F32, valid: Mask, shape: Layout) -> F32:
    """1 where the network's bend lowers the validation error of the median."""
    bent = network.predict(weights, table.x[valid], shape)[0]
    actual = table.actual[valid]
    bent_cost, cost = (np.nanmean(_known(np.abs(actual - m)), axis=0) for m in (bent, base[valid]))
    return np.asarray(bent_cost < cost, np.float32)


def _known(values: F32) -> F32:
    """Put a zero where a whole column of [N, Y, H] is unknown, so that means exist."""
    nothing = ~np.isfinite(values).any(axis=0)
    return np.where(nothing & (np.arange(len(values)) == 0)[:, None, None], np.float32(0), values)
