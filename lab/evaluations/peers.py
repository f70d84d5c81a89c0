"""Other detectors for the same rows: the usual rules, and PyOD and River where they are installed.

PyOD (`pyod`) is not a dependency of the project; without it its rows are left out. River's HalfSpaceTrees gets values
scaled to 0..1 by the training part, as its documentation asks.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.training.anomaly.baselines import ewma_z, pca_mean

Floats = NDArray[np.float64]
Peer = Callable[[Floats, Floats], Floats]
SMOOTHED = 5


def peers() -> dict[str, Peer]:
    """Detectors by name, each from training rows [M, F] and test rows [N, F] to scores [N]."""
    found: dict[str, Peer] = {"EWMA z": _ewma, "PCA + mean of 5": _pca, "River HalfSpaceTrees": half_space_trees}
    try:
        from pyod.models.copod import COPOD  # noqa: PLC0415
        from pyod.models.ecod import ECOD  # noqa: PLC0415
        from pyod.models.iforest import IForest  # noqa: PLC0415
    except ImportError:
        return found
    return found | {
        "PyOD ECOD": lambda train, test: _pyod(ECOD(), train, test),
        "PyOD COPOD": lambda train, test: _pyod(COPOD(), train, test),
        "PyOD IForest": lambda train, test: _pyod(IForest(random_state=0), train, test),
    }


def standardised(train: Floats, test: Floats) -> tuple[Floats, Floats]:
    """Scale both by the training part's mean and deviation."""
    center, scale = train.mean(axis=0), np.maximum(train.std(axis=0), 1e-9)
    return (train - center) / scale, (test - center) / scale


def _ewma(train: Floats, test: Floats) -> Floats:
    _, z = standardised(train, test)
    return ewma_z(z, np.zeros(len(z), np.int64))


def _pca(train: Floats, test: Floats) -> Floats:
    a, b = standardised(train, test)
    return pca_mean(a, b, np.zeros(len(b), np.int64))


def half_space_trees(train: Floats, test: Floats) -> Floats:
    """River's HalfSpaceTrees (Tan, Ting and Liu 2011) with its defaults, learning all the way."""
    from river.anomaly import HalfSpaceTrees  # noqa: PLC0415

    low, high = train.min(axis=0), train.max(axis=0)
    span = np.maximum(high - low, 1e-9)
    model = HalfSpaceTrees(seed=0)
    for row in np.clip((train - low) / span, 0, 1):
        model.learn_one(dict(enumerate(row.tolist())))
    scores = []
    for row in np.clip((test - low) / span, 0, 1):
        sample = dict(enumerate(row.tolist()))
        scores.append(model.score_one(sample))
        model.learn_one(sample)
    return np.asarray(scores)


def _pyod(model: object, train: Floats, test: Floats) -> Floats:
    a, b = standardised(train, test)
    model.fit(a)  # type: ignore[attr-defined]
    scores = np.asarray(model.decision_function(b), np.float64)  # type: ignore[attr-defined]
    total = np.concatenate([[0.0], np.cumsum(scores)])
    last = np.arange(1, len(scores) + 1)
    first = np.maximum(last - SMOOTHED, 0)
    return np.asarray((total[last] - total[first]) / (last - first))
