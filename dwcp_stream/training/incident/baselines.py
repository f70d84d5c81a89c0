"""What an incident model has to beat: a fixed rule, the best single field, logistic regression on the newest row."""

from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from dwcp_stream.training.incident.design import Design

Bools = NDArray[np.bool_]
Floats = NDArray[np.floating[Any]]
Scorer = Callable[[Floats], NDArray[np.float64]]  # of newest rows [N, F], the design's fields

RULE: Final = "rule: largest distance of a field from its median"
FIELD: Final = "best single field"
LOGISTIC: Final = "logistic regression on the newest row"


def contenders(design: Design, newest: Floats, label: Bools) -> dict[str, Scorer]:
    """Fit the baselines on training rows.

    Parameters
    ----------
    design
        Fields and scales.
    newest
        [N, F] newest rows, the design's fields.
    label
        [N] whether the row is in an incident.

    Returns
    -------
    dict
        Name to a function from newest rows to suspicion; a missing value counts as the field's median.
    """
    return {
        RULE: lambda rows: np.asarray(np.abs(_gauges(design, rows)).max(axis=1)),
        FIELD: _best_field(design, newest, label),
        LOGISTIC: _logistic(design, newest, label),
    }


def field_name(design: Design, newest: Floats, label: Bools) -> str:
    """Say which field, upwards or downwards, ranks these rows best."""
    number, sign = _choose_field(design, newest, label)
    return f"{'high' if sign > 0 else 'low'} {design.fields[number]}"


def _gauges(design: Design, rows: Floats) -> NDArray[np.float64]:
    return np.asarray(np.nan_to_num(design.scaled(rows[:, : design.numeric])))


def _choose_field(design: Design, newest: Floats, label: Bools) -> tuple[int, float]:
    gauges = _gauges(design, newest)
    areas = np.array([roc_auc_score(label, column) for column in gauges.T])
    number = int(np.argmax(np.maximum(areas, 1.0 - areas)))
    return number, 1.0 if areas[number] >= 0.5 else -1.0


def _best_field(design: Design, newest: Floats, label: Bools) -> Scorer:
    number, sign = _choose_field(design, newest, label)
    return lambda rows: np.asarray(sign * _gauges(design, rows)[:, number])


def _logistic(design: Design, newest: Floats, label: Bools) -> Scorer:
    def table(rows: Floats) -> NDArray[np.float64]:
        words = [
            (rows[:, design.numeric + i, None] == np.array(codes)).astype(np.float64)
            for i, codes in enumerate(design.words)
        ]
        return np.column_stack([_gauges(design, rows), *words])

    x = table(newest)
    center, spread = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
    learner = LogisticRegression(max_iter=500, class_weight="balanced").fit((x - center) / spread, label)
    return lambda rows: np.asarray(learner.decision_function((table(rows) - center) / spread))
