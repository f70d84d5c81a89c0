"""Detectors for rows without labels: the usual rules, River's HalfSpaceTrees, and PyOD's where it is installed.

PyOD (`pyod`) is not a dependency of the project; without it its detectors are left out. HalfSpaceTrees gets values
scaled to 0..1 by the training rows, as its documentation asks; it learns all the way.
"""

from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.training.anomaly.baselines import MEAN_ROWS, ewma_z, moving_mean, pca_mean

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


class Peer(Protocol):
    """A detector."""

    def __call__(self, train: Floats, test: Floats, entity: Ints | None = None) -> Floats:
        """Score rows.

        Parameters
        ----------
        train, test
            [M, F] and [N, F] rows, no value missing, the test rows in order of time.
        entity
            [N] entity of each test row; None: there is only one.

        Returns
        -------
        numpy.ndarray
            [N], larger is more unusual; in no unit.
        """


def peers() -> dict[str, Peer]:
    """Detectors by name, those whose libraries are here."""
    found: dict[str, Peer] = {"EWMA z": _ewma, "PCA + mean of 5": _pca, "River HalfSpaceTrees": half_space_trees}
    if not missing():
        found |= {f"PyOD {name}": partial(_pyod, name, options) for name, options in PYOD.items()}
    return found


def missing() -> list[str]:
    """Libraries that some detectors need and that are not installed."""
    return [] if find_spec("pyod") else ["pyod"]


PYOD: dict[str, dict[str, Any]] = {"ECOD": {}, "COPOD": {}, "IForest": {"random_state": 0}}
"""PyOD's classes and what they are told; each is in the module of its name in small letters."""


def standardised(train: Floats, test: Floats) -> tuple[Floats, Floats]:
    """Scale both by the training part's mean and deviation."""
    center, scale = train.mean(axis=0), np.maximum(train.std(axis=0), 1e-9)
    return (train - center) / scale, (test - center) / scale


def _ewma(train: Floats, test: Floats, entity: Ints | None = None) -> Floats:
    _, z = standardised(train, test)
    return ewma_z(z, _entities(z, entity))


def _pca(train: Floats, test: Floats, entity: Ints | None = None) -> Floats:
    a, b = standardised(train, test)
    return pca_mean(a, b, _entities(b, entity))


def half_space_trees(train: Floats, test: Floats, entity: Ints | None = None) -> Floats:  # noqa: ARG001 - one forest for all
    """River's HalfSpaceTrees (Tan, Ting and Liu 2011) with its defaults, learning all the way."""
    from river.anomaly import HalfSpaceTrees  # noqa: PLC0415 - a slow import that only peers need

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
    return np.asarray(scores, np.float64)


def _pyod(name: str, options: dict[str, Any], train: Floats, test: Floats, entity: Ints | None = None) -> Floats:
    a, b = standardised(train, test)
    model = getattr(import_module(f"pyod.models.{name.lower()}"), name)(**options)
    model.fit(a)
    return moving_mean(np.asarray(model.decision_function(b), np.float64), _entities(b, entity), MEAN_ROWS)


def _entities(rows: Floats, entity: Ints | None) -> Ints:
    return np.zeros(len(rows), np.int64) if entity is None else entity
