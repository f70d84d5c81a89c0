"""An anomaly detector that learns as it goes: each field's deviation from its own level of late.

For a stream that has no model yet. River's exponentially weighted means say what is usual; nothing is trained.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

from river.base import AnomalyDetector
from river.stats import EWMean

Level = tuple[float, float]
"""Mean, and mean square of the deviations from it, both exponentially weighted."""

FADING: Final = 0.01
"""Weight of the newest row in a field's level, after the first hundred rows, which all weigh alike."""
SMOOTHING: Final = 0.3
"""Weight of the newest row in the mean deviation: one odd row counts less than three in a row."""
CLIP: Final = 10.0
"""Standard deviations at which a field's deviation is cut off."""
STRONGEST: Final = 3
"""Most fields whose deviations count, the largest ones: a fault shows in a few of them. One of four, at least one."""
LEARNT: Final = 5.0
"""Standard deviations within which values are learnt as they are; what is farther off moves the level as this much
would, so a lasting change becomes usual in time and a spike does not."""
THRESHOLD: Final = 4.0
"""Standard deviations of the mean deviation, over its own level, at which the score is 1."""
SETTLED: Final = 10
"""Rows after which a field's deviation means something: with fewer, its level is a guess."""
FIRST: Final = 20
"""Rows before the first verdict."""
FLOOR: Final = 1e-6
"""Least standard deviation of a field, as a share of its level."""
SPREAD: Final = 0.1
"""Least standard deviation of the mean deviation, as a share of its level."""


class AdaptiveDeviation(AnomalyDetector):  # type: ignore[misc]  # River has no types
    """Mean deviation of the strongest fields from their levels, in units of how much it usually varies.

    A detector as River defines them: `score_one`, then `learn_one`. A score of 1 is the threshold.

    Examples
    --------
    >>> detector = AdaptiveDeviation()
    >>> for i in range(100):
    ...     detector.learn_one({"latency": 5.0 + i % 3, "load": 0.5})
    >>> detector.score_one({"latency": 6.0, "load": 0.5}) < 1 < detector.score_one({"latency": 60.0, "load": 0.9})
    True
    """

    def __init__(self) -> None:
        self.rows = 0
        self.levels: dict[str, Level] = {}
        self.smooth = 0.0
        self.usual: Level = (0.0, 0.0)

    def deviations(self, x: Mapping[str, float]) -> dict[str, float]:
        """Return each known field's deviation in standard deviations, at most `CLIP`."""
        known = self.levels
        return {name: min(_deviation(value, known[name]), CLIP) for name, value in x.items() if name in known}

    def score_one(self, x: Mapping[str, float]) -> float:
        """Return the score of a row of values by field; NaN while too few rows have been learnt, or none is known."""
        deviations = self.deviations(x)
        if self.rows < FIRST or not deviations:
            return math.nan
        level, square = self.usual
        return (self._smoothed(deviations) - level) / (THRESHOLD * _scale(level, square, SPREAD))

    def learn_one(self, x: Mapping[str, float]) -> None:
        """Learn a row; fields that it lacks stay as they are."""
        self.rows += 1
        weight = max(FADING, 1.0 / self.rows)
        deviations = self.deviations(x)
        if deviations:
            self.smooth = self._smoothed(deviations)
            self._learn_usual()
        for name, value in x.items():
            known = self.levels.get(name)
            self.levels[name] = (value, 0.0) if known is None else _learnt(value, known, weight)

    def _learn_usual(self) -> None:
        since = self.rows - SETTLED
        if since <= 1:
            self.usual = self.smooth, 0.0
        else:
            self.usual = _learnt(self.smooth, self.usual, max(FADING, 1.0 / since), SPREAD)

    def _smoothed(self, deviations: Mapping[str, float]) -> float:
        count = max(min(STRONGEST, len(deviations) // 4), 1)
        strongest = sorted(deviations.values())[-count:]
        return _faded(self.smooth, sum(strongest) / len(strongest), SMOOTHING)


def _faded(before: float, value: float, weight: float) -> float:
    mean: Any = EWMean(weight)
    mean.update(before)  # the first value that it sees is its mean
    mean.update(value)
    return float(mean.get())


def _scale(level: float, square: float, floor: float) -> float:
    return max(math.sqrt(square), floor * abs(level), 1e-12)


def _deviation(value: float, level: Level) -> float:
    return abs(value - level[0]) / _scale(*level, FLOOR)


def _learnt(value: float, known: Level, weight: float, floor: float = FLOOR) -> Level:
    level, square = known
    reach = LEARNT * _scale(level, square, floor) if square else math.inf
    away = min(max(value - level, -reach), reach)
    return _faded(level, level + away, weight), _faded(square, away * away, weight)
