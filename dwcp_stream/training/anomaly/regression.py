"""A linear prediction of every field from all fields a few rows before: a vector autoregression by ridge.

Values are taken relative to each entity's slow level, so that entities of different levels share the weights. With
many fields each is predicted from its own past only. The penalty is the one with the least error on held-out time.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.training.anomaly.products import wide_matmul
from dwcp_stream.training.anomaly.ridge import Floats, fit_ridge, held_out
from dwcp_stream.training.graph import Graph

LAGS = (1, 2, 3)
REACH = 8
"""A missing row is replaced by the last known value at most this many rows back."""
PENALTIES = (0.01, 0.1, 1.0)
CROSS_FIELDS = 64
"""With more fields than this each is predicted from itself alone."""
ROBUST = 10.0


@dataclass(frozen=True)
class Regression:
    """Weights [K, F, F] (lag, from, to), or [K, F] where each field has only its own past."""

    lags: tuple[int, ...]
    weights: NDArray[np.float32]

    def __call__(self, past: Floats) -> Floats:
        """Predictions [N, F] from past values [N, K, F] relative to the level, NaN counting as the level."""
        known = np.nan_to_num(past)
        if self.weights.ndim == 2:
            return np.asarray((known * self.weights).sum(axis=1))
        return np.asarray(np.einsum("nkf,kfg->ng", known, self.weights.astype(np.float64)))

    def add(self, g: Graph, past: list[str]) -> str:
        """Add predictions [B, F] from past values, one [B, F] per lag, to a graph."""
        if self.weights.ndim == 2:
            parts = [g.mul(x, g.const(w)) for x, w in zip(past, self.weights, strict=True)]
            return parts[0] if len(parts) == 1 else g.op("Sum", *parts)
        fields = self.weights.shape[1]
        stacked = self.weights.reshape(-1, fields)
        return wide_matmul(g, g.concat(past, axis=1) if len(past) > 1 else past[0], stacked)


def lagged(z: Floats, ends: NDArray[np.int64], lags: tuple[int, ...], reach: int) -> Floats:
    """Rows [N, K, F] at `lags` before each of `ends`, holes filled by older rows up to `reach` back."""
    value = np.full((len(ends), z.shape[1]), np.nan)
    found = {}
    for back in range(reach, 0, -1):
        row = z[ends - back]
        value = np.where(np.isnan(row), value, row)
        if back in lags:
            found[back] = value
    return np.stack([found[lag] for lag in lags], axis=1) if lags else np.zeros((len(ends), 0, z.shape[1]))


def fit_regression(past: Floats, target: Floats, lags: tuple[int, ...]) -> tuple[Regression, Floats]:
    """Fit the prediction.

    Parameters
    ----------
    past
        [N, K, F] relative to the level.
    target
        [N, F] relative to the level, NaN = missing.
    lags
        Their K distances in rows.

    Returns
    -------
    tuple
        The regression, and its residuals [N, F] on held-out quarters.
    """
    fields = target.shape[1]
    if not lags:
        return Regression((), np.zeros((0, fields), np.float32)), target
    known = np.nan_to_num(past)
    cross = 1 < fields <= CROSS_FIELDS
    best: tuple[float, float, Floats] | None = None
    for penalty in PENALTIES:
        if cross:
            residual = held_out(known.reshape(len(known), -1), target, penalty)
        else:
            columns = [held_out(known[:, :, f], target[:, f : f + 1], penalty) for f in range(fields)]
            residual = np.concatenate(columns, axis=1)
        error = float(np.nanmean(np.minimum(np.square(residual), ROBUST**2))) if np.isfinite(residual).any() else 0.0
        if best is None or error < best[0]:
            best = (error, penalty, residual)
    assert best is not None  # noqa: S101 - PENALTIES is not empty
    _, penalty, residual = best
    if cross:
        weights = fit_ridge(known.reshape(len(known), -1), target, penalty).reshape(len(lags), fields, fields)
    else:
        own = [fit_ridge(known[:, :, f], target[:, f : f + 1], penalty)[:, 0] for f in range(fields)]
        weights = np.stack(own, axis=1)
    return Regression(lags, weights.astype(np.float32)), residual
