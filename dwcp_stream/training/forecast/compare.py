"""Is one forecast better than another? A test per series, and an interval over series."""

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]


def diebold_mariano(first: Floats, second: Floats, horizon: int) -> tuple[float, float]:
    """Test whether two forecasts of a series are equally good.

    Parameters
    ----------
    first, second
        Losses [N] of the two forecasts for the same rows in order of time; rows with NaN are left out.
    horizon
        Rows ahead: losses closer than that are related even for the best forecast.

    Returns
    -------
    tuple
        The statistic, negative where the first is better, and the two-sided p-value of the normal distribution;
        (0, 1) where the two never differ or there are too few rows.

    Notes
    -----
    F. X. Diebold and R. S. Mariano, "Comparing predictive accuracy", JBES 13(3), 1995, with the long-run variance
    of Newey and West (1987) and at least as many lags as the cube root of N.
    """
    known = np.isfinite(first) & np.isfinite(second)
    difference = (np.asarray(first, np.float64) - second)[known]
    n = len(difference)
    lags = max(horizon, round(n ** (1 / 3)))
    if n < 4 * lags or not np.any(difference):
        return 0.0, 1.0
    off = difference - difference.mean()
    variance = float(off @ off) / n
    for lag in range(1, lags + 1):
        variance += 2.0 * (1.0 - lag / (lags + 1)) * float(off[lag:] @ off[:-lag]) / n
    if variance <= 0.0:
        return 0.0, 1.0
    statistic = float(difference.mean() / math.sqrt(variance / n))
    return statistic, math.erfc(abs(statistic) / math.sqrt(2.0))


def holm(p_values: Floats) -> Floats:
    """Adjust p-values for their number (Holm 1979): each is then compared with the level as it is."""
    p = np.asarray(p_values, np.float64)
    order = np.argsort(p)
    stepped = np.maximum.accumulate((len(p) - np.arange(len(p))) * p[order])
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(stepped, 1.0)
    return adjusted


def pooled_skill(error: Floats, reference: Floats, *, draws: int = 4000, seed: int = 0) -> tuple[float, float, float]:
    """Skill over several series, and its 95 % interval from drawing series again with replacement.

    Parameters
    ----------
    error, reference
        Mean absolute errors [S] of a forecast and of the one it is compared with, per series.

    Returns
    -------
    tuple
        1 - geometric mean of the ratios, which no large series can dominate; lower and upper end.
    """
    known = (np.asarray(error) > 0) & (np.asarray(reference) > 0)
    logs = np.log(np.asarray(error, np.float64)[known] / np.asarray(reference, np.float64)[known])
    if not len(logs):
        return float("nan"), float("nan"), float("nan")
    rng = np.random.default_rng(seed)
    means = logs[rng.integers(0, len(logs), (draws, len(logs)))].mean(axis=1)
    low, high = 1.0 - np.exp(np.quantile(means, [0.975, 0.025]))
    return float(1.0 - np.exp(logs.mean())), float(low), float(high)
