"""Every detector of consensus trouble that is compared: what it is fitted to, and how it scores windows.

All are fitted to the windows marked and to nothing else. Those of the kind "quiet" see no fault; "labels" means that
kinds of fault were shown. Scores grow with suspicion.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import ExtraTreesClassifier, IsolationForest
from sklearn.linear_model import LogisticRegression

from dwcp_stream.scoring.session import make_session
from dwcp_stream.training.anomaly.baselines import pca_mean
from dwcp_stream.training.anomaly.model import build as build_default
from dwcp_stream.training.anomaly.model import state_size
from dwcp_stream.training.anomaly.recipe import fit_recipe as fit_default
from dwcp_stream.training.consensus import classifier, features
from dwcp_stream.training.consensus.data import Mask
from dwcp_stream.training.consensus.folds import Fitter, Scorer, cross_fit, threshold
from dwcp_stream.training.consensus.model import build
from dwcp_stream.training.consensus.recipe import Recipe, fit_recipe
from dwcp_stream.training.consensus.sequence import Windows, run_in_turn
from dwcp_stream.training.consensus.surprise import fit_units, surprise
from dwcp_stream.training.rules import RULES
from lab.evaluations.consensus_networks import NETWORKS, fit_network
from lab.evaluations.peers import half_space_trees

Floats = NDArray[np.float64]
BATCH: Final = 512
FIXED: Final = 1.0
"""Threshold of the rules and of the model, which come with their own."""
MODEL: Final = "consensus model"


@dataclass(frozen=True)
class Detector:
    """A detector.

    Attributes
    ----------
    fit
        From windows, those to fit to, and a seed to what scores.
    sees
        "rule", "quiet" or "labels".
    folds
        Over how many folds its threshold is cross-fitted; 1: on the training windows themselves, of which it saw the
        quiet ones; 0: it has a threshold of its own, 1.
    features
        Whether it needs the features and nothing of the rows before: then its cost can be told.
    """

    fit: Callable[[Windows, Mask, int], Scorer]
    sees: str
    folds: int = 3
    features: bool = True

    def fitter(self, seen: Windows, seed: int) -> Fitter:
        """Bind windows and seed."""
        return lambda train: self.fit(seen, train & seen.usable, seed)


def detectors() -> dict[str, Detector]:
    """All of them by name, rules first."""
    found = {name: Detector(partial(_rule, rule), "rule", 0, features=False) for name, rule in RULES.items()}
    found |= {
        "PCA of the rows, mean of 5": Detector(_pca_rows, "quiet", 1, features=False),
        "PCA of the features": Detector(_pca_features, "quiet", 1),
        "River HalfSpaceTrees": Detector(_half_space_trees, "quiet", 1, features=False),
        "isolation forest of the features": Detector(_forest, "quiet", 1),
        "default anomaly model": Detector(_default, "quiet", 1, features=False),
        "harmful deviations": Detector(_surprise, "quiet", 1),
    }
    found |= {
        name: Detector(lambda seen, train, seed, n=network: fit_network(n, seen, train, seed), "quiet", 1)  # type: ignore[misc]
        for name, network in NETWORKS.items()
    }
    return found | {
        "logistic regression": Detector(_logistic, "labels"),
        "extra trees": Detector(_extra_trees, "labels"),
        "kinds network": Detector(_kinds, "labels"),
        MODEL: Detector(_recipe, "labels", 0),
    }


def fitted(detector: Detector, seen: Windows, train: Mask, seed: int) -> tuple[Scorer, float]:
    """Fit a detector to the windows marked; return what scores others, and its threshold from those marked alone."""
    fitter = detector.fitter(seen, seed)
    score = fitter(train)
    if not detector.folds:
        return score, FIXED
    scores = cross_fit(seen, train, fitter, detector.folds) if detector.folds > 1 else laid(score(train), train)
    return score, threshold(seen, scores, train)


def laid(scores: Floats, rows: Mask) -> Floats:
    """Scores of all windows, NaN but for those marked."""
    found = np.full(len(rows), np.nan)
    found[rows] = scores
    return found


def rate_of(detector: Detector, score: Scorer, seen: Windows) -> float:
    """Windows a second of CPU time from rows to score, `BATCH` at once; NaN if it cannot be told.

    The model is timed as the graph that is published. Others are timed in Python, with the feature graph before them
    where they need it; those that learn or remember as they go are not timed.
    """
    if isinstance(score, Fitted):
        return score.rate()
    if not detector.features:
        return float("nan")
    rows = np.zeros(len(seen.ends), bool)
    rows[-BATCH:] = True
    stream = seen.runs.grid.stream
    first = _graph_rate(features.features_model(stream.field_names, stream.window), seen)
    return 1.0 / (1.0 / first + 1.0 / _rate(lambda: score(rows)))


def _graph_rate(model: bytes, seen: Windows) -> float:
    session = make_session(model, where="lab")
    window, time_of_rows = seen.runs.grid.windows(seen.ends[-BATCH:])
    given = {
        "window": window,
        "time": time_of_rows,
        "state_in": np.full((len(window), features.STATE_SIZE), np.nan, np.float32),
    }
    feed = {entry.name: given[entry.name] for entry in session.get_inputs()}
    return _rate(lambda: session.run(None, feed))


def _rate(call: Callable[[], object], seconds: float = 0.4) -> float:
    call()
    begin, runs = time.process_time(), 0
    while time.process_time() - begin < seconds:
        call()
        runs += 1
    return BATCH * runs / (time.process_time() - begin)


def _rule(rule: Callable[[Any], Any], seen: Windows, train: Mask, seed: int) -> Scorer:
    del train, seed
    scores = np.asarray(rule(seen.runs.grid), np.float64)[seen.ends]
    return lambda rows: scores[rows]


def _rows(seen: Windows) -> Floats:
    """Newest row of each window in logarithms, unknown values 0."""
    values = seen.runs.grid.values[seen.ends, :9].astype(np.float64)
    return np.log1p(np.maximum(np.nan_to_num(values), 0.0))


def _scaled(values: Floats, train: Mask) -> Floats:
    center, spread = values[train].mean(axis=0), values[train].std(axis=0)
    return (values - center) / np.maximum(spread, 0.05)


def _pca_rows(seen: Windows, train: Mask, seed: int) -> Scorer:
    del seed
    quiet = train & seen.quiet
    z = _scaled(_rows(seen), quiet)
    scores = pca_mean(z[quiet], z, seen.group)
    return lambda rows: scores[rows]


def _pca_features(seen: Windows, train: Mask, seed: int) -> Scorer:
    del seed
    quiet = train & seen.quiet
    z = _scaled(seen.features.astype(np.float64), quiet)
    _, sizes, axes = np.linalg.svd(z[quiet], full_matrices=False)
    kept = int(np.searchsorted(np.cumsum(sizes**2) / (sizes**2).sum(), 0.9)) + 1
    plane = axes[:kept]
    return lambda rows: np.square(z[rows] - z[rows] @ plane.T @ plane).mean(axis=1)


def _half_space_trees(seen: Windows, train: Mask, seed: int) -> Scorer:
    """River's HalfSpaceTrees on rows: fitted to quiet training rows, then learning through each run."""
    del seed
    rows, quiet = _rows(seen), train & seen.quiet

    def score(wanted: Mask) -> Floats:
        return half_space_trees(rows[quiet], rows[wanted])

    return score


