"""How well scores rank labelled rows, with the rows weighted in many ways at once."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def weighted_ranking(
    label: NDArray[np.bool_], score: NDArray[np.floating[Any]], unit: Ints, weights: Floats
) -> tuple[Floats, Floats]:
    """ROC AUC and average precision where all rows of a unit have the same weight.

    The definitions are those of scikit-learn's `roc_auc_score` and `average_precision_score` with `sample_weight`; the
    rows are sorted once and not once for each weighting, which a bootstrap needs.

    Parameters
    ----------
    label
        [N] whether the row is of the kind to be found.
    score
        [N] finite.
    unit
        [N] number of the unit that the row belongs to.
    weights
        [D, U] weight of each unit, a row for each weighting.

    Returns
    -------
    tuple
        Both [D]; NaN where only one kind of row has weight.
    """
    order = np.argsort(-score, kind="stable")
    on, unit = label[order], unit[order]
    last = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)  # of each run of equal scores
    areas, precisions = np.full(len(weights), np.nan), np.full(len(weights), np.nan)
    for number, weight in enumerate(weights):
        w = weight[unit]
        true = np.cumsum(np.where(on, w, 0.0))[last]
        false = np.cumsum(np.where(on, 0.0, w))[last]
        if true[-1] <= 0 or false[-1] <= 0:
            continue
        steps = np.diff(true, prepend=0.0)
        # every step up of the curve lies beside the rows that are still to come, half of those of equal score
        beside = false[-1] - false + np.diff(false, prepend=0.0) / 2.0
        areas[number] = float(steps @ beside) / (true[-1] * false[-1])
        flagged = true + false
        precisions[number] = (
            float(steps @ np.divide(true, flagged, out=np.ones_like(true), where=flagged > 0)) / true[-1]
        )
    return areas, precisions
