"""Ridge regression with missing targets, and its residuals on rows that it was not fitted to."""

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
FOLDS = 4


def fit_ridge(X: Floats, Y: Floats, penalty: float) -> Floats:
    """Return the weights [K, F] that minimise |Y - X W|^2 / N + penalty |W|^2 over known targets.

    Parameters
    ----------
    X
        [N, K], no value missing.
    Y
        [N, F], NaN = missing.
    penalty
        In units of the regressors' mean square.
    """
    known = np.isfinite(Y)
    eye = penalty * np.eye(X.shape[1])
    full = known.all(axis=0)
    weights = np.zeros((X.shape[1], Y.shape[1]))
    if full.any():
        weights[:, full] = np.linalg.solve(X.T @ X / len(X) + eye, X.T @ Y[:, full] / len(X))
    for column in np.flatnonzero(~full & known.any(axis=0)):
        rows = known[:, column]
        x = X[rows]
        weights[:, column] = np.linalg.solve(x.T @ x / len(x) + eye, x.T @ Y[rows, column] / len(x))
    return weights


def held_out(X: Floats, Y: Floats, penalty: float) -> Floats:
    """Residuals [N, F] of contiguous quarters, each predicted by a fit to the other three.

    Neighbouring rows are alike, so folds drawn at random would be too kind.
    """
    edges = np.linspace(0, len(X), FOLDS + 1).astype(np.int64)
    residual = np.full_like(Y, np.nan)
    for begin, end in pairwise(edges):
        rest = np.r_[0:begin, end : len(X)]
        if len(rest) and end > begin:
            residual[begin:end] = Y[begin:end] - X[begin:end] @ fit_ridge(X[rest], Y[rest], penalty)
    return residual
