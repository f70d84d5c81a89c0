"""What a node model has to beat: a fixed rule, the best single field, simple learners on the newest row."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from dwcp_stream.training.features import BASE_FIELDS, MODES, TIERS
from dwcp_stream.training.node_data import NodeData, Part, thinned

Floats = NDArray[np.floating[Any]]
Scorer = Callable[[Part], Floats]

RULE: Final = "rule: error_rate > 0.01 or latency_p99 > 100 ms"
ROBUST_Z: Final = "largest robust z of the newest row"
LOGISTIC: Final = "logistic regression on the newest row"


def rule(part: Part) -> Floats:
    """Score of the trivial rule: over 1 exactly where it fires."""
    last = part.last
    error = last[:, BASE_FIELDS.index("error_rate")] / 0.01
    latency = last[:, BASE_FIELDS.index("latency_p99")] / 100.0
    return np.asarray(np.fmax(np.nan_to_num(error), np.nan_to_num(latency)))


def best_field(data: NodeData) -> tuple[str, Scorer]:
    """Find the gauge, upwards or downwards, that ranks the validation rows best."""
    middle = np.nanmedian(data.train.last[:, : len(BASE_FIELDS)], axis=0)

    def scorer(number: int, sign: float) -> Scorer:
        def score(part: Part) -> Floats:
            values = part.last[:, number]
            return np.asarray(sign * np.where(np.isnan(values), middle[number], values))

        return score

    areas = [
        float(roc_auc_score(data.valid.label, scorer(number, 1.0)(data.valid))) for number in range(len(BASE_FIELDS))
    ]
    number = int(np.argmax([max(area, 1.0 - area) for area in areas]))
    sign = 1.0 if areas[number] >= 0.5 else -1.0
    return f"best single field: {'high' if sign > 0 else 'low'} {BASE_FIELDS[number]}", scorer(number, sign)


def robust_z(data: NodeData) -> Scorer:
    """Largest distance of a gauge from its training median, in units of its middle half (no labels used)."""
    values = data.train.last[:, : len(BASE_FIELDS)]
    low, middle, high = np.nanquantile(values, [0.1, 0.5, 0.9], axis=0)

    def score(part: Part) -> Floats:
        z = np.abs(part.last[:, : len(BASE_FIELDS)] - middle) / np.maximum(high - low, 1e-6)
        return np.asarray(np.nan_to_num(z).max(axis=1))

    return score


def logistic(data: NodeData, seed: int, *, most: int = 100_000) -> Scorer:
    """Logistic regression on the logarithms of the newest row's gauges and its mode and tier."""
    rows, weight = thinned(data.train, most, seed)
    stream = data.train.grid.stream
    values = data.train.last[:, : len(BASE_FIELDS)]
    middle = np.nan_to_num(np.nanmedian(values, axis=0))
    small = np.maximum(0.1 * middle, 1e-4)
    codes = [
        [stream.fields[stream.field_index(name)].vocabulary.index(word) for word in words]
        for name, words in (("dwcp_mode", MODES), ("network_tier", TIERS))
    ]

    def design(last: Floats) -> Floats:
        gauges = np.where(np.isnan(last[:, : len(middle)]), middle, last[:, : len(middle)])
        words = [last[:, 10 + i, None] == np.array(each) for i, each in enumerate(codes)]
        return np.column_stack([np.log(gauges + small), *words]).astype(np.float64)

    x = design(data.train.last[rows])
    center, spread = x.mean(axis=0), np.maximum(x.std(axis=0), 1e-6)
    learner = LogisticRegression(max_iter=1000, random_state=seed)
    learner.fit((x - center) / spread, data.train.label[rows], sample_weight=weight)
    return lambda part: np.asarray(learner.decision_function((design(part.last) - center) / spread))


def contenders(data: NodeData, seed: int, *, supervised: bool) -> Mapping[str, Scorer]:
    """Return the baselines by their names in the report; `supervised`: the one that learns labels too."""
    name, field = best_field(data)
    simple = {LOGISTIC: logistic(data, seed)} if supervised else {ROBUST_Z: robust_z(data)}
    return {RULE: rule, **simple, name: field}
