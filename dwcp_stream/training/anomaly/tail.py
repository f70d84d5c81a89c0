"""From evidence to a score with 1 at a threshold: the tail of held-out training evidence, as far as it reaches.

Evidence is in units of its own recent norm, so twice that is unusual for any entity; a short training part can say
little more. A long one says how often which evidence comes up: the upper tenth is taken as a Pareto tail (index by
Hill, Annals of Statistics 3(5), 1975), and its value at the stated rate moves the threshold, by a weight that grows
with the number of rows. Under the threshold the score is the logarithm of the tail probability in its share of that of
the threshold, so that kinds of evidence compare; over it, the ratio to the threshold.
"""

from dataclasses import dataclass

import numpy as np

from dwcp_stream.training.anomaly.ridge import Floats
from dwcp_stream.training.graph import Graph

RATE = 1 / 1000
"""Share of rows like those of training, the faults among them included, that should score over 1."""
UPPER = 0.1
PRIOR_THRESHOLD = 2.0
PRIOR_OF_MEANS = 2.3
"""Of means, which cross a line for long where a value would cross it once."""
TRUSTED_ROWS = 2000
"""With so many rows the measured threshold and the prior one weigh the same."""
PRIOR_INDEX, PRIOR_ROWS = 0.25, 20
SMALLEST_NORM = 0.05
SHARE = float(np.log(UPPER) / np.log(RATE))
"""Score at the beginning of the upper tenth."""


@dataclass(frozen=True)
class Tail:
    """Scale of one kind of evidence.

    Attributes
    ----------
    norm
        8-norm of training evidence; what follows is in units of it.
    upper
        Beginning of the upper tenth.
    threshold
        Evidence that scores 1.
    steep
        Whether less evidence than that counts little (its fourth power): for means, which wander for long.
    """

    norm: float
    upper: float
    threshold: float
    steep: bool = False

    def score(self, evidence: Floats) -> Floats:
        """Scores of evidence [N]."""
        x = evidence / self.norm
        rising = np.log(np.maximum(x, self.upper) / self.upper) / np.log(self.threshold / self.upper)
        below = np.where(x < self.upper, SHARE * x / self.upper, SHARE + (1.0 - SHARE) * rising)
        below = np.minimum(below, 1.0) ** (4 if self.steep else 1)
        return np.where(x < self.threshold, below, x / self.threshold)

    def add(self, g: Graph, evidence: str) -> str:
        """Add the same to a graph, [B] to [B]."""
        norm, upper, threshold = (np.float32(v) for v in (self.norm, self.upper, self.threshold))
        x = g.div(evidence, g.const(norm))
        ratio = g.div(g.op("Max", x, g.const(upper)), g.const(upper))
        # one value a window: padded, so that the logarithm's bits do not depend on the batch
        logs = g.reshape(g.smooth("Log", g.op("Unsqueeze", ratio, g.ints(1)), 1), -1)
        slope = (1.0 - SHARE) / float(np.log(self.threshold / self.upper))
        rising = g.add(g.mul(logs, g.const(slope)), g.const(SHARE))
        low = g.mul(x, g.const(SHARE / upper))
        below = g.clip(g.where(g.op("Less", x, g.const(upper)), low, rising), None, 1.0)
        if self.steep:
            below = g.mul(below, below)
            below = g.mul(below, below)
        return g.where(g.op("Less", x, g.const(threshold)), below, g.div(x, g.const(threshold)))


def norm_of(evidence: Floats) -> float:
    """8-norm of evidence [N] that was measured against its whole past: near 1 for one field, less for many."""
    known = evidence[np.isfinite(evidence)]
    return max(float(np.mean(known**8) ** (1 / 8)), SMALLEST_NORM) if len(known) else 1.0


def fit_tail(evidence: Floats, norm: float, *, mean: bool = False) -> Tail:
    """Choose the scale.

    Parameters
    ----------
    evidence
        [N] of held-out training rows, measured as the graph will.
    norm
        Their `norm_of`.
    mean
        Whether it is of means rather than of single rows.
    """
    prior = PRIOR_OF_MEANS if mean else PRIOR_THRESHOLD
    known = np.sort(evidence[np.isfinite(evidence)]) / norm
    if not len(known):
        known = np.array([0.1])
    excess = known[int((1.0 - UPPER) * len(known)) :]
    upper = float(np.clip(excess[0], 0.01, prior / 1.1))
    logs = np.log(np.maximum(excess, upper) / upper)
    index = (float(logs.sum()) + PRIOR_ROWS * PRIOR_INDEX) / (len(logs) + PRIOR_ROWS)
    measured = upper * (UPPER / RATE) ** index
    trust = (len(known) / TRUSTED_ROWS) ** 2
    weight = trust / (trust + 1.0)
    threshold = float(np.exp(weight * np.log(measured) + (1.0 - weight) * np.log(prior)))
    return Tail(_single(norm), _single(upper), _single(max(threshold, 1.1 * upper)), steep=mean)


def _single(value: float) -> float:
    """Round to what the graph can hold."""
    return float(np.float32(value))
