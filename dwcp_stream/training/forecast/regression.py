"""Linear quantile regression by iteratively reweighted least squares, with a ridge.

The absolute (tilted) error of a row is its square over its size, so minimising the one is solving the other again
and again with weights of the solution before (Schlossmacher 1973; Hunter and Lange 2000 show that it goes downhill).
"""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

ROUNDS = 20
"""Most iterations; it ends when no weight moves by more than `CLOSE` of the mean size of the target."""
CLOSE = 1e-4
SMALL = 1e-2
"""Residuals under this share of the middle one count as that: weights stay finite."""


def fit_quantile(X: Floats, target: Floats, *, level: float = 0.5, ridge: float = 1e-3) -> Floats:
    """Fit weights of columns and an intercept.

    Parameters
    ----------
    X
        [N, I] rows, columns of a mean near 0 and a spread near 1.
    target
        [N], all known.
    level
        Quantile, between 0 and 1.
    ridge
        Penalty on the squared weights, per row and unit of the mean weight; not on the intercept.

    Returns
    -------
    numpy.ndarray
        [I + 1], the intercept last. All zeros but the intercept if the target is constant.
    """
    n, size = X.shape
    A = np.concatenate([X, np.ones((n, 1))], axis=1)
    penalty = np.r_[np.full(size, ridge * n), 1e-9 * n]
    weight = np.ones(n)
    found = np.zeros(size + 1)
    close = CLOSE * max(float(np.abs(target).mean()), 1e-12)
    for _ in range(ROUNDS):
        before = found
        scaled = A * weight[:, None]
        found = np.linalg.solve(A.T @ scaled + np.diag(penalty * weight.mean()), scaled.T @ target)
        residual = target - A @ found
        # the middle residual, not the mean: a few rows that are far off must not blunt the weights of the others
        unit = float(np.median(np.abs(residual))) or float(np.abs(residual).mean())
        if unit == 0.0 or np.abs(found - before).max() < close:
            break
        tilt = np.where(residual > 0, level, 1.0 - level)
        weight = tilt / np.maximum(np.abs(residual) / unit, SMALL)
    return found
