"""How rare a value is among all training rows, per field: -log of the share of rows that lie as far out.

The other evidence adapts to the entity within some tens of rows; this one does not, and so keeps telling of a fault
that lasts. It is trusted only with enough training rows, and scaled on held-out quarters of them: where a field drifts,
those look rare too, and the threshold is accordingly high. Two-sided empirical tails as in ECOD (Li et al., IEEE
TKDE 2022), but joined by root mean square, and cut to a piecewise linear function so that it fits in a graph.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.training.anomaly.ridge import FOLDS, Floats
from dwcp_stream.training.graph import Graph

MIN_ROWS = 1000
SHARES = (0.5, 0.3, 0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002, 0.001, 0.0003, 0.0)
"""Places of the knots: values that these shares of the rows exceed."""
NARROWEST = 0.02
"""Least distance of knots, in scaled units: a step of the function becomes a slope."""


@dataclass(frozen=True)
class Marginal:
    """Rarity as a sum of slopes.

    Attributes
    ----------
    sign
        [K, 1, 1]-like signs, [K, 1]: 1 for the upper tail, -1 for the lower one.
    begin, width, rise
        [K, F] of each slope: where it begins (of signed values), how wide it is, what it adds.
    last
        [2, F] end of the upper and the lower tail (signed values); farther out it grows with the logarithm.
    """

    sign: NDArray[np.float32]
    begin: NDArray[np.float32]
    width: NDArray[np.float32]
    rise: NDArray[np.float32]
    last: NDArray[np.float32]

    def __call__(self, z: Floats) -> Floats:
        """Rarity [N, F] of scaled values, NaN where missing."""
        total = np.zeros_like(z)
        for sign, begin, width, rise in zip(self.sign, self.begin, self.width, self.rise, strict=True):
            total += rise * np.clip((sign * z - begin) / width, 0.0, 1.0)
        outside = np.maximum(z - self.last[0], 0.0) + np.maximum(-z - self.last[1], 0.0)
        return np.asarray(total + np.log1p(outside))

    def add(self, g: Graph, z: str) -> str:
        """Add the same to a graph, [B, F] without missing values."""
        signed = g.mul(g.op("Unsqueeze", z, g.ints(1)), g.const(self.sign))
        share = g.clip(g.div(g.sub(signed, g.const(self.begin)), g.const(self.width)), 0.0, 1.0)
        total = g.reduce("ReduceSum", g.mul(share, g.const(self.rise)), [1], keep=False)
        zero, one = g.const(0.0), g.const(1.0)
        above = g.op("Max", g.sub(z, g.const(self.last[0])), zero)
        below = g.op("Max", g.sub(g.op("Neg", z), g.const(self.last[1])), zero)
        return g.add(total, g.smooth("Log", g.add(g.add(above, below), one), self.begin.shape[1]))


def fit_marginal(z: Floats) -> Marginal:
    """Fit on scaled rows [N, F], NaN = missing."""
    tails = [_fit_tail(sign * z) for sign in (1.0, -1.0)]
    sign = np.repeat([[1.0], [-1.0]], len(SHARES), axis=0)
    begin, width, rise = (np.concatenate([tail[i] for tail in tails]).astype(np.float32) for i in range(3))
    last = np.stack([tail[3] for tail in tails]).astype(np.float32)
    return Marginal(sign.astype(np.float32), begin, width, rise, last)


def held_out_rarity(z: Floats) -> Floats:
    """Rarity [N, F] of each contiguous quarter among the other three."""
    edges = np.linspace(0, len(z), FOLDS + 1).astype(np.int64)
    rarity = np.full_like(z, np.nan)
    for first, end in pairwise(edges):
        rarity[first:end] = fit_marginal(np.concatenate([z[:first], z[end:]]))(z[first:end])
    return rarity


def _fit_tail(z: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Slopes (begin, width, rise, each [K, F]) of the upper tail, and its end [F]."""
    begin, width, rise = (np.zeros((len(SHARES), z.shape[1])) for _ in range(3))
    width += 1.0
    last = np.zeros(z.shape[1])
    for column in range(z.shape[1]):
        known = np.sort(z[np.isfinite(z[:, column]), column])
        if not len(known):
            continue
        knots = np.unique(np.quantile(known, 1.0 - np.asarray(SHARES), method="inverted_cdf"))
        # -log of twice the share of rows at or over the knot: 0 on the near side of the median
        exceed = 1.0 - np.searchsorted(known, knots, side="left") / len(known)
        values = np.concatenate([np.maximum(-np.log(2.0 * exceed), 0.0), [np.log(len(known) + 1.0)]])
        ends = np.concatenate([knots, [knots[-1] + NARROWEST]])
        count = len(knots)
        begin[:count, column] = ends[:-1]
        width[:count, column] = np.maximum(np.diff(ends), NARROWEST)
        rise[:count, column] = np.diff(values)
        last[column] = ends[-1]
    return begin, width, rise, last
