"""What a model must beat: the usual rules, as scores of scaled rows."""

import numpy as np

from dwcp_stream.training.anomaly.memory import Ints, Turns
from dwcp_stream.training.anomaly.ridge import Floats

EWMA_RATE = 0.05
MEAN_ROWS = 5
VARIANCE_KEPT = 0.9


def ewma_z(z: Floats, entity: Ints) -> Floats:
    """Largest distance over fields from an exponentially weighted mean, in its standard deviations, [N, F] to [N]."""
    turns = Turns.of(entity)
    shape = (turns.order.shape[1], z.shape[1])
    mean, variance, score = np.zeros(shape), np.ones(shape), np.zeros(len(z))
    for rows in turns.order:
        on = rows >= 0
        step = np.nan_to_num(z[rows[on]] - mean[on])
        score[rows[on]] = (np.abs(step) / np.sqrt(variance[on] + 1e-4)).max(axis=1)
        mean[on] += EWMA_RATE * step
        variance[on] = (1.0 - EWMA_RATE) * (variance[on] + EWMA_RATE * step**2)
    return score


def pca_mean(train: Floats, z: Floats, entity: Ints) -> Floats:
    """Squared distance from the training rows' principal components (90 % of variance), mean of five rows, [N].

    With a single field, which has no plane to be off: its squared distance from the training mean.
    """
    known = np.nan_to_num(train)
    center = known.mean(axis=0)
    _, sizes, axes = np.linalg.svd(known - center, full_matrices=False)
    kept = int(np.searchsorted(np.cumsum(sizes**2) / max(float((sizes**2).sum()), 1e-12), VARIANCE_KEPT)) + 1
    plane = axes[: min(kept, z.shape[1] - 1)]
    off = np.nan_to_num(z) - center
    error = np.square(off - off @ plane.T @ plane).mean(axis=1)
    return moving_mean(error, entity, MEAN_ROWS)


def moving_mean(values: Floats, entity: Ints, rows: int) -> Floats:
    """Mean of each entity's newest rows up to each of its rows, fewer at its beginning, [N] to [N]."""
    result = np.zeros(len(values))
    for number in np.unique(entity):
        own = np.flatnonzero(entity == number)
        total = np.concatenate([[0.0], np.cumsum(values[own])])
        last = np.arange(1, len(own) + 1)
        first = np.maximum(last - rows, 0)
        result[own] = (total[last] - total[first]) / (last - first)
    return result
