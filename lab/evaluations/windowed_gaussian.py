"""The benchmark's windowed Gaussian detector, to check the scoring rules by its published result."""

import numpy as np
from numpy.typing import NDArray
from scipy.special import erfc

Floats = NDArray[np.float64]
WINDOW, STEP = 6400, 100
SMALLEST = 1e-6


def windowed_gaussian(values: Floats) -> Floats:
    """Score each value by the upper tail of a normal distribution fitted to the values before it.

    The window grows to 6400 values and then moves on by 100 at a time. Scores are 1 - Q(|z|), from 0.5 to 1; the
    first is 0.
    """
    count = len(values)
    centred = values - values.mean()
    sums = np.concatenate([[0.0], np.cumsum(centred)])
    squares = np.concatenate([[0.0], np.cumsum(centred**2)])
    row = np.arange(count)
    moved = np.maximum(row - WINDOW - 1, 0) // STEP * STEP if count > WINDOW else np.zeros(count, np.int64)
    first, last = moved, np.minimum(row, WINDOW + moved)
    size = np.maximum(last - first, 1)
    mean = (sums[last] - sums[first]) / size
    spread = np.sqrt(np.maximum((squares[last] - squares[first]) / size - mean**2, 0.0))
    spread = np.where(spread > 1e-9 * max(1.0, float(np.abs(values.mean()))), spread, SMALLEST)
    scores = 1.0 - 0.5 * erfc(np.abs(centred - mean) / spread / np.sqrt(2.0))
    scores[0] = 0.0
    return np.asarray(scores)
