"""Threshold and probability of the incident model, chosen on rows that the scoring models had not seen."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_curve

from dwcp_stream.training.calibration import Calibration

Bools = NDArray[np.bool_]
Floats = NDArray[np.floating[Any]]

MOST_FALSE: Final = 0.05  # share of normal rows over the threshold that may be
PRICE: Final = 0.2  # of a share of false positives, in shares of incident rows missed
RESERVE: Final = 0.2  # of it is kept back: other entities and other days are a little noisier


@dataclass(frozen=True)
class Platt:
    """Probability as the logistic of a straight line in the margin (Platt 1999)."""

    slope: float
    offset: float

    def probability(self, margin: Floats) -> NDArray[np.float64]:
        """Probabilities of margins [N]."""
        return np.asarray(1.0 / (1.0 + np.exp(-(self.slope * np.asarray(margin, np.float64) + self.offset))))


def choose_threshold(label: Bools, margin: Floats) -> float:
    """Choose the margin that tells incident rows from normal ones best, within the budget of false positives.

    Best is the largest recall less `PRICE` times the false positive rate (Youden's index, 1950, with a weight): the
    budget is there to be used, but nothing is paid for false positives that catch nothing. The threshold lies half way
    to the next margin below.
    """
    false_rate, recall, levels = roc_curve(label, margin)
    allowed = np.isfinite(levels) & (false_rate <= MOST_FALSE * (1.0 - RESERVE))
    if not allowed.any():
        return float(np.nextafter(np.float32(np.max(margin)), np.float32(np.inf)))
    worth = np.where(allowed, recall - PRICE * false_rate, -np.inf)
    level = float(levels[int(np.argmax(worth))])
    below = margin[margin < level]
    return float((level + below.max()) / 2.0) if len(below) else level


def calibrate(label: Bools, margin: Floats) -> Calibration:
    """Place the score on margins: 0 at the median of normal rows, 1 at the threshold, severities above.

    An alert is critical from where half of the detected incident rows lie below, an emergency from 85 %.
    """
    exact = np.asarray(margin, np.float64)
    base = float(np.float32(np.median(exact[~label])))
    threshold = float(np.float32(choose_threshold(label, exact)))
    if threshold <= base:  # half of the normal rows are as high as the incidents: nothing was learnt
        threshold = float(np.nextafter(np.float32(exact[~label].max()), np.float32(np.inf)))
    if threshold - base < 1e-6:
        threshold = base + 1e-3
    over = (exact[label] - base) / (threshold - base)
    over = over[over > 1.0]
    critical, emergency = np.quantile(over, [0.5, 0.85]) if len(over) else (2.0, 3.0)
    critical = max(1.05, round(float(critical), 2))
    return Calibration(base, threshold, (1.0, critical, max(round(float(emergency), 2), critical + 0.05)))


def fit_platt(label: Bools, margin: Floats, share: Floats) -> Platt:
    """Fit the line on unseen rows, each standing for `share` rows; never falling, so that it ranks as the score."""
    exact = np.asarray(margin, np.float64)
    center, spread = float(exact.mean()), float(max(exact.std(), 1e-9))
    learner = LogisticRegression(C=10.0).fit((exact[:, None] - center) / spread, label, sample_weight=share)
    slope = max(float(learner.coef_[0, 0]), 1e-3) / spread
    return Platt(slope, float(learner.intercept_[0]) - slope * center)
