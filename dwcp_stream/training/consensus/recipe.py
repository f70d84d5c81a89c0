"""Everything that the graph needs, fitted to labelled windows: the kinds network, the surprise, the thresholds.

The score is the larger of two, each 1 at its threshold: the network's suspicion, and the surprise. The network's
threshold is the one with the most events found less false alarms, on windows that it did not see. The surprise is
there for what training never showed: its threshold is `MARGIN` times the largest of quiet time, so that it adds
hardly a false alarm. The kind is the network's, as far as its suspicion is over the threshold; else `unknown`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.errors import PayloadError
from dwcp_stream.training import recurrent as rnn
from dwcp_stream.training.consensus import classifier
from dwcp_stream.training.consensus.data import Mask
from dwcp_stream.training.consensus.folds import FOLDS, Floats, Scorer, cross_fit, threshold
from dwcp_stream.training.consensus.sequence import Windows
from dwcp_stream.training.consensus.surprise import fit_units, surprise

MARGIN: Final = 1.05
UNKNOWN_BELOW: Final = 0.4
"""A kind that fits less than this is not named."""
MIN_WINDOWS: Final = 64
F32 = NDArray[np.float32]


@dataclass(frozen=True)
class Recipe:
    """Constants of the graph.

    Attributes
    ----------
    params, units
        Of `classifier` and `surprise`.
    suspicion, surprise
        Thresholds: suspicion in nats, and surprise, whose score is 1.
    """

    params: rnn.Params
    units: F32
    suspicion: float
    surprise: float

    def score(self, features: F32) -> Floats:
        """Scores [N] of windows' features [N, F]."""
        found = classifier.suspicion(classifier.probabilities(self.params, features)) / self.suspicion
        return np.maximum(found, surprise(features, self.units) / self.surprise)

    def kinds(self, features: F32) -> Floats:
        """How much each of `KINDS` fits, [N, K]."""
        probability = classifier.probabilities(self.params, features)
        return kinds_of(probability, self.suspicion)


@dataclass(frozen=True)
class Fitted:
    """A recipe, and its cross-fitted scores [N] and kinds [N, K] of the training windows (NaN elsewhere)."""

    recipe: Recipe
    scores: Floats
    kinds: Floats


def fit_recipe(
    seen: Windows,
    train: Mask,
    *,
    seed: int,
    epochs: int | None = None,
    hidden: int = classifier.HIDDEN,
    rate: float = classifier.RATE,
    progress: Callable[[float], None] = lambda _share: None,
) -> Fitted:
    """Fit to the windows marked; their labels choose the thresholds, by cross-fitting over files.

    Raises
    ------
    PayloadError
        If there is too little quiet time, or no fault.
    """
    train = train & seen.usable
    if (train & seen.quiet).sum() < MIN_WINDOWS:
        raise PayloadError("too little quiet time to train on", remedy="Give more files without faults")
    if not (train & (seen.kind >= 0)).any():
        raise PayloadError("no fault to learn from", remedy="Give files with labelled faults")
    done = 0

    def fit_parts(rows: Mask) -> tuple[rnn.Params, F32]:
        nonlocal done
        begun, done = done, done + 1
        params = classifier.fit_classifier(
            seen.features[rows],
            seen.kind[rows],
            seed=seed,
            epochs=epochs or classifier.EPOCHS,
            hidden=hidden,
            rate=rate,
            progress=lambda share: progress(min((begun + share) / (FOLDS + 1), 1.0)),
        )
        return params, fit_units(seen.features[rows & seen.quiet])

    def fitter(rows: Mask) -> Scorer:
        params, units = fit_parts(rows)

        def score(wanted: Mask) -> Floats:
            features = seen.features[wanted]
            return np.column_stack([classifier.probabilities(params, features), surprise(features, units)])

        return score

    held_out = cross_fit(seen, train, fitter)
    suspicion, odd = classifier.suspicion(held_out[:, :-1]), held_out[:, -1]
    limit = threshold(seen, suspicion, train)
    most = MARGIN * float(odd[train & seen.quiet].max())
    params, units = fit_parts(train)
    recipe = Recipe(params, units, float(np.float32(limit)), float(np.float32(most)))
    kinds = kinds_of(held_out[:, :-1], limit)
    return Fitted(recipe, np.maximum(suspicion / limit, odd / most), kinds)


def kinds_of(probability: Floats, limit: float) -> Floats:
    """Return how much each of `KINDS` fits [N, K]: its share of the trouble, as far as that is suspected; `unknown`.

    Parameters
    ----------
    probability
        [N, 1 + kinds], of normal time and of the kinds.
    limit
        Threshold of the suspicion.
    """
    trouble = np.maximum(1.0 - probability[:, :1], 1e-6)
    trust = np.minimum(classifier.suspicion(probability) / limit, 1.0)
    fits = probability[:, 1:] / trouble * trust[:, None]
    return np.column_stack([fits, np.full(len(fits), UNKNOWN_BELOW)])