def _forest(seen: Windows, train: Mask, seed: int) -> Scorer:
    forest = IsolationForest(n_estimators=100, random_state=seed, n_jobs=1).fit(seen.features[train & seen.quiet])
    return lambda rows: np.asarray(-forest.score_samples(seen.features[rows]), np.float64)


def _default(seen: Windows, train: Mask, seed: int) -> Scorer:
    """Run the trainer of any stream, fitted to quiet rows, in turn as the daemon runs it."""
    del seed
    grid = seen.runs.grid
    model = build_default(fit_default(grid, seen.ends[train & seen.quiet]), grid.stream.window)
    size = state_size(len(grid.stream.field_names))
    scores = run_in_turn(model, grid, seen.ends, seen.group, ("score",), size)["score"].astype(np.float64)
    return lambda rows: scores[rows]


def _surprise(seen: Windows, train: Mask, seed: int) -> Scorer:
    del seed
    units = fit_units(seen.features[train & seen.quiet])
    return lambda rows: surprise(seen.features[rows], units)


def _logistic(seen: Windows, train: Mask, seed: int) -> Scorer:
    del seed
    squashed = 8.0 * np.tanh(seen.features / 8.0)
    model = LogisticRegression(C=0.05, max_iter=200).fit(squashed[train], seen.kind[train] + 1)
    return lambda rows: _suspicion(model.predict_proba(squashed[rows]))


def _extra_trees(seen: Windows, train: Mask, seed: int) -> Scorer:
    model = ExtraTreesClassifier(100, min_samples_leaf=3, random_state=seed, n_jobs=1)
    model.fit(seen.features[train], seen.kind[train] + 1)
    return lambda rows: _suspicion(model.predict_proba(seen.features[rows]))


def _suspicion(probability: Floats) -> Floats:
    return classifier.suspicion(probability)  # normal is class 0, the first


def _kinds(seen: Windows, train: Mask, seed: int) -> Scorer:
    params = classifier.fit_classifier(seen.features[train], seen.kind[train], seed=seed)
    return lambda rows: classifier.suspicion(classifier.probabilities(params, seen.features[rows]))


@dataclass(frozen=True)
class Fitted:
    """The recipe that the trainer of the stream publishes, its own thresholds included."""

    recipe: Recipe
    seen: Windows

    def __call__(self, rows: Mask) -> Floats:
        """Score the windows marked."""
        return self.recipe.score(self.seen.features[rows])

    def kinds(self) -> Floats:
        """How much each kind fits each window, [N, K]."""
        return self.recipe.kinds(self.seen.features)

    def rate(self) -> float:
        """Windows a second of CPU time of its whole graph on one thread."""
        grid = self.seen.runs.grid
        stream = grid.stream
        return _graph_rate(build(self.recipe, stream.field_names, stream.window), self.seen)


def _recipe(seen: Windows, train: Mask, seed: int) -> Scorer:
    return Fitted(fit_recipe(seen, train, seed=seed).recipe, seen)
