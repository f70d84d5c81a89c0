"""Classifiers for rows with labels, on the newest row alone: a rule, one field, logistic regression, boosted trees.

The boosted trees are scikit-learn's HistGradientBoostingClassifier with its defaults and balanced classes.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from dwcp_stream.training.incident.baselines import Scorer, contenders
from dwcp_stream.training.incident.data import IncidentData, split
from dwcp_stream.training.incident.design import Design, fit_design
from dwcp_stream.training.incident.thresholds import choose_threshold

Bools = NDArray[np.bool_]
Floats = NDArray[np.floating[Any]]
BOOSTED: Final = "HistGradientBoosting on the newest row"


def fit_peers(data: IncidentData, seed: int) -> dict[str, Scorer]:
    """Fit classifiers on labelled rows, with thresholds from rows that they did not see.

    The rows are put into parts, as `incident.data.split` does. Each part is scored by a fit of the others, and from
    these scores comes the threshold: the one that the default incident model would choose.

    Parameters
    ----------
    data
        Rows with both kinds of labels.
    seed
        Of the parts and the trees.

    Returns
    -------
    dict
        Name to a function from newest rows [N, F] (all fields of the stream) to scores [N], 1.0 at the threshold.

    Raises
    ------
    PayloadError
        If no numeric field changes.
    """
    design = fit_design(data.grid.stream, data.newest, data.group, data.normal)
    columns = design.columns(data.grid.stream)
    known = np.flatnonzero(data.known)
    newest, label = data.newest[known][:, columns], data.incident[known]
    folds = split(data, seed).number[known]
    unseen: dict[str, NDArray[np.float64]] = {}
    for number in np.unique(folds):
        inside = folds == number
        if label[~inside].any() and not label[~inside].all():
            for name, scorer in _fit(design, newest[~inside], label[~inside], seed).items():
                unseen.setdefault(name, np.full(len(label), np.nan))[inside] = scorer(newest[inside])
    made = {}
    for name, scorer in _fit(design, newest, label, seed).items():
        judged = np.isfinite(unseen[name]) if name in unseen else np.zeros(len(label), bool)
        scores = unseen[name][judged] if label[judged].any() else scorer(newest)
        marks = label[judged] if label[judged].any() else label
        threshold, unit = choose_threshold(marks, scores), max(float(scores.std()), 1e-9)
        made[name] = _scaled(scorer, columns, threshold, unit)
    return made


def _fit(design: Design, newest: Floats, label: Bools, seed: int) -> dict[str, Scorer]:
    trees = HistGradientBoostingClassifier(class_weight="balanced", random_state=seed).fit(newest, label)
    return contenders(design, newest, label) | {BOOSTED: lambda rows: np.asarray(trees.decision_function(rows))}


def _scaled(scorer: Scorer, columns: list[int], threshold: float, unit: float) -> Scorer:
    return lambda rows: 1.0 + (scorer(rows[:, columns]) - threshold) / unit
