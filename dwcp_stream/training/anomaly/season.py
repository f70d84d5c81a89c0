"""A season per field: day and week in UTC as a few sines, kept only where they foretell held-out time.

A day alone is tried with two days of training, day and week with two weeks. The week's frequencies include those
next to the day's, so that days of the week may have shapes of their own (harmonic regression, Hyndman and
Athanasopoulos, Forecasting: Principles and Practice, chapter 7).
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dwcp_stream.training.anomaly.products import wide_matmul
from dwcp_stream.training.anomaly.ridge import Floats, fit_ridge, held_out
from dwcp_stream.training.graph import Graph

WEEK_SECONDS, DAY_SECONDS = 604800, 86400
DAY = (7, 14, 21, 28)
WEEK = (1, 2, 3, 5, 6, 7, 8, 9, 12, 13, 14, 15, 16, 21, 28)
"""Cycles per week."""
GAIN = 0.9
"""A season must bring the held-out squared error under this share of that without it."""
PENALTY = 0.03
NEEDED_PERIODS = 2


@dataclass(frozen=True)
class Season:
    """Weights [1 + 2 J, F] of 1, sines and cosines; all zero for a field without a season."""

    frequencies: tuple[int, ...]
    weights: NDArray[np.float32]

    @property
    def fields(self) -> NDArray[np.bool_]:
        """Which fields have one, [F]."""
        return np.asarray((self.weights != 0).any(axis=0))

    def __call__(self, ts: Floats) -> Floats:
        """Seasonal values [N, F] at times [N]."""
        if not self.frequencies:
            return np.zeros((len(ts), self.weights.shape[1]))
        return basis(ts, self.frequencies) @ self.weights.astype(np.float64)

    def add(self, g: Graph, time: str, rows: int) -> str:
        """Add the values [B, rows, F] at `time` [B, rows] to a graph."""
        count = len(self.frequencies)
        second = g.op("Mod", g.cast(time, np.int64), g.const(WEEK_SECONDS, np.int64))
        turn = g.op("Unsqueeze", g.cast(second, np.float32), g.ints(2))
        angle = g.mul(turn, g.const(_angular(self.frequencies).astype(np.float32)))
        waves = g.concat([g.smooth("Sin", angle, rows, count), g.smooth("Cos", angle, rows, count)], axis=2)
        return g.add(wide_matmul(g, waves, self.weights[1:]), g.const(self.weights[0]))


def basis(ts: Floats, frequencies: tuple[int, ...]) -> Floats:
    """Return 1, sines and cosines [N, 1 + 2 J] of whole seconds [N] within the week."""
    angle = (np.floor(ts) % WEEK_SECONDS)[:, None] * _angular(frequencies)
    return np.concatenate([np.ones((len(ts), 1)), np.sin(angle), np.cos(angle)], axis=1)


def fit_season(ts: Floats, values: Floats) -> Season:
    """Choose each field's season.

    Parameters
    ----------
    ts
        [N] epoch seconds, rows of one entity after another.
    values
        [N, F] scaled rows less their entity's mean, NaN = missing.
    """
    span = float(np.ptp(ts)) if len(ts) else 0.0
    fields = values.shape[1]
    weights = np.zeros((1 + 2 * len(WEEK), fields))
    best = _error(held_out(np.ones((len(ts), 1)), values, PENALTY)) * GAIN
    for frequencies, period in ((DAY, DAY_SECONDS), (WEEK, WEEK_SECONDS)):
        if span < NEEDED_PERIODS * period or len(ts) < 8 * len(frequencies):
            continue
        x = basis(ts, frequencies)
        error = _error(held_out(x, values, PENALTY))
        better = error < best
        best = np.where(better, error * (GAIN if frequencies is DAY else 1.0), best)
        if better.any():
            # a field's weights live in the week's basis, zeros where it has the day's only
            places = np.array([WEEK.index(f) for f in frequencies])
            rows = np.concatenate([[0], 1 + places, 1 + len(WEEK) + places])
            fitted = np.zeros((len(weights), fields))
            fitted[rows] = fit_ridge(x, values, PENALTY)
            weights = np.where(better[None, :], fitted, weights)
    used = WEEK if weights.any() else ()
    return Season(used, (weights if used else np.zeros((1, fields))).astype(np.float32))


def _angular(frequencies: tuple[int, ...]) -> Floats:
    return 2.0 * np.pi * np.asarray(frequencies, np.float64) / WEEK_SECONDS


def _error(residual: Floats) -> Floats:
    """Mean square per field [F] of known residuals; 0 without any."""
    known = np.isfinite(residual)
    return np.asarray(np.square(np.nan_to_num(residual)).sum(axis=0) / np.maximum(known.sum(axis=0), 1))
